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
CREATE INDEX CONCURRENTLY {index} ON {table} USING hnsw ((embedding::{cast}({dimensions})) {cast}_cosine_ops)

-- name: create_words_index
CREATE INDEX CONCURRENTLY article_texts_terms ON article_texts USING gin (embedq_terms(title, content, metadata))

-- name: index_progress
SELECT phase, blocks_done, blocks_total, tuples_done, tuples_total FROM pg_stat_progress_create_index WHERE pid = %(pid)s

-- name: sample_vectors
SELECT embedding::vector({dimensions})::text AS query FROM {table} ORDER BY random() LIMIT %(limit)s

-- name: nearest_chunks
SELECT v.article_id, v.chunk FROM {table} v ORDER BY v.embedding::{cast}({dimensions}) <=> %(query)s::{cast}({dimensions}) LIMIT {k}
