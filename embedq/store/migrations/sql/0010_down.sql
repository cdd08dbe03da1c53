-- Vectors in half precision become full ones, so that nothing is embedded anew. Processes of the version before write and read meanwhile.

-- step: embedding_vectors
-- From here on the tables take full vectors too.
DO $$
DECLARE
    the_table text;
BEGIN
    FOR the_table IN SELECT 'embedding_vectors_' || id FROM embedding_models WHERE storage = 'halfvec' LOOP
        EXECUTE format('DROP TRIGGER embedq_halved ON %I', the_table);
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT embedq_half_only, ALTER COLUMN half DROP NOT NULL', the_table);
    END LOOP;
END $$;

-- step: beside writers
-- A thousand rows each transaction, in the order of their key. Whoever writes vectors locks their articles first.
DO $$
DECLARE
    m record;
    ids text[];
    chunks integer[];
    last_id text;
    last_chunk integer;
BEGIN
    FOR m IN SELECT id, 'embedding_vectors_' || id AS name FROM embedding_models WHERE storage = 'halfvec' LOOP
        last_id := '';
        last_chunk := -1;
        LOOP
            EXECUTE format('SELECT array_agg(article_id), array_agg(chunk) FROM (SELECT article_id, chunk FROM %I'
                           ' WHERE (article_id, model_id, chunk) > ($1, $2, $3) ORDER BY article_id, model_id, chunk LIMIT 1000) read', m.name)
                INTO ids, chunks USING last_id, m.id, last_chunk;
            EXIT WHEN ids IS NULL;
            last_id := ids[cardinality(ids)];
            last_chunk := chunks[cardinality(ids)];
            PERFORM FROM article_texts WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE;
            EXECUTE format('UPDATE %I SET embedding = half::vector, half = NULL WHERE article_id = ANY ($1) AND half IS NOT NULL', m.name) USING ids;
            COMMIT;
        END LOOP;
    END LOOP;
END $$;

-- step: embedding_vectors
DO $$
DECLARE
    m record;
BEGIN
    FOR m IN SELECT 'embedding_vectors_' || id AS name, dimensions, storage FROM embedding_models LOOP
        EXECUTE format('ALTER TABLE %I ADD CONSTRAINT embedq_has_vector CHECK (embedding IS NOT NULL) NOT VALID', m.name);
        IF m.storage = 'halfvec' THEN
            EXECUTE format('ALTER TABLE %I ADD CHECK (vector_dims(embedding) = %s) NOT VALID', m.name, m.dimensions);
        END IF;
    END LOOP;
END $$;

-- step: beside writers
-- Rows are read under a lock that writers do not notice; then no step that locks the table need read them.
DO $$
DECLARE
    it record;
BEGIN
    FOR it IN SELECT c.conrelid::regclass AS name, c.conname FROM pg_constraint c JOIN pg_inherits i ON i.inhrelid = c.conrelid
              WHERE i.inhparent = 'embedding_vectors'::regclass AND c.contype = 'c' AND NOT c.convalidated LOOP
        EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', it.name, it.conname);
        COMMIT;
    END LOOP;
END $$;

-- step
DROP FUNCTION embedq_add_model(text, text, integer, text);

CREATE FUNCTION embedq_add_model(the_provider text, the_name text, the_dimensions integer) RETURNS integer
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

CREATE OR REPLACE FUNCTION embedq_import_vectors(the_name text, the_column text, the_model integer, after jsonb, bound integer,
                                      OUT seen integer, OUT last jsonb, OUT became jsonb)
LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET intervalstyle = 'postgres'
SET bytea_output = 'hex' SET extra_float_digits = 1 SET jit = off SET lock_timeout = '900ms' AS $$
DECLARE
    s embedding_sources;
    it regclass := embedq_table_of(the_name);
    wanted integer := (SELECT dimensions FROM embedding_models WHERE id = the_model);
    stretch text;
