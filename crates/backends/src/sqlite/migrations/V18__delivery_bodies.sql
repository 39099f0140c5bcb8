-- Bodies apart from what changes with every attempt: a large one is written once.
CREATE TABLE delivery_body (
    delivery INTEGER PRIMARY KEY,
    body TEXT NOT NULL
);
INSERT INTO delivery_body SELECT k, body FROM delivery WHERE body <> '';
ALTER TABLE delivery ADD COLUMN erased INTEGER NOT NULL DEFAULT 0;
UPDATE delivery SET erased = 1 WHERE body = '';
DROP INDEX delivery_erasable;
CREATE INDEX delivery_erasable ON delivery (finished_at) WHERE finished_at IS NOT NULL AND NOT erased;
ALTER TABLE delivery DROP COLUMN body;
DROP TRIGGER delivery_deleted;
CREATE TRIGGER delivery_deleted AFTER DELETE ON delivery BEGIN
    DELETE FROM delivery_attempt WHERE delivery = OLD.k;
    DELETE FROM delivery_body WHERE delivery = OLD.k;
END;

-- When the schedule began, which is not waited for without end behind a receiver that is gone.
ALTER TABLE delivery ADD COLUMN scheduled_from INTEGER NOT NULL DEFAULT 0;
UPDATE delivery SET scheduled_from = created_at;
CREATE INDEX delivery_scheduled ON delivery (scheduled_from) WHERE state = 'pending';
