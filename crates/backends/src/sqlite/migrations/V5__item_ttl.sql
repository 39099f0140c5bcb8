ALTER TABLE item ADD COLUMN ttl INTEGER;
ALTER TABLE item ADD COLUMN expires_at INTEGER;
CREATE INDEX item_expires ON item (expires_at) WHERE expires_at IS NOT NULL;
