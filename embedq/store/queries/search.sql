-- name: search
-- The best chunk of each article. {table}, {cast} and {dimensions} are the model's; the order is written as the index has it, the score is
-- exact. `seen`: when fewer articles than wanted were found among so many chunks, the caller looks at more. The limit and the tenant's
-- condition are written into the text: with parameters in their place the plan that PostgreSQL keeps would not use the index.
WITH near AS MATERIALIZED (
    SELECT v.article_id, v.starts_at, v.ends_at, v.embedding
    FROM {table} v
    WHERE {tenant} {filter}
    ORDER BY v.embedding::{cast}({dimensions}) <=> %(query)s::{cast}({dimensions})
    LIMIT {candidates}
), scored AS (
    SELECT article_id, starts_at, ends_at, embedding::vector({dimensions}) <=> %(query)s::vector({dimensions}) AS distance FROM near
), best AS (
    SELECT DISTINCT ON (article_id) * FROM scored ORDER BY article_id, distance
)
SELECT a.id AS article_id, a.tenant_id, a.slug, a.title, a.content, best.starts_at, best.ends_at, 1 - best.distance AS score,
       (SELECT count(*) FROM near) AS seen
FROM best JOIN article_texts a ON a.id = best.article_id
WHERE (%(tenant_id)s::text IS NULL OR a.tenant_id = %(tenant_id)s)
ORDER BY best.distance, a.id
LIMIT %(k)s

-- name: search_tenant
v.tenant_id = %(tenant_id)s

-- name: search_filter
-- Every key of the filter has, as text, the value asked for.
AND EXISTS (SELECT FROM article_texts f WHERE f.id = v.article_id AND NOT EXISTS (
    SELECT FROM jsonb_each_text(%(metadata)s::jsonb) wanted WHERE f.metadata ->> wanted.key IS DISTINCT FROM wanted.value))

-- name: search_settings
-- Filters are applied while the index is walked, until enough is found: without it a filter leaves few of the nearest or none.
SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', %(width)s, true),
       set_config('hnsw.max_scan_tuples', '100000', true)

-- name: by_words
-- Articles in which all words of the query occur, the best first; when none has them all, those with any. A bounded number is ranked.
WITH wanted AS MATERIALIZED (
    SELECT websearch_to_tsquery('english', %(words)s) AS every,
           replace(plainto_tsquery('english', %(words)s)::text, '&', '|')::tsquery AS any
), strict AS MATERIALIZED (
    SELECT v.id, embedq_words(v.title, v.content) AS words FROM article_texts v, wanted
    WHERE embedq_words(v.title, v.content) @@ wanted.every AND (%(tenant_id)s::text IS NULL OR v.tenant_id = %(tenant_id)s) {filter}
    LIMIT %(ranked)s
), loose AS MATERIALIZED (
    SELECT v.id, embedq_words(v.title, v.content) AS words FROM article_texts v, wanted
    WHERE NOT EXISTS (SELECT FROM strict) AND embedq_words(v.title, v.content) @@ wanted.any
      AND (%(tenant_id)s::text IS NULL OR v.tenant_id = %(tenant_id)s) {filter}
    LIMIT %(ranked)s
)
SELECT found.id AS article_id FROM (SELECT * FROM strict UNION ALL SELECT * FROM loose) found, wanted
ORDER BY ts_rank_cd(found.words, wanted.any, 1) DESC, found.id
LIMIT %(k)s

-- name: best_chunks
-- The best chunk of each of these articles, where the model has one.
SELECT DISTINCT ON (a.id) a.id AS article_id, a.tenant_id, a.slug, a.title, a.content, v.starts_at, v.ends_at,
       1 - (v.embedding::vector({dimensions}) <=> %(query)s::vector({dimensions})) AS score
FROM article_texts a JOIN {table} v ON v.article_id = a.id
WHERE a.id = ANY (%(ids)s) AND (%(tenant_id)s::text IS NULL OR a.tenant_id = %(tenant_id)s)
ORDER BY a.id, score DESC
