-- name: home
-- Whether embedq is installed in the first schema; which tables of other programs have its names there; whether this role may create tables there, or make a schema.
SELECT current_schema() AS name,
       EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'embedq_schema_version') AS installed,
       ARRAY(
           SELECT c.relname::text FROM pg_class c
           WHERE c.relnamespace = n.oid AND c.relkind = ANY ('{r,p,v,m,S,f}')
             AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
             AND NOT EXISTS (SELECT FROM pg_class k WHERE k.relnamespace = n.oid AND k.relname = 'articles' AND k.relkind = 'r' AND (
                 SELECT count(*) FROM pg_attribute a WHERE a.attrelid = k.oid AND a.attname = ANY (%(kept)s)) = cardinality(%(kept)s))
           ORDER BY c.oid LIMIT 3
       ) AS others,
       coalesce(has_schema_privilege(n.oid, 'CREATE'), false) AS may_create,
       has_database_privilege(current_database(), 'CREATE') AS may_make_schemas,
       own.nspname IS NOT NULL AS prepared,
       coalesce(has_schema_privilege(own.oid, 'CREATE'), false) AS may_use_prepared,
       quote_ident(current_user) AS role, quote_ident(current_database()) AS database,
       (SELECT quote_ident(x.nspname) FROM pg_extension e JOIN pg_namespace x ON x.oid = e.extnamespace WHERE e.extname = 'vector') AS vector,
       coalesce(has_schema_privilege(public.oid, 'CREATE'), false) AS public
FROM (VALUES (1)) always
LEFT JOIN pg_namespace n ON n.nspname = current_schema()
LEFT JOIN pg_namespace own ON own.nspname = %(own)s
LEFT JOIN pg_namespace public ON public.nspname = 'public'

-- name: path_is_chosen
-- Whether the address (or PGOPTIONS) sets a search path. Run it before embedq's search path is set.
SELECT source = 'client' AS chosen FROM pg_settings WHERE name = 'search_path'

-- name: leave_home
SELECT format('DROP SCHEMA %%I RESTRICT', n.nspname) AS statement
FROM pg_namespace n
WHERE n.nspname = %(own)s AND pg_has_role(n.nspowner, 'USAGE') AND obj_description(n.oid, 'pg_namespace') = %(note)s
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.deptype = 'n')
