-- name: search
-- The best chunk of each article. {table}, {column} and {dimensions} are the model's; {order} is written as the index has it, the score is
-- exact. `seen`: when fewer articles than wanted were found among so many chunks, the caller looks at more. The limit and the tenant's
-- condition are written into the text: with parameters in their place the plan that PostgreSQL keeps would not use the index.
WITH near AS MATERIALIZED (
    SELECT v.article_id, v.starts_at, v.ends_at, v.{column} AS embedding
    FROM {table} v
    WHERE {tenant} {near_source} {filter}
    ORDER BY {order}
    LIMIT {candidates}
), scored AS (
    SELECT article_id, starts_at, ends_at, embedding::vector({dimensions}) <=> %(query)s::vector({dimensions}) AS distance FROM near
), best AS (
    SELECT DISTINCT ON (article_id) * FROM scored ORDER BY article_id, distance
)
SELECT a.id AS article_id, a.tenant_id, a.slug, a.title, a.content, a.metadata, a.created_at, a.updated_at, a.source, best.starts_at, best.ends_at, 1 - best.distance AS score,
       (SELECT count(*) FROM near) AS seen
FROM best JOIN article_texts a ON a.id = best.article_id
WHERE (%(tenant_id)s::text IS NULL OR a.tenant_id = %(tenant_id)s) AND {of_source}
ORDER BY best.distance, a.id
LIMIT %(k)s

-- name: search_tenant
v.tenant_id = %(tenant_id)s

