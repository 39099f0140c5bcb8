-- Keys that stand for users. The key itself is nowhere, only its digest.
CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    identity TEXT NOT NULL,
    scopes TEXT NOT NULL,
    digest BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) WITHOUT ROWID;

-- Who asked for a run, where limits count the open ones of users and assistants; null where none do.
ALTER TABLE run ADD COLUMN user_id TEXT;
CREATE INDEX run_open_of_user ON run (user_id, status) WHERE user_id IS NOT NULL AND status IN ('pending', 'running');
CREATE INDEX run_open_of_assistant ON run (assistant_id, status)
    WHERE user_id IS NOT NULL AND status IN ('pending', 'running');
