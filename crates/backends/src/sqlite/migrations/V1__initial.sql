CREATE TABLE assistant (
    k INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    graph_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    config TEXT NOT NULL,
    context TEXT NOT NULL,
    metadata TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);

CREATE TABLE thread (
    k INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    metadata TEXT NOT NULL,
    config TEXT NOT NULL,
    rest_status TEXT NOT NULL,
    state_values TEXT,
    interrupts TEXT,
    error TEXT,
    state TEXT,
    state_revision TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    state_updated_at INTEGER NOT NULL
);
CREATE INDEX thread_updated ON thread (updated_at);

CREATE TABLE run (
    k INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    thread INTEGER NOT NULL,
    thread_id BLOB NOT NULL,
    assistant_id BLOB NOT NULL,
    graph_id TEXT NOT NULL,
    status TEXT NOT NULL,
    multitask TEXT NOT NULL,
    metadata TEXT NOT NULL,
    kwargs TEXT NOT NULL,
    webhooks_enabled INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL,
    cancel TEXT,
    lease_id BLOB,
    lease_until INTEGER,
    error TEXT,
    started_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX run_thread ON run (thread, k);
CREATE INDEX run_queue ON run (due_at, k) WHERE status = 'pending';
CREATE INDEX run_open ON run (thread) WHERE status IN ('pending', 'running');
CREATE UNIQUE INDEX run_one_running ON run (thread) WHERE status = 'running';
CREATE INDEX run_leased ON run (lease_until) WHERE status = 'running';

-- Checkpoints name their threads freely: graph code may use names that are no threads of the API.
CREATE TABLE lineage (
    k INTEGER PRIMARY KEY,
    thread BLOB NOT NULL UNIQUE
);
CREATE TABLE checkpoint (
    lineage INTEGER NOT NULL,
    ns TEXT NOT NULL,
    id TEXT NOT NULL,
    parent TEXT,
    checkpoint BLOB NOT NULL,
    metadata BLOB NOT NULL,
    run BLOB,
    PRIMARY KEY (lineage, ns, id)
) WITHOUT ROWID;
CREATE INDEX checkpoint_run ON checkpoint (run) WHERE run IS NOT NULL;
CREATE TABLE blob (
    lineage INTEGER NOT NULL,
    ns TEXT NOT NULL,
    channel TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (lineage, ns, channel, version)
) WITHOUT ROWID;
CREATE TABLE pending_write (
    lineage INTEGER NOT NULL,
    ns TEXT NOT NULL,
    checkpoint TEXT NOT NULL,
    task TEXT NOT NULL,
    idx INTEGER NOT NULL,
    path TEXT NOT NULL,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (lineage, ns, checkpoint, task, idx)
) WITHOUT ROWID;

CREATE TABLE item (
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, key)
) WITHOUT ROWID;

CREATE TABLE delivery (
    k INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    run_id BLOB NOT NULL,
    thread_id BLOB NOT NULL,
    url TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL,
    lease_id BLOB,
    last_status INTEGER,
    last_failure TEXT,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
);
CREATE INDEX delivery_due ON delivery (next_attempt_at, k) WHERE state = 'pending';
