-- The base schema. Every name is unqualified on purpose: it lands in the first schema of the search path, and functions
-- pin that path, so that a writer with another search path still reaches the right tables.

CREATE EXTENSION IF NOT EXISTS vector;

-- Hash of what is embedded. Declared immutable although convert_to is only stable: a database's encoding never changes.
CREATE FUNCTION embedq_text_hash(title text, content text) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sha256(convert_to(title || E'\n\n' || content, 'UTF8'));

-- Articles
-- Articles are kept here; people read and write them through the view `articles` below, which adds the one column that must never be
-- wrong: embedding_status is computed from the facts, not stored (docs/why/articles-view.rst).
CREATE TABLE article_texts (
    id text PRIMARY KEY DEFAULT gen_random_uuid()::text CHECK (id <> ''),
    tenant_id text NOT NULL DEFAULT 'default' CHECK (tenant_id <> ''),
    slug text,
    title text NOT NULL DEFAULT '',
    content text NOT NULL DEFAULT '',
    metadata jsonb NOT NULL DEFAULT '{}',
    version integer NOT NULL DEFAULT 1,
    text_hash bytea NOT NULL GENERATED ALWAYS AS (embedq_text_hash(title, content)) STORED,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, slug)
);
-- What reconcile and verify compare: narrow, so that a set difference over a million articles reads no text.
CREATE INDEX article_texts_facts ON article_texts (id) INCLUDE (text_hash, version, tenant_id);

-- Their versions
-- Superseded texts only; the newest one is in article_texts. A deleted article leaves its last text here until clean-up.
CREATE TABLE article_versions (
    article_id text NOT NULL,
    version_number integer NOT NULL,
    tenant_id text NOT NULL,
    slug text,
    title text NOT NULL,
    content text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    superseded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (article_id, version_number)
);

-- Models and vectors
CREATE TABLE embedding_models (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL,
    name text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions BETWEEN 1 AND 16000),
    kept_in_step boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (provider, name, dimensions)
);

-- The one switchable pointer that search follows.
CREATE TABLE embedding_active_model (
    id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    model_id integer NOT NULL REFERENCES embedding_models,
    previous_model_id integer REFERENCES embedding_models ON DELETE SET NULL,
    activated_at timestamptz NOT NULL DEFAULT now()
);

-- One row says: this article's text with this hash is completely embedded by this model. Narrow, written with its vectors.
CREATE TABLE embeddings (
    model_id integer NOT NULL REFERENCES embedding_models,
    article_id text NOT NULL,
    version integer NOT NULL,
    text_hash bytea NOT NULL,
    chunks integer NOT NULL,
    tokens integer NOT NULL,
    embedded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (article_id, model_id)  -- the article first: a delete and a move name no model
);

-- One partition per model, so that dropping a model is dropping a table, and no query can compare two models' vectors.
CREATE TABLE embedding_vectors (
    model_id integer NOT NULL,
    article_id text NOT NULL,
    chunk integer NOT NULL,
    tenant_id text NOT NULL,
    chunk_hash bytea NOT NULL,
    starts_at integer NOT NULL,
    ends_at integer NOT NULL,
    embedding vector NOT NULL,
    PRIMARY KEY (article_id, model_id, chunk)
) PARTITION BY LIST (model_id);

CREATE FUNCTION embedq_add_model(the_provider text, the_name text, the_dimensions integer) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    the_id integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('embedq.models.' || current_schema(), 0));
    SELECT id INTO the_id FROM embedding_models
    WHERE provider = the_provider AND name = the_name AND dimensions = the_dimensions;
    IF the_id IS NOT NULL THEN
        RETURN the_id;
    END IF;
    INSERT INTO embedding_models (provider, name, dimensions) VALUES (the_provider, the_name, the_dimensions) RETURNING id INTO the_id;
    INSERT INTO embedding_providers (name) VALUES (the_provider) ON CONFLICT DO NOTHING;
    EXECUTE format('CREATE TABLE embedding_vectors_%s PARTITION OF embedding_vectors FOR VALUES IN (%s)', the_id, the_id);
    EXECUTE format('ALTER TABLE embedding_vectors_%s ADD CHECK (vector_dims(embedding) = %s)', the_id, the_dimensions);
    RETURN the_id;
END $$;

-- What every process must know of a provider: is it paused, until when, why, and who may probe it.
CREATE TABLE embedding_providers (
    name text PRIMARY KEY,
    paused_until timestamptz,
    pause_reason text,
    faults integer NOT NULL DEFAULT 0,
    faulty_since timestamptz,
    probe_until timestamptz
) WITH (fillfactor = 50);

