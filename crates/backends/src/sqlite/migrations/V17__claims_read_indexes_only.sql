-- With everything that choosing a delivery looks at, so that rows, which hold bodies, are read only when taken.
DROP INDEX delivery_due;
DROP INDEX delivery_origin_due;
CREATE INDEX delivery_due ON delivery (next_attempt_at, k, origin, attempts) WHERE state = 'pending';
CREATE INDEX delivery_origin_due ON delivery (origin, next_attempt_at, k, attempts) WHERE state = 'pending';
-- What is on its way is taken back at a start.
CREATE INDEX delivery_leased ON delivery (k) WHERE lease_id IS NOT NULL;