-- name: search_filter
-- Every key of `equal` has the requested value, as text; and the JSON path, if there is one, matches the metadata with the article's own fields.
AND EXISTS (SELECT FROM article_texts f WHERE f.id = v.article_id AND NOT EXISTS (
    SELECT FROM jsonb_each_text(%(metadata)s::jsonb -> 'equal') wanted WHERE f.metadata ->> wanted.key IS DISTINCT FROM wanted.value)
  AND (%(metadata)s::jsonb ->> 'path' IS NULL OR jsonb_path_match(
    f.metadata || jsonb_build_object('@id', f.id, '@slug', f.slug, '@title', f.title,
        '@created_at', to_char(f.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        '@updated_at', to_char(f.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
    (%(metadata)s::jsonb ->> 'path')::jsonpath, %(metadata)s::jsonb -> 'variables', true)))

-- name: near_articles
-- Vectors do not have the source, but the id of a source's article begins with the source's name. The names are read once per search.
AND NOT v.article_id ^@ ANY (ARRAY(SELECT s.name || ':' FROM embedding_sources s))

-- name: near_sources
AND v.article_id ^@ ANY (ARRAY(SELECT s.name || ':' FROM unnest(%(sources)s::text[]) AS s (name)))

-- name: of_articles
a.source IS NULL

-- name: of_sources
a.source = ANY (%(sources)s::text[])

-- name: search_settings
-- Iterative index scans: filters are applied during the scan, until enough rows match. Without this, a filter may leave few or no results.
SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', %(width)s, true),
       set_config('hnsw.max_scan_tuples', '100000', true)

-- name: words_indexed
-- Whether ranking by words has its index.
SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('article_texts_terms') AND indisvalid) AS built

-- name: words_by_index
(SELECT v.id FROM article_texts v
 WHERE embedq_terms(v.title, v.content, v.metadata) @@ asked.query AND (%(tenant_id)s::text IS NULL OR v.tenant_id = %(tenant_id)s) AND {of_source} {filter}
 LIMIT %(frequent)s)

-- name: words_of_all
-- Without the index, each article's tsvector is computed once.
every AS MATERIALIZED (
    SELECT v.id, embedq_terms(v.title, v.content, v.metadata) AS words FROM article_texts v
    WHERE (%(tenant_id)s::text IS NULL OR v.tenant_id = %(tenant_id)s) AND {of_source} {filter}
),

-- name: words_by_scan
(SELECT every.id FROM every WHERE every.words @@ asked.query)

-- name: by_words
-- Articles by the words of a question, the best first. A word weighs by its rarity (BM25's IDF: ln(1 + (N - n + 0.5) / (n + 0.5))), counted here,
-- up to a number of articles. Those that have most of that weight, and those in %(near)s, are looked at again for how often they have each
-- word (BM25F with k1 = 1.2, b = 0.75), a place in the title counting four times. The lengths of titles, and of texts, are compared with the
-- average of those with most weight: no statistics are kept.
-- `share`: of the weight of all words that some article has, what this article's words have. `terms`: how many words some article has.
WITH asked AS MATERIALIZED (
    SELECT term, exact, lexemes, query FROM embedq_asked(%(words)s) ORDER BY term LIMIT %(terms)s
), {every} hits AS MATERIALIZED (
    SELECT asked.term, matching.id FROM asked CROSS JOIN LATERAL {matching} matching
), known AS MATERIALIZED (
    SELECT greatest(reltuples, (SELECT count(DISTINCT id) FROM hits)) AS articles FROM pg_class WHERE oid = 'article_texts'::regclass
), weighed AS MATERIALIZED (
    SELECT counted.term, counted.articles, ln(1 + (greatest(known.articles, counted.articles) - counted.articles + 0.5) / (counted.articles + 0.5)) AS weight
    FROM (SELECT term, count(*) AS articles FROM hits GROUP BY term) counted, known
), gathered AS MATERIALIZED (
    SELECT hits.id, sum(weighed.weight) AS weight FROM hits JOIN weighed USING (term) GROUP BY hits.id ORDER BY weight DESC, hits.id LIMIT %(ranked)s
), looked_at AS (
    SELECT id FROM gathered UNION SELECT unnest(%(near)s::text[])
), words AS MATERIALIZED (
    SELECT a.id, word.lexeme, coalesce(cardinality(word.positions), 1) AS times, coalesce(cardinality(array_positions(word.weights, 'A')), 0) AS in_title
    FROM looked_at JOIN article_texts a USING (id) CROSS JOIN LATERAL unnest(embedq_terms(a.title, a.content, a.metadata)) AS word
), lengths AS MATERIALIZED (
    SELECT id, sum(times - in_title) AS body, sum(in_title) AS title FROM words GROUP BY id
), usual AS (
    SELECT greatest(avg(body), 1) AS body, greatest(avg(title), 1) AS title FROM lengths JOIN gathered USING (id)
), found AS (
    SELECT words.id, asked.term, sum((times - in_title) / (0.25 + 0.75 * lengths.body / usual.body)
                                     + 4 * in_title / (0.25 + 0.75 * lengths.title / usual.title)) AS times
    FROM words JOIN asked ON words.lexeme = ANY (asked.lexemes) JOIN lengths USING (id), usual
    GROUP BY words.id, asked.term
)
SELECT found.id AS article_id, sum(weight * times * 2.2 / (times + 1.2))::float8 AS score,
       (sum(weight) / (SELECT sum(weight) FROM weighed))::float8 AS share, min(weighed.articles) AS rarest,
       min(weighed.articles) FILTER (WHERE asked.exact) AS rarest_name, (SELECT count(*) FROM weighed) AS terms, known.articles::bigint AS articles
FROM found JOIN weighed USING (term) JOIN asked USING (term), known GROUP BY found.id, known.articles ORDER BY score DESC, found.id LIMIT %(k)s

-- name: best_chunks
-- The best chunk of each of these articles, where the model has one.
SELECT DISTINCT ON (a.id) a.id AS article_id, a.tenant_id, a.slug, a.title, a.content, a.metadata, a.created_at, a.updated_at, a.source, v.starts_at, v.ends_at,
       1 - (v.{column}::vector({dimensions}) <=> %(query)s::vector({dimensions})) AS score
FROM article_texts a JOIN {table} v ON v.article_id = a.id
WHERE a.id = ANY (%(ids)s) AND (%(tenant_id)s::text IS NULL OR a.tenant_id = %(tenant_id)s)
ORDER BY a.id, score DESC

-- name: vectors_of_chunks
-- The vectors of these articles' chunks, by where they start, in the order asked for.
SELECT v.{column}::vector({dimensions})::text AS vector
FROM unnest(%(ids)s::text[], %(starts)s::integer[]) WITH ORDINALITY AS u (article_id, starts_at, place)
JOIN LATERAL (SELECT c.{column} FROM {table} c WHERE c.article_id = u.article_id AND c.starts_at = u.starts_at LIMIT 1) v ON true
ORDER BY u.place

-- name: vector_of_article
-- The mean of an article's chunks, none when it has no vector.
SELECT avg(v.{column}::vector({dimensions}))::text AS vector FROM {table} v WHERE v.article_id = %(article_id)s