-- Tasks
-- Life of a task:  pending -> processing -> completed | failed | skipped;  processing -> pending (a wait, a rescue, an operator);
-- pending -> cancelled | failed (an operator);  failed | skipped | cancelled | completed -> pending (an operator).
-- The only way into processing is a claim, which names its lease holder.
CREATE TABLE embedding_tasks (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    article_id text NOT NULL,
    slug text,
    tenant_id text NOT NULL DEFAULT 'default',
    model_id integer NOT NULL,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled', 'skipped')),
    priority text NOT NULL DEFAULT 'normal' CHECK (priority IN ('urgent', 'high', 'normal', 'low')),
    version integer NOT NULL DEFAULT 1,
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    forgiven_attempts integer NOT NULL DEFAULT 0,
    claims integer NOT NULL DEFAULT 0,
    lost_leases integer NOT NULL DEFAULT 0,
    lease_holder bigint,
    delivery text,
    error_message text,
    error_class text,
    errors jsonb NOT NULL DEFAULT '[]',
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    scheduled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    dispatched_at timestamptz,
    processed_at timestamptz,
    completed_at timestamptz,
    CONSTRAINT only_a_claim_makes_a_task_processing CHECK (status <> 'processing' OR lease_holder IS NOT NULL)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- Status and priority go together; without this the planner's estimates, which people see as "about", are far off.
CREATE STATISTICS embedding_tasks_shape (mcv) ON status, priority FROM embedding_tasks;
CREATE UNIQUE INDEX embedding_tasks_one_waiting ON embedding_tasks (article_id, model_id) WHERE status = 'pending';
CREATE INDEX embedding_tasks_free ON embedding_tasks (priority, tenant_id, scheduled_at, id)
    WHERE status = 'pending' AND dispatched_at IS NULL;
CREATE INDEX embedding_tasks_dispatched ON embedding_tasks (priority, dispatched_at) INCLUDE (tenant_id)
    WHERE status = 'pending' AND dispatched_at IS NOT NULL;
CREATE INDEX embedding_tasks_held ON embedding_tasks (lease_holder) WHERE status = 'processing';
CREATE INDEX embedding_tasks_by_article ON embedding_tasks (article_id, id);
CREATE INDEX embedding_tasks_failed ON embedding_tasks (error_class, completed_at) WHERE status = 'failed';
CREATE INDEX embedding_tasks_finished ON embedding_tasks (completed_at) WHERE completed_at IS NOT NULL;

-- What runs
CREATE TABLE embedding_worker_status (
    id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    is_running boolean NOT NULL DEFAULT true,
    mode text NOT NULL DEFAULT 'celery' CHECK (mode IN ('celery', 'database', 'hybrid', 'sync', 'off')),
    submissions_accepted boolean NOT NULL DEFAULT true,
    dispatch_held boolean NOT NULL DEFAULT false,
    paused_priorities text[] NOT NULL DEFAULT '{}',
    paused_tenants text[] NOT NULL DEFAULT '{}',
    maintenance jsonb,
    throttle jsonb NOT NULL DEFAULT '{}',
    reason text,
    changed_by text NOT NULL DEFAULT session_user,
    changed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO embedding_worker_status (id, reason) VALUES (1, 'first set up');

CREATE FUNCTION embedq_fence_key() RETURNS bigint
LANGUAGE sql STABLE SET search_path FROM CURRENT
RETURN hashtextextended('embedq.fence.' || current_schema(), 0);

-- Whoever changes the row, by our commands or by hand, waits here for the claims under way, and later claims wait for the commit.
CREATE FUNCTION embedq_fence() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(embedq_fence_key());
    PERFORM embedq_wake();  -- a poller that sleeps learns of a start, a switch or a resume at once
    RETURN NULL;
END $$;
CREATE TRIGGER embedq_fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON embedding_worker_status
    FOR EACH STATEMENT EXECUTE FUNCTION embedq_fence();

CREATE FUNCTION embedq_stamp_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_at := clock_timestamp();
    IF nullif(current_setting('embedq.who', true), '') IS NULL THEN
        NEW.changed_by := session_user;
        IF NEW.reason IS NOT DISTINCT FROM OLD.reason THEN
            NEW.reason := 'changed by hand';
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER embedq_stamp_status BEFORE UPDATE ON embedding_worker_status
    FOR EACH ROW EXECUTE FUNCTION embedq_stamp_status();

-- Processes that embed or keep house. A lease is worth as long as its holder's row here is alive.
CREATE TABLE embedding_workers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery text NOT NULL,
    name text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    queues text[] NOT NULL DEFAULT '{}',
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    alive_until timestamptz NOT NULL,
    asleep_until timestamptz,
    steward_since timestamptz,
    mode_seen text,
    mode_seen_at timestamptz,
    counters jsonb NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);

-- Audit, samples, rejected messages
CREATE TABLE embedding_audit_logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    timestamp timestamptz NOT NULL DEFAULT clock_timestamp(),
    level text NOT NULL DEFAULT 'info' CHECK (level IN ('debug', 'info', 'warning', 'error')),
    category text NOT NULL,
    message text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX embedding_audit_logs_by_time ON embedding_audit_logs (timestamp);
CREATE INDEX embedding_audit_logs_by_category ON embedding_audit_logs (category, id);

CREATE TABLE performance_metrics (
    timestamp timestamptz NOT NULL DEFAULT clock_timestamp(),
    metric text NOT NULL,
    labels jsonb NOT NULL DEFAULT '{}',
    value double precision NOT NULL
);
CREATE INDEX performance_metrics_by_metric ON performance_metrics (metric, timestamp);
CREATE INDEX performance_metrics_by_time ON performance_metrics (timestamp);

CREATE TABLE embedding_rejected_messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    queue text NOT NULL,
    reason text NOT NULL,
    raw bytea NOT NULL,
    digest bytea NOT NULL GENERATED ALWAYS AS (sha256(raw)) STORED,
    seen integer NOT NULL DEFAULT 1,
    reviewed_at timestamptz,
    UNIQUE (queue, digest)
);