BEGIN
    SELECT * INTO s FROM embedding_sources WHERE name = the_name;
    IF it IS NULL THEN
        PERFORM embedq_refuse(format('there is no source %s with a table', the_name), '`embedq source list` names them');
    ELSIF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = it AND attname = the_column AND attnum > 0 AND NOT attisdropped) THEN
        PERFORM embedq_refuse(format('%s has no column %s', it, the_column), 'name the column that holds the vectors');
    END IF;
    stretch := embedq_stretch_sql(s, it, after, bound);
    SELECT e.seen, e.last INTO seen, last FROM embedq_stretch_end(s, stretch) e;
    EXECUTE format('SELECT FROM article_texts WHERE id IN (SELECT id FROM (%s) w) ORDER BY id FOR NO KEY UPDATE', embedq_articles_sql(s, stretch));
    EXECUTE format($q$
        WITH given AS MATERIALIZED (
            SELECT %1$L || %2$s AS id, r.%3$I IS NULL AS none, embedq_as_vector(r.%3$I) AS vector FROM %4$s r
        ), judged AS MATERIALIZED (
            SELECT a.id, a.tenant_id, a.version, a.text_hash, g.vector, btrim(a.title || E'\n\n' || a.content, E' \n\r\t\f\v') AS text,
                   CASE WHEN EXISTS (SELECT FROM embeddings e WHERE e.model_id = %5$s AND e.article_id = a.id AND e.text_hash = a.text_hash) THEN 'had'
                        WHEN embedq_text_hash(w.title, w.content) <> a.text_hash THEN 'behind'
                        WHEN g.none THEN 'none' WHEN g.vector IS NULL THEN 'unusable'
                        WHEN vector_dims(g.vector) <> %6$s THEN 'dimensions' WHEN vector_norm(g.vector) = 0 THEN 'zero' ELSE 'taken' END AS became
            FROM (%7$s) w JOIN article_texts a ON a.id = w.id AND a.source = %8$L JOIN given g ON g.id = w.id
        ), old AS (
            DELETE FROM embedding_vectors v USING judged j WHERE j.became = 'taken' AND v.article_id = j.id AND v.model_id = %5$s AND v.chunk > 0
        ), named AS (
            INSERT INTO embeddings AS e (model_id, article_id, version, text_hash, chunks, tokens)
            SELECT %5$s, id, version, text_hash, 1, 0 FROM judged WHERE became = 'taken' ORDER BY id
            ON CONFLICT (article_id, model_id) DO UPDATE SET version = excluded.version, text_hash = excluded.text_hash, chunks = 1, tokens = 0, embedded_at = now()
        ), stored AS (
            INSERT INTO embedding_vectors (model_id, article_id, chunk, tenant_id, chunk_hash, starts_at, ends_at, embedding)
            SELECT %5$s, id, 0, tenant_id, sha256(convert_to(text, 'UTF8')), 0, length(text), vector FROM judged WHERE became = 'taken' ORDER BY id
            ON CONFLICT (article_id, model_id, chunk) DO UPDATE SET tenant_id = excluded.tenant_id, chunk_hash = excluded.chunk_hash,
                starts_at = 0, ends_at = excluded.ends_at, embedding = excluded.embedding
        )
        SELECT coalesce(jsonb_object_agg(became, rows), '{}') FROM (SELECT became, count(*) AS rows FROM judged GROUP BY 1) counted$q$,
        s.name || ':', embedq_key_sql(s), the_column, stretch, the_model, wanted, embedq_articles_sql(s, stretch), s.name) INTO became;
END $$;

CREATE OR REPLACE FUNCTION embedq_nearest(the_source text, the_vector vector, k integer DEFAULT 10)
RETURNS TABLE (article_id text, key text[], tenant_id text, chunk integer, score double precision)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    m record;
    cast_to text;
    keys integer;
