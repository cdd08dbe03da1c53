-- The schema as it is now, to be read; the migrations make it (embedq/store/migrations). Written by `python -m tests.schema`,
-- and a test compares it with what they make. In a schema of its own, "public" is that schema's name here.

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;

COMMENT ON EXTENSION vector IS 'vector data type and ivfflat and hnsw access methods';

CREATE FUNCTION public.embedq_add_model(the_provider text, the_name text, the_dimensions integer, the_storage text DEFAULT 'vector'::text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
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
    INSERT INTO embedding_models (provider, name, dimensions, storage) VALUES (the_provider, the_name, the_dimensions, the_storage) RETURNING id INTO the_id;
    INSERT INTO embedding_providers (name) VALUES (the_provider) ON CONFLICT DO NOTHING;
    the_table := 'embedding_vectors_' || the_id;
    EXECUTE format('CREATE TABLE %I (LIKE embedding_vectors INCLUDING DEFAULTS INCLUDING INDEXES INCLUDING STORAGE)', the_table);
    IF the_storage = 'halfvec' THEN
        EXECUTE format('ALTER TABLE %I ADD CHECK (vector_dims(half) = %s), ALTER COLUMN half SET NOT NULL, ADD CONSTRAINT embedq_half_only CHECK (embedding IS NULL)', the_table, the_dimensions);
    ELSE
        EXECUTE format('ALTER TABLE %I ADD CHECK (vector_dims(embedding) = %s), ALTER COLUMN embedding SET NOT NULL', the_table, the_dimensions);
    END IF;
    EXECUTE format('ALTER TABLE embedding_vectors ATTACH PARTITION %I FOR VALUES IN (%s)', the_table, the_id);
    IF the_storage = 'halfvec' THEN
        EXECUTE format('CREATE TRIGGER embedq_halved BEFORE INSERT ON %I FOR EACH ROW EXECUTE FUNCTION embedq_halved()', the_table);
    END IF;
    RETURN the_id;
END $$;

CREATE FUNCTION public.embedq_apart(said text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN regexp_replace(regexp_replace(regexp_replace(said, '([a-z0-9])([A-Z])'::text, '\1 \2'::text, 'g'::text), '([A-Z])([A-Z][a-z])'::text, '\1 \2'::text, 'g'::text), '([A-Za-z0-9])[._/]+(?=[A-Za-z_])|_+'::text, '\1 '::text, 'g'::text);

CREATE FUNCTION public.embedq_article_edit() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.embedq_articles_deleted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    gone text[] := (SELECT array_agg(id ORDER BY id) FROM old_rows);
BEGIN
    -- Tasks first: a settle under way either holds its task, and is waited for, or finds it cancelled. Only then the vectors, in a
    -- statement of its own, which therefore sees what that settle wrote.
    UPDATE embedding_tasks SET status = 'cancelled', lease_holder = NULL, completed_at = clock_timestamp(), error_message = 'the article was deleted'
    WHERE article_id = ANY (gone) AND status IN ('pending', 'processing');
    DELETE FROM embeddings WHERE article_id = ANY (gone);
    DELETE FROM embedding_vectors WHERE article_id = ANY (gone);
    INSERT INTO article_versions (article_id, version_number, tenant_id, title, content, created_at, deleted, purged_at)
    SELECT id, version, tenant_id, '', '', updated_at, true, clock_timestamp() FROM old_rows WHERE source IS NOT NULL
    ON CONFLICT DO NOTHING;
    INSERT INTO article_versions (article_id, version_number, tenant_id, slug, title, content, metadata, created_at, deleted)
    SELECT id, version, tenant_id, slug, title, content, metadata, updated_at, true FROM old_rows WHERE source IS NULL
    ON CONFLICT (article_id, version_number) DO UPDATE SET
        tenant_id = excluded.tenant_id, slug = excluded.slug, title = excluded.title, content = excluded.content,
        metadata = excluded.metadata, created_at = excluded.created_at, superseded_at = clock_timestamp(), deleted = true;
    RETURN NULL;
END $$;

CREATE FUNCTION public.embedq_articles_inserted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
DECLARE
    ids text[];
    continuing text[];
    owned text;
BEGIN
    SELECT array_agg(n.id), array_agg(n.id) FILTER (WHERE n.version <> 1 + coalesce(past.version_number, 0)) INTO ids, continuing
    FROM new_rows n LEFT JOIN LATERAL (
        SELECT v.version_number FROM article_versions v WHERE v.article_id = n.id ORDER BY v.version_number DESC LIMIT 1
    ) past ON true;
    IF ids IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT min(n.id) INTO owned FROM new_rows n, embedding_sources s WHERE n.source IS NULL AND starts_with(n.id, s.name || ':');
    IF owned IS NOT NULL THEN
        RAISE EXCEPTION 'the id % belongs to a source', owned
            USING HINT = 'write the row of the source''s table, or choose another id', ERRCODE = 'EQ001';
    END IF;
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

CREATE TABLE public.embedding_sources (
    name text NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    key_columns text[] NOT NULL,
    key_types text[] NOT NULL,
    title text NOT NULL,
    content text NOT NULL,
    tenant text NOT NULL,
    condition text NOT NULL,
    metadata_columns text[] NOT NULL,
    columns text[] NOT NULL,
    priority text NOT NULL,
    given jsonb NOT NULL,
    attached_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    progress jsonb,
    compared_at timestamp with time zone,
    next_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    outcome jsonb DEFAULT '{}'::jsonb NOT NULL,
    behind_since timestamp with time zone,
    behind_reason text,
    behind_statement text,
    CONSTRAINT embedding_sources_name_check CHECK ((name ~ '^[a-z_][a-z0-9_]{0,39}$'::text)),
    CONSTRAINT embedding_sources_priority_check CHECK ((priority = ANY (ARRAY['urgent'::text, 'high'::text, 'normal'::text, 'low'::text])))
);

CREATE FUNCTION public.embedq_key_sql(s public.embedding_sources) RETURNS text
    LANGUAGE sql STABLE
    RETURN CASE cardinality((s).key_columns) WHEN 1 THEN format('(r.%I)::text'::text, (s).key_columns[1]) ELSE (SELECT format('jsonb_build_array(%s)::text'::text, string_agg(format('(r.%I)::text'::text, k.k), ', '::text)) AS format FROM unnest((embedq_key_sql.s).key_columns) k(k)) END;

CREATE FUNCTION public.embedq_articles_sql(s public.embedding_sources, those text) RETURNS text
    LANGUAGE sql STABLE
    RETURN format('SELECT %L || %s AS id, %s AS tenant_id, %s AS title, %s AS content, %s AS metadata FROM %s r WHERE %s'::text, ((s).name || ':'::text), public.embedq_key_sql(s), (s).tenant, (s).title, (s).content, CASE cardinality((s).metadata_columns) WHEN 0 THEN '''{}''::jsonb'::text ELSE (SELECT format('jsonb_build_object(%s)'::text, string_agg(format('%L, r.%I'::text, c.c, c.c), ', '::text)) AS format FROM unnest((embedq_articles_sql.s).metadata_columns) c(c)) END, those, (s).condition);

CREATE FUNCTION public.embedq_articles_truncated() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    UPDATE embedding_tasks SET status = 'cancelled', lease_holder = NULL, completed_at = clock_timestamp(), error_message = 'the article was deleted'
    WHERE status IN ('pending', 'processing');
    DELETE FROM embeddings;
    DELETE FROM embedding_vectors;
    RETURN NULL;
END $$;

CREATE FUNCTION public.embedq_articles_updated() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_nestloop TO 'off'
    SET jit TO 'off'
    AS $$
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
        FROM old_rows o JOIN unnest(edited) AS e (id) ON e.id = o.id AND o.source IS NULL
        ON CONFLICT DO NOTHING;
        PERFORM embedq_want(edited, 'update');
    END IF;
    IF moved IS NOT NULL THEN
        PERFORM embedq_moved(moved);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION public.embedq_as_vector(given anyelement) RETURNS public.vector
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    RETURN given::vector;
EXCEPTION WHEN data_exception OR cannot_coerce OR datatype_mismatch THEN
    RETURN NULL;
END $$;

CREATE FUNCTION public.embedq_neighbours(said text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN ((current_setting('server_encoding'::text) <> 'UTF8'::text) OR (octet_length(said) = length(said))) THEN ''::tsvector ELSE COALESCE((SELECT array_to_tsvector(array_agg(DISTINCT substr(run.run[1], place.place, 2))) AS array_to_tsvector FROM regexp_matches(embedq_neighbours.said, '([\u0e00-\u0e7f\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+)'::text, 'g'::text) run(run), LATERAL generate_series(1, GREATEST(1, (length(run.run[1]) - 1))) place(place)), ''::tsvector) END;

CREATE FUNCTION public.embedq_unaccented(said text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN ((octet_length(said) = length(said)) OR (current_setting('server_encoding'::text) <> 'UTF8'::text)) THEN said ELSE NORMALIZE(regexp_replace(NORMALIZE(said, NFD), '([A-Za-z])[\u0300-\u036f]+'::text, '\1'::text, 'g'::text), NFC) END;

CREATE FUNCTION public.embedq_wholes(said text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT string_agg(lower(translate(whole.found[1], '._-'::text, ''::text)), ' '::text) AS string_agg FROM (SELECT found.found FROM regexp_matches(embedq_wholes.said, '[A-Za-z0-9_]+(?:\.[A-Za-z_][A-Za-z0-9_]*)+'::text, 'g'::text) found(found) UNION ALL SELECT found.found FROM regexp_matches(embedq_wholes.said, '[A-Za-z0-9]+(?:_+[A-Za-z0-9]+)+|[A-Z]*[a-z0-9]+[A-Z][A-Za-z0-9]*'::text, 'g'::text) found(found) UNION ALL SELECT found.found FROM regexp_matches(embedq_wholes.said, '[A-Za-z0-9]*[A-Za-z]-?[0-9][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*'::text, 'g'::text) found(found)) whole);

CREATE FUNCTION public.embedq_asked(question text) RETURNS TABLE(term integer, exact boolean, lexemes text[], query tsquery)
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
 WITH said AS MATERIALIZED (
          SELECT public.embedq_unaccented("left"(embedq_asked.question, 2000)) AS text
         ), stems AS (
          SELECT (place.place)::integer AS term,
             found.lexeme
            FROM said,
             unnest('{english,german,french,spanish,italian,portuguese,dutch,swedish,danish,norwegian,finnish,hungarian,romanian,russian,turkish,simple}'::regconfig[]) language(language),
             LATERAL unnest(to_tsvector(language.language, public.embedq_apart(said.text))) found(lexeme, positions, weights),
             LATERAL unnest(found.positions) place(place)
           WHERE (place.place IN ( SELECT unnest(kept.positions) AS unnest
                    FROM unnest(to_tsvector('english'::regconfig, public.embedq_apart(said.text))) kept(lexeme, positions, weights)))
         ), others AS (
          SELECT found.lexeme,
             true AS exact
            FROM said,
             LATERAL unnest(to_tsvector('simple'::regconfig, COALESCE(public.embedq_wholes(said.text), ''::text))) found(lexeme, positions, weights)
         UNION ALL
          SELECT found.lexeme,
             false
            FROM said,
             LATERAL unnest(public.embedq_neighbours(said.text)) found(lexeme, positions, weights)
         )
  SELECT every.term,
     bool_or(every.exact) AS bool_or,
     array_agg(DISTINCT every.lexeme) AS array_agg,
     (string_agg(DISTINCT ((''''::text || replace(replace(every.lexeme, '\'::text, '\\'::text), ''''::text, ''''''::text)) || ''''::text), '|'::text))::tsquery AS string_agg
    FROM ( SELECT stems.term,
             false AS exact,
             stems.lexeme
            FROM stems
         UNION ALL
          SELECT (- (row_number() OVER ())::integer),
             others.exact,
             others.lexeme
            FROM others) every
   GROUP BY every.term;
END;

CREATE FUNCTION public.embedq_attach(the_table text, title text DEFAULT NULL::text, content text DEFAULT NULL::text, condition text DEFAULT NULL::text, tenant text DEFAULT NULL::text, metadata text[] DEFAULT NULL::text[], key text[] DEFAULT NULL::text[], name text DEFAULT NULL::text, priority text DEFAULT 'normal'::text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET lock_timeout TO '200ms'
    AS $$
DECLARE
    s embedding_sources := embedq_source_definition(the_table, title, content, condition, tenant, metadata, key, name, priority);
    it regclass := format('%I.%I', s.schema_name, s.table_name)::regclass;
    earlier embedding_sources;
BEGIN
    PERFORM pg_advisory_xact_lock(embedq_source_key(s.name));
    SELECT * INTO earlier FROM embedding_sources e WHERE e.name = s.name;
    IF earlier.name IS NOT NULL AND earlier.key_columns <> s.key_columns AND EXISTS (SELECT FROM article_texts WHERE source = s.name) THEN
        PERFORM embedq_refuse(format('the source %s has another key, (%s)', s.name, array_to_string(earlier.key_columns, ', ')),
            format('`embedq detach %s`, then attach it anew', s.name));
    END IF;
    DELETE FROM embedding_sources e WHERE e.name = s.name;
    INSERT INTO embedding_sources SELECT s.*;
    EXECUTE embedq_trigger_sql(s);
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %I() FROM PUBLIC', 'embedq_source_' || s.name);
    PERFORM embedq_source_triggers(s, it, true);
    PERFORM embedq_source_view(s);
    RETURN s.name;
END $$;

CREATE FUNCTION public.embedq_attempts_never_go_down() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.attempts := OLD.attempts;
    RETURN NEW;
END $$;

CREATE FUNCTION public.embedq_check_table(the_table oid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $_$
DECLARE
    c record;
BEGIN
    SELECT p.relkind, p.relpersistence, p.relispartition, p.relnamespace, p.relname, p.oid::regclass::text AS name,
           EXISTS (SELECT FROM pg_inherits WHERE inhparent = p.oid) OR EXISTS (SELECT FROM pg_inherits WHERE inhrelid = p.oid) AS inherits
    INTO c FROM pg_class p WHERE p.oid = the_table;
    IF c.relkind IN ('v', 'm') THEN
        PERFORM embedq_refuse(format('%s is a view: nothing tells when its rows change', c.name), 'attach the tables it reads, with --where and expressions');
    ELSIF c.relkind = 'f' THEN
        PERFORM embedq_refuse(format('%s is a foreign table: no trigger sees what is written on its server', c.name), 'install embedq in that database and attach the table there');
    ELSIF c.relpersistence = 't' THEN
        PERFORM embedq_refuse(format('%s is a temporary table: it ends with its session', c.name), 'attach a table that lasts');
    ELSIF c.relispartition THEN
        PERFORM embedq_refuse(format('%s is a partition', c.name), 'attach the partitioned table; every partition comes with it');
    ELSIF c.relkind = 'r' AND c.inherits THEN
        PERFORM embedq_refuse(format('%s inherits, or is inherited from: its key does not hold for all of its rows', c.name), 'attach a table without inheritance, or a partitioned one');
    ELSIF c.relnamespace = current_schema()::regnamespace AND c.relname ~ '^(embedding_|embeddings$|embedq_|article_texts$|article_versions$|performance_metrics$)' THEN
        PERFORM embedq_refuse(format('%s is embedq''s own', c.name), 'attach a table of yours');
    ELSIF NOT has_table_privilege(the_table, 'SELECT') THEN
        PERFORM embedq_refuse(format('the role %s may not read %s', current_user, c.name), format('GRANT SELECT, TRIGGER ON %s TO %I', c.name, current_user));
    ELSIF NOT has_table_privilege(the_table, 'TRIGGER') THEN
        PERFORM embedq_refuse(format('the role %s may not make triggers on %s', current_user, c.name), format('GRANT TRIGGER ON %s TO %I', c.name, current_user));
    ELSIF row_security_active(the_table) THEN
        PERFORM embedq_refuse(format('row-level security hides rows of %s from the role %s', c.name, current_user),
            format('ALTER ROLE %I BYPASSRLS, or let the table''s owner, whom its policies do not bind, be embedq''s role', current_user));
    END IF;
END $_$;

CREATE FUNCTION public.embedq_compare_articles(s public.embedding_sources, the_table regclass, p jsonb, bound integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    ids text[] := ARRAY(SELECT id FROM article_texts WHERE source = s.name AND id > coalesce(p->>'after', '') ORDER BY source, id LIMIT bound);
BEGIN
    IF cardinality(ids) = 0 THEN
        RETURN p || '{"of": "nothing"}';
    END IF;
    BEGIN
        p := p || jsonb_build_object('removed', (p->>'removed')::bigint + embedq_source_thin(s, the_table, ids));
    EXCEPTION WHEN OTHERS THEN
        IF NOT embedq_of_a_row(SQLSTATE) THEN
            RAISE;
        ELSIF cardinality(ids) > 1 THEN
            FOR n IN 1..cardinality(ids) LOOP
                p := embedq_compare_articles(s, the_table, p, 1);
            END LOOP;
            RETURN p;
        END IF;
        p := p || jsonb_build_object('example', format('%s: %s', ids[1], SQLERRM));
    END;
    RETURN p || jsonb_build_object('after', ids[cardinality(ids)]);
END $$;

CREATE FUNCTION public.embedq_compare_rows(s public.embedding_sources, the_table regclass, p jsonb, bound integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET bytea_output TO 'hex'
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO, MDY'
    SET "IntervalStyle" TO 'postgres'
    AS $$
DECLARE
    stretch text := embedq_stretch_sql(s, the_table, p->'after', bound);
    ends record;
BEGIN
    SELECT * INTO ends FROM embedq_stretch_end(s, stretch);
    IF ends.seen = 0 THEN
        RETURN (p - 'after') || '{"of": "articles"}';
    END IF;
    BEGIN
        p := p || jsonb_build_object('written', (p->>'written')::bigint + embedq_source_fill(s, stretch));
    EXCEPTION WHEN OTHERS THEN
        IF NOT embedq_of_a_row(SQLSTATE) THEN
            RAISE;
        ELSIF ends.seen > 1 THEN
            FOR n IN 1..ends.seen LOOP
                p := embedq_compare_rows(s, the_table, p, 1);
            END LOOP;
            RETURN p;
        END IF;
        p := p || jsonb_build_object('unreadable', (p->>'unreadable')::bigint + 1,
                                     'example', format('the row %s: %s', (SELECT string_agg(k, ', ') FROM jsonb_array_elements_text(ends.last) AS k), SQLERRM));
    END;
    RETURN p || jsonb_build_object('seen', (p->>'seen')::bigint + ends.seen, 'after', ends.last);
END $$;

CREATE FUNCTION public.embedq_create_article(given_id text, its_tenant text, its_slug text, its_title text, its_content text, its_metadata jsonb, the_priority text, the_reason text, the_mode text, the_dispatch text, the_traceparent text, OUT id text, OUT version integer, OUT created_at timestamp with time zone, OUT updated_at timestamp with time zone, OUT metadata jsonb, OUT live jsonb, OUT task_id bigint, OUT priority text, OUT attempts integer, OUT dispatched boolean) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
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

CREATE FUNCTION public.embedq_detach(the_name text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    removed integer := 0;
    step integer;
BEGIN
    IF NOT embedq_unhook(the_name) AND NOT EXISTS (SELECT FROM article_texts WHERE source = the_name) THEN
        PERFORM embedq_refuse(format('there is no source %s', the_name), 'SELECT name FROM embedding_sources');
    END IF;
    LOOP
        step := embedq_source_forget(the_name, 1000, false);
        removed := removed + step;
        EXIT WHEN step = 0;
    END LOOP;
    RETURN removed;
END $$;

CREATE FUNCTION public.embedq_digests_sql(s public.embedding_sources, those text) RETURNS text
    LANGUAGE sql STABLE
    RETURN (SELECT format('SELECT %L || %s AS id%s FROM %s r'::text, ((embedq_digests_sql.s).name || ':'::text), public.embedq_key_sql(embedq_digests_sql.s), COALESCE(string_agg(format(CASE WHEN ((current_setting('server_version_num'::text))::integer >= 170000) THEN ', coalesce(pg_column_toast_chunk_id(r.%1$I)::bigint, hashtextextended(r.%1$I::text COLLATE "C", 0))'::text ELSE ', hashtextextended(r.%1$I::text COLLATE "C", 0)'::text END, c.c), ''::text ORDER BY c.c), ''::text), embedq_digests_sql.those) AS format FROM unnest((embedq_digests_sql.s).columns) c(c) WHERE (c.c <> ALL ((embedq_digests_sql.s).key_columns)));

CREATE FUNCTION public.embedq_expression(checked oid, given text, wanted text, OUT sql text, OUT columns text[]) RETURNS record
    LANGUAGE plpgsql
    AS $_$
DECLARE
    once refcursor;
    path text := current_setting('search_path');
    tree text;
    place smallint[];
    volatile text;
BEGIN
    -- A cursor takes one statement that returns rows, or fails before anything is run.
    OPEN once FOR EXECUTE format('SELECT (%s) FROM %s', given, checked::regclass);
    CLOSE once;
    EXECUTE format(CASE wanted WHEN 'boolean' THEN 'ALTER TABLE %s ADD CONSTRAINT embedq_checked CHECK (%s)'
                               ELSE 'ALTER TABLE %s ADD CONSTRAINT embedq_checked CHECK (((%s)::text) IS NULL)' END, checked::regclass, given);
    PERFORM set_config('search_path', 'pg_catalog', true);
    SELECT pg_get_expr(c.conbin, c.conrelid), c.conbin::text, c.conkey INTO sql, tree, place
    FROM pg_constraint c WHERE c.conrelid = checked AND c.conname = 'embedq_checked';
    PERFORM set_config('search_path', path, true);
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT embedq_checked', checked::regclass);
    IF wanted <> 'boolean' THEN
        sql := regexp_replace(sql, '^\((.*) IS NULL\)$', '\1');
    END IF;
    SELECT string_agg(DISTINCT p.oid::regprocedure::text, ', ') INTO volatile
    FROM regexp_matches(tree, ':(?:funcid|opfuncid) (\d+)', 'g') AS m (found) JOIN pg_proc p ON p.oid = m.found[1]::oid WHERE p.provolatile = 'v';
    IF volatile IS NOT NULL THEN
        PERFORM embedq_refuse(format('%s calls %s, which is volatile: its value may differ from one call to the next', given, volatile),
            'use a function that is IMMUTABLE or STABLE; one of yours that is, but was not declared so: ALTER FUNCTION ... STABLE');
    ELSIF tree ~ 'NEXTVALUEEXPR' OR EXISTS (SELECT FROM regexp_matches(tree, 'SQLVALUEFUNCTION :op (\d+)', 'g') AS m (found) WHERE m.found[1]::integer >= 9) THEN
        PERFORM embedq_refuse(format('%s depends on who asks', given), 'leave out current_user, current_schema and the like');
    END IF;
    SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}') INTO columns
    FROM pg_attribute a WHERE a.attrelid = checked AND a.attnum = ANY (place);
EXCEPTION
    WHEN SQLSTATE 'EQ001' THEN
        RAISE;
    WHEN syntax_error_or_access_rule_violation OR feature_not_supported OR data_exception OR invalid_cursor_definition THEN
        PERFORM embedq_refuse(format('%s cannot be used: %s', given, SQLERRM),
            'write a column, or an expression over columns of this one row that has a ' || wanted || ' value (no subquery, aggregate or window)');
END $_$;

CREATE FUNCTION public.embedq_fence() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(embedq_fence_key());
    PERFORM embedq_wake();  -- a poller that sleeps learns of a start, a switch or a resume at once
    RETURN NULL;
END $$;

CREATE FUNCTION public.embedq_fence_key() RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    RETURN hashtextextended(('embedq.fence.'::text || ("current_schema"())::text), (0)::bigint);

CREATE FUNCTION public.embedq_halved() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    NEW.half := coalesce(NEW.half, NEW.embedding::halfvec);
    NEW.embedding := NULL;
    RETURN NEW;
END $$;

CREATE FUNCTION public.embedq_import_vectors(the_name text, the_column text, the_model integer, after jsonb, bound integer, OUT seen integer, OUT last jsonb, OUT became jsonb) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO, MDY'
    SET "IntervalStyle" TO 'postgres'
    SET bytea_output TO 'hex'
    SET extra_float_digits TO '1'
    SET jit TO 'off'
    SET lock_timeout TO '900ms'
    AS $_$
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
                starts_at = 0, ends_at = excluded.ends_at, embedding = excluded.embedding, half = excluded.half
        )
        SELECT coalesce(jsonb_object_agg(became, rows), '{}') FROM (SELECT became, count(*) AS rows FROM judged GROUP BY 1) counted$q$,
        s.name || ':', embedq_key_sql(s), the_column, stretch, the_model, wanted, embedq_articles_sql(s, stretch), s.name) INTO became;
END $_$;

CREATE FUNCTION public.embedq_inserted_sql(s public.embedding_sources) RETURNS text
    LANGUAGE sql STABLE
    RETURN (SELECT format('(SELECT t.* FROM (SELECT %s FROM new_rows) k CROSS JOIN LATERAL (SELECT * FROM embedq_the_table t WHERE (%s) = (%s) OFFSET 0) t)'::text, string_agg(format('%I AS key%s'::text, columns.k, columns.place), ', '::text ORDER BY columns.place), string_agg(format('t.%I'::text, columns.k), ', '::text ORDER BY columns.place), string_agg(format('k.key%s'::text, columns.place), ', '::text ORDER BY columns.place)) AS format FROM unnest((embedq_inserted_sql.s).key_columns) WITH ORDINALITY columns(k, place));

CREATE FUNCTION public.embedq_key_column_sql(s public.embedding_sources, place integer, id text) RETURNS text
    LANGUAGE sql STABLE
    RETURN CASE cardinality((s).key_columns) WHEN 1 THEN format('substr(%s, %s)::%s'::text, id, (length((s).name) + 2), (s).key_types[1]) ELSE format('(substr(%s, %s)::jsonb ->> %s)::%s'::text, id, (length((s).name) + 2), (place - 1), (s).key_types[place]) END;

CREATE FUNCTION public.embedq_key_of(the_table oid, named text[]) RETURNS text[]
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    found text[];
BEGIN
    SELECT names INTO found FROM (
        SELECT i.indisprimary, array_agg(a.attname::text ORDER BY k.place) AS names, bool_and(a.attnotnull) AS not_null
        FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE i.indrelid = the_table AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
        GROUP BY i.indexrelid, i.indisprimary
    ) keys
    WHERE CASE WHEN named IS NULL THEN indisprimary ELSE not_null AND names @> named AND names <@ named END
    LIMIT 1;
    IF found IS NULL AND named IS NULL THEN
        PERFORM embedq_refuse(format('%s has no primary key: its rows cannot be told apart', the_table::regclass), 'add one, or name columns that are NOT NULL and UNIQUE by --key');
    ELSIF found IS NULL THEN
        PERFORM embedq_refuse(format('(%s) is no key of %s', array_to_string(named, ', '), the_table::regclass), 'name columns that are NOT NULL and have a unique index without WHERE');
    END IF;
    RETURN found;
END $$;

CREATE FUNCTION public.embedq_language(named text, said text) RETURNS regconfig
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    found regconfig := CASE split_part(lower(named), '-', 1)
        WHEN 'en' THEN 'english' WHEN 'english' THEN 'english' WHEN 'de' THEN 'german' WHEN 'german' THEN 'german'
        WHEN 'fr' THEN 'french' WHEN 'french' THEN 'french' WHEN 'es' THEN 'spanish' WHEN 'spanish' THEN 'spanish'
        WHEN 'it' THEN 'italian' WHEN 'italian' THEN 'italian' WHEN 'pt' THEN 'portuguese' WHEN 'portuguese' THEN 'portuguese'
        WHEN 'nl' THEN 'dutch' WHEN 'dutch' THEN 'dutch' WHEN 'sv' THEN 'swedish' WHEN 'swedish' THEN 'swedish'
        WHEN 'da' THEN 'danish' WHEN 'danish' THEN 'danish' WHEN 'no' THEN 'norwegian' WHEN 'nb' THEN 'norwegian' WHEN 'norwegian' THEN 'norwegian'
        WHEN 'fi' THEN 'finnish' WHEN 'finnish' THEN 'finnish' WHEN 'hu' THEN 'hungarian' WHEN 'hungarian' THEN 'hungarian'
        WHEN 'ro' THEN 'romanian' WHEN 'romanian' THEN 'romanian' WHEN 'ru' THEN 'russian' WHEN 'russian' THEN 'russian'
        WHEN 'tr' THEN 'turkish' WHEN 'turkish' THEN 'turkish'
        WHEN 'zh' THEN 'simple' WHEN 'ja' THEN 'simple' WHEN 'ko' THEN 'simple' WHEN 'th' THEN 'simple' WHEN 'simple' THEN 'simple' END;
    its_words text[];
BEGIN
    IF found IS NOT NULL OR said ~* '\m(the|this|that|with|from)\M' THEN
        RETURN coalesce(found, 'pg_catalog.english');
    END IF;
    IF octet_length(said) > length(said) AND current_setting('server_encoding') = 'UTF8' AND said ~ '[\u0400-\u04ff]{3}' THEN
        RETURN 'pg_catalog.russian';
    END IF;
    its_words := regexp_split_to_array(lower(said), '[^[:alpha:]]+');
    IF cardinality(its_words) >= 8 THEN
        SELECT small.config INTO found
        FROM (VALUES ('pg_catalog.german'::regconfig, '{der,die,und,das,ist,nicht,ein,eine,mit,den,von,sich,auf,im}'::text[]),
                     ('pg_catalog.french', '{le,la,les,et,des,est,une,dans,pour,que,du,pas,sur,qui}'),
                     ('pg_catalog.spanish', '{el,los,las,y,del,que,una,por,con,para,es,se,en,no}'),
                     ('pg_catalog.italian', '{il,gli,di,che,una,per,con,non,della,sono,del,le,si,nel}'),
                     ('pg_catalog.portuguese', '{o,os,as,e,da,do,que,uma,com,para,em,nao,se,dos}'),
                     ('pg_catalog.dutch', '{de,het,een,en,van,niet,dat,op,met,voor,zijn,aan,ook,te}'),
                     ('pg_catalog.swedish', '{och,att,det,som,en,den,av,inte,med,till,har,ett,om,de}')) AS small (config, words),
             LATERAL (SELECT count(DISTINCT word) AS there FROM unnest(its_words) AS word WHERE word = ANY (small.words)) AS counted
        WHERE counted.there >= 3 ORDER BY counted.there DESC, small.config::oid LIMIT 1;
    END IF;
    RETURN coalesce(found, 'pg_catalog.english');
END $$;

CREATE TABLE public.embedding_models (
    id integer NOT NULL,
    provider text NOT NULL,
    name text NOT NULL,
    dimensions integer NOT NULL,
    kept_in_step boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    preparation jsonb DEFAULT '{}'::jsonb NOT NULL,
    storage text DEFAULT 'vector'::text NOT NULL,
    CONSTRAINT embedding_models_dimensions_check CHECK (((dimensions >= 1) AND (dimensions <= 16000))),
    CONSTRAINT embedding_models_storage_check CHECK ((storage = ANY (ARRAY['vector'::text, 'halfvec'::text])))
);

CREATE TABLE public.embedding_providers (
    name text NOT NULL,
    paused_until timestamp with time zone,
    pause_reason text,
    faults integer DEFAULT 0 NOT NULL,
    faulty_since timestamp with time zone,
    probe_until timestamp with time zone,
    spent_until timestamp with time zone,
    capped_until timestamp with time zone,
    cap_reason text
)
WITH (fillfactor='50');

CREATE FUNCTION public.embedq_models_held(the_priority text) RETURNS integer[]
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    RETURN ARRAY(SELECT m.id FROM (public.embedding_models m JOIN public.embedding_providers p ON ((p.name = m.provider))) WHERE ((p.paused_until > clock_timestamp()) OR ((p.spent_until > clock_timestamp()) AND (embedq_models_held.the_priority <> 'urgent'::text)) OR ((p.capped_until > clock_timestamp()) AND (embedq_models_held.the_priority = ANY (ARRAY['normal'::text, 'low'::text])))));

CREATE FUNCTION public.embedq_more_urgent(one text, other text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['urgent'::text, 'high'::text, 'normal'::text, 'low'::text])[LEAST(array_position(ARRAY['urgent'::text, 'high'::text, 'normal'::text, 'low'::text], one), array_position(ARRAY['urgent'::text, 'high'::text, 'normal'::text, 'low'::text], other))];

CREATE FUNCTION public.embedq_moved(ids text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
BEGIN
    UPDATE embedding_tasks t SET tenant_id = a.tenant_id, slug = a.slug
    FROM article_texts a
    WHERE a.id = t.article_id AND t.article_id = ANY (ids)
      AND (t.status IN ('pending', 'processing') OR t.tenant_id <> a.tenant_id OR t.slug IS DISTINCT FROM a.slug);
    UPDATE embedding_vectors v SET tenant_id = a.tenant_id
    FROM article_texts a
    WHERE a.id = v.article_id AND v.article_id = ANY (ids) AND v.tenant_id <> a.tenant_id;
END $$;

CREATE FUNCTION public.embedq_nearest(the_source text, the_vector public.vector, k integer DEFAULT 10) RETURNS TABLE(article_id text, key text[], tenant_id text, chunk integer, score double precision)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $_$
DECLARE
    m record;
    cast_to text;
    keys integer;
BEGIN
    SELECT cardinality(s.key_columns) INTO keys FROM embedding_sources s WHERE s.name = the_source;
    SELECT e.id, e.dimensions, e.storage INTO m FROM embedding_models e JOIN embedding_active_model a ON a.model_id = e.id;
    IF keys IS NULL THEN
        PERFORM embedq_refuse(format('there is no source %s', the_source), 'SELECT name FROM embedding_sources');
    ELSIF vector_dims(the_vector) <> m.dimensions THEN
        PERFORM embedq_refuse(format('the vector has %s dimensions, those of the active model have %s', vector_dims(the_vector), m.dimensions),
                              'embed the query with the active model');
    END IF;
    cast_to := CASE WHEN m.storage = 'halfvec' OR (m.dimensions > 2000 AND m.dimensions <= 4000) THEN 'halfvec' ELSE 'vector' END;
    RETURN QUERY EXECUTE format($q$
        WITH near AS MATERIALIZED (
            SELECT v.article_id, v.tenant_id, v.chunk, v.%8$s::vector <=> $1 AS distance FROM embedding_vectors_%1$s v
            WHERE starts_with(v.article_id, %2$L)
            ORDER BY v.%8$s::%3$s(%4$s) <=> $1::%3$s(%4$s) LIMIT %5$s
        ), best AS (
            SELECT DISTINCT ON (n.article_id) n.* FROM near n ORDER BY n.article_id, n.distance
        )
        SELECT b.article_id, %6$s, b.tenant_id, b.chunk, 1 - b.distance FROM best b ORDER BY b.distance, b.article_id LIMIT %7$s$q$,
        m.id, the_source || ':', cast_to, m.dimensions, 8 * k,
        CASE keys WHEN 1 THEN format('ARRAY[substr(b.article_id, %s)]', length(the_source) + 2)
                  ELSE format('ARRAY(SELECT jsonb_array_elements_text(substr(b.article_id, %s)::jsonb))', length(the_source) + 2) END, k,
        CASE m.storage WHEN 'halfvec' THEN 'half' ELSE 'embedding' END)
    USING the_vector;
END $_$;

CREATE FUNCTION public.embedq_of_a_row(state text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    RETURN (("left"(state, 2) <> ALL (ARRAY['42'::text, '0A'::text, '25'::text, '40'::text, '53'::text, '54'::text, '55'::text, '57'::text, '58'::text, 'XX'::text, 'EQ'::text])) OR (state = '54000'::text));

CREATE FUNCTION public.embedq_refuse(what text, next text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '%', what USING HINT = next, ERRCODE = 'EQ001';
END $$;

CREATE FUNCTION public.embedq_source_behind(the_name text, statement text, reason text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    IF EXISTS (SELECT FROM embedding_sources WHERE name = the_name AND behind_since IS NOT NULL) THEN
        RETURN;
    END IF;
    BEGIN
        UPDATE embedding_sources SET behind_since = clock_timestamp(), behind_reason = reason, behind_statement = statement, next_at = clock_timestamp()
        WHERE name = (SELECT name FROM embedding_sources WHERE name = the_name FOR NO KEY UPDATE SKIP LOCKED);
        IF FOUND THEN
            RETURN;
        END IF;
    EXCEPTION WHEN serialization_failure OR lock_not_available THEN
        NULL;
    END;
    INSERT INTO embedding_audit_logs (level, category, message, metadata)
    VALUES ('error', 'source', format('the source %s did not follow a write: %s', the_name, reason),
            jsonb_build_object('behind', the_name, 'reason', reason, 'statement', statement));
END $$;

CREATE FUNCTION public.embedq_source_definition(the_table text, title text, content text, condition text, tenant text, metadata text[], key text[], name text, priority text) RETURNS public.embedding_sources
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $_$
DECLARE
    it oid := embedq_table_named(the_table);
    made embedding_sources;
    checked oid;
    part record;
    wrong text;
    taken embedding_sources;
    used text[];
BEGIN
    PERFORM embedq_check_table(it);
    SELECT n.nspname, c.relname INTO made.schema_name, made.table_name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = it;
    SELECT string_agg(k.name, ', ') INTO wrong FROM unnest(key || metadata) AS k (name)
    WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = it AND a.attname = k.name AND a.attnum > 0 AND NOT a.attisdropped);
    IF wrong IS NOT NULL THEN
        PERFORM embedq_refuse(format('%s has no column %s', it::regclass, wrong), format('its columns are %s',
            (SELECT string_agg(a.attname, ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = it AND a.attnum > 0 AND NOT a.attisdropped)));
    ELSIF coalesce(title, content) IS NULL THEN
        PERFORM embedq_refuse('nothing is named that is to be embedded', 'give --title, --content or both: a column, columns with commas, or an expression');
    END IF;
    made.key_columns := embedq_key_of(it, key);
    made.key_types := ARRAY(SELECT format_type(a.atttypid, a.atttypmod) FROM unnest(made.key_columns) WITH ORDINALITY AS k (name, place)
                            JOIN pg_attribute a ON a.attrelid = it AND a.attname = k.name ORDER BY k.place);
    made.metadata_columns := coalesce(metadata, '{}');
    made.priority := coalesce(priority, 'normal');
    IF made.priority NOT IN ('urgent', 'high', 'normal', 'low') THEN
        PERFORM embedq_refuse(format('%s is no priority', made.priority), 'one of urgent, high, normal, low');
    END IF;
    made.name := coalesce(name, left(regexp_replace(lower(made.table_name), '[^a-z0-9_]+', '_', 'g'), 40));
    IF made.name !~ '^[a-z_][a-z0-9_]{0,39}$' THEN
        PERFORM embedq_refuse(format('%s is no name for a source', made.name), 'give one by --name: up to 40 small letters, digits and _, the first no digit');
    END IF;
    SELECT * INTO taken FROM embedding_sources s WHERE s.name = made.name;
    IF taken.name IS NOT NULL AND embedq_table_of(made.name) IS DISTINCT FROM it::regclass THEN
        PERFORM embedq_refuse(format('the source %s is another table, %I.%I', made.name, taken.schema_name, taken.table_name), 'choose another --name, or `embedq detach` that source first');
    ELSIF taken.name IS NULL AND to_regclass('embedq_' || made.name) IS NOT NULL THEN
        PERFORM embedq_refuse(format('there is a relation embedq_%s already', made.name), 'choose another --name');
    ELSIF EXISTS (SELECT FROM article_texts a WHERE a.source IS NULL AND starts_with(a.id, made.name || ':')) THEN
        PERFORM embedq_refuse(format('there are articles whose ids begin with %s:', made.name), 'choose another --name');
    END IF;
    -- The user's columns under the user's name for the table, so that an expression may say `posts.title`.
    EXECUTE format('CREATE TEMPORARY TABLE %I (LIKE %s) ON COMMIT DROP', made.table_name, it::regclass);
    checked := format('pg_temp.%I', made.table_name)::regclass;
    PERFORM set_config('search_path', concat_ws(', ', current_setting('search_path'), quote_ident(made.schema_name)), true);
    used := made.key_columns || made.metadata_columns;
    made.title := ''''''; made.content := ''''''; made.tenant := '''default'''; made.condition := 'true';
    IF title IS NOT NULL THEN
        SELECT * INTO part FROM embedq_text_of(checked, title);
        made.title := format('coalesce(%s, '''')', part.sql);
        used := used || part.columns;
    END IF;
    IF content IS NOT NULL THEN
        SELECT * INTO part FROM embedq_text_of(checked, content);
        made.content := format('coalesce(%s, '''')', part.sql);
        used := used || part.columns;
    END IF;
    IF tenant IS NOT NULL THEN
        SELECT * INTO part FROM embedq_text_of(checked, tenant);
        made.tenant := format('coalesce(nullif(%s, ''''), ''default'')', part.sql);
        used := used || part.columns;
    END IF;
    IF condition IS NOT NULL THEN
        SELECT * INTO part FROM embedq_expression(checked, condition, 'boolean');
        made.condition := format('(%s) IS TRUE', part.sql);
        used := used || part.columns;
    END IF;
    EXECUTE format('DROP TABLE %s', checked::regclass);
    IF strpos(concat(made.title, made.content, made.tenant, made.condition), '$embedq$') > 0 THEN
        PERFORM embedq_refuse('an expression holds $embedq$', 'write the text in another way');
    END IF;
    used := ARRAY(SELECT DISTINCT c FROM unnest(used) AS c ORDER BY c);
    made.columns := used;
    SELECT string_agg(a.attname, ', ') INTO wrong FROM pg_attribute a
    WHERE a.attrelid = it AND a.attname = ANY (used) AND a.attgenerated = 'v';
    IF wrong IS NOT NULL THEN
        PERFORM embedq_refuse(format('%s is a virtual generated column, which triggers do not see', wrong), 'name the expression itself, or make the column STORED');
    END IF;
    made.given := jsonb_strip_nulls(jsonb_build_object('table', the_table, 'title', title, 'content', content, 'where', condition, 'tenant', tenant,
                                                       'metadata', to_jsonb(metadata), 'key', to_jsonb(key), 'name', made.name, 'priority', made.priority));
    made.attached_at := clock_timestamp();
    made.next_at := clock_timestamp();
    made.outcome := '{}';
    RETURN made;
END $_$;

CREATE FUNCTION public.embedq_source_differences(the_name text, OUT missing bigint, OUT changed bigint, OUT extra bigint) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'public', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO, MDY'
    SET "IntervalStyle" TO 'postgres'
    SET bytea_output TO 'hex'
    SET extra_float_digits TO '1'
    AS $_$
DECLARE
    s embedding_sources;
    it regclass := embedq_table_of(the_name);
BEGIN
    SELECT * INTO s FROM embedding_sources WHERE name = the_name;
    IF it IS NULL THEN
        PERFORM embedq_refuse(format('its table %I.%I is gone', s.schema_name, s.table_name), format('embedq detach %s', the_name));
    END IF;
    EXECUTE format($q$SELECT count(*) FILTER (WHERE a.id IS NULL),
            count(*) FILTER (WHERE (a.tenant_id, a.text_hash, a.metadata - 'embedq_review')
                IS DISTINCT FROM (w.tenant_id, embedq_text_hash(w.title, w.content), w.metadata) AND a.id IS NOT NULL AND w.id IS NOT NULL),
            count(*) FILTER (WHERE w.id IS NULL)
        FROM (%s) w FULL JOIN (SELECT * FROM article_texts WHERE source = %L) a ON a.id = w.id$q$, embedq_articles_sql(s, it::text), s.name)
    INTO missing, changed, extra;
END $_$;

CREATE FUNCTION public.embedq_source_fill(s public.embedding_sources, stretch text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO, MDY'
    SET "IntervalStyle" TO 'postgres'
    SET bytea_output TO 'hex'
    SET extra_float_digits TO '1'
    SET jit TO 'off'
    AS $_$
DECLARE
    rendered text := embedq_articles_sql(s, stretch);
    due text[];
    there text[];
    made integer;
    mended integer := 0;
BEGIN
    EXECUTE format($q$SELECT array_agg(w.id) FROM (%s) w LEFT JOIN article_texts a ON a.id = w.id
        WHERE a.id IS NULL OR (a.source = %L AND (a.tenant_id, a.text_hash, a.metadata - 'embedq_review')
            IS DISTINCT FROM (w.tenant_id, embedq_text_hash(w.title, w.content), w.metadata))$q$, rendered, s.name) INTO due;
    IF due IS NULL THEN
        RETURN 0;
    END IF;
    there := ARRAY(SELECT id FROM article_texts WHERE id = ANY (due));
    EXECUTE format('INSERT INTO article_texts AS a (id, tenant_id, title, content, metadata, source) SELECT w.*, %L FROM (%s) w
                    WHERE w.id = ANY ($1) AND NOT w.id = ANY ($2) ORDER BY w.id ON CONFLICT DO NOTHING', s.name, rendered) USING due, there;
    GET DIAGNOSTICS made = ROW_COUNT;
    there := ARRAY(SELECT id FROM article_texts WHERE id = ANY (there) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED);
    IF cardinality(there) > 0 THEN
        EXECUTE format('INSERT INTO article_texts AS a (id, tenant_id, title, content, metadata, source) SELECT w.*, %L FROM (%s) w
                        WHERE w.id = ANY ($1) ORDER BY w.id %s', s.name, rendered, embedq_upsert_sql()) USING there;
        GET DIAGNOSTICS mended = ROW_COUNT;
    END IF;
    RETURN made + mended;
END $_$;

CREATE FUNCTION public.embedq_source_forget(the_name text, bound integer, kept boolean) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
DECLARE
    gone text[];
BEGIN
    gone := ARRAY(SELECT a.id FROM article_texts a WHERE a.source = the_name
                  AND NOT (kept AND EXISTS (SELECT FROM embeddings e WHERE e.article_id = a.id AND e.text_hash = a.text_hash))
                  ORDER BY a.id LIMIT bound FOR UPDATE SKIP LOCKED);
    DELETE FROM article_texts WHERE id = ANY (gone);
    DELETE FROM article_versions WHERE article_id = ANY (gone);
    DELETE FROM embedding_tasks WHERE article_id = ANY (gone);
    RETURN cardinality(gone);
END $$;

CREATE FUNCTION public.embedq_source_key(the_name text) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    RETURN hashtextextended(((('embedq.source.'::text || ("current_schema"())::text) || '.'::text) || the_name), (0)::bigint);

CREATE FUNCTION public.embedq_source_step(the_name text, bound integer) RETURNS public.embedding_sources
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET lock_timeout TO '200ms'
    AS $$
DECLARE
    s embedding_sources;
    it regclass := embedq_table_of(the_name);
    p jsonb;
    began timestamptz;
BEGIN
    IF NOT pg_try_advisory_xact_lock(embedq_source_key(the_name)) THEN
        RETURN NULL;
    END IF;
    SELECT * INTO s FROM embedding_sources WHERE name = the_name;
    IF s.name IS NULL THEN
        RETURN NULL;
    ELSIF it IS NULL THEN
        PERFORM embedq_refuse(format('its table %I.%I is gone', s.schema_name, s.table_name), format('embedq detach %s', the_name));
    END IF;
    p := coalesce(s.progress, jsonb_build_object('of', 'rows', 'began', clock_timestamp(), 'seen', 0, 'written', 0, 'removed', 0, 'unreadable', 0));
    PERFORM set_config('embedq.reason', CASE WHEN s.compared_at IS NULL THEN 'attach' ELSE 'reconcile' END, true),
            set_config('embedq.priority', CASE WHEN s.compared_at IS NULL THEN 'low' ELSE s.priority END, true);
    p := CASE p->>'of' WHEN 'rows' THEN embedq_compare_rows(s, it, p, bound) ELSE embedq_compare_articles(s, it, p, bound) END;
    PERFORM FROM embedding_sources WHERE name = the_name FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF p->>'of' = 'nothing' THEN
        began := (p->>'began')::timestamptz;
        -- Once more soon where something was mended: a transaction that was open meanwhile may have written beside it.
        UPDATE embedding_sources SET progress = NULL, compared_at = began, outcome = p - 'of' - 'after' || jsonb_build_object('ended', clock_timestamp()),
            next_at = clock_timestamp() + CASE WHEN behind_since >= began THEN interval '0'
                                               WHEN behind_since IS NOT NULL OR (p->>'written')::bigint + (p->>'removed')::bigint > 0 THEN interval '15 s'
                                               WHEN (p->>'unreadable')::bigint > 0 THEN interval '60 s'
                                               ELSE interval '300 s' END,
            behind_reason = CASE WHEN behind_since >= began THEN behind_reason END,
            behind_statement = CASE WHEN behind_since >= began THEN behind_statement END,
            behind_since = CASE WHEN behind_since >= began THEN behind_since END
        WHERE name = the_name RETURNING * INTO s;
    ELSE
        UPDATE embedding_sources SET progress = p WHERE name = the_name RETURNING * INTO s;
    END IF;
    RETURN s;
END $$;

CREATE FUNCTION public.embedq_source_thin(s public.embedding_sources, the_table regclass, ids text[]) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET "DateStyle" TO 'ISO, MDY'
    SET "IntervalStyle" TO 'postgres'
    SET bytea_output TO 'hex'
    SET extra_float_digits TO '1'
    SET jit TO 'off'
    AS $_$
DECLARE
    same text := (SELECT string_agg(format('r.%I = %s', k, embedq_key_column_sql(s, place::integer, 'u.id')), ' AND ')
                  FROM unnest(s.key_columns) WITH ORDINALITY AS keys (k, place));
    without text := format('SELECT array_agg(u.id) FROM unnest($1) AS u (id) WHERE NOT EXISTS (SELECT FROM %s r WHERE %s AND %L || %s = u.id AND %s)',
                           the_table, same, s.name || ':', embedq_key_sql(s), s.condition);
    gone text[];
    removed integer := 0;
BEGIN
    EXECUTE without INTO gone USING ids;
    IF gone IS NOT NULL THEN
        gone := ARRAY(SELECT id FROM article_texts WHERE id = ANY (gone) ORDER BY id FOR UPDATE SKIP LOCKED);
        EXECUTE without INTO gone USING gone;
        DELETE FROM article_texts WHERE id = ANY (gone) AND source = s.name;
        GET DIAGNOSTICS removed = ROW_COUNT;
    END IF;
    RETURN removed;
END $_$;

CREATE FUNCTION public.embedq_source_triggers(s public.embedding_sources, the_table regclass, again boolean) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET lock_timeout TO '200ms'
    AS $$
DECLARE
    one regclass;
    event record;
    made integer := 0;
    followed text := format('%I.%I', current_schema(), 'embedq_source_' || s.name);
BEGIN
    FOR one IN SELECT embedq_tables_of(the_table) LOOP
        FOR event IN SELECT * FROM (VALUES
            ('insert', 'REFERENCING NEW TABLE AS new_rows', ''),
            ('update', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows', ''),
            ('delete', 'REFERENCING OLD TABLE AS old_rows', ''),
            ('truncate', '', CASE WHEN one = the_table THEN '' ELSE '''partition''' END)
        ) AS events (name, referencing, arguments) LOOP
            IF again OR NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = one AND tgname = format('embedq_%s_%s', s.name, event.name)) THEN
                EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION %s(%s)',
                    format('embedq_%s_%s', s.name, event.name), event.name, one, event.referencing, followed, event.arguments);
                made := made + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

CREATE FUNCTION public.embedq_source_view(s public.embedding_sources) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $_$
DECLARE
    ours text[] := ARRAY(SELECT CASE WHEN o = ANY (s.key_columns) THEN 'embedq_' ELSE '' END || o
                         FROM unnest(ARRAY['article_id', 'tenant_id', 'status', 'chunk', 'vector']) WITH ORDINALITY AS names (o, place) ORDER BY place);
    made text;
BEGIN
    made := format($q$CREATE OR REPLACE VIEW %I AS
        SELECT %s, a.id AS %I, a.tenant_id AS %I, a.embedding_status AS %I, v.chunk AS %I, coalesce(v.embedding, v.half::vector) AS %I
        FROM embedq_articles a
        LEFT JOIN embedding_vectors v ON v.article_id = a.id AND v.model_id = (SELECT model_id FROM embedding_active_model)
        WHERE a.source = %L$q$,
        'embedq_' || s.name,
        -- CASE: a condition on the key must not read the ids of other articles, whichever condition is evaluated first.
        (SELECT string_agg(format('CASE WHEN a.source = %L THEN %s END AS %I', s.name, embedq_key_column_sql(s, place::integer, 'a.id'), name), ', ' ORDER BY place)
         FROM unnest(s.key_columns) WITH ORDINALITY AS k (name, place)),
        ours[1], ours[2], ours[3], ours[4], ours[5], s.name);
    BEGIN
        EXECUTE made;
    EXCEPTION WHEN invalid_table_definition THEN -- other columns than it had
        EXECUTE format('DROP VIEW %I', 'embedq_' || s.name);
        EXECUTE made;
    END;
END $_$;

CREATE FUNCTION public.embedq_stamp_status() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.changed_at := clock_timestamp();
    IF nullif(current_setting('embedq.who', true), '') IS NULL THEN
        NEW.changed_by := session_user;
        IF NEW.reason IS NOT DISTINCT FROM OLD.reason THEN
            NEW.reason := 'changed by hand';
        END IF;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION public.embedq_stretch_end(s public.embedding_sources, stretch text, OUT seen integer, OUT last jsonb) RETURNS record
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    EXECUTE format('SELECT count(*), (array_agg(k ORDER BY n DESC))[1] FROM (SELECT jsonb_build_array(%s) AS k, row_number() OVER () AS n FROM %s r) numbered',
                   (SELECT string_agg(format('r.%I::text', k), ', ') FROM unnest(s.key_columns) AS k), stretch) INTO seen, last;
END $$;

CREATE FUNCTION public.embedq_stretch_sql(s public.embedding_sources, the_table regclass, after jsonb, bound integer) RETURNS text
    LANGUAGE sql STABLE
    RETURN (SELECT format('(SELECT * FROM %s r WHERE %s ORDER BY %s LIMIT %s)'::text, embedq_stretch_sql.the_table, CASE WHEN (embedq_stretch_sql.after IS NULL) THEN 'true'::text ELSE format('(%s) > (%s)'::text, parts.keys, parts.beyond) END, parts.keys, embedq_stretch_sql.bound) AS format FROM (SELECT string_agg(format('r.%I'::text, columns.k), ', '::text ORDER BY columns.place) AS keys, string_agg(format('%L::%s'::text, (embedq_stretch_sql.after ->> ((columns.place - 1))::integer), (embedq_stretch_sql.s).key_types[columns.place]), ', '::text ORDER BY columns.place) AS beyond FROM unnest((embedq_stretch_sql.s).key_columns) WITH ORDINALITY columns(k, place)) parts);

CREATE FUNCTION public.embedq_table_named(given text) RETURNS oid
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    found record;
    parsed text[];
BEGIN
    BEGIN
        parsed := parse_ident(given);
    EXCEPTION WHEN invalid_parameter_value THEN
        NULL;  -- a name that SQL would want in quotes
    END;
    SELECT (array_agg(c.oid ORDER BY n.nspname = 'public' DESC))[1] AS oid, count(*) AS tables,
           bool_or(n.nspname = 'public') AS one_is_public, string_agg(format('%I.%I', n.nspname, c.relname), ', ') AS names INTO found
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = ANY ('{r,p,v,m,f}') AND n.nspname !~ '^pg_(catalog|toast|temp)' AND n.nspname <> 'information_schema'
      AND (given IN (c.relname, n.nspname || '.' || c.relname) OR parsed IN (ARRAY[c.relname::text], ARRAY[n.nspname::text, c.relname::text]));
    IF found.tables = 0 THEN
        PERFORM embedq_refuse(format('there is no table %s', given), 'give its name as SQL writes it, with its schema: blog.posts, "My posts"');
    ELSIF found.tables > 1 AND NOT found.one_is_public THEN
        PERFORM embedq_refuse(format('%s may be any of %s', given, found.names), 'name the schema, too');
    END IF;
    RETURN found.oid;
END $$;

CREATE FUNCTION public.embedq_table_of(the_source text) RETURNS regclass
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    RETURN COALESCE((SELECT (t.tgrelid)::regclass AS tgrelid FROM (pg_trigger t JOIN pg_proc p ON (((p.oid = t.tgfoid) AND (p.pronamespace = (("current_schema"())::regnamespace)::oid) AND (p.proname = ('embedq_source_'::text || embedq_table_of.the_source))))) WHERE (t.tgname = (('embedq_'::text || embedq_table_of.the_source) || '_insert'::text)) ORDER BY (SELECT count(*) AS count FROM pg_inherits i WHERE (i.inhrelid = t.tgrelid)), t.tgrelid LIMIT 1), (SELECT (c.oid)::regclass AS oid FROM ((public.embedding_sources s JOIN pg_namespace n ON ((n.nspname = s.schema_name))) JOIN pg_class c ON (((c.relnamespace = n.oid) AND (c.relname = s.table_name)))) WHERE (s.name = embedq_table_of.the_source)));

CREATE FUNCTION public.embedq_tables_of(the_table regclass) RETURNS SETOF regclass
    LANGUAGE sql STABLE
    AS $$ SELECT the_table UNION SELECT relid FROM pg_partition_tree(the_table) $$;

CREATE FUNCTION public.embedq_take_budget(the_provider text, need_tokens double precision, patience_s double precision, early_s double precision, request_rate double precision, request_room double precision, requests_kept double precision, token_rate double precision, token_room double precision, tokens_kept double precision) RETURNS double precision
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    bucket embedding_budgets;
    gone_s double precision;
    wait_s double precision := 0;
    next_s double precision;
BEGIN
    SELECT * INTO bucket FROM embedding_budgets WHERE provider = the_provider FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO embedding_budgets (provider, requests, tokens) VALUES (the_provider, request_room, token_room) ON CONFLICT DO NOTHING;
        SELECT * INTO bucket FROM embedding_budgets WHERE provider = the_provider FOR UPDATE;
    END IF;
    gone_s := greatest(0, extract(epoch FROM clock_timestamp() - bucket.refilled_at));
    bucket.requests := least(request_room, bucket.requests + gone_s * request_rate);
    bucket.tokens := least(token_room, bucket.tokens + gone_s * token_rate);
    IF request_rate > 0 THEN
        wait_s := greatest(wait_s, (1 + requests_kept - bucket.requests) / request_rate);
    END IF;
    IF token_rate > 0 THEN
        -- A request larger than the bucket goes when the bucket is full, and is paid off by those after it.
        wait_s := greatest(wait_s, (least(need_tokens, token_room - tokens_kept) + tokens_kept - bucket.tokens) / token_rate);
    END IF;
    IF wait_s > patience_s THEN
        UPDATE embedding_budgets SET requests = bucket.requests, tokens = bucket.tokens, refilled_at = clock_timestamp()
        WHERE provider = the_provider;
        RETURN -wait_s;
    END IF;
    UPDATE embedding_budgets SET requests = bucket.requests - 1, tokens = bucket.tokens - need_tokens, refilled_at = clock_timestamp()
    WHERE provider = the_provider;
    next_s := 0;
    IF request_rate > 0 THEN
        next_s := greatest(next_s, (2 + requests_kept - bucket.requests) / request_rate);
    END IF;
    IF token_rate > 0 THEN
        next_s := greatest(next_s, (tokens_kept - bucket.tokens + need_tokens) / token_rate);
    END IF;
    IF next_s > patience_s THEN
        UPDATE embedding_providers SET spent_until = clock_timestamp() + make_interval(secs => next_s - patience_s + early_s)
        WHERE name = the_provider;
    END IF;
    RETURN wait_s;
END $$;

CREATE FUNCTION public.embedq_task_changed_by_hand() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET lock_timeout TO '900ms'
    AS $$
DECLARE
    waiting bigint;
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
        -- A transaction that is writing the article, or setting another of its tasks to pending, is waited for; the next statement sees what it did. Less than deadlock_timeout.
        PERFORM FROM article_texts WHERE id = NEW.article_id FOR NO KEY UPDATE;
        NEW.version := greatest(NEW.version, (SELECT a.version FROM article_texts a WHERE a.id = NEW.article_id));
        SELECT id INTO waiting FROM embedding_tasks
        WHERE article_id = NEW.article_id AND model_id = NEW.model_id AND status = 'pending' AND id <> NEW.id;
        IF waiting < NEW.id THEN
            UPDATE embedding_tasks SET status = 'cancelled', completed_at = clock_timestamp(), error_message = 'a newer task for the same article is waiting'
            WHERE id = waiting;
        ELSIF waiting > NEW.id THEN
            NEW.status := 'cancelled';
            NEW.completed_at := clock_timestamp();
            NEW.error_message := 'a newer task for the same article is already waiting';
        END IF;
        PERFORM embedq_wake();
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

CREATE FUNCTION public.embedq_terms(title text, content text, metadata jsonb) RETURNS tsvector
    LANGUAGE plpgsql IMMUTABLE COST 2000 PARALLEL SAFE
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    language constant regconfig := embedq_language(coalesce(metadata ->> 'language', metadata ->> 'lang'), left(content, 1000));
BEGIN
    RETURN setweight(embedq_words_of(language, left(title, 1000)), 'A') || embedq_words_of(language, left(content, 40000));
END $$;

CREATE FUNCTION public.embedq_text_hash(title text, content text) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN sha256(convert_to(((title || '

'::text) || content), 'UTF8'::name));

CREATE FUNCTION public.embedq_text_of(checked oid, given text, OUT sql text, OUT columns text[]) RETURNS record
    LANGUAGE plpgsql
    AS $$
DECLARE
    known text[] := (SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = checked AND attnum > 0 AND NOT attisdropped);
    named text[];
BEGIN
    IF given = ANY (known) THEN
        SELECT e.sql, e.columns INTO sql, columns FROM embedq_expression(checked, format('%I', given), 'text') e;
        RETURN;
    END IF;
    named := ARRAY(SELECT btrim(part) FROM unnest(string_to_array(given, ',')) AS parts (part));
    IF cardinality(named) > 1 AND named <@ known THEN
        SELECT format('concat_ws(E''\n\n'', %s)', string_agg(format('nullif(%s, '''')', e.sql), ', ' ORDER BY n.place)) INTO sql
        FROM unnest(named) WITH ORDINALITY AS n (name, place), embedq_expression(checked, format('%I', n.name), 'text') e;
        columns := named;
        RETURN;
    END IF;
    SELECT e.sql, e.columns INTO sql, columns FROM embedq_expression(checked, given, 'text') e;
END $$;

CREATE FUNCTION public.embedq_upsert_sql() RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN 'ON CONFLICT (id) DO UPDATE SET tenant_id = excluded.tenant_id, title = excluded.title, content = excluded.content,
    metadata = excluded.metadata || CASE WHEN a.metadata ? ''embedq_review'' THEN jsonb_build_object(''embedq_review'', a.metadata->''embedq_review'') ELSE ''{}'' END
WHERE a.source = excluded.source AND (a.tenant_id, a.title, a.content, a.metadata - ''embedq_review'')
    IS DISTINCT FROM (excluded.tenant_id, excluded.title, excluded.content, excluded.metadata)'::text;

CREATE FUNCTION public.embedq_trigger_sql(s public.embedding_sources) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    RETURN format('CREATE OR REPLACE FUNCTION %1$I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER

DECLARE
    gone text[];
    changed text[];
    reason text;
    wanted text := coalesce(current_setting(''embedq.priority'', true), '''');
BEGIN
    IF TG_OP = ''INSERT'' THEN
        PERFORM set_config(''embedq.priority'', coalesce(nullif(wanted, ''''), %2$L), true);
        IF (SELECT count(*) FROM (SELECT FROM new_rows LIMIT 101) few) > 100 THEN
            EXECUTE replace(%11$L, ''embedq_the_table'', TG_RELID::regclass::text);
        ELSE
            INSERT INTO article_texts AS a (id, tenant_id, title, content, metadata, source)
            SELECT n.*, %3$L FROM (%4$s) n ORDER BY n.id %7$s;
        END IF;
    ELSIF TG_OP = ''UPDATE'' THEN
        changed := ARRAY(SELECT id FROM (%9$s EXCEPT %10$s) n);
        IF cardinality(changed) = 0 THEN
            RETURN NULL;  -- each row has one before it that is the same in all that is read: none is gone, either
        END IF;
        gone := ARRAY(SELECT id FROM (%6$s) o EXCEPT SELECT id FROM (%4$s) n);
        IF cardinality(gone) > 0 THEN
            DELETE FROM article_texts WHERE id = ANY (gone) AND source = %3$L;
        END IF;
        PERFORM set_config(''embedq.priority'', coalesce(nullif(wanted, ''''), %2$L), true);
        INSERT INTO article_texts AS a (id, tenant_id, title, content, metadata, source)
        SELECT n.*, %3$L FROM (%4$s) n WHERE n.id = ANY (changed) ORDER BY n.id %7$s;
    ELSIF TG_OP = ''DELETE'' THEN
        DELETE FROM article_texts WHERE id = ANY (ARRAY(SELECT id FROM (%6$s) o)) AND source = %3$L;
    ELSE
        gone := ARRAY(SELECT id FROM article_texts WHERE source = %3$L LIMIT 10001);
        IF cardinality(gone) > 10000 OR (TG_NARGS > 0 AND cardinality(gone) > 0) THEN  -- of a partition alone: which rows is not told
            PERFORM embedq_source_behind(%3$L, %5$L, ''the rows that a TRUNCATE removed are being removed from search'');
        ELSE
            DELETE FROM article_texts WHERE id = ANY (gone);
        END IF;
    END IF;
    PERFORM set_config(''embedq.priority'', wanted, true);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    reason := format(''%%s (%%s)'', SQLERRM, SQLSTATE);
    BEGIN
        PERFORM embedq_source_behind(%3$L, TG_OP || %8$L, reason);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG ''embedq: the source %% did not follow a write, and could not be marked: %%'', %3$L, reason;
    END;
    RETURN NULL;
END $embedq$'::text, ('embedq_source_'::text || (s).name), (s).priority, (s).name, public.embedq_articles_sql(s, 'new_rows'::text), 'TRUNCATE', public.embedq_articles_sql(s, 'old_rows'::text), public.embedq_upsert_sql(), format(' on %I.%I'::text, (s).schema_name, (s).table_name), public.embedq_digests_sql(s, 'new_rows'::text), public.embedq_digests_sql(s, 'old_rows'::text), format('INSERT INTO article_texts AS a (id, tenant_id, title, content, metadata, source) SELECT n.*, %L FROM (%s) n %s'::text, (s).name, public.embedq_articles_sql(s, public.embedq_inserted_sql(s)), public.embedq_upsert_sql()));

CREATE FUNCTION public.embedq_unhook(the_name text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET lock_timeout TO '200ms'
    AS $$
DECLARE
    one record;
    known boolean := EXISTS (SELECT FROM embedding_sources WHERE name = the_name);
BEGIN
    PERFORM pg_advisory_xact_lock(embedq_source_key(the_name));
    FOR one IN SELECT t.tgrelid::regclass AS of, t.tgname AS name FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
               WHERE p.pronamespace = current_schema()::regnamespace AND t.tgparentid = 0
                 AND p.proname = 'embedq_source_' || the_name LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', one.name, one.of);
    END LOOP;
    EXECUTE format('DROP FUNCTION IF EXISTS %I()', 'embedq_source_' || the_name);
    IF known THEN
        EXECUTE format('DROP VIEW IF EXISTS %I', 'embedq_' || the_name);
    END IF;
    DELETE FROM embedding_sources WHERE name = the_name;
    RETURN known;
END $$;

CREATE FUNCTION public.embedq_wake() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    -- pg_notify takes a global lock at commit: it is spent only while a worker sleeps.
    IF current_setting('embedq.notify', true) IS DISTINCT FROM 'off'
       AND EXISTS (SELECT FROM embedding_workers WHERE asleep_until > clock_timestamp()) THEN
        PERFORM pg_notify('embedq_' || current_schema(), '');
    END IF;
END $$;

CREATE FUNCTION public.embedq_want(ids text[], why text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
DECLARE
    live record;
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
    SELECT mode, submissions_accepted, dispatch_held INTO live FROM embedding_worker_status WHERE id = 1;
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
        -- the trace of the newest text, not of an earlier one; metadata that was changed by hand to something else than an object never breaks a save
        metadata = CASE jsonb_typeof(t.metadata) WHEN 'object' THEN t.metadata - 'traceparent' ELSE t.metadata END || excluded.metadata,
        -- a raised priority needs a message in the more urgent queue; the old message is harmless
        dispatched_at = CASE
            WHEN t.dispatched_at IS NOT NULL AND embedq_more_urgent(t.priority, excluded.priority) = t.priority THEN t.dispatched_at
            ELSE excluded.dispatched_at END;
    GET DIAGNOSTICS born = ROW_COUNT;
    IF born > 0 AND (NOT by_writer OR the_priority = 'urgent') THEN  -- workers have a thread for urgent tasks
        PERFORM embedq_wake();
    END IF;
    RETURN born;
END $$;

CREATE FUNCTION public.embedq_want_of(the_model integer, ids text[], why text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
DECLARE
    live record;
    born integer;
BEGIN
    SELECT mode, submissions_accepted INTO live FROM embedding_worker_status WHERE id = 1;
    IF live.mode IN ('sync', 'off') OR NOT coalesce(live.submissions_accepted, true) THEN
        RETURN 0;
    END IF;
    WITH unlocked AS MATERIALIZED (
        SELECT a.id, a.slug, a.tenant_id, a.version FROM article_texts a
        WHERE a.id = ANY (ids) AND EXISTS (SELECT FROM embedding_models WHERE id = the_model)
        ORDER BY a.id
        FOR NO KEY UPDATE OF a SKIP LOCKED
    )
    INSERT INTO embedding_tasks (article_id, slug, tenant_id, model_id, priority, version, metadata)
    SELECT a.id, a.slug, a.tenant_id, the_model, CASE WHEN active.model_id = the_model THEN 'normal' ELSE 'low' END, a.version,
           jsonb_build_object('reason', why)
    FROM unlocked a LEFT JOIN embedding_active_model active ON true
    ORDER BY a.id
    ON CONFLICT (article_id, model_id, (CASE WHEN status = 'pending' THEN 0 ELSE id END)) DO NOTHING;
    GET DIAGNOSTICS born = ROW_COUNT;
    IF born > 0 THEN
        PERFORM embedq_wake();
    END IF;
    RETURN born;
END $$;

CREATE FUNCTION public.embedq_words(title text, content text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (setweight(to_tsvector('english'::regconfig, "left"(title, 1000)), 'A'::"char") || to_tsvector('english'::regconfig, "left"(content, 100000)));

CREATE FUNCTION public.embedq_words_of(language regconfig, said text) RETURNS tsvector
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'public', 'pg_temp'
    AS $$
DECLARE
    plain constant text := embedq_unaccented(said);
    wholes constant text := embedq_wholes(plain);
    words tsvector := to_tsvector(language, embedq_apart(plain));
BEGIN
    IF wholes IS NOT NULL THEN
        words := words || to_tsvector('pg_catalog.simple', wholes);
    END IF;
    IF octet_length(plain) > length(plain) THEN
        words := words || embedq_neighbours(plain);
    END IF;
    RETURN words;
END $$;

CREATE TABLE public.article_texts (
    id text DEFAULT (gen_random_uuid())::text NOT NULL,
    tenant_id text DEFAULT 'default'::text NOT NULL,
    slug text,
    title text DEFAULT ''::text NOT NULL,
    content text DEFAULT ''::text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    text_hash bytea GENERATED ALWAYS AS (public.embedq_text_hash(title, content)) STORED NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    source text,
    CONSTRAINT article_texts_id_check CHECK ((id <> ''::text)),
    CONSTRAINT article_texts_tenant_id_check CHECK ((tenant_id <> ''::text))
);

CREATE TABLE public.article_versions (
    article_id text NOT NULL,
    version_number integer NOT NULL,
    tenant_id text NOT NULL,
    slug text,
    title text NOT NULL,
    content text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    superseded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    deleted boolean DEFAULT false NOT NULL,
    purged_at timestamp with time zone
);

CREATE TABLE public.embedding_active_model (
    id integer DEFAULT 1 NOT NULL,
    model_id integer NOT NULL,
    previous_model_id integer,
    activated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT embedding_active_model_id_check CHECK ((id = 1))
);

CREATE TABLE public.embedding_tasks (
    id bigint NOT NULL,
    article_id text NOT NULL,
    slug text,
    tenant_id text DEFAULT 'default'::text NOT NULL,
    model_id integer NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    priority text DEFAULT 'normal'::text NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    forgiven_attempts integer DEFAULT 0 NOT NULL,
    claims integer DEFAULT 0 NOT NULL,
    lost_leases integer DEFAULT 0 NOT NULL,
    lease_holder bigint,
    delivery text,
    error_message text,
    error_class text,
    errors jsonb DEFAULT '[]'::jsonb NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    scheduled_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    dispatched_at timestamp with time zone,
    processed_at timestamp with time zone,
    completed_at timestamp with time zone,
    CONSTRAINT embedding_tasks_attempts_check CHECK ((attempts >= 0)),
    CONSTRAINT embedding_tasks_priority_check CHECK ((priority = ANY (ARRAY['urgent'::text, 'high'::text, 'normal'::text, 'low'::text]))),
    CONSTRAINT embedding_tasks_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'processing'::text, 'completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text]))),
    CONSTRAINT only_a_claim_makes_a_task_processing CHECK (((status <> 'processing'::text) OR (lease_holder IS NOT NULL)))
)
WITH (autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0', fillfactor='100');

CREATE TABLE public.embeddings (
    model_id integer NOT NULL,
    article_id text NOT NULL,
    version integer NOT NULL,
    text_hash bytea NOT NULL,
    chunks integer NOT NULL,
    tokens integer NOT NULL,
    embedded_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE VIEW public.embedq_articles AS
 SELECT id,
    tenant_id,
    slug,
    title,
    content,
    metadata,
        CASE
            WHEN (EXISTS ( SELECT
               FROM public.embeddings e
              WHERE ((e.model_id = ( SELECT embedding_active_model.model_id
                       FROM public.embedding_active_model)) AND (e.article_id = a.id) AND (e.text_hash = a.text_hash)))) THEN 'ready'::text
            ELSE COALESCE(( SELECT
                    CASE t.status
                        WHEN 'pending'::text THEN 'queued'::text
                        WHEN 'completed'::text THEN 'queued'::text
                        WHEN 'cancelled'::text THEN 'skipped'::text
                        ELSE t.status
                    END AS status
               FROM public.embedding_tasks t
              WHERE ((t.article_id = a.id) AND (t.model_id = ( SELECT embedding_active_model.model_id
                       FROM public.embedding_active_model)) AND ((t.version >= a.version) OR (t.status = 'pending'::text)))
              ORDER BY (t.status = ANY (ARRAY['pending'::text, 'processing'::text])) DESC, t.id DESC
             LIMIT 1), 'queued'::text)
        END AS embedding_status,
    created_at,
    updated_at,
    version,
    source
   FROM public.article_texts a;

CREATE VIEW public.articles AS
 SELECT id,
    tenant_id,
    slug,
    title,
    content,
    metadata,
    embedding_status,
    created_at,
    updated_at,
    version
   FROM public.embedq_articles
  WHERE (source IS NULL);

COMMENT ON VIEW public.articles IS 'Read and write articles here; COPY goes to article_texts. embedding_status is computed, so it is never wrong.';

CREATE TABLE public.embedding_audit_logs (
    id bigint NOT NULL,
    "timestamp" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    level text DEFAULT 'info'::text NOT NULL,
    category text NOT NULL,
    message text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT embedding_audit_logs_level_check CHECK ((level = ANY (ARRAY['debug'::text, 'info'::text, 'warning'::text, 'error'::text])))
);

ALTER TABLE public.embedding_audit_logs ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.embedding_audit_logs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.embedding_budgets (
    provider text NOT NULL,
    requests double precision NOT NULL,
    tokens double precision NOT NULL,
    refilled_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
)
WITH (fillfactor='10');

CREATE TABLE public.embedding_canaries (
    model_id integer NOT NULL,
    embedding real[],
    made_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    same_at timestamp with time zone,
    differs_since timestamp with time zone,
    cosine double precision,
    server text DEFAULT ''::text NOT NULL,
    worker text DEFAULT ''::text NOT NULL,
    looked_at timestamp with time zone
);

ALTER TABLE public.embedding_models ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.embedding_models_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.embedding_rejected_messages (
    id bigint NOT NULL,
    received_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    queue text NOT NULL,
    reason text NOT NULL,
    raw bytea NOT NULL,
    seen integer DEFAULT 1 NOT NULL,
    reviewed_at timestamp with time zone,
    whole_size bigint,
    whole_digest bytea,
    last_at timestamp with time zone,
    digest bytea GENERATED ALWAYS AS (COALESCE(whole_digest, sha256(raw))) STORED NOT NULL
);

ALTER TABLE public.embedding_rejected_messages ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.embedding_rejected_messages_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE public.embedding_tasks ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.embedding_tasks_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.embedding_tokens (
    id bigint NOT NULL,
    name text NOT NULL,
    secret_hash bytea NOT NULL,
    scope text NOT NULL,
    tenant_id text,
    source text,
    rate_requests integer,
    rate_s double precision,
    paid_until timestamp with time zone,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    created_by text NOT NULL,
    expires_at timestamp with time zone,
    replaced_at timestamp with time zone,
    revoked_at timestamp with time zone,
    revoked_by text,
    last_used_at timestamp with time zone,
    CONSTRAINT embedding_tokens_check CHECK (((rate_requests IS NULL) = (rate_s IS NULL))),
    CONSTRAINT embedding_tokens_check1 CHECK (((scope <> 'admin'::text) OR ((tenant_id IS NULL) AND (source IS NULL)))),
    CONSTRAINT embedding_tokens_name_check CHECK ((name <> ''::text)),
    CONSTRAINT embedding_tokens_rate_requests_check CHECK ((rate_requests > 0)),
    CONSTRAINT embedding_tokens_rate_s_check CHECK ((rate_s > (0)::double precision)),
    CONSTRAINT embedding_tokens_scope_check CHECK ((scope = ANY (ARRAY['read'::text, 'write'::text, 'admin'::text]))),
    CONSTRAINT embedding_tokens_secret_hash_check CHECK ((length(secret_hash) = 32)),
    CONSTRAINT embedding_tokens_source_check CHECK ((source <> ''::text)),
    CONSTRAINT embedding_tokens_tenant_id_check CHECK ((tenant_id <> ''::text))
);

ALTER TABLE public.embedding_tokens ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.embedding_tokens_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.embedding_usage (
    day date NOT NULL,
    tenant_id text NOT NULL,
    model text NOT NULL,
    slot smallint NOT NULL,
    requests double precision DEFAULT 0 NOT NULL,
    inputs bigint DEFAULT 0 NOT NULL,
    reused bigint DEFAULT 0 NOT NULL,
    tokens bigint DEFAULT 0 NOT NULL,
    cost double precision DEFAULT 0 NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.embedding_vectors (
    model_id integer NOT NULL,
    article_id text NOT NULL,
    chunk integer NOT NULL,
    tenant_id text NOT NULL,
    chunk_hash bytea NOT NULL,
    starts_at integer NOT NULL,
    ends_at integer NOT NULL,
    embedding public.vector,
    half public.halfvec
)
PARTITION BY LIST (model_id);

CREATE TABLE public.embedding_worker_status (
    id integer DEFAULT 1 NOT NULL,
    is_running boolean DEFAULT true NOT NULL,
    mode text DEFAULT 'celery'::text NOT NULL,
    submissions_accepted boolean DEFAULT true NOT NULL,
    dispatch_held boolean DEFAULT false NOT NULL,
    paused_priorities text[] DEFAULT '{}'::text[] NOT NULL,
    paused_tenants text[] DEFAULT '{}'::text[] NOT NULL,
    maintenance jsonb,
    throttle jsonb DEFAULT '{}'::jsonb NOT NULL,
    reason text,
    changed_by text DEFAULT SESSION_USER NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT embedding_worker_status_id_check CHECK ((id = 1)),
    CONSTRAINT embedding_worker_status_mode_check CHECK ((mode = ANY (ARRAY['celery'::text, 'database'::text, 'hybrid'::text, 'sync'::text, 'off'::text])))
);

CREATE TABLE public.embedding_workers (
    id bigint NOT NULL,
    delivery text NOT NULL,
    name text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    queues text[] DEFAULT '{}'::text[] NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    alive_until timestamp with time zone NOT NULL,
    asleep_until timestamp with time zone,
    steward_since timestamp with time zone,
    mode_seen text,
    mode_seen_at timestamp with time zone,
    counters jsonb DEFAULT '{}'::jsonb NOT NULL,
    ending_since timestamp with time zone
)
WITH (fillfactor='50');

ALTER TABLE public.embedding_workers ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.embedding_workers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.embedq_schema_version (
    version_num character varying(32) NOT NULL
);

CREATE TABLE public.performance_metrics (
    "timestamp" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    metric text NOT NULL,
    labels jsonb DEFAULT '{}'::jsonb NOT NULL,
    value double precision NOT NULL
);

ALTER TABLE public.article_texts
    ADD CONSTRAINT article_texts_id_of_source CHECK (((source IS NULL) OR starts_with(id, (source || ':'::text)))) NOT VALID;

ALTER TABLE ONLY public.article_texts
    ADD CONSTRAINT article_texts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.article_texts
    ADD CONSTRAINT article_texts_tenant_id_slug_key UNIQUE (tenant_id, slug);

ALTER TABLE ONLY public.article_versions
    ADD CONSTRAINT article_versions_pkey PRIMARY KEY (article_id, version_number);

ALTER TABLE ONLY public.embedding_active_model
    ADD CONSTRAINT embedding_active_model_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.embedding_audit_logs
    ADD CONSTRAINT embedding_audit_logs_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.embedding_budgets
    ADD CONSTRAINT embedding_budgets_pkey PRIMARY KEY (provider);

ALTER TABLE ONLY public.embedding_canaries
    ADD CONSTRAINT embedding_canaries_pkey PRIMARY KEY (model_id);

ALTER TABLE ONLY public.embedding_models
    ADD CONSTRAINT embedding_models_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.embedding_models
    ADD CONSTRAINT embedding_models_provider_name_dimensions_key UNIQUE (provider, name, dimensions);

ALTER TABLE ONLY public.embedding_providers
    ADD CONSTRAINT embedding_providers_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.embedding_rejected_messages
    ADD CONSTRAINT embedding_rejected_messages_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.embedding_rejected_messages
    ADD CONSTRAINT embedding_rejected_messages_queue_digest_key UNIQUE (queue, digest);

ALTER TABLE ONLY public.embedding_sources
    ADD CONSTRAINT embedding_sources_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.embedding_tasks
    ADD CONSTRAINT embedding_tasks_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.embedding_tokens
    ADD CONSTRAINT embedding_tokens_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.embedding_tokens
    ADD CONSTRAINT embedding_tokens_secret_hash_key UNIQUE (secret_hash);

ALTER TABLE ONLY public.embedding_usage
    ADD CONSTRAINT embedding_usage_pkey PRIMARY KEY (day, tenant_id, model, slot);

ALTER TABLE ONLY public.embedding_vectors
    ADD CONSTRAINT embedding_vectors_pkey PRIMARY KEY (article_id, model_id, chunk);

ALTER TABLE ONLY public.embedding_worker_status
    ADD CONSTRAINT embedding_worker_status_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.embedding_workers
    ADD CONSTRAINT embedding_workers_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.embeddings
    ADD CONSTRAINT embeddings_pkey PRIMARY KEY (article_id, model_id);

ALTER TABLE ONLY public.embedq_schema_version
    ADD CONSTRAINT embedq_schema_version_pkc PRIMARY KEY (version_num);

CREATE INDEX article_texts_facts ON public.article_texts USING btree (id) INCLUDE (text_hash, version, tenant_id);

CREATE INDEX article_texts_of_source ON public.article_texts USING btree (source, id) WHERE (source IS NOT NULL);

CREATE INDEX embedding_audit_logs_by_category ON public.embedding_audit_logs USING btree (category, id);

CREATE INDEX embedding_audit_logs_by_time ON public.embedding_audit_logs USING btree ("timestamp");

CREATE INDEX embedding_tasks_dispatched ON public.embedding_tasks USING btree (priority, dispatched_at) INCLUDE (tenant_id) WHERE ((status = 'pending'::text) AND (dispatched_at IS NOT NULL));

CREATE INDEX embedding_tasks_failed ON public.embedding_tasks USING btree (error_class, completed_at) WHERE (status = 'failed'::text);

CREATE INDEX embedding_tasks_finished ON public.embedding_tasks USING btree (completed_at) WHERE (completed_at IS NOT NULL);

CREATE INDEX embedding_tasks_free ON public.embedding_tasks USING btree (priority, tenant_id, scheduled_at, id) WHERE ((status = 'pending'::text) AND (dispatched_at IS NULL));

CREATE INDEX embedding_tasks_held ON public.embedding_tasks USING btree (lease_holder) WHERE (status = 'processing'::text);

CREATE UNIQUE INDEX embedding_tasks_of_article ON public.embedding_tasks USING btree (article_id, model_id, (
CASE
    WHEN (status = 'pending'::text) THEN (0)::bigint
    ELSE id
END));

CREATE UNIQUE INDEX embedding_tokens_name ON public.embedding_tokens USING btree (name) WHERE ((replaced_at IS NULL) AND (revoked_at IS NULL));

CREATE INDEX embedding_vectors_by_text ON ONLY public.embedding_vectors USING btree (tenant_id, SUBSTRING(chunk_hash FROM 1 FOR 8));

CREATE INDEX performance_metrics_by_metric ON public.performance_metrics USING btree (metric, "timestamp");

CREATE INDEX performance_metrics_by_time ON public.performance_metrics USING btree ("timestamp");

CREATE STATISTICS public.embedding_tasks_shape (mcv) ON status, priority FROM public.embedding_tasks;

CREATE TRIGGER embedq_article_edit BEFORE UPDATE ON public.article_texts FOR EACH ROW EXECUTE FUNCTION public.embedq_article_edit();

CREATE TRIGGER embedq_articles_deleted AFTER DELETE ON public.article_texts REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.embedq_articles_deleted();

CREATE TRIGGER embedq_articles_inserted AFTER INSERT ON public.article_texts REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.embedq_articles_inserted();

CREATE TRIGGER embedq_articles_truncated AFTER TRUNCATE ON public.article_texts FOR EACH STATEMENT EXECUTE FUNCTION public.embedq_articles_truncated();

CREATE TRIGGER embedq_articles_updated AFTER UPDATE ON public.article_texts REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.embedq_articles_updated();

CREATE TRIGGER embedq_attempts_never_go_down BEFORE UPDATE ON public.embedding_tasks FOR EACH ROW WHEN ((new.attempts < old.attempts)) EXECUTE FUNCTION public.embedq_attempts_never_go_down();

CREATE TRIGGER embedq_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.embedding_worker_status FOR EACH STATEMENT EXECUTE FUNCTION public.embedq_fence();

CREATE TRIGGER embedq_stamp_status BEFORE UPDATE ON public.embedding_worker_status FOR EACH ROW EXECUTE FUNCTION public.embedq_stamp_status();

CREATE TRIGGER embedq_task_changed_by_hand BEFORE UPDATE ON public.embedding_tasks FOR EACH ROW WHEN (((old.status <> new.status) AND (old.claims = new.claims) AND (current_setting('embedq.own_change'::text, true) IS DISTINCT FROM 'on'::text) AND (NOT ((old.lease_holder IS NOT NULL) AND (new.lease_holder IS NULL) AND (new.processed_at IS NOT NULL) AND ((new.status <> 'pending'::text) OR (new.dispatched_at IS NULL)) AND (current_setting('lock_timeout'::text) = '200ms'::text))))) EXECUTE FUNCTION public.embedq_task_changed_by_hand();

ALTER TABLE ONLY public.embedding_active_model
    ADD CONSTRAINT embedding_active_model_model_id_fkey FOREIGN KEY (model_id) REFERENCES public.embedding_models(id);

ALTER TABLE ONLY public.embedding_active_model
    ADD CONSTRAINT embedding_active_model_previous_model_id_fkey FOREIGN KEY (previous_model_id) REFERENCES public.embedding_models(id) ON DELETE SET NULL;

ALTER TABLE ONLY public.embedding_canaries
    ADD CONSTRAINT embedding_canaries_model_id_fkey FOREIGN KEY (model_id) REFERENCES public.embedding_models(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.embeddings
    ADD CONSTRAINT embeddings_model_id_fkey FOREIGN KEY (model_id) REFERENCES public.embedding_models(id);
