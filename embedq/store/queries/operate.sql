-- name: picked
-- The condition of all commands on many tasks; it replaces {picked}. A filter that was not given is NULL.
t.status = ANY (%(statuses)s::text[]) AND t.id > %(after)s AND t.id <= %(up_to)s
AND (%(ids)s::bigint[] IS NULL OR t.id = ANY (%(ids)s::bigint[]))
AND (%(priorities)s::text[] IS NULL OR t.priority = ANY (%(priorities)s::text[]))
AND (%(tenants)s::text[] IS NULL OR t.tenant_id = ANY (%(tenants)s::text[]))
AND (%(task_reason)s::text IS NULL OR t.metadata->>'reason' = %(task_reason)s::text)
AND (%(error_class)s::text IS NULL OR t.error_class = %(error_class)s::text)
AND (%(message_like)s::text IS NULL OR t.error_message ILIKE %(message_like)s::text)
AND (%(deliveries)s::text[] IS NULL OR t.delivery = ANY (%(deliveries)s::text[]))
AND (%(articles)s::text[] IS NULL OR t.article_id = ANY (%(articles)s::text[]))
AND (%(older_s)s::double precision IS NULL OR t.created_at < now() - make_interval(secs => %(older_s)s::double precision))
AND (%(newer_s)s::double precision IS NULL OR t.created_at >= now() - make_interval(secs => %(newer_s)s::double precision))
AND (%(held_s)s::double precision IS NULL OR t.processed_at IS NULL
     OR t.processed_at < clock_timestamp() - make_interval(secs => %(held_s)s::double precision)
     OR NOT EXISTS (SELECT FROM embedding_workers w WHERE w.id = t.lease_holder AND w.alive_until >= clock_timestamp()))
AND (NOT %(newest)s::boolean OR (
     EXISTS (SELECT FROM article_texts a WHERE a.id = t.article_id)
     AND NOT EXISTS (SELECT FROM embedding_tasks n WHERE n.article_id = t.article_id AND n.model_id = t.model_id
                     AND (n.id > t.id OR (n.status = 'pending' AND n.id <> t.id)))))
AND (NOT %(only_missing)s::boolean OR NOT EXISTS (
     SELECT FROM embeddings e JOIN article_texts a ON a.id = e.article_id AND a.text_hash = e.text_hash
     WHERE e.article_id = t.article_id AND e.model_id = t.model_id))

-- name: pick_tasks
-- In id order, a bounded number at a time; rows locked by others are skipped and tried again later.
SELECT t.id FROM embedding_tasks t WHERE {picked} ORDER BY t.id LIMIT %(limit)s FOR UPDATE OF t SKIP LOCKED

-- name: count_picked
SELECT t.status, t.priority, count(*) AS tasks FROM embedding_tasks t WHERE {picked} GROUP BY t.status, t.priority

-- name: ids_picked
SELECT t.id FROM embedding_tasks t WHERE {picked} ORDER BY t.id

-- name: list_picked
SELECT t.id, t.article_id, t.slug, t.tenant_id, t.status, t.priority, t.attempts, t.error_class, t.error_message, t.created_at,
       t.processed_at, t.completed_at, t.lease_holder, w.name AS worker, coalesce(w.alive_until >= clock_timestamp(), false) AS worker_alive,
       extract(epoch FROM clock_timestamp() - t.processed_at)::double precision AS held_s
FROM embedding_tasks t LEFT JOIN embedding_workers w ON w.id = t.lease_holder
WHERE {picked} ORDER BY t.id LIMIT %(limit)s

-- name: highest_task
SELECT coalesce(max(id), 0) AS id FROM embedding_tasks

-- name: tasks_named
-- A key is a task's id, or an article's id or slug; a number that is both means the task. The id is NULL if there is no task.
SELECT k.key, t.id, t.status FROM unnest(%(keys)s::text[]) AS k (key)
LEFT JOIN LATERAL (
    SELECT b.id, b.status FROM embedding_tasks b WHERE b.id = CASE WHEN k.key ~ '^[0-9]{1,18}$' THEN k.key::bigint END
    UNION ALL
    SELECT b.id, b.status FROM embedding_tasks b
    WHERE b.article_id IN (SELECT a.id FROM article_texts a WHERE a.slug = k.key UNION ALL SELECT k.key)
      AND NOT EXISTS (SELECT FROM embedding_tasks c WHERE c.id = CASE WHEN k.key ~ '^[0-9]{1,18}$' THEN k.key::bigint END)
) t ON true
ORDER BY t.id

