-- One index finds an article's tasks and keeps the rule that one of them waits for each model, where two did: of all that a birth costs its
-- writer, the indexes are the largest part. A task that waits stands at 0, every other at its own id.
DROP INDEX embedding_tasks_one_waiting, embedding_tasks_by_article;
CREATE UNIQUE INDEX embedding_tasks_of_article
    ON embedding_tasks (article_id, model_id, (CASE WHEN status = 'pending' THEN 0 ELSE id END));

-- The four functions that go by that index and that flag, otherwise as they were. The update that continues a history is known by its depth:
-- what somebody else's trigger edits meanwhile is an edit.
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

CREATE OR REPLACE FUNCTION embedq_article_edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('embedq.continuing', true) = pg_trigger_depth()::text THEN
        RETURN NEW;
    END IF;
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

-- As in 0003, in one look instead of two.
CREATE OR REPLACE FUNCTION embedq_articles_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off AS $$
DECLARE
    ids text[];
    continuing text[];
BEGIN
    SELECT array_agg(n.id), array_agg(n.id) FILTER (WHERE n.version <> 1 + coalesce(past.version_number, 0)) INTO ids, continuing
    FROM new_rows n LEFT JOIN LATERAL (
        SELECT v.version_number FROM article_versions v WHERE v.article_id = n.id ORDER BY v.version_number DESC LIMIT 1
    ) past ON true;
    IF continuing IS NOT NULL THEN
        PERFORM set_config('embedq.continuing', (pg_trigger_depth() + 1)::text, true);
        UPDATE article_texts a
        SET version = 1 + coalesce((SELECT max(v.version_number) FROM article_versions v WHERE v.article_id = a.id), 0)
        WHERE a.id = ANY (continuing);
        PERFORM set_config('embedq.continuing', '', true);
    END IF;
    PERFORM embedq_want(ids, 'create');
    RETURN NULL;
END $$;
