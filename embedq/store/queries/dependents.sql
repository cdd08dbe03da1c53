-- name: dependents
-- Objects that are not embedq's and depend on a table or view of embedq, from the catalogs. `holds`: DROP TABLE is refused while the object exists.
WITH ours AS (
    SELECT c.oid, c.relname::text AS name, c.relowner FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = ANY ('{r,p,v,m}')
      AND (c.relname = ANY (%(relations)s) OR c.relname ~ '^embedding_vectors_[0-9]+$' OR c.relkind = 'v' AND c.relname ~ '^embedq_')
)
SELECT DISTINCT found.what, found.holds FROM (
    SELECT format('%%s %%s needs %%s', CASE c.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END, c.oid::regclass, ours.name) AS what, true AS holds
    FROM pg_depend d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class c ON c.oid = r.ev_class JOIN ours ON d.refclassid = 'pg_class'::regclass AND ours.oid = d.refobjid
    WHERE c.oid NOT IN (SELECT oid FROM ours)
    UNION ALL
    SELECT format('foreign key %%I of %%s refers to %%s', k.conname, k.conrelid::regclass, ours.name), true
    FROM pg_constraint k JOIN ours ON ours.oid = k.confrelid WHERE k.contype = 'f' AND k.conrelid NOT IN (SELECT oid FROM ours)
    UNION ALL
    SELECT format('function %%s needs %%s', p.oid::regprocedure, ours.name), true
    FROM pg_depend d JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
    JOIN ours ON d.refclassid IN ('pg_class'::regclass, 'pg_type'::regclass)
         AND (d.refobjid = ours.oid OR d.refobjid = (SELECT c.reltype FROM pg_class c WHERE c.oid = ours.oid))
    WHERE p.proname !~ '^embedq_'
    UNION ALL
    SELECT format('trigger %%I on %%s', t.tgname, ours.name), false
    FROM pg_trigger t JOIN ours ON ours.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE NOT t.tgisinternal AND p.proname !~ '^embedq_'
    UNION ALL
    SELECT format('policy %%I on %%s', p.polname, ours.name), false FROM pg_policy p JOIN ours ON ours.oid = p.polrelid
    UNION ALL
    SELECT format('%%s in the publication %%I', ours.name, b.pubname), false
    FROM pg_publication_rel r JOIN ours ON ours.oid = r.prrelid JOIN pg_publication b ON b.oid = r.prpubid
    UNION ALL
    SELECT format('GRANT %%s ON %%s TO %%s', string_agg(g.privilege_type, ', ' ORDER BY g.privilege_type), ours.name,
                  CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END), false
    FROM ours JOIN pg_class c ON c.oid = ours.oid CROSS JOIN LATERAL aclexplode(c.relacl) g
    WHERE g.grantee <> ours.relowner GROUP BY ours.name, g.grantee
) found
ORDER BY found.holds DESC, found.what
