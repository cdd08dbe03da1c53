-- name: remains
-- Objects that any version of embedq has made, found in the catalogs by their names and name patterns.
SELECT found.kind || ' ' || found.name AS what FROM (
    SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind, c.relname::text AS name
    FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = ANY ('{r,p,v,m,S,f}')
      AND (c.relname = ANY (%(relations)s) OR c.relname ~ '^(embedding_|embedq_)')
      AND NOT (%(keep_articles)s AND c.relname = 'articles' AND c.relkind = 'r')
    UNION ALL
    SELECT 'function', p.proname FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace AND p.proname ~ '^embedq_'
    UNION ALL
    SELECT 'trigger', t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = current_schema()::regnamespace AND t.tgname ~ '^embedq_'
    UNION ALL
    SELECT 'type', t.typname FROM pg_type t
    WHERE t.typnamespace = current_schema()::regnamespace AND t.typrelid = 0 AND t.typelem = 0 AND t.typname ~ '^(embedding_|embedq_)'
) found ORDER BY 1

-- name: leftovers
-- Objects with embedq's names in its schema, with the statements that drop them.
SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind,
       format('DROP %%s IF EXISTS %%I', CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.relname) AS statement
FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = ANY ('{r,p,v,S}') AND c.relname = ANY (%(relations)s)
UNION ALL
SELECT 'function', format('DROP FUNCTION IF EXISTS %%s', p.oid::regprocedure) FROM pg_proc p
WHERE p.pronamespace = current_schema()::regnamespace AND p.proname ~ '^embedq_'
UNION ALL
SELECT 'trigger', format('DROP TRIGGER IF EXISTS %%I ON %%s', t.tgname, t.tgrelid::regclass) FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal AND t.tgname ~ '^embedq_'
