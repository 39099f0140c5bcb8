-- Checkpoints that graph code saved under the name of another run than the one which wrote them.
ALTER TABLE checkpoint ADD COLUMN named_run TEXT;
CREATE INDEX checkpoint_named_run ON checkpoint (named_run) WHERE named_run IS NOT NULL;