-- Births --------------------------------------------------------------------------------------------------------------------------
CREATE FUNCTION embedq_more_urgent(one text, other text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (ARRAY['urgent', 'high', 'normal', 'low'])[
    least(array_position(ARRAY['urgent', 'high', 'normal', 'low'], one), array_position(ARRAY['urgent', 'high', 'normal', 'low'], other))];

CREATE FUNCTION embedq_wake() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- pg_notify takes a global lock at commit: it is spent only while somebody sleeps.
    IF EXISTS (SELECT FROM embedding_workers WHERE asleep_until > clock_timestamp()) THEN
        PERFORM pg_notify('embedq_' || current_schema(), '');
    END IF;
END $$;

-- One upsert for a statement's articles. Settable per transaction: embedq.priority, embedq.reason, embedq.mode (a process in which the
-- queue or search is switched off), embedq.dispatch = 'writer' (the writer publishes the messages itself right after its commit),
-- embedq.traceparent (W3C: the trace that the write belongs to).
CREATE FUNCTION embedq_want(ids text[], why text) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    live embedding_worker_status;
    the_mode text;
    the_priority text := coalesce(nullif(current_setting('embedq.priority', true), ''), 'normal');
    the_reason text := coalesce(nullif(current_setting('embedq.reason', true), ''), why);
    the_metadata jsonb;
    by_writer boolean;
    born integer;
BEGIN
    IF the_priority NOT IN ('urgent', 'high', 'normal', 'low') THEN
        RAISE EXCEPTION 'embedq.priority is %, which is no priority', the_priority
            USING HINT = 'set it to urgent, high, normal or low', ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT * INTO live FROM embedding_worker_status WHERE id = 1;
    the_mode := coalesce(nullif(current_setting('embedq.mode', true), ''), live.mode, 'celery');
    IF the_mode IN ('sync', 'off') OR NOT coalesce(live.submissions_accepted, true) THEN
        RETURN 0;
    END IF;
    by_writer := current_setting('embedq.dispatch', true) = 'writer' AND the_mode IN ('celery', 'hybrid')
        AND NOT coalesce(live.dispatch_held, false);
    the_metadata := jsonb_strip_nulls(jsonb_build_object(
        'reason', the_reason, 'traceparent', nullif(current_setting('embedq.traceparent', true), '')));
    INSERT INTO embedding_tasks AS t (article_id, slug, tenant_id, model_id, priority, version, metadata, dispatched_at)
    SELECT a.id, a.slug, a.tenant_id, m.id,
           CASE WHEN m.id = active.model_id THEN the_priority ELSE 'low' END, a.version,
           the_metadata,
           CASE WHEN by_writer AND m.id = active.model_id THEN clock_timestamp() END
    FROM article_texts a
    CROSS JOIN embedding_models m
    LEFT JOIN embedding_active_model active ON true
    WHERE a.id = ANY (ids) AND m.kept_in_step
    ORDER BY a.id, m.id  -- one order of locks for all writers
    ON CONFLICT (article_id, model_id) WHERE status = 'pending' DO UPDATE SET
        version = excluded.version,
        slug = excluded.slug,
        tenant_id = excluded.tenant_id,
        priority = embedq_more_urgent(t.priority, excluded.priority),
        scheduled_at = least(t.scheduled_at, excluded.scheduled_at),
        forgiven_attempts = t.attempts,
        -- the trace of the newest text, not of an earlier one; and what somebody made of metadata by hand never breaks a save
        metadata = CASE jsonb_typeof(t.metadata) WHEN 'object' THEN t.metadata - 'traceparent' ELSE t.metadata END || excluded.metadata,
        -- a raised priority needs a message in the more urgent queue; the old message is harmless
        dispatched_at = CASE
            WHEN t.dispatched_at IS NOT NULL AND embedq_more_urgent(t.priority, excluded.priority) = t.priority THEN t.dispatched_at
            ELSE excluded.dispatched_at END;
    GET DIAGNOSTICS born = ROW_COUNT;
    IF born > 0 AND NOT by_writer THEN
        PERFORM embedq_wake();
    END IF;
    RETURN born;
