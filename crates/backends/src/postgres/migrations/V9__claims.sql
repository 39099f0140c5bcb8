-- Whether an earlier run keeps a thread's next one waiting is one look into each, however many wait for a later time.
CREATE INDEX run_prompt ON run (thread, k) WHERE status = 'pending' AND due_at <= created_at;
CREATE INDEX run_delayed ON run (thread, due_at) WHERE status = 'pending' AND due_at > created_at;