-- name: cancel_tasks
-- A task that a worker holds is revoked; its late result is discarded.
UPDATE embedding_tasks t SET status = 'cancelled', lease_holder = NULL, dispatched_at = NULL, completed_at = clock_timestamp(),
    error_message = %(words)s
WHERE t.id = ANY (%(rows)s) RETURNING t.id, t.status

-- name: delete_tasks
DELETE FROM embedding_tasks t WHERE t.id = ANY (%(rows)s) RETURNING t.id, 'deleted' AS status

-- name: discard_tasks
-- The task is not deleted: its errors are kept, and reconcile makes no new task for the article.
UPDATE embedding_tasks t SET status = 'cancelled', completed_at = clock_timestamp() WHERE t.id = ANY (%(rows)s) RETURNING t.id, t.status

-- name: revive_tasks
-- The trigger resets their allowance of attempts and keeps `attempts`. With a rate (tasks per second) their due times are spread accordingly.
UPDATE embedding_tasks t
SET status = 'pending', lost_leases = 0, priority = coalesce(%(priority)s::text, t.priority),
    scheduled_at = clock_timestamp()
        + make_interval(secs => coalesce((%(done)s + o.place - 1)::double precision / %(rate)s::double precision, 0.0))
FROM unnest(%(rows)s::bigint[]) WITH ORDINALITY AS o (id, place)
WHERE t.id = o.id RETURNING t.id, t.status

-- name: hand_back
-- Revokes tasks from the workers that hold them: no attempt is charged, the next claim has a higher number, and late results are discarded. If a task for
-- a newer text is pending, this one is cancelled. While a transaction is writing the article, such a task may exist and not be visible, and the unique
-- index would make this statement wait for that transaction: then only the lease is revoked (holder 0 is no worker), and the steward makes the task
-- pending after the transaction. A deleted article has no writer.
UPDATE embedding_tasks t
SET status = CASE WHEN h.waits THEN 'cancelled' WHEN h.written THEN 'processing' ELSE 'pending' END,
    lease_holder = CASE WHEN h.written AND NOT h.waits THEN 0 END,
    dispatched_at = NULL,
    scheduled_at = clock_timestamp(),
    completed_at = CASE WHEN h.waits THEN clock_timestamp() END,
    error_message = CASE WHEN h.waits THEN 'a newer task for the same article is already waiting' ELSE %(words)s END
FROM (
    SELECT held.id,
           EXISTS (SELECT FROM embedding_tasks n
                   WHERE n.article_id = held.article_id AND n.model_id = held.model_id AND n.status = 'pending') AS waits,
           unlocked.id IS NULL AND EXISTS (SELECT FROM article_texts a WHERE a.id = held.article_id) AS written
    FROM embedding_tasks held
    LEFT JOIN LATERAL (SELECT a.id FROM article_texts a WHERE a.id = held.article_id FOR SHARE SKIP LOCKED) unlocked ON true
    WHERE held.id = ANY (%(rows)s)
) h
WHERE t.id = h.id RETURNING t.id, t.status

-- name: audit_progress
UPDATE embedding_audit_logs SET message = %(message)s, metadata = metadata || %(metadata)s WHERE id = %(id)s

-- name: settled_task
SELECT status, attempts, error_class, error_message FROM embedding_tasks WHERE id = %(id)s

-- name: missing_without_task
-- Articles without a vector of the newest text by the active model and without any task.
SELECT a.id FROM article_texts a
LEFT JOIN embeddings e ON e.article_id = a.id AND e.model_id = (SELECT model_id FROM embedding_active_model)
WHERE e.text_hash IS DISTINCT FROM a.text_hash AND a.id > %(after)s
  AND (%(tenants)s::text[] IS NULL OR a.tenant_id = ANY (%(tenants)s::text[]))
  AND NOT EXISTS (SELECT FROM embedding_tasks t
                  WHERE t.article_id = a.id AND t.model_id = (SELECT model_id FROM embedding_active_model))
ORDER BY a.id LIMIT %(limit)s
