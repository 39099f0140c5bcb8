-- Where other agents want to be told how their tasks stand. `headers` are for the receiver alone.
CREATE TABLE push_config (
    run_id uuid NOT NULL,
    id text COLLATE "C" NOT NULL,
    url text COLLATE "C" NOT NULL,
    headers text NOT NULL,
    version text COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, id)
);
-- What a delivery carries besides what all of them do.
ALTER TABLE delivery ADD COLUMN headers text;
