ALTER TABLE delivery ADD COLUMN event TEXT NOT NULL DEFAULT '';
ALTER TABLE delivery ADD COLUMN shown_url TEXT NOT NULL DEFAULT '';
-- Of `attempts`, those that somebody asked for besides the schedule.
ALTER TABLE delivery ADD COLUMN manual INTEGER NOT NULL DEFAULT 0;
-- While such an attempt is due or on its way: the state before, and when the schedule goes on.
ALTER TABLE delivery ADD COLUMN resent_from TEXT;
ALTER TABLE delivery ADD COLUMN resume_at INTEGER;
CREATE INDEX delivery_run ON delivery (run_id);
CREATE INDEX delivery_state ON delivery (state, k);

-- Written before the connection is made, so that a sender that dies leaves a trace of what it began.
CREATE TABLE delivery_attempt (
    delivery INTEGER NOT NULL,
    n INTEGER NOT NULL,
    "trigger" TEXT NOT NULL,
    state TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    status INTEGER,
    failure TEXT,
    PRIMARY KEY (delivery, n)
) WITHOUT ROWID;
CREATE TRIGGER delivery_deleted AFTER DELETE ON delivery BEGIN
    DELETE FROM delivery_attempt WHERE delivery = OLD.k;
END;
