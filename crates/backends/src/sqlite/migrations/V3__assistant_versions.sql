CREATE TABLE assistant_version (
    assistant INTEGER NOT NULL,
    version INTEGER NOT NULL,
    graph_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    config TEXT NOT NULL,
    context TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (assistant, version)
) WITHOUT ROWID;
INSERT INTO assistant_version
    SELECT k, version, graph_id, name, description, config, context, metadata, created_at FROM assistant;
