DROP INDEX embedding_tasks_of_article;
CREATE UNIQUE INDEX embedding_tasks_one_waiting ON embedding_tasks (article_id, model_id) WHERE status = 'pending';
CREATE INDEX embedding_tasks_by_article ON embedding_tasks (article_id, id);
DO $do$
DECLARE
    changed record;
BEGIN
    FOR changed IN SELECT * FROM (VALUES
        ('embedq_want(text[], text)'::regprocedure, $$ON CONFLICT (article_id, model_id, (CASE WHEN status = 'pending' THEN 0 ELSE id END))$$, $$ON CONFLICT (article_id, model_id) WHERE status = 'pending'$$),
        ('embedq_want_of(integer, text[], text)', $$ON CONFLICT (article_id, model_id, (CASE WHEN status = 'pending' THEN 0 ELSE id END))$$, $$ON CONFLICT (article_id, model_id) WHERE status = 'pending'$$),
        ('embedq_article_edit()', $$current_setting('embedq.continuing', true) = pg_trigger_depth()::text$$, $$current_setting('embedq.continuing', true) = 'yes'$$),
        ('embedq_articles_updated()', $$current_setting('embedq.continuing', true) = pg_trigger_depth()::text$$, $$current_setting('embedq.continuing', true) = 'yes'$$)
    ) AS functions (function, was, becomes) LOOP
        EXECUTE replace(pg_get_functiondef(changed.function), changed.was, changed.becomes);
    END LOOP;
END $do$;

CREATE OR REPLACE FUNCTION embedq_articles_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off AS $$
DECLARE
    continuing text[];
BEGIN
    SELECT array_agg(n.id) INTO continuing
    FROM new_rows n LEFT JOIN LATERAL (
        SELECT v.version_number FROM article_versions v WHERE v.article_id = n.id ORDER BY v.version_number DESC LIMIT 1
    ) past ON true
    WHERE n.version <> 1 + coalesce(past.version_number, 0);
    IF continuing IS NOT NULL THEN
        PERFORM set_config('embedq.continuing', 'yes', true);  -- this is no edit
        UPDATE article_texts a
        SET version = 1 + coalesce((SELECT max(v.version_number) FROM article_versions v WHERE v.article_id = a.id), 0)
        WHERE a.id = ANY (continuing);
        PERFORM set_config('embedq.continuing', '', true);
    END IF;
    PERFORM embedq_want((SELECT array_agg(id) FROM new_rows), 'create');
    RETURN NULL;
END $$;
