-- Counts the ends of a thread's runs that webhooks are told of.
ALTER TABLE thread ADD COLUMN ends_told INTEGER NOT NULL DEFAULT 0;
