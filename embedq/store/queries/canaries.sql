-- name: canary_of
SELECT c.model_id, c.embedding, c.made_at, m.provider || '/' || m.name || '/' || m.dimensions AS model, c.cosine, c.server, c.worker,
       c.differs_since AT TIME ZONE 'UTC' AS since, c.same_at AT TIME ZONE 'UTC' AS same_at
FROM embedding_canaries c JOIN embedding_models m ON m.id = c.model_id WHERE c.model_id = %(model_id)s

-- name: swapped_models
SELECT c.model_id, m.provider || '/' || m.name || '/' || m.dimensions AS model, c.cosine, c.server, c.worker,
       c.differs_since AT TIME ZONE 'UTC' AS since, c.same_at AT TIME ZONE 'UTC' AS same_at
FROM embedding_canaries c JOIN embedding_models m ON m.id = c.model_id
WHERE c.differs_since IS NOT NULL AND (%(model_id)s::integer IS NULL OR c.model_id = %(model_id)s) ORDER BY c.model_id

-- name: keep_canary
-- No row is made for a model that was dropped.
INSERT INTO embedding_canaries AS c (model_id, embedding, same_at)
SELECT m.id, %(embedding)s::real[], clock_timestamp() FROM embedding_models m WHERE m.id = %(model_id)s
ON CONFLICT (model_id) DO UPDATE SET embedding = excluded.embedding, made_at = clock_timestamp(), same_at = clock_timestamp(),
    differs_since = NULL, cosine = NULL, server = '', worker = '', looked_at = NULL WHERE c.embedding IS NULL

-- name: accept_canary
INSERT INTO embedding_canaries (model_id, embedding, same_at) VALUES (%(model_id)s, %(embedding)s::real[], clock_timestamp())
ON CONFLICT (model_id) DO UPDATE SET embedding = excluded.embedding, made_at = clock_timestamp(), same_at = clock_timestamp(),
    differs_since = NULL, cosine = NULL, server = '', worker = '', looked_at = NULL

-- name: canary_is_same
UPDATE embedding_canaries SET same_at = clock_timestamp() WHERE model_id = %(model_id)s AND differs_since IS NULL

-- name: canary_is_same_again
UPDATE embedding_canaries SET same_at = clock_timestamp(), differs_since = NULL, cosine = NULL, server = '', worker = '', looked_at = NULL
WHERE model_id = %(model_id)s AND differs_since IS NOT NULL

-- name: canary_without_vector
INSERT INTO embedding_canaries (model_id) SELECT m.id FROM embedding_models m WHERE m.id = %(model_id)s ON CONFLICT (model_id) DO NOTHING

-- name: canary_differs
-- The first process that saw it stays named; each process that sees it updates the time.
UPDATE embedding_canaries c SET differs_since = coalesce(c.differs_since, clock_timestamp()), cosine = coalesce(c.cosine, %(cosine)s),
    server = CASE WHEN was.news THEN %(server)s ELSE c.server END, worker = CASE WHEN was.news THEN %(worker)s ELSE c.worker END,
    looked_at = clock_timestamp()
FROM (SELECT model_id, differs_since IS NULL AS news FROM embedding_canaries WHERE model_id = %(model_id)s FOR UPDATE) was
WHERE c.model_id = was.model_id RETURNING was.news

-- name: may_look_at_canary
UPDATE embedding_canaries SET looked_at = clock_timestamp()
WHERE model_id = %(model_id)s AND differs_since IS NOT NULL
  AND (looked_at < clock_timestamp() - make_interval(secs => %(again_s)s) AND server = %(server)s
       OR looked_at < clock_timestamp() - make_interval(secs => %(unconfirmed_s)s))
