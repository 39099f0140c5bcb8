-- Where other agents want to be told how their tasks stand. `headers` are for the receiver alone.
CREATE TABLE push_config (
    run_id BLOB NOT NULL,
    id TEXT NOT NULL,
    url TEXT NOT NULL,
    headers TEXT NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (run_id, id)
) WITHOUT ROWID;
-- What a delivery carries besides what all of them do.
ALTER TABLE delivery ADD COLUMN headers TEXT;
