-- Times to live are in microseconds. A copy knows no values until something runs on it.
ALTER TABLE thread ADD COLUMN copied INTEGER NOT NULL DEFAULT 0;
ALTER TABLE thread ADD COLUMN ttl INTEGER;
ALTER TABLE thread ADD COLUMN ttl_strategy TEXT;
ALTER TABLE thread ADD COLUMN expires_at INTEGER;
CREATE INDEX thread_expires ON thread (expires_at) WHERE expires_at IS NOT NULL;
