-- What the interleavings of writers, workers and operators need (docs/why/interleavings.rst). Every function keeps its signature, every
-- column has a default: the code of the version before runs on this schema.

-- step: embedding_tasks
CREATE OR REPLACE TRIGGER embedq_task_changed_by_hand BEFORE UPDATE ON embedding_tasks FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND OLD.claims = NEW.claims AND current_setting('embedq.own_change', true) IS DISTINCT FROM 'on'
        AND NOT (OLD.lease_holder IS NOT NULL AND NEW.lease_holder IS NULL AND NEW.processed_at IS NOT NULL
                 AND (NEW.status <> 'pending' OR NEW.dispatched_at IS NULL) AND current_setting('lock_timeout') = '200ms'))
    EXECUTE FUNCTION embedq_task_changed_by_hand();

-- step
-- The view that everybody uses: an open task is the answer wherever there is one.
CREATE OR REPLACE VIEW articles AS
SELECT a.id, a.tenant_id, a.slug, a.title, a.content, a.metadata,
       CASE
           WHEN EXISTS (
               SELECT FROM embeddings e
               WHERE e.model_id = (SELECT model_id FROM embedding_active_model) AND e.article_id = a.id AND e.text_hash = a.text_hash
           ) THEN 'ready'
           ELSE coalesce((
               SELECT CASE t.status WHEN 'pending' THEN 'queued' WHEN 'completed' THEN 'queued' WHEN 'cancelled' THEN 'skipped' ELSE t.status END
               FROM embedding_tasks t
               WHERE t.article_id = a.id AND t.model_id = (SELECT model_id FROM embedding_active_model)
                 AND (t.version >= a.version OR t.status = 'pending')
               ORDER BY t.status IN ('pending', 'processing') DESC, t.id DESC LIMIT 1
           ), 'queued')
       END AS embedding_status,
       a.created_at, a.updated_at, a.version
FROM article_texts a;

-- step: article_versions
-- Retention -----------------------------------------------------------------------------------------------------------------------
-- When the texts of a deleted article are old enough, they go, all of them. One row stays, without a text: the highest number that was
-- given, so that no number ever means two texts.
ALTER TABLE article_versions ADD COLUMN purged_at timestamptz;

-- step: embedding_rejected_messages
-- Messages that could not be understood, and workers that end ---------------------------------------------------------------------------
-- Of a large message only a prefix is kept: then `whole_size` and `whole_digest` say what it was; otherwise they are NULL and `raw` is the
-- whole message. `digest` stays a generated column, so that who knows of neither column writes it as before.
ALTER TABLE embedding_rejected_messages ADD COLUMN whole_size bigint, ADD COLUMN whole_digest bytea, ADD COLUMN last_at timestamptz;
ALTER TABLE embedding_rejected_messages DROP COLUMN digest;  -- and with it UNIQUE (queue, digest)
ALTER TABLE embedding_rejected_messages
    ADD COLUMN digest bytea NOT NULL GENERATED ALWAYS AS (coalesce(whole_digest, sha256(raw))) STORED,
    ADD CONSTRAINT embedding_rejected_messages_queue_digest_key UNIQUE (queue, digest);

-- step: embedding_workers
-- Since when a worker is about to end: it claims nothing any more and settles what it has in hand.
ALTER TABLE embedding_workers ADD COLUMN ending_since timestamptz;

-- step
-- The schema is pinned by name, with pg_temp last: no table of a role's own schema, and no temporary one, takes the place of ours.
DO $do$
DECLARE
    ours regprocedure;
BEGIN
    FOR ours IN SELECT p.oid::regprocedure FROM pg_proc p
                WHERE p.pronamespace = current_schema()::regnamespace AND p.proname ~ '^embedq_'
                  AND EXISTS (SELECT FROM unnest(p.proconfig) AS setting WHERE setting LIKE 'search_path=%') LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path FROM CURRENT', ours);
    END LOOP;
END $do$;

-- A worker's number is never given out again, not even by an installation that takes the place of this one: a worker that was frozen
-- meanwhile holds a number that no row has, and its late settle changes nothing.
SELECT setval(pg_get_serial_sequence('embedding_workers', 'id'), greatest(
    (SELECT coalesce(max(id), 0) FROM embedding_workers), floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint));

-- `embedq.notify = off`, for a session, a role or a database: transactions that are prepared (two-phase commit) must not NOTIFY.
CREATE OR REPLACE FUNCTION embedq_wake() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- pg_notify takes a global lock at commit: it is spent only while a worker sleeps.
    IF current_setting('embedq.notify', true) IS DISTINCT FROM 'off'
       AND EXISTS (SELECT FROM embedding_workers WHERE asleep_until > clock_timestamp()) THEN
        PERFORM pg_notify('embedq_' || current_schema(), '');
    END IF;
