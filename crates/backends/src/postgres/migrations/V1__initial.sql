-- Times and times to live are in microseconds. JSON is kept as the text that was sent, since `jsonb` would reorder its keys,
-- round its numbers and refuse some of it; what is searched for has columns of its own. Texts are compared byte by byte.
-- A NUL, which no text may hold, is written as U+FFFF and `0`, and U+FFFF as itself and `1`.

-- Whether a document contains a pattern, as far as `jsonb` can tell: null when it can't read the document. It takes `1`
-- and `1.0` for the same, and so finds more than it should; who asks looks again.
CREATE FUNCTION json_has(document text, pattern jsonb) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL RESTRICTED AS $$
BEGIN
    RETURN document::jsonb @> pattern;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END $$;

CREATE TABLE assistant (
    k bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    graph_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    description text,
    config text NOT NULL,
    context text NOT NULL,
    metadata text NOT NULL,
    version bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);
CREATE TABLE assistant_version (
    assistant bigint NOT NULL,
    version bigint NOT NULL,
    graph_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    description text,
    config text NOT NULL,
    context text NOT NULL,
    metadata text NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (assistant, version)
);

CREATE TABLE thread (
    k bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    metadata text NOT NULL,
    -- The fields of the metadata that hold no objects or lists, as numbers.
    tags bigint[] NOT NULL,
    config text NOT NULL,
    rest_status text COLLATE "C" NOT NULL,
    state_values text,
    interrupts text,
    error text,
    state text,
    state_revision text,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    state_updated_at bigint NOT NULL,
    -- A copy knows no values until something runs on it.
    copied boolean NOT NULL DEFAULT false,
    ttl bigint,
    ttl_strategy text,
    expires_at bigint,
    -- Counts the ends of the thread's runs that webhooks are told of.
    ends_told bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX thread_updated ON thread (updated_at, k);
CREATE INDEX thread_status ON thread (rest_status, updated_at, k);
CREATE INDEX thread_created ON thread (created_at, k);
CREATE INDEX thread_state_updated ON thread (state_updated_at, k);
CREATE INDEX thread_expires ON thread (expires_at) WHERE expires_at IS NOT NULL;

-- A search reads the threads of the rarest of its tags.
CREATE TABLE thread_tag (
    tag bigint NOT NULL,
    thread bigint NOT NULL,
    PRIMARY KEY (tag, thread)
);
CREATE FUNCTION thread_tags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM thread_tag WHERE thread = OLD.k AND tag = ANY(OLD.tags);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO thread_tag (tag, thread) SELECT DISTINCT tag, NEW.k FROM unnest(NEW.tags) AS tag;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER thread_made AFTER INSERT ON thread
    FOR EACH ROW WHEN (NEW.tags <> '{}') EXECUTE FUNCTION thread_tags();
CREATE TRIGGER thread_marked AFTER UPDATE OF tags ON thread
    FOR EACH ROW WHEN (OLD.tags IS DISTINCT FROM NEW.tags) EXECUTE FUNCTION thread_tags();
CREATE TRIGGER thread_deleted AFTER DELETE ON thread
    FOR EACH ROW WHEN (OLD.tags <> '{}') EXECUTE FUNCTION thread_tags();

-- Leases are renewed over and over: no index looks at them, so that a renewal touches none.
CREATE TABLE run (
    k bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    thread bigint NOT NULL,
    thread_id uuid NOT NULL,
    assistant_id uuid NOT NULL,
    graph_id text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    multitask text COLLATE "C" NOT NULL,
    metadata text NOT NULL,
    kwargs text NOT NULL,
    -- Whether its end concerns its own row and its thread's alone.
    plain boolean NOT NULL,
    webhooks_enabled boolean NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    -- Of its attempts, those that were not its fault; and how often it was there when a worker died that several runs
    -- shared.
    uncounted integer NOT NULL DEFAULT 0,
    shared_losses integer NOT NULL DEFAULT 0,
    due_at bigint NOT NULL,
    cancel text,
    lease_id uuid,
    lease_until bigint,
    error text,
    started_at bigint,
    events_kept boolean NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
    autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 1);
CREATE INDEX run_thread ON run (thread, k);
CREATE INDEX run_queue ON run (due_at, k) WHERE status = 'pending';
CREATE INDEX run_open ON run (thread, k) WHERE status IN ('pending', 'running');
CREATE UNIQUE INDEX one_running ON run (thread) WHERE status = 'running';
CREATE INDEX run_events_kept ON run (updated_at) WHERE events_kept;

-- What resumable runs said. It is there while `events_kept` of its run is set, and goes with it.
CREATE TABLE event (
    run bigint NOT NULL,
    seq bigint NOT NULL,
    name text NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (run, seq)
);
CREATE FUNCTION run_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM event WHERE run = OLD.k;
    RETURN NULL;
END $$;
CREATE TRIGGER run_deleted AFTER DELETE ON run FOR EACH ROW WHEN (OLD.events_kept) EXECUTE FUNCTION run_events();

-- Checkpoints name their threads freely: graph code may use names that are no threads of the API.
CREATE TABLE lineage (
    k bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    thread text COLLATE "C" NOT NULL UNIQUE
);
CREATE TABLE checkpoint (
    lineage bigint NOT NULL,
    ns text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    parent text COLLATE "C",
    checkpoint bytea NOT NULL,
    metadata bytea NOT NULL,
    -- Whether its value is made from the writes of the checkpoints before it.
    needs_parent boolean NOT NULL,
    -- The run that wrote it; and the run that its metadata name, if that is another.
    run uuid,
    named_run text COLLATE "C",
    PRIMARY KEY (lineage, ns, id)
);
CREATE INDEX checkpoint_run ON checkpoint (run) WHERE run IS NOT NULL;
CREATE INDEX checkpoint_named_run ON checkpoint (named_run) WHERE named_run IS NOT NULL;
-- A value that grew from an earlier one is kept as what it adds: `head` bytes of `data`, then `copied` bytes of the value
-- of version `base` from `base_from` on, then the rest of `data`. `nth` counts the values since the one that is whole.
-- `packed` says that `data` is compressed.
CREATE TABLE blob (
    lineage bigint NOT NULL,
    ns text COLLATE "C" NOT NULL,
    channel text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    data bytea NOT NULL,
    base text COLLATE "C",
    base_from bigint NOT NULL,
    head bigint NOT NULL,
    copied bigint NOT NULL,
    nth bigint NOT NULL,
    packed boolean NOT NULL,
    PRIMARY KEY (lineage, ns, channel, version)
);
CREATE TABLE pending_write (
    lineage bigint NOT NULL,
    ns text COLLATE "C" NOT NULL,
    checkpoint text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    idx bigint NOT NULL,
    path text COLLATE "C" NOT NULL,
    channel text NOT NULL,
    kind text NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (lineage, ns, checkpoint, task, idx)
);
-- What is worth it is compressed already.
ALTER TABLE checkpoint ALTER COLUMN checkpoint SET STORAGE EXTERNAL;
ALTER TABLE blob ALTER COLUMN data SET STORAGE EXTERNAL;

-- What the texts of items mean is in a table that is made when it is first needed, since it takes an extension.
CREATE TABLE item (
    namespace text[] COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value text NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    ttl bigint,
    expires_at bigint,
    PRIMARY KEY (namespace, key)
);
CREATE INDEX item_expires ON item (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE cron (
    k bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    assistant_id uuid NOT NULL,
    thread_id uuid,
    on_run_completed text COLLATE "C",
    end_time bigint,
    schedule text COLLATE "C" NOT NULL,
    timezone text COLLATE "C",
    enabled boolean NOT NULL,
    metadata text NOT NULL,
    payload text NOT NULL,
    next_run_at bigint,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);
CREATE INDEX cron_due ON cron (next_run_at) WHERE enabled;
CREATE INDEX cron_thread ON cron (thread_id) WHERE thread_id IS NOT NULL;
CREATE INDEX cron_assistant ON cron (assistant_id);

CREATE TABLE delivery (
    k bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    run_id uuid NOT NULL,
    thread_id uuid NOT NULL,
    event text COLLATE "C" NOT NULL,
    url text COLLATE "C" NOT NULL,
    shown_url text COLLATE "C" NOT NULL,
    -- Deliveries to one receiver may not take the room of those to others.
    origin text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    -- Of `attempts`, those that somebody asked for besides the schedule.
    manual integer NOT NULL DEFAULT 0,
    -- While such an attempt is due or on its way: the state before, and when the schedule goes on.
    resent_from text COLLATE "C",
    resume_at bigint,
    next_attempt_at bigint NOT NULL,
    -- When the schedule began, which is not waited for without end behind a receiver that is gone.
    scheduled_from bigint NOT NULL,
    lease_id uuid,
    last_status integer,
    last_failure text,
    erased boolean NOT NULL DEFAULT false,
    created_at bigint NOT NULL,
    finished_at bigint
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500,
    autovacuum_analyze_scale_factor = 0.02);
-- With everything that choosing a delivery looks at.
CREATE INDEX delivery_due ON delivery (next_attempt_at, k) INCLUDE (origin, attempts) WHERE state = 'pending';
CREATE INDEX delivery_origin_due ON delivery (origin, next_attempt_at, k) INCLUDE (attempts) WHERE state = 'pending';
-- First attempts are found behind however many retries.
CREATE INDEX delivery_new ON delivery (origin, next_attempt_at, k) WHERE state = 'pending' AND attempts = 0;
CREATE INDEX delivery_scheduled ON delivery (scheduled_from) WHERE state = 'pending';
CREATE INDEX delivery_settled ON delivery (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX delivery_erasable ON delivery (finished_at) WHERE finished_at IS NOT NULL AND NOT erased;
CREATE INDEX delivery_run ON delivery (run_id);
CREATE INDEX delivery_thread ON delivery (thread_id);
CREATE INDEX delivery_state ON delivery (state, k);

-- Bodies apart from what changes with every attempt: a large one is written once.
CREATE TABLE delivery_body (
    delivery bigint PRIMARY KEY,
    body text NOT NULL
);
-- Written before the connection is made, so that a sender that dies leaves a trace of what it began.
CREATE TABLE delivery_attempt (
    delivery bigint NOT NULL,
    n integer NOT NULL,
    "trigger" text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    started_at bigint NOT NULL,
    ended_at bigint,
    status integer,
    failure text,
    PRIMARY KEY (delivery, n)
);
CREATE FUNCTION delivery_parts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM delivery_attempt WHERE delivery = OLD.k;
    DELETE FROM delivery_body WHERE delivery = OLD.k;
    RETURN NULL;
END $$;
CREATE TRIGGER delivery_deleted AFTER DELETE ON delivery FOR EACH ROW EXECUTE FUNCTION delivery_parts();

-- Receivers that asked to be left alone, and until when.
CREATE TABLE destination (
    origin text COLLATE "C" PRIMARY KEY,
    not_before bigint NOT NULL
);

-- Having many deliveries sent again goes on after a crash.
CREATE TABLE recovery (
    k bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    query text NOT NULL,
    -- The last delivery that was looked at, and the last one that there was when this began.
    reached bigint NOT NULL DEFAULT 0,
    last bigint NOT NULL,
    recovered bigint NOT NULL DEFAULT 0,
    created_at bigint NOT NULL,
    finished_at bigint
);
CREATE INDEX recovery_open ON recovery (k) WHERE finished_at IS NULL;

-- What webhooks are signed with. The newest key has no end; the others sign until theirs.
CREATE TABLE webhook_key (
    version integer PRIMARY KEY,
    master bytea NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint
);
