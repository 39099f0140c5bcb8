-- What the texts of items mean, as `model` sees it: vectors of 32-bit floats.
CREATE TABLE item_embedding (
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    vector BLOB NOT NULL
);
CREATE INDEX item_embedding_item ON item_embedding (namespace, key);
CREATE TRIGGER item_deleted AFTER DELETE ON item BEGIN
    DELETE FROM item_embedding WHERE namespace = OLD.namespace AND key = OLD.key;
END;
