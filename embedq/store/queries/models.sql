-- name: add_model
SELECT embedq_add_model(%(provider)s, %(name)s, %(dimensions)s, %(storage)s) AS id

-- name: models
SELECT m.id, m.provider, m.name, m.dimensions, m.preparation, m.storage, m.kept_in_step, m.created_at, m.id = a.model_id AS active, m.id = a.previous_model_id AS previous
FROM embedding_models m LEFT JOIN embedding_active_model a ON true ORDER BY m.id

-- name: active_model
SELECT m.id, m.provider, m.name, m.dimensions, m.preparation, m.storage FROM embedding_models m JOIN embedding_active_model a ON a.model_id = m.id

-- name: first_model
INSERT INTO embedding_active_model (id, model_id) VALUES (1, %(model_id)s) ON CONFLICT (id) DO NOTHING

-- name: lock_models
-- Adding, switching and dropping models are serialized (the same lock as embedq_add_model).
SELECT pg_advisory_xact_lock(hashtextextended('embedq.models.' || current_schema(), 0))

-- name: set_preparation
UPDATE embedding_models SET preparation = %(preparation)s WHERE id = %(model_id)s

-- name: set_kept_in_step
UPDATE embedding_models SET kept_in_step = %(kept)s WHERE id = %(model_id)s

-- name: model_progress
-- complete: the newest text is embedded. missing: the active model has a vector of the article and this one has none. behind: this one has a vector of an
-- older text than the active model.
SELECT count(*) AS articles,
       count(*) FILTER (WHERE e.text_hash = a.text_hash) AS complete,
       count(*) FILTER (WHERE e.article_id IS NULL AND n.article_id IS NOT NULL) AS missing,
       count(*) FILTER (WHERE e.version < n.version) AS behind
FROM article_texts a
LEFT JOIN embeddings e ON e.model_id = %(model_id)s AND e.article_id = a.id
LEFT JOIN embeddings n ON n.model_id = (SELECT model_id FROM embedding_active_model) AND n.article_id = a.id

-- name: model_tasks
SELECT count(*) FILTER (WHERE status IN ('pending', 'processing')) AS open, count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'skipped') AS skipped,
       count(*) FILTER (WHERE status = 'completed' AND completed_at > clock_timestamp() - make_interval(secs => 60)) / 60.0::double precision
           AS rate_per_s
FROM embedding_tasks WHERE model_id = %(model_id)s

-- name: model_size
SELECT coalesce(pg_total_relation_size(to_regclass(%(table)s)), 0) AS bytes

-- name: switch_model
UPDATE embedding_active_model SET previous_model_id = model_id, model_id = %(model_id)s, activated_at = clock_timestamp()
WHERE id = 1 AND model_id <> %(model_id)s RETURNING previous_model_id

-- name: previous_model
SELECT m.id, m.provider, m.name, m.dimensions, m.preparation, m.storage
FROM embedding_models m JOIN embedding_active_model a ON a.previous_model_id = m.id

-- name: hurry_model
-- Raise the priority of open tasks of the newly active model. A message that is already in a slower queue is harmless.
UPDATE embedding_tasks SET priority = 'normal', dispatched_at = NULL
WHERE id = ANY (ARRAY(SELECT id FROM embedding_tasks WHERE status = 'pending' AND priority = 'low' AND model_id = %(model_id)s
                      LIMIT %(limit)s FOR UPDATE SKIP LOCKED))

-- name: to_build
-- The next articles without a vector of the model and without an open task for it; texts that were skipped (empty) are left out.
SELECT a.id FROM article_texts a
LEFT JOIN embeddings e ON e.model_id = %(model_id)s AND e.article_id = a.id
WHERE a.id > %(after)s AND e.text_hash IS DISTINCT FROM a.text_hash
  AND NOT EXISTS (SELECT FROM embedding_tasks t WHERE t.article_id = a.id AND t.model_id = %(model_id)s
                  AND (t.status IN ('pending', 'processing') OR (t.status = 'skipped' AND t.version >= a.version)))
ORDER BY a.id LIMIT %(limit)s

-- name: count_to_build
SELECT count(*) AS articles, coalesce(sum(octet_length(a.title) + octet_length(a.content)), 0)::bigint AS bytes FROM article_texts a
LEFT JOIN embeddings e ON e.model_id = %(model_id)s AND e.article_id = a.id
WHERE e.text_hash IS DISTINCT FROM a.text_hash
  AND NOT EXISTS (SELECT FROM embedding_tasks t WHERE t.article_id = a.id AND t.model_id = %(model_id)s
                  AND (t.status IN ('pending', 'processing') OR (t.status = 'skipped' AND t.version >= a.version)))

-- name: spread_tasks
-- Due one after the other at a rate (tasks per second), %(done)s of them before these.
UPDATE embedding_tasks t SET scheduled_at = clock_timestamp() + make_interval(secs => (%(done)s + o.place - 1) / %(rate)s::double precision)
FROM unnest(%(ids)s::text[]) WITH ORDINALITY AS o (article_id, place)
WHERE t.article_id = o.article_id AND t.model_id = %(model_id)s AND t.status = 'pending' AND t.dispatched_at IS NULL

-- name: cancel_model_tasks
-- Tasks that workers hold are revoked; their late results are discarded. Tasks that a writer has locked are skipped: without a model they are cancelled
-- when they are claimed.
UPDATE embedding_tasks SET status = 'cancelled', lease_holder = NULL, dispatched_at = NULL, completed_at = clock_timestamp(),
    error_message = 'its model was dropped'
WHERE id = ANY (ARRAY(SELECT id FROM embedding_tasks WHERE model_id = %(model_id)s AND status IN ('pending', 'processing')
                      ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))

-- name: forget_embeddings
-- Deletes the next range of a model's embeddings, by primary key; returns the end of the range.
WITH gone AS (
    DELETE FROM embeddings e USING (
        SELECT article_id FROM embeddings WHERE article_id > %(after)s AND model_id = %(model_id)s ORDER BY article_id LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ) next WHERE e.article_id = next.article_id AND e.model_id = %(model_id)s RETURNING e.article_id
)
SELECT max(article_id) AS last, count(*) AS embeddings FROM gone

-- name: vectors_attached
-- Whether the model's table is a partition (`attached`), is being detached (`pending`), or is detached; no row: there is no such table.
SELECT CASE WHEN i.inhrelid IS NULL THEN 'alone' WHEN i.inhdetachpending THEN 'pending' ELSE 'attached' END AS state
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid WHERE c.oid = to_regclass(%(table)s)

-- name: lock_holders
-- Sessions that hold a lock on these tables, and for how long their transactions are open.
SELECT DISTINCT a.pid, a.application_name AS application, a.usename AS role, a.state,
       round(extract(epoch FROM clock_timestamp() - a.xact_start))::integer AS open_s, left(regexp_replace(a.query, '[[:space:]]+', ' ', 'g'), 80) AS query
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.locktype = 'relation' AND l.relation IN (SELECT to_regclass(name) FROM unnest(%(tables)s::text[]) AS name) AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY open_s DESC NULLS LAST LIMIT 3

-- name: forget_model
DELETE FROM embedding_models WHERE id = %(model_id)s

-- name: sample_titles
SELECT title FROM article_texts WHERE title <> '' ORDER BY random() LIMIT %(limit)s

-- name: storage_of
SELECT m.storage = 'halfvec' AS half, EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass(%(index)s) AND indisvalid) AS bits
FROM embedding_models m WHERE m.id = %(model_id)s
