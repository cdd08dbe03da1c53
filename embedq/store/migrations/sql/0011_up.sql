-- One article in one statement, with the task that its trigger makes: RETURNING of a plain INSERT is evaluated before that trigger runs.
CREATE FUNCTION embedq_create_article(
    given_id text, its_tenant text, its_slug text, its_title text, its_content text, its_metadata jsonb,
    the_priority text, the_reason text, the_mode text, the_dispatch text, the_traceparent text,
    OUT id text, OUT version integer, OUT created_at timestamptz, OUT updated_at timestamptz, OUT metadata jsonb, OUT live jsonb,
    OUT task_id bigint, OUT priority text, OUT attempts integer, OUT dispatched boolean)
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('embedq.priority', the_priority, true), set_config('embedq.reason', the_reason, true),
        set_config('embedq.mode', the_mode, true), set_config('embedq.dispatch', the_dispatch, true),
        set_config('embedq.traceparent', the_traceparent, true);
    INSERT INTO article_texts AS a (id, tenant_id, slug, title, content, metadata, version)
    VALUES (coalesce(given_id, gen_random_uuid()::text), its_tenant, its_slug, its_title, its_content, its_metadata,
        -- the same value as the trigger sets, so that RETURNING has it
        1 + coalesce((SELECT max(v.version_number) FROM article_versions v WHERE v.article_id = given_id), 0))
    RETURNING a.id, a.version, a.created_at, a.updated_at, a.metadata
    INTO id, version, created_at, updated_at, metadata;
    SELECT jsonb_build_object('mode', s.mode, 'is_running', s.is_running, 'submissions_accepted', s.submissions_accepted, 'reason', s.reason)
    INTO live FROM embedding_worker_status s WHERE s.id = 1;
    SELECT t.id, t.priority, t.attempts, t.dispatched_at IS NOT NULL INTO task_id, priority, attempts, dispatched
    FROM embedding_tasks t
    WHERE t.article_id = embedq_create_article.id AND t.model_id = (SELECT m.model_id FROM embedding_active_model m)
      AND (CASE WHEN t.status = 'pending' THEN 0 ELSE t.id END) = 0;
END $$;
