-- name: index_state
SELECT CASE WHEN i.indexrelid IS NULL THEN NULL
            WHEN i.indisvalid THEN 'built'
            WHEN EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid) THEN 'building'
            ELSE 'broken' END AS state,
       coalesce(pg_relation_size(i.indexrelid), 0) AS bytes,
       pg_table_size(t.oid) AS table_bytes,
       greatest(0, t.reltuples)::bigint AS about_rows,
       coalesce((SELECT s.idx_scan FROM pg_stat_all_indexes s WHERE s.indexrelid = i.indexrelid), 0) AS scans
FROM pg_class t
LEFT JOIN pg_index i ON i.indrelid = t.oid AND i.indexrelid = to_regclass(%(index)s)
WHERE t.oid = to_regclass(%(table)s)

-- name: create_index
CREATE INDEX CONCURRENTLY {index} ON {table} USING hnsw ({indexed}) WITH (m = {m}, ef_construction = {ef_construction})

-- name: create_words_index
CREATE INDEX CONCURRENTLY article_texts_terms ON article_texts USING gin (embedq_terms(title, content, metadata))

-- name: index_progress
SELECT phase, blocks_done, blocks_total, tuples_done, tuples_total FROM pg_stat_progress_create_index WHERE pid = %(pid)s

-- name: sample_vectors
SELECT {column}::vector({dimensions})::text AS query FROM {table} ORDER BY random() LIMIT %(limit)s

-- name: nearest_chunks
-- As search finds them: candidates in the order of the index, of these the nearest exactly.
SELECT near.article_id, near.chunk FROM (
    SELECT v.article_id, v.chunk, v.{column} AS vector FROM {table} v ORDER BY {order} LIMIT {candidates}
) near ORDER BY near.vector::vector({dimensions}) <=> %(query)s::vector({dimensions}), near.article_id, near.chunk LIMIT {k}

-- name: exact_chunks
SELECT v.article_id, v.chunk FROM {table} v
ORDER BY v.{column}::vector({dimensions}) <=> %(query)s::vector({dimensions}), v.article_id, v.chunk LIMIT {k}

-- name: to_index
-- Vectors of this model, and what the server has for caching, in MB. An estimate where the table was analysed.
SELECT CASE WHEN reltuples > 0 THEN reltuples::bigint ELSE (SELECT count(*) FROM {table}) END AS vectors,
       (SELECT setting::bigint * 8 / 1024 FROM pg_settings WHERE name = 'effective_cache_size') AS cache_mb
FROM pg_class WHERE oid = '{table}'::regclass

-- name: keep_recall
INSERT INTO performance_metrics (metric, labels, value) VALUES ('recall', jsonb_build_object('model', %(model_id)s::integer, 'kind', %(kind)s::text), %(recall)s)

-- name: recall_lately
-- The mean of the samples of the last day, of the index that search uses now.
SELECT avg(value)::float8 AS recall, count(*) AS samples FROM performance_metrics
WHERE metric = 'recall' AND timestamp > now() - interval '1 day'
  AND labels = jsonb_build_object('model', %(model_id)s::integer, 'kind', %(kind)s::text)