END $$;

CREATE FUNCTION embedq_articles_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM embedq_want((SELECT array_agg(id) FROM new_rows), 'create');
    RETURN NULL;
END $$;
CREATE TRIGGER embedq_articles_inserted AFTER INSERT ON article_texts
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION embedq_articles_inserted();

-- An id that is used again continues the history of the article that had it: no version number ever means two texts.
CREATE FUNCTION embedq_article_born() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.version := 1 + coalesce((SELECT max(version_number) FROM article_versions WHERE article_id = NEW.id), 0);
    RETURN NEW;
END $$;
CREATE TRIGGER embedq_article_born BEFORE INSERT ON article_texts FOR EACH ROW EXECUTE FUNCTION embedq_article_born();

CREATE FUNCTION embedq_article_edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id <> OLD.id THEN
        RAISE EXCEPTION 'the id of article % cannot be changed', OLD.id USING HINT = 'insert the article under its new id and delete the old one';
    END IF;
    NEW.updated_at := clock_timestamp();
    IF NEW.title <> OLD.title OR NEW.content <> OLD.content THEN
        NEW.version := OLD.version + 1;
    ELSE
        NEW.version := OLD.version;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER embedq_article_edit BEFORE UPDATE ON article_texts FOR EACH ROW EXECUTE FUNCTION embedq_article_edit();

CREATE FUNCTION embedq_articles_updated() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    edited text[];
    moved text[];
BEGIN
    SELECT array_agg(n.id) FILTER (WHERE n.version <> o.version), array_agg(n.id) FILTER (WHERE n.tenant_id <> o.tenant_id)
    INTO edited, moved FROM new_rows n JOIN old_rows o ON o.id = n.id;
    IF edited IS NOT NULL THEN
        INSERT INTO article_versions (article_id, version_number, tenant_id, slug, title, content, metadata, created_at)
        SELECT id, version, tenant_id, slug, title, content, metadata, updated_at FROM old_rows WHERE id = ANY (edited)
        ON CONFLICT DO NOTHING;
        PERFORM embedq_want(edited, 'update');
    END IF;
    IF moved IS NOT NULL THEN
        UPDATE embedding_tasks t SET tenant_id = n.tenant_id FROM new_rows n
        WHERE t.article_id = n.id AND n.id = ANY (moved) AND t.tenant_id <> n.tenant_id;
        UPDATE embedding_vectors v SET tenant_id = n.tenant_id FROM new_rows n WHERE v.article_id = n.id AND n.id = ANY (moved);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER embedq_articles_updated AFTER UPDATE ON article_texts
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION embedq_articles_updated();

CREATE FUNCTION embedq_articles_deleted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    gone text[] := (SELECT array_agg(id ORDER BY id) FROM old_rows);
BEGIN
    -- Tasks first: a settle under way either holds its task, and is waited for, or finds it cancelled. Only then the vectors, in a
    -- statement of its own, which therefore sees what that settle wrote.
    UPDATE embedding_tasks SET status = 'cancelled', lease_holder = NULL, completed_at = clock_timestamp(), error_message = 'the article was deleted'
    WHERE article_id = ANY (gone) AND status IN ('pending', 'processing');
    DELETE FROM embeddings WHERE article_id = ANY (gone);
    DELETE FROM embedding_vectors WHERE article_id = ANY (gone);
    INSERT INTO article_versions (article_id, version_number, tenant_id, slug, title, content, metadata, created_at, deleted)
    SELECT id, version, tenant_id, slug, title, content, metadata, updated_at, true FROM old_rows
    ON CONFLICT (article_id, version_number) DO UPDATE SET
        tenant_id = excluded.tenant_id, slug = excluded.slug, title = excluded.title, content = excluded.content,
        metadata = excluded.metadata, created_at = excluded.created_at, superseded_at = clock_timestamp(), deleted = true;
    RETURN NULL;
