-- name: put_embeddings
-- Never over newer text: the version decides. The answer tells which of them are to be stored, and which of these replace older vectors.
INSERT INTO embeddings AS e (model_id, article_id, version, text_hash, chunks, tokens)
SELECT %(model_id)s, u.* FROM unnest(%(article_ids)s::text[], %(versions)s::integer[], %(hashes)s::bytea[], %(chunks)s::integer[], %(tokens)s::integer[])
    AS u (article_id, version, text_hash, chunks, tokens)
ORDER BY u.article_id
ON CONFLICT (model_id, article_id) DO UPDATE SET
    version = excluded.version, text_hash = excluded.text_hash, chunks = excluded.chunks, tokens = excluded.tokens, embedded_at = now()
WHERE e.version <= excluded.version
RETURNING e.article_id, (xmax <> 0) AS replaces

-- name: drop_old_vectors
DELETE FROM embedding_vectors WHERE model_id = %(model_id)s AND article_id = ANY (%(article_ids)s)

-- name: hold_articles
-- For a store without a task (mode sync): the article must not go away meanwhile, nor be another one under the same id.
SELECT id, text_hash FROM article_texts WHERE id = ANY (%(article_ids)s) ORDER BY id FOR KEY SHARE

-- name: texts_of
SELECT a.id AS article_id, a.tenant_id, a.title, a.content, a.version, a.text_hash, e.text_hash AS stored_hash
FROM article_texts a LEFT JOIN embeddings e ON e.article_id = a.id AND e.model_id = %(model_id)s
WHERE a.id = ANY (%(article_ids)s)

-- name: known_vectors
-- Found by eight bytes of the hash, taken only when the whole hash is the same; within the tenant. The vector as PostgreSQL sends it.
SELECT u.place, vector_send(found.embedding) AS vector
FROM unnest(%(tenants)s::text[], %(hashes)s::bytea[]) WITH ORDINALITY AS u (tenant_id, chunk_hash, place), LATERAL (
    SELECT v.embedding FROM {table} v
    WHERE v.tenant_id = u.tenant_id AND substring(v.chunk_hash FROM 1 FOR 8) = substring(u.chunk_hash FROM 1 FOR 8)
      AND v.chunk_hash = u.chunk_hash
    LIMIT 1
) found
