CREATE TABLE cron (
    k INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    assistant_id BLOB NOT NULL,
    thread_id BLOB,
    on_run_completed TEXT,
    end_time INTEGER,
    schedule TEXT NOT NULL,
    timezone TEXT,
    enabled INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    payload TEXT NOT NULL,
    next_run_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX cron_due ON cron (next_run_at) WHERE enabled;
CREATE INDEX cron_thread ON cron (thread_id) WHERE thread_id IS NOT NULL;
CREATE INDEX cron_assistant ON cron (assistant_id);
