CREATE INDEX delivery_settled ON delivery (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX delivery_thread ON delivery (thread_id);
