-- The functions, the trigger and the view as 0004 left them.

-- step: article_versions
DELETE FROM article_versions WHERE purged_at IS NOT NULL;
ALTER TABLE article_versions DROP COLUMN purged_at;

-- step: embedding_workers
ALTER TABLE embedding_workers DROP COLUMN ending_since;

-- step: embedding_rejected_messages
-- Two messages with the same prefix were two rows; the version before would take them for the same: the first stands for all.
UPDATE embedding_rejected_messages r SET seen = least(2147483647, same.seen)::integer
FROM (SELECT min(id) AS id, sum(seen) AS seen FROM embedding_rejected_messages GROUP BY queue, raw HAVING count(*) > 1) same WHERE r.id = same.id;
DELETE FROM embedding_rejected_messages r
WHERE EXISTS (SELECT FROM embedding_rejected_messages f WHERE f.queue = r.queue AND f.raw = r.raw AND f.id < r.id);
ALTER TABLE embedding_rejected_messages DROP COLUMN digest;
ALTER TABLE embedding_rejected_messages DROP COLUMN whole_size, DROP COLUMN whole_digest, DROP COLUMN last_at;
ALTER TABLE embedding_rejected_messages
    ADD COLUMN digest bytea NOT NULL GENERATED ALWAYS AS (sha256(raw)) STORED,
    ADD CONSTRAINT embedding_rejected_messages_queue_digest_key UNIQUE (queue, digest);

-- step: embedding_tasks
CREATE OR REPLACE TRIGGER embedq_task_changed_by_hand BEFORE UPDATE ON embedding_tasks FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND OLD.claims = NEW.claims AND NOT (
        OLD.lease_holder IS NOT NULL AND NEW.lease_holder IS NULL AND NEW.processed_at IS NOT NULL
        AND (NEW.status <> 'pending' OR NEW.dispatched_at IS NULL)))
    EXECUTE FUNCTION embedq_task_changed_by_hand();

-- step
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
               WHERE t.article_id = a.id AND t.model_id = (SELECT model_id FROM embedding_active_model) AND t.version >= a.version
               ORDER BY t.id DESC LIMIT 1
           ), 'queued')
       END AS embedding_status,
       a.created_at, a.updated_at, a.version
FROM article_texts a;

-- step
CREATE OR REPLACE FUNCTION embedq_wake() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- pg_notify takes a global lock at commit: it is spent only while somebody sleeps.
    IF EXISTS (SELECT FROM embedding_workers WHERE asleep_until > clock_timestamp()) THEN
        PERFORM pg_notify('embedq_' || current_schema(), '');
    END IF;
END $$;

CREATE OR REPLACE FUNCTION embedq_add_model(the_provider text, the_name text, the_dimensions integer) RETURNS integer
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

CREATE OR REPLACE FUNCTION embedq_want(ids text[], why text) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
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
        -- the trace of the newest text, not of an earlier one; and what somebody made of metadata by hand never breaks a save
        metadata = CASE jsonb_typeof(t.metadata) WHEN 'object' THEN t.metadata - 'traceparent' ELSE t.metadata END || excluded.metadata,
        -- a raised priority needs a message in the more urgent queue; the old message is harmless
        dispatched_at = CASE
            WHEN t.dispatched_at IS NOT NULL AND embedq_more_urgent(t.priority, excluded.priority) = t.priority THEN t.dispatched_at
            ELSE excluded.dispatched_at END;
    GET DIAGNOSTICS born = ROW_COUNT;
    IF born > 0 AND (NOT by_writer OR the_priority = 'urgent') THEN  -- workers have a thread for the urgent
        PERFORM embedq_wake();
    END IF;
    RETURN born;
END $$;

CREATE OR REPLACE FUNCTION embedq_want_of(the_model integer, ids text[], why text) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    live embedding_worker_status;
    born integer;
BEGIN
    SELECT * INTO live FROM embedding_worker_status WHERE id = 1;
    IF live.mode IN ('sync', 'off') OR NOT coalesce(live.submissions_accepted, true) THEN
        RETURN 0;
    END IF;
    INSERT INTO embedding_tasks (article_id, slug, tenant_id, model_id, priority, version, metadata)
    SELECT a.id, a.slug, a.tenant_id, the_model, CASE WHEN active.model_id = the_model THEN 'normal' ELSE 'low' END, a.version,
           jsonb_build_object('reason', why)
    FROM article_texts a LEFT JOIN embedding_active_model active ON true
    WHERE a.id = ANY (ids) AND EXISTS (SELECT FROM embedding_models WHERE id = the_model)
    ORDER BY a.id
    ON CONFLICT (article_id, model_id, (CASE WHEN status = 'pending' THEN 0 ELSE id END)) DO NOTHING;
    GET DIAGNOSTICS born = ROW_COUNT;
    IF born > 0 THEN
        PERFORM embedq_wake();
    END IF;
    RETURN born;
END $$;

CREATE OR REPLACE FUNCTION embedq_articles_updated() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    edited text[];
    moved text[];
BEGIN
    IF current_setting('embedq.continuing', true) = pg_trigger_depth()::text THEN
        RETURN NULL;
    END IF;
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

DROP FUNCTION embedq_moved;

CREATE OR REPLACE FUNCTION embedq_task_changed_by_hand() RETURNS trigger
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
