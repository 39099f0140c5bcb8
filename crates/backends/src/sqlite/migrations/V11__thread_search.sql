-- The fields of threads' metadata that hold no objects or lists, as numbers: a search reads the threads of its rarest.
CREATE TABLE thread_tag (
    tag INTEGER NOT NULL,
    thread INTEGER NOT NULL,
    PRIMARY KEY (tag, thread)
) WITHOUT ROWID;
INSERT OR IGNORE INTO thread_tag (tag, thread)
    SELECT json_tag(key, atom), k FROM thread, json_each(metadata) WHERE type NOT IN ('object', 'array');
CREATE TRIGGER thread_made AFTER INSERT ON thread BEGIN
    INSERT OR IGNORE INTO thread_tag (tag, thread)
        SELECT json_tag(key, atom), NEW.k FROM json_each(NEW.metadata) WHERE type NOT IN ('object', 'array');
END;
CREATE TRIGGER thread_marked AFTER UPDATE OF metadata ON thread WHEN OLD.metadata IS NOT NEW.metadata BEGIN
    DELETE FROM thread_tag WHERE thread = OLD.k AND tag IN (
        SELECT json_tag(key, atom) FROM json_each(OLD.metadata) WHERE type NOT IN ('object', 'array'));
    INSERT OR IGNORE INTO thread_tag (tag, thread)
        SELECT json_tag(key, atom), NEW.k FROM json_each(NEW.metadata) WHERE type NOT IN ('object', 'array');
END;
CREATE TRIGGER thread_deleted AFTER DELETE ON thread BEGIN
    DELETE FROM thread_tag WHERE thread = OLD.k AND tag IN (
        SELECT json_tag(key, atom) FROM json_each(OLD.metadata) WHERE type NOT IN ('object', 'array'));
END;

CREATE INDEX thread_status ON thread (rest_status, updated_at);
CREATE INDEX thread_created ON thread (created_at);
CREATE INDEX thread_state_updated ON thread (state_updated_at);
