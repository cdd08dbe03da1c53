-- Sources: tables of the user's whose rows are kept embedded (docs/why/sources.rst). A row of a source is a row of article_texts with `source`
-- set and an id that is made of the source's name and the row's key; all that holds for articles holds for it.

-- step
CREATE TABLE embedding_sources (
    name text PRIMARY KEY CHECK (name ~ '^[a-z_][a-z0-9_]{0,39}$'),
    schema_name text NOT NULL,
    table_name text NOT NULL,
    key_columns text[] NOT NULL,
    key_types text[] NOT NULL,
    title text NOT NULL,              -- this and the next three are SQL over a row of the table, with every name qualified; type text
    content text NOT NULL,
    tenant text NOT NULL,
    condition text NOT NULL,          -- type boolean
    metadata_columns text[] NOT NULL,
    columns text[] NOT NULL,          -- that any of these read
    priority text NOT NULL CHECK (priority IN ('urgent', 'high', 'normal', 'low')),
    given jsonb NOT NULL,             -- what the operator wrote
    attached_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    progress jsonb,                   -- of the comparison with the table that is under way; NULL between two
    compared_at timestamptz,          -- when the latest complete comparison began
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    outcome jsonb NOT NULL DEFAULT '{}',
    behind_since timestamptz,         -- a write of the application's was not followed
    behind_reason text,
    behind_statement text
);

-- step: article_texts
ALTER TABLE article_texts ADD COLUMN source text;
-- No row has a source yet: there is nothing to validate.
ALTER TABLE article_texts ADD CONSTRAINT article_texts_id_of_source CHECK (source IS NULL OR starts_with(id, source || ':')) NOT VALID;

-- step
-- All texts with their status. `articles` shows those that were written as articles.
CREATE VIEW embedq_articles AS
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
       a.created_at, a.updated_at, a.version, a.source
FROM article_texts a;
CREATE OR REPLACE VIEW articles AS
SELECT id, tenant_id, slug, title, content, metadata, embedding_status, created_at, updated_at, version FROM embedq_articles WHERE source IS NULL;

-- step
-- The triggers on articles run with their owner's rights: who may write articles needs no right on any other table of embedq's. EXECUTE is
-- taken from PUBLIC, or a role could put such a trigger on a table of its own.
CREATE OR REPLACE FUNCTION embedq_articles_inserted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off AS $$
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

-- The texts of a source's rows are in its table, so no history is kept of them; of a deleted one, its number, which is not given out again.
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
        FROM old_rows o JOIN unnest(edited) AS e (id) ON e.id = o.id AND o.source IS NULL
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
ALTER FUNCTION embedq_articles_updated() SECURITY DEFINER;
ALTER FUNCTION embedq_articles_deleted() SECURITY DEFINER;
ALTER FUNCTION embedq_articles_truncated() SECURITY DEFINER;
REVOKE EXECUTE ON FUNCTION embedq_articles_inserted(), embedq_articles_updated(), embedq_articles_deleted(), embedq_articles_truncated() FROM PUBLIC;

-- What is said about a source ------------------------------------------------------------------------------------------------------

