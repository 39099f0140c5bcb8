-- Counts the blocks of places that runs of event streaming were given on the tape of the thread.
ALTER TABLE thread ADD COLUMN tapes bigint NOT NULL DEFAULT 0;
-- Who begins to read a thread finds what is kept of it.
CREATE INDEX run_kept ON run (thread, k) WHERE events_kept;
