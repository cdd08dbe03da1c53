-- name: put_embeddings
-- Never replaces an embedding of a newer version, unless %(anyway)s: then the caller has locked the article's row and checked that this is its text.
-- Returns which vectors to store, which of these replace older ones, and the article's tenant: read after the task was locked, so that a move to another
-- tenant is either seen here or runs later and finds the stored vectors. NULL: there is no such article.
INSERT INTO embeddings AS e (model_id, article_id, version, text_hash, chunks, tokens)
SELECT %(model_id)s, u.* FROM unnest(%(article_ids)s::text[], %(versions)s::integer[], %(hashes)s::bytea[], %(chunks)s::integer[], %(tokens)s::integer[])
    AS u (article_id, version, text_hash, chunks, tokens)
ORDER BY u.article_id
ON CONFLICT (model_id, article_id) DO UPDATE SET
    version = excluded.version, text_hash = excluded.text_hash, chunks = excluded.chunks, tokens = excluded.tokens, embedded_at = now()
WHERE e.version <= excluded.version OR %(anyway)s
RETURNING e.article_id, (xmax <> 0) AS replaces, (SELECT a.tenant_id FROM article_texts a WHERE a.id = e.article_id) AS tenant_id

-- name: confirm_embeddings
-- For tasks completed without a request because their text is embedded: verifies that it still is, and raises its version so that no older text replaces it.
UPDATE embeddings e SET version = greatest(e.version, u.version)
FROM unnest(%(article_ids)s::text[], %(models)s::integer[], %(versions)s::integer[], %(hashes)s::bytea[]) AS u (article_id, model_id, version, text_hash)
WHERE e.article_id = u.article_id AND e.model_id = u.model_id AND e.text_hash = u.text_hash
RETURNING e.article_id

-- name: stored_hash
SELECT text_hash FROM embeddings WHERE article_id = %(article_id)s AND model_id = %(model_id)s

-- name: drop_old_vectors
DELETE FROM embedding_vectors WHERE model_id = %(model_id)s AND article_id = ANY (%(article_ids)s)

-- name: hold_articles
-- For storing without a task (mode sync): locks the article, so that it is not deleted, changed or moved meanwhile. One that another transaction is
-- writing is skipped: that writer embeds the new text.
SELECT id, text_hash FROM article_texts WHERE id = ANY (%(article_ids)s) ORDER BY id FOR SHARE SKIP LOCKED

-- name: texts_of
SELECT a.id AS article_id, a.tenant_id, a.title, a.content, a.version, a.text_hash, e.text_hash AS stored_hash
FROM article_texts a LEFT JOIN embeddings e ON e.article_id = a.id AND e.model_id = %(model_id)s
WHERE a.id = ANY (%(article_ids)s)

-- name: known_vectors
-- Found by an index on eight bytes of the hash, then compared by the whole hash; only within the tenant. The vector is returned in PostgreSQL's format.
SELECT u.place, vector_send(found.vector) AS vector
FROM unnest(%(tenants)s::text[], %(hashes)s::bytea[]) WITH ORDINALITY AS u (tenant_id, chunk_hash, place), LATERAL (
    SELECT coalesce(v.embedding, v.half::vector) AS vector FROM {table} v
    WHERE v.tenant_id = u.tenant_id AND substring(v.chunk_hash FROM 1 FOR 8) = substring(u.chunk_hash FROM 1 FOR 8)
      AND v.chunk_hash = u.chunk_hash
    LIMIT 1
) found

-- name: stored_samples
-- A few stored vectors whose texts are still those of their articles, to see whether the model makes the same ones today. First chunks: these have
-- no headings before them.
SELECT a.title, a.content, v.starts_at, v.ends_at, v.chunk_hash, coalesce(v.embedding, v.half::vector)::text AS vector
FROM {table} v
JOIN article_texts a ON a.id = v.article_id
JOIN embeddings e ON e.model_id = v.model_id AND e.article_id = v.article_id AND e.text_hash = a.text_hash
WHERE v.chunk = 0
LIMIT %(limit)s
