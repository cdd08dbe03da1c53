-- Many rows that one statement inserts into an attached table (docs/why/sources.rst).

-- step
-- The rows of those keys that a statement has just inserted, read in the table instead of the transition table: there they are compressed already,
-- and are copied as they are. `embedq_the_table` stands for the table. LATERAL: each row by its key, whichever statistics the table has.
CREATE FUNCTION embedq_inserted_sql(s embedding_sources) RETURNS text LANGUAGE sql STABLE
RETURN (SELECT format('(SELECT t.* FROM (SELECT %s FROM new_rows) k CROSS JOIN LATERAL (SELECT * FROM embedq_the_table t WHERE (%s) = (%s) OFFSET 0) t)',
                      string_agg(format('%I AS key%s', k, place), ', ' ORDER BY place), string_agg(format('t.%I', k), ', ' ORDER BY place),
                      string_agg(format('k.key%s', place), ', ' ORDER BY place))
        FROM unnest(s.key_columns) WITH ORDINALITY AS columns (k, place));

-- The text of the source's trigger function. More than a hundred rows are inserted by a plan of their own, unsorted: two writers never hold one key,
-- and so never wait for each other's articles. Whatever fails in it is caught, and the statement of the application succeeds. No trigger names a
-- column (UPDATE OF): PostgreSQL would refuse to drop that column, or to change its type, while the source is attached.
CREATE OR REPLACE FUNCTION embedq_trigger_sql(s embedding_sources) RETURNS text
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
        IF (SELECT count(*) FROM (SELECT FROM new_rows LIMIT 101) few) > 100 THEN
            EXECUTE replace(%11$L, 'embedq_the_table', TG_RELID::regclass::text);
        ELSE
            INSERT INTO article_texts AS a (id, tenant_id, title, content, metadata, source)
            SELECT n.*, %3$L FROM (%4$s) n ORDER BY n.id %7$s;
        END IF;
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
    embedq_digests_sql(s, 'new_rows'), embedq_digests_sql(s, 'old_rows'),
    format('INSERT INTO article_texts AS a (id, tenant_id, title, content, metadata, source) SELECT n.*, %L FROM (%s) n %s',
           s.name, embedq_articles_sql(s, embedq_inserted_sql(s)), embedq_upsert_sql()));

-- step: beside writers
DO $$
DECLARE
    source embedding_sources;
BEGIN
    FOR source IN SELECT s.* FROM embedding_sources s WHERE to_regproc(quote_ident('embedq_source_' || s.name)) IS NOT NULL LOOP
        EXECUTE embedq_trigger_sql(source);
        COMMIT;
    END LOOP;
END $$;
