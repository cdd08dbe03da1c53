-- name: source_definition
SELECT * FROM embedq_source_definition(%(table)s, %(title)s, %(content)s, %(where)s, %(tenant)s, %(metadata)s::text[], %(key)s::text[], %(name)s, %(priority)s)

-- name: attach_source
SELECT embedq_attach(%(table)s, %(title)s, %(content)s, %(where)s, %(tenant)s, %(metadata)s::text[], %(key)s::text[], %(name)s, %(priority)s) AS name

-- name: sources
-- `table_now`: NULL when the table is gone. A problem that a trigger could record only in the audit log counts like one in the row. `rows`: the planner's
-- estimate; -1 if the table was never analyzed.
SELECT s.name, s.schema_name, s.table_name, s.key_columns, s.key_types, s.metadata_columns, s.priority, s.given, s.attached_at,
       s.progress, s.compared_at, s.next_at, s.next_at <= clock_timestamp() AS due, s.outcome, t.now::text AS table_now,
       coalesce(s.behind_since, said.timestamp) AS behind_since,
       coalesce(s.behind_reason, said.metadata->>'reason') AS behind_reason,
       coalesce(s.behind_statement, said.metadata->>'statement') AS behind_statement,
       s.behind_since IS NULL AND said.timestamp IS NOT NULL AS said_only,
       (SELECT sum(greatest(c.reltuples, 0))::bigint FROM pg_class c WHERE c.oid IN (SELECT embedq_tables_of(t.now)) AND c.relkind = 'r') AS about_rows
FROM embedding_sources s
CROSS JOIN LATERAL (SELECT embedq_table_of(s.name) AS now) t
LEFT JOIN LATERAL (
    SELECT l.timestamp, l.metadata FROM embedding_audit_logs l
    WHERE l.category = 'source' AND l.metadata->>'behind' = s.name AND l.timestamp > coalesce(s.compared_at, s.attached_at)
    ORDER BY l.id DESC LIMIT 1
) said ON true
WHERE (%(name)s::text IS NULL OR s.name = %(name)s)
ORDER BY s.name

-- name: sources_behind
-- For `status` and monitors: sources that need an operator, or the steward. Reads the small table alone.
SELECT s.name, embedq_table_of(s.name)::text AS table_now, s.schema_name, s.table_name, s.behind_since, s.behind_reason, s.behind_statement,
       (s.outcome->>'unreadable')::bigint AS unreadable, s.outcome->>'example' AS example
FROM embedding_sources s
WHERE s.behind_since IS NOT NULL OR (s.outcome->>'unreadable')::bigint > 0 OR embedq_table_of(s.name) IS NULL
UNION ALL
SELECT s.name, embedq_table_of(s.name)::text, s.schema_name, s.table_name, max(l.timestamp), max(l.metadata->>'reason'), max(l.metadata->>'statement'), 0, NULL
FROM embedding_sources s JOIN embedding_audit_logs l
  ON l.category = 'source' AND l.metadata->>'behind' = s.name AND l.timestamp > coalesce(s.compared_at, s.attached_at)
WHERE s.behind_since IS NULL GROUP BY 1, 2, 3, 4
ORDER BY 1

-- name: source_counts
-- The articles of a source by the state of their embedding.
SELECT embedding_status AS status, count(*) AS articles FROM embedq_articles WHERE source = %(name)s GROUP BY 1 ORDER BY 1

-- name: open_tasks_up_to
-- By the partial indexes of waiting and of held tasks: finished ones are not read.
SELECT count(*) AS tasks FROM (
    (SELECT FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NULL LIMIT %(cap)s)
    UNION ALL (SELECT FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NOT NULL LIMIT %(cap)s)
    UNION ALL (SELECT FROM embedding_tasks WHERE status = 'processing' LIMIT %(cap)s)
) open

-- name: source_step
SELECT s.* FROM embedq_source_step(%(name)s, %(bound)s) s WHERE s.name IS NOT NULL

