-- Sources are detached, and their rows are no articles any more. The functions and the view as 0005 left them.

-- step
DO $do$
DECLARE
    source record;
BEGIN
    FOR source IN SELECT name FROM embedding_sources LOOP
        PERFORM embedq_unhook(source.name);
    END LOOP;
END $do$;

-- step: beside writers
DO $do$
BEGIN
    LOOP
        DELETE FROM article_texts WHERE id = ANY (ARRAY(SELECT id FROM article_texts WHERE source IS NOT NULL ORDER BY source, id LIMIT 1000));
        EXIT WHEN NOT FOUND;
        COMMIT;
    END LOOP;
END $do$;

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
               WHERE t.article_id = a.id AND t.model_id = (SELECT model_id FROM embedding_active_model)
                 AND (t.version >= a.version OR t.status = 'pending')
               ORDER BY t.status IN ('pending', 'processing') DESC, t.id DESC LIMIT 1
           ), 'queued')
       END AS embedding_status,
       a.created_at, a.updated_at, a.version
FROM article_texts a;

-- step
DROP VIEW embedq_articles;

-- step
DROP FUNCTION embedq_nearest, embedq_import_vectors, embedq_as_vector, embedq_source_differences, embedq_source_step, embedq_compare_articles, embedq_compare_rows, embedq_of_a_row,
    embedq_source_thin, embedq_source_fill, embedq_stretch_end, embedq_stretch_sql,
    embedq_detach, embedq_source_forget, embedq_unhook, embedq_attach, embedq_source_key, embedq_source_view, embedq_source_triggers, embedq_tables_of,
    embedq_trigger_sql, embedq_source_behind, embedq_upsert_sql, embedq_digests_sql, embedq_articles_sql, embedq_key_column_sql, embedq_key_sql,
    embedq_source_definition, embedq_text_of, embedq_expression, embedq_key_of, embedq_check_table, embedq_table_of, embedq_table_named, embedq_refuse;

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

CREATE OR REPLACE FUNCTION embedq_articles_deleted() RETURNS trigger
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
ALTER FUNCTION embedq_articles_updated() SECURITY INVOKER;
ALTER FUNCTION embedq_articles_deleted() SECURITY INVOKER;
ALTER FUNCTION embedq_articles_truncated() SECURITY INVOKER;
GRANT EXECUTE ON FUNCTION embedq_articles_inserted(), embedq_articles_updated(), embedq_articles_deleted(), embedq_articles_truncated() TO PUBLIC;

-- step: article_texts
ALTER TABLE article_texts DROP CONSTRAINT article_texts_id_of_source, DROP COLUMN source;

-- step
DROP TABLE embedding_sources;
