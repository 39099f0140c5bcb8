-- Who made the run, where the project's own application is told.
ALTER TABLE delivery ADD COLUMN maker text;
-- When somebody last came with a key, to the hour or so.
ALTER TABLE api_key ADD COLUMN last_used_at bigint;
