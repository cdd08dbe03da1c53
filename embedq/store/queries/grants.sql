-- name: to_grant_on
-- embedq's schema, and all its objects on which privileges can be granted.
SELECT current_schema() AS home,
       (SELECT x.nspname FROM pg_extension e JOIN pg_namespace x ON x.oid = e.extnamespace WHERE e.extname = 'vector') AS vector,
       (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass('article_texts')) AS owner,
       ARRAY(SELECT name FROM unnest(%(relations)s::text[]) AS name WHERE to_regclass(name) IS NOT NULL) AS relations,
       ARRAY(SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass('embedding_vectors')) AS vectors,
       ARRAY(SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = current_schema()::regnamespace AND proname ~ '^embedq_') AS functions

-- name: role_exists
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s) AS found

-- name: granted_roles
-- The roles with privileges, derived from the privileges: only a worker's role may register workers.
SELECT pg_get_userbyid(a.grantee) AS role, bool_or(a.privilege_type = 'INSERT' AND c.relname = 'embedding_workers') AS works
FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
WHERE c.oid IN (to_regclass('article_texts'), to_regclass('embedding_workers')) AND a.grantee NOT IN (0, c.relowner)
GROUP BY a.grantee HAVING bool_or(a.privilege_type = 'INSERT')

-- name: rights_on_vectors
-- The privileges on the vectors of existing models, to be granted on those of a new model.
SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role, string_agg(a.privilege_type, ', ') AS rights
FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
WHERE c.oid = to_regclass('embedding_vectors') AND a.grantee <> c.relowner
GROUP BY a.grantee
