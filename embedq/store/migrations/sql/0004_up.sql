-- One index finds an article's tasks and keeps the rule that one of them waits for each model, where two did: of all that a birth costs its
-- writer, the indexes are the largest part. A task that waits stands at 0, every other at its own id.
DROP INDEX embedding_tasks_one_waiting, embedding_tasks_by_article;
CREATE UNIQUE INDEX embedding_tasks_of_article
    ON embedding_tasks (article_id, model_id, (CASE WHEN status = 'pending' THEN 0 ELSE id END));

-- The four functions that go by that index and that flag, otherwise as they were. The update that continues a history is known by its depth:
-- what somebody else's trigger edits meanwhile is an edit.
DO $do$
DECLARE
    changed record;
BEGIN
    FOR changed IN SELECT * FROM (VALUES
        ('embedq_want(text[], text)'::regprocedure, $$ON CONFLICT (article_id, model_id) WHERE status = 'pending'$$, $$ON CONFLICT (article_id, model_id, (CASE WHEN status = 'pending' THEN 0 ELSE id END))$$),
        ('embedq_want_of(integer, text[], text)', $$ON CONFLICT (article_id, model_id) WHERE status = 'pending'$$, $$ON CONFLICT (article_id, model_id, (CASE WHEN status = 'pending' THEN 0 ELSE id END))$$),
        ('embedq_article_edit()', $$current_setting('embedq.continuing', true) = 'yes'$$, $$current_setting('embedq.continuing', true) = pg_trigger_depth()::text$$),
        ('embedq_articles_updated()', $$current_setting('embedq.continuing', true) = 'yes'$$, $$current_setting('embedq.continuing', true) = pg_trigger_depth()::text$$)
    ) AS functions (function, was, becomes) LOOP
        EXECUTE replace(pg_get_functiondef(changed.function), changed.was, changed.becomes);
    END LOOP;
END $do$;

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
