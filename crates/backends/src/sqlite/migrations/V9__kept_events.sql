-- What resumable runs said. It is there while `events_kept` of its run is set, and goes with it.
CREATE TABLE event (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    name TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (run, seq)
) WITHOUT ROWID;
ALTER TABLE run ADD COLUMN events_kept INTEGER;
CREATE INDEX run_events_kept ON run (updated_at) WHERE events_kept;
CREATE TRIGGER run_deleted AFTER DELETE ON run WHEN OLD.events_kept BEGIN
    DELETE FROM event WHERE run = OLD.k;
END;
