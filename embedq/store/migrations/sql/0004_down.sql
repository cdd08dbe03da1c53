DROP INDEX embedding_tasks_of_article;
CREATE UNIQUE INDEX embedding_tasks_one_waiting ON embedding_tasks (article_id, model_id) WHERE status = 'pending';
CREATE INDEX embedding_tasks_by_article ON embedding_tasks (article_id, id);
DO $$
DECLARE
    born_in regprocedure;
BEGIN
    FOREACH born_in IN ARRAY ARRAY['embedq_want(text[], text)', 'embedq_want_of(integer, text[], text)']::regprocedure[] LOOP
        EXECUTE replace(pg_get_functiondef(born_in), 'ON CONFLICT (article_id, model_id, (CASE WHEN status = ''pending'' THEN 0 ELSE id END))',
                        'ON CONFLICT (article_id, model_id) WHERE status = ''pending''');
    END LOOP;
END $$;

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

CREATE OR REPLACE FUNCTION embedq_article_edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('embedq.continuing', true) = 'yes' THEN
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
    IF current_setting('embedq.continuing', true) = 'yes' THEN
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