END $$;

-- Models --------------------------------------------------------------------------------------------------------------------------
-- The table is made beside the others and then attached: that takes no lock that a reader or a writer of articles waits for.
CREATE OR REPLACE FUNCTION embedq_add_model(the_provider text, the_name text, the_dimensions integer) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    the_id integer;
    the_table text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('embedq.models.' || current_schema(), 0));
    SELECT id INTO the_id FROM embedding_models
    WHERE provider = the_provider AND name = the_name AND dimensions = the_dimensions;
    IF the_id IS NOT NULL THEN
        RETURN the_id;
    END IF;
    INSERT INTO embedding_models (provider, name, dimensions) VALUES (the_provider, the_name, the_dimensions) RETURNING id INTO the_id;
    INSERT INTO embedding_providers (name) VALUES (the_provider) ON CONFLICT DO NOTHING;
    the_table := 'embedding_vectors_' || the_id;
    EXECUTE format('CREATE TABLE %I (LIKE embedding_vectors INCLUDING DEFAULTS INCLUDING INDEXES INCLUDING STORAGE)', the_table);
    EXECUTE format('ALTER TABLE %I ADD CHECK (vector_dims(embedding) = %s)', the_table, the_dimensions);
    EXECUTE format('ALTER TABLE embedding_vectors ATTACH PARTITION %I FOR VALUES IN (%s)', the_table, the_id);
    RETURN the_id;
END $$;

-- Births and edits ----------------------------------------------------------------------------------------------------------------
-- As before, without a row of the whole live table: a column that is added to it changes nothing here.
CREATE OR REPLACE FUNCTION embedq_want(ids text[], why text) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
DECLARE
    live record;
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
    SELECT mode, submissions_accepted, dispatch_held INTO live FROM embedding_worker_status WHERE id = 1;
    the_mode := coalesce(nullif(current_setting('embedq.mode', true), ''), live.mode, 'celery');
    IF the_mode IN ('sync', 'off') OR NOT coalesce(live.submissions_accepted, true) THEN
        RETURN 0;
    END IF;
    by_writer := coalesce(current_setting('embedq.dispatch', true), '') = 'writer' AND the_mode IN ('celery', 'hybrid')
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
    ON CONFLICT (article_id, model_id, (CASE WHEN status = 'pending' THEN 0 ELSE id END)) DO UPDATE SET
        version = excluded.version,
        slug = excluded.slug,
        tenant_id = excluded.tenant_id,
        priority = embedq_more_urgent(t.priority, excluded.priority),
        scheduled_at = least(t.scheduled_at, excluded.scheduled_at),
        forgiven_attempts = t.attempts,
        -- the trace of the newest text, not of an earlier one; metadata that was changed by hand to something else than an object never breaks a save
        metadata = CASE jsonb_typeof(t.metadata) WHEN 'object' THEN t.metadata - 'traceparent' ELSE t.metadata END || excluded.metadata,
        -- a raised priority needs a message in the more urgent queue; the old message is harmless
        dispatched_at = CASE
            WHEN t.dispatched_at IS NOT NULL AND embedq_more_urgent(t.priority, excluded.priority) = t.priority THEN t.dispatched_at
            ELSE excluded.dispatched_at END;
    GET DIAGNOSTICS born = ROW_COUNT;
    IF born > 0 AND (NOT by_writer OR the_priority = 'urgent') THEN  -- workers have a thread for urgent tasks
        PERFORM embedq_wake();
    END IF;
    RETURN born;
END $$;

-- Tasks for one model's stale articles, which leave the other models' tasks alone. A waiting task is left as it is. An article that a
-- transaction is writing at this moment is passed over: its own trigger makes the task, or the next look finds it.
CREATE OR REPLACE FUNCTION embedq_want_of(the_model integer, ids text[], why text) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
DECLARE
    live record;
    born integer;
BEGIN
    SELECT mode, submissions_accepted INTO live FROM embedding_worker_status WHERE id = 1;
    IF live.mode IN ('sync', 'off') OR NOT coalesce(live.submissions_accepted, true) THEN
        RETURN 0;
    END IF;
    WITH unlocked AS MATERIALIZED (
        SELECT a.id, a.slug, a.tenant_id, a.version FROM article_texts a
        WHERE a.id = ANY (ids) AND EXISTS (SELECT FROM embedding_models WHERE id = the_model)
        ORDER BY a.id
        FOR NO KEY UPDATE OF a SKIP LOCKED
    )
    INSERT INTO embedding_tasks (article_id, slug, tenant_id, model_id, priority, version, metadata)
    SELECT a.id, a.slug, a.tenant_id, the_model, CASE WHEN active.model_id = the_model THEN 'normal' ELSE 'low' END, a.version,
           jsonb_build_object('reason', why)
    FROM unlocked a LEFT JOIN embedding_active_model active ON true
    ORDER BY a.id
    ON CONFLICT (article_id, model_id, (CASE WHEN status = 'pending' THEN 0 ELSE id END)) DO NOTHING;
    GET DIAGNOSTICS born = ROW_COUNT;
    IF born > 0 THEN
        PERFORM embedq_wake();
    END IF;
    RETURN born;
