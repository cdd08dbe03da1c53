-- What a birth costs: one look for a statement's articles instead of one for each, and no new plan for each statement.

-- An id that is used again continues the history of the article that had it: no version number ever means two texts. The look comes after
-- the rows are there: who had to wait for the deletion of the article that had the id sees what that left.
DROP TRIGGER embedq_article_born ON article_texts;
DROP FUNCTION embedq_article_born;

CREATE OR REPLACE FUNCTION embedq_articles_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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

-- For one article the planner takes a plan made for it as cheaper than the one it has, and so made one for each: a third of the trigger's time.
ALTER FUNCTION embedq_want(text[], text) SET plan_cache_mode = force_generic_plan;
