-- First attempts are found behind however many retries.
CREATE INDEX delivery_new ON delivery (origin, next_attempt_at, k) WHERE state = 'pending' AND attempts = 0;

-- Receivers that asked to be left alone, and until when.
CREATE TABLE destination (
    origin TEXT PRIMARY KEY,
    not_before INTEGER NOT NULL
) WITHOUT ROWID;