-- Raises a refusal that the doors tell as it is: what, and what to do.
CREATE FUNCTION embedq_refuse(what text, next text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', what USING HINT = next, ERRCODE = 'EQ001';
END $$;

-- The table that is meant: as SQL writes it, or by its exact name, in the search path, in `public` or in the one schema that has it.
CREATE FUNCTION embedq_table_named(given text) RETURNS oid
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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

-- Where the source's table is now: its triggers know it when it was renamed. NULL: it is gone.
CREATE FUNCTION embedq_table_of(the_source text) RETURNS regclass
LANGUAGE sql STABLE SET search_path FROM CURRENT
RETURN coalesce(
    (SELECT t.tgrelid::regclass FROM pg_trigger t
     JOIN pg_proc p ON p.oid = t.tgfoid AND p.pronamespace = current_schema()::regnamespace AND p.proname = 'embedq_source_' || the_source
     WHERE t.tgname = 'embedq_' || the_source || '_insert'
     ORDER BY (SELECT count(*) FROM pg_inherits i WHERE i.inhrelid = t.tgrelid), t.tgrelid LIMIT 1),
    (SELECT c.oid::regclass FROM embedding_sources s JOIN pg_namespace n ON n.nspname = s.schema_name
     JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.table_name WHERE s.name = the_source));

-- Why a table cannot be a source, raised; nothing when it can.
CREATE FUNCTION embedq_check_table(the_table oid) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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
END $$;

-- The key: the columns that are named, which must be NOT NULL and have a unique index, or those of the primary key.
CREATE FUNCTION embedq_key_of(the_table oid, named text[]) RETURNS text[]
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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

-- One expression over a row: as SQL with every name qualified, and the columns it reads. `boolean`, or cast to text. `checked` is a temporary
-- table with the columns of the user's: a CHECK constraint on it does what this needs, and refuses subqueries and aggregates by itself.
CREATE FUNCTION embedq_expression(checked oid, given text, wanted text, OUT sql text, OUT columns text[])
LANGUAGE plpgsql AS $$
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
END $$;

-- What `given` means: one column by its exact name, several with commas (the texts that are not empty, with an empty line between), or an expression.
CREATE FUNCTION embedq_text_of(checked oid, given text, OUT sql text, OUT columns text[])
LANGUAGE plpgsql AS $$
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

-- The row of embedding_sources that these words make. Checks all of it and changes nothing; raises the refusal.
CREATE FUNCTION embedq_source_definition(
    the_table text, title text, content text, condition text, tenant text, metadata text[], key text[], name text, priority text
) RETURNS embedding_sources
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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
END $$;

-- How a row becomes an article -------------------------------------------------------------------------------------------------------

-- The key of a row `r` as text, the id of its article without the source's name: the one column, or several as a JSON array.
CREATE FUNCTION embedq_key_sql(s embedding_sources) RETURNS text LANGUAGE sql STABLE
RETURN CASE cardinality(s.key_columns)
    WHEN 1 THEN format('(r.%I)::text', s.key_columns[1])
    ELSE (SELECT format('jsonb_build_array(%s)::text', string_agg(format('(r.%I)::text', k), ', ')) FROM unnest(s.key_columns) AS k) END;

-- The other way: the key's column number `place`, with its type, out of the id of an article.
CREATE FUNCTION embedq_key_column_sql(s embedding_sources, place integer, id text) RETURNS text LANGUAGE sql STABLE
RETURN CASE cardinality(s.key_columns)
    WHEN 1 THEN format('substr(%s, %s)::%s', id, length(s.name) + 2, s.key_types[1])
    ELSE format('(substr(%s, %s)::jsonb ->> %s)::%s', id, length(s.name) + 2, place - 1, s.key_types[place]) END;

-- The articles that rows of `those` make, a relation with the columns of the table.
CREATE FUNCTION embedq_articles_sql(s embedding_sources, those text) RETURNS text LANGUAGE sql STABLE
RETURN format($q$SELECT %L || %s AS id, %s AS tenant_id, %s AS title, %s AS content, %s AS metadata FROM %s r WHERE %s$q$,
    s.name || ':', embedq_key_sql(s), s.tenant, s.title, s.content,
    CASE cardinality(s.metadata_columns) WHEN 0 THEN '''{}''::jsonb'
        ELSE (SELECT format('jsonb_build_object(%s)', string_agg(format('%L, r.%I', c, c), ', ')) FROM unnest(s.metadata_columns) AS c) END,
    those, s.condition);

-- What a source reads of the rows of `those`, as numbers: comparing a statement's rows before and after it must neither sort nor spill their texts,
-- nor fetch those that are stored apart (TOAST): an update that leaves a value alone leaves its place, which PostgreSQL 17 can tell. Two values of
-- one number (one pair in 2^64) are told apart by the comparison with the table, which goes by SHA-256.
CREATE FUNCTION embedq_digests_sql(s embedding_sources, those text) RETURNS text LANGUAGE sql STABLE
RETURN (SELECT format('SELECT %L || %s AS id%s FROM %s r', s.name || ':', embedq_key_sql(s), coalesce(string_agg(
            format(CASE WHEN current_setting('server_version_num')::integer >= 170000
                        THEN ', coalesce(pg_column_toast_chunk_id(r.%1$I)::bigint, hashtextextended(r.%1$I::text COLLATE "C", 0))'
                        ELSE ', hashtextextended(r.%1$I::text COLLATE "C", 0)' END, c), '' ORDER BY c), ''), those)
        FROM unnest(s.columns) AS c WHERE c <> ALL (s.key_columns));

-- Where an article of that id is there already. A mark for review, which embedq keeps in the metadata, stays.
CREATE FUNCTION embedq_upsert_sql() RETURNS text LANGUAGE sql IMMUTABLE
RETURN $q$ON CONFLICT (id) DO UPDATE SET tenant_id = excluded.tenant_id, title = excluded.title, content = excluded.content,
    metadata = excluded.metadata || CASE WHEN a.metadata ? 'embedq_review' THEN jsonb_build_object('embedq_review', a.metadata->'embedq_review') ELSE '{}' END
WHERE a.source = excluded.source AND (a.tenant_id, a.title, a.content, a.metadata - 'embedq_review')
    IS DISTINCT FROM (excluded.tenant_id, excluded.title, excluded.content, excluded.metadata)$q$;

-- Called by the triggers when a write could not be followed. It waits for nobody: where another transaction is telling the same, a line in the
-- audit log says it, which the steward finds.
CREATE FUNCTION embedq_source_behind(the_name text, statement text, reason text) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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

-- The text of the source's trigger function. Whatever fails in it is caught, and the statement of the application succeeds. No trigger names a
-- column (UPDATE OF): PostgreSQL would refuse to drop that column, or to change its type, while the source is attached.
CREATE FUNCTION embedq_trigger_sql(s embedding_sources) RETURNS text
LANGUAGE sql STABLE SET search_path FROM CURRENT
RETURN format($q$CREATE OR REPLACE FUNCTION %1$I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off SET lock_timeout = '200ms'
SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET intervalstyle = 'postgres' SET bytea_output = 'hex' SET extra_float_digits = 1 AS $embedq$
DECLARE
    gone text[];
    changed text[];
    reason text;
    wanted text := coalesce(current_setting('embedq.priority', true), '');
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM set_config('embedq.priority', coalesce(nullif(wanted, ''), %2$L), true);
        INSERT INTO article_texts AS a (id, tenant_id, title, content, metadata, source)
        SELECT n.*, %3$L FROM (%4$s) n ORDER BY n.id %7$s;
    ELSIF TG_OP = 'UPDATE' THEN
        changed := ARRAY(SELECT id FROM (%9$s EXCEPT %10$s) n);
        IF cardinality(changed) = 0 THEN
            RETURN NULL;  -- each row has one before it that is the same in all that is read: none is gone, either
        END IF;
        gone := ARRAY(SELECT id FROM (%6$s) o EXCEPT SELECT id FROM (%4$s) n);
        IF cardinality(gone) > 0 THEN
            DELETE FROM article_texts WHERE id = ANY (gone) AND source = %3$L;
        END IF;
        PERFORM set_config('embedq.priority', coalesce(nullif(wanted, ''), %2$L), true);
        INSERT INTO article_texts AS a (id, tenant_id, title, content, metadata, source)
        SELECT n.*, %3$L FROM (%4$s) n WHERE n.id = ANY (changed) ORDER BY n.id %7$s;
    ELSIF TG_OP = 'DELETE' THEN
        DELETE FROM article_texts WHERE id = ANY (ARRAY(SELECT id FROM (%6$s) o)) AND source = %3$L;
    ELSE
        gone := ARRAY(SELECT id FROM article_texts WHERE source = %3$L LIMIT 10001);
        IF cardinality(gone) > 10000 OR (TG_NARGS > 0 AND cardinality(gone) > 0) THEN  -- of a partition alone: which rows is not told
            PERFORM embedq_source_behind(%3$L, %5$L, 'the rows that a TRUNCATE removed are being removed from search');
        ELSE
            DELETE FROM article_texts WHERE id = ANY (gone);
        END IF;
    END IF;
    PERFORM set_config('embedq.priority', wanted, true);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    reason := format('%%s (%%s)', SQLERRM, SQLSTATE);
    BEGIN
        PERFORM embedq_source_behind(%3$L, TG_OP || %8$L, reason);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'embedq: the source %% did not follow a write, and could not be marked: %%', %3$L, reason;
    END;
    RETURN NULL;
END $embedq$$q$,
    'embedq_source_' || s.name, s.priority, s.name, embedq_articles_sql(s, 'new_rows'), 'TRUNCATE',
    embedq_articles_sql(s, 'old_rows'), embedq_upsert_sql(), format(' on %I.%I', s.schema_name, s.table_name),
    embedq_digests_sql(s, 'new_rows'), embedq_digests_sql(s, 'old_rows'));

-- Attaching and detaching --------------------------------------------------------------------------------------------------------------

CREATE FUNCTION embedq_source_key(the_name text) RETURNS bigint
LANGUAGE sql STABLE SET search_path FROM CURRENT
RETURN hashtextextended('embedq.source.' || current_schema() || '.' || the_name, 0);

-- The table and, of a partitioned one, all its partitions: a statement that names a partition fires that partition's triggers alone.
CREATE FUNCTION embedq_tables_of(the_table regclass) RETURNS SETOF regclass LANGUAGE sql STABLE
AS $$ SELECT the_table UNION SELECT relid FROM pg_partition_tree(the_table) $$;

-- Triggers that are missing on the source's table or its partitions are made; with `again`, all of them. Takes SHARE ROW EXCLUSIVE on each
-- table that gets one: writers wait, readers do not.
CREATE FUNCTION embedq_source_triggers(s embedding_sources, the_table regclass, again boolean) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '200ms' AS $$
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

-- The view of a source: the key's columns with their types, and each vector of the active model.
CREATE FUNCTION embedq_source_view(s embedding_sources) RETURNS void
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

-- Make a table a source, or change what an attached one embeds. The rows that are there come by the comparison. Returns the source's name.
CREATE FUNCTION embedq_attach(
    the_table text, title text DEFAULT NULL, content text DEFAULT NULL, condition text DEFAULT NULL, tenant text DEFAULT NULL,
    metadata text[] DEFAULT NULL, key text[] DEFAULT NULL, name text DEFAULT NULL, priority text DEFAULT 'normal'
) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '200ms' AS $$
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

-- Take triggers, function and view away. Its articles are removed after that, by embedq_source_forget. False: there is no such source.
CREATE FUNCTION embedq_unhook(the_name text) RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '200ms' AS $$
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

-- The articles of a source that is detached, with vectors and tasks, a bounded number at a time; how many. `kept`: those that are embedded stay.
CREATE FUNCTION embedq_source_forget(the_name text, bound integer, kept boolean) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET jit = off AS $$
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

-- Detach a source and remove its articles, in one transaction; how many. `embedq detach` does the same in many short ones.
CREATE FUNCTION embedq_detach(the_name text) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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

-- The comparison of a source with its table -----------------------------------------------------------------------------------------------

-- A stretch of the table's rows in the order of the key, behind the key `after` (a JSON array of texts; NULL: from the first).
CREATE FUNCTION embedq_stretch_sql(s embedding_sources, the_table regclass, after jsonb, bound integer) RETURNS text LANGUAGE sql STABLE
RETURN (SELECT format('(SELECT * FROM %s r WHERE %s ORDER BY %s LIMIT %s)', the_table,
                      CASE WHEN after IS NULL THEN 'true' ELSE format('(%s) > (%s)', keys, beyond) END, keys, bound)
        FROM (SELECT string_agg(format('r.%I', k), ', ' ORDER BY place) AS keys,
                     string_agg(format('%L::%s', after->>(place - 1)::integer, s.key_types[place]), ', ' ORDER BY place) AS beyond
              FROM unnest(s.key_columns) WITH ORDINALITY AS columns (k, place)) parts);

-- How many rows a stretch has, and the key of its last.
CREATE FUNCTION embedq_stretch_end(s embedding_sources, stretch text, OUT seen integer, OUT last jsonb) LANGUAGE plpgsql STABLE AS $$
BEGIN
    EXECUTE format('SELECT count(*), (array_agg(k ORDER BY n DESC))[1] FROM (SELECT jsonb_build_array(%s) AS k, row_number() OVER () AS n FROM %s r) numbered',
                   (SELECT string_agg(format('r.%I::text', k), ', ') FROM unnest(s.key_columns) AS k), stretch) INTO seen, last;
END $$;

-- Those rows of a stretch whose article is missing or differs are written; how many. An article is locked first and the row read after that: a
-- writer who has changed the row and not committed either holds the article, which is passed over, or comes after this and writes the newer text.
CREATE FUNCTION embedq_source_fill(s embedding_sources, stretch text) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET intervalstyle = 'postgres'
SET bytea_output = 'hex' SET extra_float_digits = 1 SET jit = off AS $$
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
END $$;

-- Of these articles of the source, those without a row are removed; how many.
CREATE FUNCTION embedq_source_thin(s embedding_sources, the_table regclass, ids text[]) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET intervalstyle = 'postgres'
SET bytea_output = 'hex' SET extra_float_digits = 1 SET jit = off AS $$
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
END $$;

-- Whether an error is one row's own. The others are of the whole: a column that is gone, a lock, a full disk.
CREATE FUNCTION embedq_of_a_row(state text) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN left(state, 2) NOT IN ('42', '0A', '25', '40', '53', '54', '55', '57', '58', 'XX', 'EQ') OR state = '54000';

-- The next `bound` rows of the table, compared; `p` is the progress, and is returned as it is afterwards. A stretch with a row that cannot be read
-- is read one row at a time: `unreadable` counts those, `example` names one and says why.
CREATE FUNCTION embedq_compare_rows(s embedding_sources, the_table regclass, p jsonb, bound integer) RETURNS jsonb
LANGUAGE plpgsql SET search_path FROM CURRENT SET bytea_output = 'hex' SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET intervalstyle = 'postgres' AS $$
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

-- The next `bound` articles of the source, compared, likewise.
CREATE FUNCTION embedq_compare_articles(s embedding_sources, the_table regclass, p jsonb, bound integer) RETURNS jsonb
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off AS $$
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

-- One step of the comparison, in a transaction of its own: first the rows, then the articles. Returns the source's row afterwards; NULL when another
-- process compares it, or a writer is marking it. Raises what is wrong with the whole.
CREATE FUNCTION embedq_source_step(the_name text, bound integer) RETURNS embedding_sources
LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '200ms' AS $$
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

-- What a comparison would find at this moment, without mending it: rows without an article, articles of another text, articles without a row.
CREATE FUNCTION embedq_source_differences(the_name text, OUT missing bigint, OUT changed bigint, OUT extra bigint)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET intervalstyle = 'postgres'
SET bytea_output = 'hex' SET extra_float_digits = 1 AS $$
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
END $$;

-- Vectors that the table has already ---------------------------------------------------------------------------------------------------------

-- A value of any type as a vector; NULL where it is none: another type, NaN, an infinity.
CREATE FUNCTION embedq_as_vector(given anyelement) RETURNS vector LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $$
BEGIN
    RETURN given::vector;
EXCEPTION WHEN data_exception OR cannot_coerce OR datatype_mismatch THEN
    RETURN NULL;
END $$;

-- The next `bound` rows behind the key `after`: where the article has the row's text and no vector of it, it gets the one in the row's column. The
-- article is locked before the column is read, so a vector is never taken for another text than the row had with it. `progress` counts what became of
-- the rows: taken, had (embedded already), behind (the article is not of this text yet), none (NULL), unusable, zero, and dimensions (another number).
CREATE FUNCTION embedq_import_vectors(the_name text, the_column text, the_model integer, after jsonb, bound integer,
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

-- Search in SQL ---------------------------------------------------------------------------------------------------------------------------

-- The k rows of a source nearest to a vector of the active model, best first: `key` has the key's columns as text, `score` is the cosine.
CREATE FUNCTION embedq_nearest(the_source text, the_vector vector, k integer DEFAULT 10)
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

-- step: beside writers
DROP INDEX CONCURRENTLY IF EXISTS article_texts_of_source;

CREATE INDEX CONCURRENTLY article_texts_of_source ON article_texts (source, id) WHERE source IS NOT NULL;
