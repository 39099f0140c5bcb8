-- Having many deliveries sent again goes on after a crash.
CREATE TABLE recovery (
    k INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    query TEXT NOT NULL,
    -- The last delivery that was looked at, and the last one that there was when this began.
    reached INTEGER NOT NULL DEFAULT 0,
    last INTEGER NOT NULL,
    recovered INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
);
CREATE INDEX recovery_open ON recovery (k) WHERE finished_at IS NULL;

-- An empty body was erased.
CREATE INDEX delivery_erasable ON delivery (finished_at) WHERE finished_at IS NOT NULL AND body <> '';
