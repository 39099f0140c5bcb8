-- Keys that stand for users. The key itself is nowhere, only its digest.
CREATE TABLE api_key (
    id text PRIMARY KEY,
    name text NOT NULL,
    identity text NOT NULL,
    scopes text NOT NULL,
    digest bytea NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint,
    revoked_at bigint
);

-- Who asked for a run, where limits count the open ones of users and assistants; null where none do.
ALTER TABLE run ADD COLUMN user_id text;
CREATE INDEX run_open_of_user ON run (user_id, status) WHERE user_id IS NOT NULL AND status IN ('pending', 'running');
CREATE INDEX run_open_of_assistant ON run (assistant_id, status)
    WHERE user_id IS NOT NULL AND status IN ('pending', 'running');
