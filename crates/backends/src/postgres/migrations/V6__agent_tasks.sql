-- The tasks of an agent are found among its runs, in their order.
CREATE INDEX run_task ON run (assistant_id, created_at, k) WHERE strpos(metadata, '"a2a_message_id":') > 0;
