-- What webhooks are signed with. The newest key has no end; the others sign until theirs.
CREATE TABLE webhook_key (
    version INTEGER PRIMARY KEY,
    master BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
);
