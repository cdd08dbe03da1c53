ALTER FUNCTION embedq_want(text[], text) RESET plan_cache_mode;
CREATE OR REPLACE FUNCTION embedq_articles_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM embedq_want((SELECT array_agg(id) FROM new_rows), 'create');
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION embedq_article_edit() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE OR REPLACE FUNCTION embedq_articles_updated() RETURNS trigger
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
CREATE FUNCTION embedq_article_born() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.version := 1 + coalesce((SELECT max(version_number) FROM article_versions WHERE article_id = NEW.id), 0);
    RETURN NEW;
END $$;
CREATE TRIGGER embedq_article_born BEFORE INSERT ON article_texts FOR EACH ROW EXECUTE FUNCTION embedq_article_born();
