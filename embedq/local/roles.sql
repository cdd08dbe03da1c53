-- Transfers ownership in a home that an earlier version made, where the superuser owned everything. Run once, as the superuser, in the
-- database embedq, in one transaction. REASSIGN OWNED refuses the role that initdb made. Objects of extensions stay the superuser's.
DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        WITH ours AS (
            SELECT oid, nspname FROM pg_namespace
            WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
        ), me AS (
            SELECT oid FROM pg_roles WHERE rolname = current_user
        ), extended AS (
            SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
        )
        SELECT format('ALTER SCHEMA %I OWNER TO embedq', nspname) FROM ours
        WHERE nspname <> 'public' AND ('pg_namespace'::regclass, oid) NOT IN (SELECT classid, objid FROM extended)
        UNION ALL
        -- Indexes, a serial column's sequence and toast tables follow their table.
        SELECT format('ALTER %s %s OWNER TO embedq',
                      CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                                     WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END, c.oid::regclass)
        FROM pg_class AS c JOIN ours ON ours.oid = c.relnamespace JOIN me ON me.oid = c.relowner
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
          AND ('pg_class'::regclass, c.oid) NOT IN (SELECT classid, objid FROM extended)
          AND NOT EXISTS (
              SELECT FROM pg_depend AS d
              WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'S' AND d.deptype IN ('a', 'i')
          )
        UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO embedq', p.oid::regprocedure)
        FROM pg_proc AS p JOIN ours ON ours.oid = p.pronamespace JOIN me ON me.oid = p.proowner
        WHERE ('pg_proc'::regclass, p.oid) NOT IN (SELECT classid, objid FROM extended)
        UNION ALL
        SELECT format('ALTER %s %s OWNER TO embedq', CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, t.oid::regtype)
        FROM pg_type AS t JOIN ours ON ours.oid = t.typnamespace JOIN me ON me.oid = t.typowner
        WHERE t.typtype IN ('e', 'd', 'r') AND ('pg_type'::regclass, t.oid) NOT IN (SELECT classid, objid FROM extended)
        UNION ALL
        SELECT format('ALTER STATISTICS %I.%I OWNER TO embedq', ours.nspname, s.stxname)
        FROM pg_statistic_ext AS s JOIN ours ON ours.oid = s.stxnamespace JOIN me ON me.oid = s.stxowner
        UNION ALL
        SELECT format('ALTER TEXT SEARCH CONFIGURATION %I.%I OWNER TO embedq', ours.nspname, c.cfgname)
        FROM pg_ts_config AS c JOIN ours ON ours.oid = c.cfgnamespace JOIN me ON me.oid = c.cfgowner
        WHERE ('pg_ts_config'::regclass, c.oid) NOT IN (SELECT classid, objid FROM extended)
        UNION ALL
        SELECT format('ALTER TEXT SEARCH DICTIONARY %I.%I OWNER TO embedq', ours.nspname, c.dictname)
        FROM pg_ts_dict AS c JOIN ours ON ours.oid = c.dictnamespace JOIN me ON me.oid = c.dictowner
        WHERE ('pg_ts_dict'::regclass, c.oid) NOT IN (SELECT classid, objid FROM extended)
        UNION ALL
        SELECT format('ALTER COLLATION %I.%I OWNER TO embedq', ours.nspname, c.collname)
        FROM pg_collation AS c JOIN ours ON ours.oid = c.collnamespace JOIN me ON me.oid = c.collowner
        UNION ALL
        SELECT format('ALTER LARGE OBJECT %s OWNER TO embedq', l.oid)
        FROM pg_largeobject_metadata AS l JOIN me ON me.oid = l.lomowner
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
-- Last: by the database's owner a start sees that this has been done.
ALTER DATABASE embedq OWNER TO embedq;