END $$;
CREATE TRIGGER embedq_articles_deleted AFTER DELETE ON article_texts
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION embedq_articles_deleted();

CREATE FUNCTION embedq_articles_truncated() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE embedding_tasks SET status = 'cancelled', lease_holder = NULL, completed_at = clock_timestamp(), error_message = 'the article was deleted'
    WHERE status IN ('pending', 'processing');
    DELETE FROM embeddings;
    DELETE FROM embedding_vectors;
    RETURN NULL;
END $$;
CREATE TRIGGER embedq_articles_truncated AFTER TRUNCATE ON article_texts
    FOR EACH STATEMENT EXECUTE FUNCTION embedq_articles_truncated();

-- Changes by hand -----------------------------------------------------------------------------------------------------------------
-- Our own claim raises `claims`; our own settle gives up `lease_holder`, keeps `processed_at` and takes a waiting task from the broker.
-- Every other change of status passes here and is made whole.
CREATE FUNCTION embedq_task_changed_by_hand() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.attempts := greatest(NEW.attempts, OLD.attempts);
    IF NEW.status = 'pending' THEN
        NEW.lease_holder := NULL;
        NEW.dispatched_at := NULL;
        NEW.completed_at := NULL;
        NEW.processed_at := NULL;
        NEW.forgiven_attempts := NEW.attempts;
        IF NEW.scheduled_at = OLD.scheduled_at THEN
            NEW.scheduled_at := clock_timestamp();
        END IF;
        IF EXISTS (SELECT FROM embedding_tasks WHERE article_id = NEW.article_id AND model_id = NEW.model_id
                   AND status = 'pending' AND id <> NEW.id) THEN
            NEW.status := 'cancelled';
            NEW.completed_at := clock_timestamp();
            NEW.error_message := 'a newer task for the same article is already waiting';
        ELSE
            PERFORM embedq_wake();
        END IF;
    ELSIF NEW.status <> 'processing' THEN
        NEW.lease_holder := NULL;
        NEW.completed_at := coalesce(NEW.completed_at, clock_timestamp());
        IF NEW.status = 'failed' THEN
            NEW.error_class := coalesce(NEW.error_class, 'by hand');
            NEW.error_message := coalesce(NEW.error_message, 'set to failed by hand');
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER embedq_task_changed_by_hand BEFORE UPDATE ON embedding_tasks FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND OLD.claims = NEW.claims AND NOT (
        OLD.lease_holder IS NOT NULL AND NEW.lease_holder IS NULL AND NEW.processed_at IS NOT NULL
        AND (NEW.status <> 'pending' OR NEW.dispatched_at IS NULL)))
    EXECUTE FUNCTION embedq_task_changed_by_hand();

CREATE FUNCTION embedq_attempts_never_go_down() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.attempts := OLD.attempts;
    RETURN NEW;
END $$;
CREATE TRIGGER embedq_attempts_never_go_down BEFORE UPDATE ON embedding_tasks FOR EACH ROW
    WHEN (NEW.attempts < OLD.attempts) EXECUTE FUNCTION embedq_attempts_never_go_down();

-- The view that everybody uses -------------------------------------------------------------------------------------------------------
CREATE VIEW articles AS
SELECT a.id, a.tenant_id, a.slug, a.title, a.content, a.metadata,
       CASE
           WHEN EXISTS (
               SELECT FROM embeddings e
               WHERE e.model_id = (SELECT model_id FROM embedding_active_model) AND e.article_id = a.id AND e.text_hash = a.text_hash
           ) THEN 'ready'
           ELSE coalesce((
               SELECT CASE t.status WHEN 'pending' THEN 'queued' WHEN 'completed' THEN 'queued' WHEN 'cancelled' THEN 'skipped' ELSE t.status END
               FROM embedding_tasks t
               WHERE t.article_id = a.id AND t.model_id = (SELECT model_id FROM embedding_active_model) AND t.version >= a.version
               ORDER BY t.id DESC LIMIT 1
           ), 'queued')
       END AS embedding_status,
       a.created_at, a.updated_at, a.version
FROM article_texts a;
COMMENT ON VIEW articles IS 'Read and write articles here; COPY goes to article_texts. embedding_status is computed, so it is never wrong.';