-- name: mark_source_behind
UPDATE embedding_sources SET behind_since = coalesce(behind_since, clock_timestamp()), behind_reason = %(reason)s,
    behind_statement = coalesce(behind_statement, 'the comparison with its table'), next_at = clock_timestamp() + interval '30 s'
WHERE name = (SELECT name FROM embedding_sources WHERE name = %(name)s FOR NO KEY UPDATE SKIP LOCKED)

-- name: begin_comparison
-- Restart the comparison from the first row now: a running one may already have passed the rows in question.
UPDATE embedding_sources SET progress = NULL, next_at = clock_timestamp() WHERE name = %(name)s

-- name: source_rename
-- The table was renamed; its triggers identify it.
UPDATE embedding_sources s SET schema_name = n.nspname, table_name = c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE s.name = %(name)s AND c.oid = embedq_table_of(s.name) AND (s.schema_name, s.table_name) IS DISTINCT FROM (n.nspname, c.relname)

-- name: source_triggers
-- A partition that was attached later gets its triggers.
SELECT embedq_source_triggers(s, embedq_table_of(s.name), false) AS made FROM embedding_sources s
WHERE s.name = %(name)s AND embedq_table_of(s.name) IS NOT NULL

-- name: source_differences
SELECT missing, changed, extra FROM embedq_source_differences(%(name)s)

-- name: unhook_source
SELECT embedq_unhook(%(name)s) AS known

-- name: forget_source
SELECT embedq_source_forget(%(name)s, %(bound)s, %(kept)s) AS removed

-- name: count_source
SELECT (SELECT count(*) FROM article_texts WHERE source = %(name)s) AS articles,
       (SELECT count(*) FROM embedding_tasks t JOIN article_texts a ON a.id = t.article_id
        WHERE a.source = %(name)s AND t.status IN ('pending', 'processing')) AS open_tasks

-- name: source_sample
-- What a source would make of the first rows of a table; `counted`: its number of rows, up to 100,000. The article and table expressions are SQL made by
-- embedq's functions.
SELECT count(*) AS articles, coalesce(avg(octet_length(title) + octet_length(content) + 2), 0)::double precision AS bytes,
       (SELECT count(*) FROM (SELECT FROM {table} LIMIT %(rows)s) few) AS rows,
       (SELECT count(*) FROM (SELECT FROM {table} LIMIT 100000) few) AS counted,
       (SELECT sum(greatest(c.reltuples, 0))::bigint FROM pg_class c WHERE c.oid IN (SELECT embedq_tables_of(%(table)s::regclass)) AND c.relkind = 'r') AS about_rows
FROM ({articles}) sample

-- name: source_sample_sql
SELECT embedq_articles_sql(d, format('(SELECT * FROM %%I.%%I LIMIT %%s)', d.schema_name, d.table_name, %(rows)s)) AS articles, format('%%I.%%I', d.schema_name, d.table_name) AS table
FROM embedq_source_definition(%(table)s, %(title)s, %(content)s, %(where)s, %(tenant)s, %(metadata)s::text[], %(key)s::text[], %(name)s, %(priority)s) d

-- name: source_keys
-- The keys of articles of one source, typed. View and columns are quoted names.
SELECT DISTINCT {article} AS embedq_article, {columns} FROM {view} WHERE {article} = ANY (%(ids)s)

-- name: source_key_ids
-- The article for a key given by an operator: its columns as text.
SELECT s.name || ':' || CASE cardinality(s.key_columns) WHEN 1 THEN (%(key)s::text[])[1] ELSE to_jsonb(%(key)s::text[])::text END AS id
FROM embedding_sources s WHERE s.name = %(name)s

-- name: import_vectors
SELECT seen, last, became FROM embedq_import_vectors(%(name)s, %(column)s, %(model_id)s, %(after)s, %(bound)s)