END $$;

-- Tasks and vectors follow an article that moved to another tenant or slug. First every open task, also one that names the right tenant
-- already: a settle that holds one is waited for, and what it wrote is seen by the second statement.
CREATE FUNCTION embedq_moved(ids text[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
BEGIN
    UPDATE embedding_tasks t SET tenant_id = a.tenant_id, slug = a.slug
    FROM article_texts a
    WHERE a.id = t.article_id AND t.article_id = ANY (ids)
      AND (t.status IN ('pending', 'processing') OR t.tenant_id <> a.tenant_id OR t.slug IS DISTINCT FROM a.slug);
    UPDATE embedding_vectors v SET tenant_id = a.tenant_id
    FROM article_texts a
    WHERE a.id = v.article_id AND v.article_id = ANY (ids) AND v.tenant_id <> a.tenant_id;
END $$;

-- No join of the two transition tables may be a nested loop: the plan that is kept was made for one row, and is used for a million. EXCEPT
-- and INTERSECT hash, and enable_nestloop decides the one join. A text that another BEFORE trigger changed after ours gets its number here.
CREATE OR REPLACE FUNCTION embedq_articles_updated() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_nestloop = off SET jit = off AS $$
DECLARE
    edited text[];
    unnumbered text[];
    moved text[];
BEGIN
    IF current_setting('embedq.continuing', true) = pg_trigger_depth()::text THEN
        RETURN NULL;
    END IF;
    WITH changed AS MATERIALIZED (
        SELECT id, version, text_hash FROM new_rows EXCEPT SELECT id, version, text_hash FROM old_rows
    )
    SELECT array_agg(id), (SELECT array_agg(id) FROM (SELECT id, version FROM changed INTERSECT SELECT id, version FROM old_rows) same)
    INTO edited, unnumbered FROM changed;
    SELECT array_agg(id) INTO moved
    FROM (SELECT id, tenant_id, slug FROM new_rows EXCEPT SELECT id, tenant_id, slug FROM old_rows) changed;
    IF unnumbered IS NOT NULL THEN
        PERFORM set_config('embedq.continuing', (pg_trigger_depth() + 1)::text, true);
        UPDATE article_texts SET version = version + 1 WHERE id = ANY (unnumbered);
        PERFORM set_config('embedq.continuing', '', true);
    END IF;
    IF edited IS NOT NULL THEN
        INSERT INTO article_versions (article_id, version_number, tenant_id, slug, title, content, metadata, created_at)
        SELECT o.id, o.version, o.tenant_id, o.slug, o.title, o.content, o.metadata, o.updated_at
        FROM old_rows o JOIN unnest(edited) AS e (id) ON e.id = o.id
        ON CONFLICT DO NOTHING;
        PERFORM embedq_want(edited, 'update');
    END IF;
    IF moved IS NOT NULL THEN
        PERFORM embedq_moved(moved);
    END IF;
    RETURN NULL;
END $$;

-- Changes by hand -----------------------------------------------------------------------------------------------------------------
-- embedq's own statements say so (embedq.own_change, for their transaction); those of version 0.1.0 are known by their form and by the lock
-- time-out that they set. Every other change of status passes here and is made whole. Of an article's tasks that are set to pending the
-- newest stays: it cancels an older one that was set to pending before it, also by the same statement.
CREATE OR REPLACE FUNCTION embedq_task_changed_by_hand() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '900ms' AS $$
DECLARE
    waiting bigint;
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
        -- A transaction that is writing the article, or setting another of its tasks to pending, is waited for; the next statement sees what it did. Less than deadlock_timeout.
        PERFORM FROM article_texts WHERE id = NEW.article_id FOR NO KEY UPDATE;
        NEW.version := greatest(NEW.version, (SELECT a.version FROM article_texts a WHERE a.id = NEW.article_id));
        SELECT id INTO waiting FROM embedding_tasks
        WHERE article_id = NEW.article_id AND model_id = NEW.model_id AND status = 'pending' AND id <> NEW.id;
        IF waiting < NEW.id THEN
            UPDATE embedding_tasks SET status = 'cancelled', completed_at = clock_timestamp(), error_message = 'a newer task for the same article is waiting'
            WHERE id = waiting;
        ELSIF waiting > NEW.id THEN
            NEW.status := 'cancelled';
            NEW.completed_at := clock_timestamp();
            NEW.error_message := 'a newer task for the same article is already waiting';
        END IF;
        PERFORM embedq_wake();
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