BEGIN
    SELECT cardinality(s.key_columns) INTO keys FROM embedding_sources s WHERE s.name = the_source;
    SELECT e.id, e.dimensions INTO m FROM embedding_models e JOIN embedding_active_model a ON a.model_id = e.id;
    IF keys IS NULL THEN
        PERFORM embedq_refuse(format('there is no source %s', the_source), 'SELECT name FROM embedding_sources');
    ELSIF vector_dims(the_vector) <> m.dimensions THEN
        PERFORM embedq_refuse(format('the vector has %s dimensions, those of the active model have %s', vector_dims(the_vector), m.dimensions),
                              'embed the query with the active model');
    END IF;
    cast_to := CASE WHEN m.dimensions > 2000 AND m.dimensions <= 4000 THEN 'halfvec' ELSE 'vector' END;
    RETURN QUERY EXECUTE format($q$
        WITH near AS MATERIALIZED (
            SELECT v.article_id, v.tenant_id, v.chunk, v.embedding <=> $1 AS distance FROM embedding_vectors_%1$s v
            WHERE starts_with(v.article_id, %2$L)
            ORDER BY v.embedding::%3$s(%4$s) <=> $1::%3$s(%4$s) LIMIT %5$s
        ), best AS (
            SELECT DISTINCT ON (n.article_id) n.* FROM near n ORDER BY n.article_id, n.distance
        )
        SELECT b.article_id, %6$s, b.tenant_id, b.chunk, 1 - b.distance FROM best b ORDER BY b.distance, b.article_id LIMIT %7$s$q$,
        m.id, the_source || ':', cast_to, m.dimensions, 8 * k,
        CASE keys WHEN 1 THEN format('ARRAY[substr(b.article_id, %s)]', length(the_source) + 2)
                  ELSE format('ARRAY(SELECT jsonb_array_elements_text(substr(b.article_id, %s)::jsonb))', length(the_source) + 2) END, k)
    USING the_vector;
END $$;

CREATE OR REPLACE FUNCTION embedq_source_view(s embedding_sources) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    ours text[] := ARRAY(SELECT CASE WHEN o = ANY (s.key_columns) THEN 'embedq_' ELSE '' END || o
                         FROM unnest(ARRAY['article_id', 'tenant_id', 'status', 'chunk', 'vector']) WITH ORDINALITY AS names (o, place) ORDER BY place);
BEGIN
    EXECUTE format('DROP VIEW IF EXISTS %I', 'embedq_' || s.name);
    EXECUTE format($q$CREATE VIEW %I AS
        SELECT %s, a.id AS %I, a.tenant_id AS %I, a.embedding_status AS %I, v.chunk AS %I, v.embedding AS %I
        FROM embedq_articles a
        LEFT JOIN embedding_vectors v ON v.article_id = a.id AND v.model_id = (SELECT model_id FROM embedding_active_model)
        WHERE a.source = %L$q$,
        'embedq_' || s.name,
        -- CASE: a condition on the key must not read the ids of other articles, whichever condition is evaluated first.
        (SELECT string_agg(format('CASE WHEN a.source = %L THEN %s END AS %I', s.name, embedq_key_column_sql(s, place::integer, 'a.id'), name), ', ' ORDER BY place)
         FROM unnest(s.key_columns) WITH ORDINALITY AS k (name, place)),
        ours[1], ours[2], ours[3], ours[4], ours[5], s.name);
END $$;

-- step: beside writers
DO $$
DECLARE
    source embedding_sources;
BEGIN
    FOR source IN SELECT s.* FROM embedding_sources s WHERE to_regclass(quote_ident('embedq_' || s.name)) IS NOT NULL LOOP
        PERFORM set_config('lock_timeout', '60ms', true);
        PERFORM embedq_source_view(source);
        COMMIT;
    END LOOP;
END $$;

-- step: embedding_vectors
-- Of the whole table, as it was, and not of each part.
DO $$
DECLARE
    the_table regclass;
BEGIN
    FOR the_table IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'embedding_vectors'::regclass LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN embedding DROP NOT NULL', the_table);
    END LOOP;
    ALTER TABLE embedding_vectors DROP COLUMN half, ALTER COLUMN embedding SET NOT NULL;
    FOR the_table IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'embedding_vectors'::regclass LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS embedq_has_vector', the_table);
    END LOOP;
END $$;

-- step: embedding_models
DROP FUNCTION embedq_halved();

ALTER TABLE embedding_models DROP COLUMN storage;
