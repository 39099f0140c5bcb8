-- Deliveries to one receiver may not take the room of those to others.
ALTER TABLE delivery ADD COLUMN origin TEXT NOT NULL DEFAULT '';
CREATE INDEX delivery_origin_due ON delivery (origin, next_attempt_at, k) WHERE state = 'pending';
