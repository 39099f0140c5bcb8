-- The keys that values are sealed with, by their short names, and what each has sealed once, so that a server that does
-- not have them finds out when it starts.
CREATE TABLE encryption_key (
    k INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    sealed TEXT NOT NULL
);
