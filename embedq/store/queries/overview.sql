-- name: capped_depth
-- Open tasks by priority and place, each counted up to %(cap)s. Only partial indexes of open tasks are read: a sequential scan, which the planner prefers
-- for a LIMIT, would read a million finished tasks first. The ORDER BY is that of the index, so that no other index is chosen. `due_since`: the first in
-- that order for the broker, the earliest of the counted tasks for the table.
SELECT p.priority, places.*
FROM unnest(ARRAY['urgent', 'high', 'normal', 'low']) AS p (priority), LATERAL (
    SELECT 'table' AS place, count(*) AS tasks, min(created_at) AS oldest, min(scheduled_at) AS due_since,
           count(*) FILTER (WHERE scheduled_at > clock_timestamp()) AS delayed
    FROM (SELECT created_at, scheduled_at FROM embedding_tasks
          WHERE status = 'pending' AND dispatched_at IS NULL AND priority = p.priority
          ORDER BY tenant_id, scheduled_at, id LIMIT %(cap)s) free
    UNION ALL
    SELECT 'broker', count(*), min(created_at), min(dispatched_at), 0
    FROM (SELECT created_at, dispatched_at FROM embedding_tasks
          WHERE status = 'pending' AND dispatched_at IS NOT NULL AND priority = p.priority
          ORDER BY dispatched_at LIMIT %(cap)s) dispatched
) places
WHERE p.priority = ANY (%(priorities)s)
UNION ALL
SELECT priority, 'worker', count(*), min(created_at), min(processed_at), 0 FROM embedding_tasks
WHERE status = 'processing' AND priority = ANY (%(priorities)s) GROUP BY priority

-- name: first_due
-- The earliest due time of free tasks of one priority: a loose index scan over tenants with one probe each, at most 500 tenants.
WITH RECURSIVE walk AS (
    (SELECT tenant_id, scheduled_at, 1 AS step FROM embedding_tasks
     WHERE status = 'pending' AND dispatched_at IS NULL AND priority = %(priority)s ORDER BY tenant_id, scheduled_at LIMIT 1)
    UNION ALL
    SELECT following.tenant_id, following.scheduled_at, walk.step + 1 FROM walk, LATERAL (
        SELECT t.tenant_id, t.scheduled_at FROM embedding_tasks t
        WHERE t.status = 'pending' AND t.dispatched_at IS NULL AND t.priority = %(priority)s AND t.tenant_id > walk.tenant_id
        ORDER BY t.tenant_id, t.scheduled_at LIMIT 1) following
    WHERE walk.step < 500
)
SELECT min(scheduled_at) AS due_since FROM walk WHERE NOT tenant_id = ANY (%(without)s)

-- name: estimated_depth
EXPLAIN (FORMAT JSON) SELECT FROM embedding_tasks
WHERE status = 'pending' AND (dispatched_at IS NULL) = %(free)s AND priority = %(priority)s

-- name: without_seqscan
SELECT set_config('enable_seqscan', 'off', true)

-- name: settled_lately
-- Uses the index on completed_at, hence now(): clock_timestamp() is volatile and cannot be an index condition. Counted up to the cap.
SELECT count(*) FILTER (WHERE status = 'completed') AS completed, count(*) FILTER (WHERE status = 'failed') AS failed, count(*) AS settled
FROM (SELECT status FROM embedding_tasks
      WHERE completed_at > now() - make_interval(secs => %(seconds)s) LIMIT %(cap)s) lately

-- name: articles_by_status
-- Counts only the first %(cap)s articles.
SELECT embedding_status AS status, count(*) AS articles FROM (SELECT embedding_status FROM articles LIMIT %(cap)s) few GROUP BY 1 ORDER BY 1

-- name: ended_since
SELECT status, count(*) AS tasks FROM embedding_tasks WHERE completed_at >= %(moment)s AND status NOT IN ('pending', 'processing') GROUP BY status

-- name: failed_total
SELECT count(*) AS failed FROM (
    SELECT FROM embedding_tasks
    WHERE status = 'failed' AND (%(error_class)s::text IS NULL OR error_class = %(error_class)s) AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)
    LIMIT %(cap)s) AS few

-- name: lost_or_held_too_long
SELECT count(*) AS tasks FROM embedding_tasks t LEFT JOIN embedding_workers w ON w.id = t.lease_holder
WHERE t.status = 'processing' AND (w.id IS NULL OR w.alive_until < clock_timestamp() - make_interval(secs => %(grace_s)s)
    OR t.processed_at IS NULL OR t.processed_at < clock_timestamp() - make_interval(secs => %(timeout_s)s))

-- name: failed_groups
-- Messages that differ only in numbers are one group.
SELECT error_class, CASE WHEN %(by_message)s THEN left(regexp_replace(error_message, '[0-9]+', 'N', 'g'), 200) END AS message,
       count(*) AS tasks, count(DISTINCT tenant_id) AS tenants, min(completed_at) AS first, max(completed_at) AS last,
       (array_agg(id ORDER BY id DESC))[1:3] AS examples, max(error_message) AS one_message
FROM embedding_tasks
WHERE status = 'failed' AND (%(error_class)s::text IS NULL OR error_class = %(error_class)s)
  AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)
GROUP BY 1, 2 ORDER BY tasks DESC, 1, 2 LIMIT %(limit)s

-- name: failed_tasks
SELECT id, article_id, slug, tenant_id, priority, attempts, error_class, error_message, completed_at FROM embedding_tasks
WHERE status = 'failed' AND (%(error_class)s::text IS NULL OR error_class = %(error_class)s)
  AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)
ORDER BY completed_at DESC LIMIT %(limit)s

-- name: recent_tasks
-- The tasks settled last, those held, and those made last; each part uses an index.
SELECT * FROM (
    (SELECT id, article_id, slug, tenant_id, status, priority, delivery, attempts, error_message, created_at, completed_at AS changed_at
     FROM embedding_tasks WHERE completed_at IS NOT NULL ORDER BY completed_at DESC LIMIT %(limit)s)
    UNION
    (SELECT id, article_id, slug, tenant_id, status, priority, delivery, attempts, error_message, created_at,
            coalesce(completed_at, processed_at, created_at)
     FROM embedding_tasks WHERE status = 'processing' ORDER BY lease_holder DESC LIMIT %(limit)s)
    UNION
    (SELECT id, article_id, slug, tenant_id, status, priority, delivery, attempts, error_message, created_at,
            coalesce(completed_at, processed_at, created_at)
     FROM embedding_tasks ORDER BY id DESC LIMIT %(limit)s)
) parts ORDER BY changed_at DESC, id DESC LIMIT %(limit)s

-- name: server
SELECT version() AS server, pg_database_size(current_database()) AS bytes,
       (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections,
       current_setting('max_connections')::int AS max_connections,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector

-- name: about_rows
SELECT c.relname AS name, c.reltuples::bigint AS rows FROM pg_class c
WHERE c.oid = ANY (ARRAY[to_regclass('article_texts'), to_regclass('embedding_tasks'), to_regclass('embeddings')]::oid[])

-- name: throughput
-- Tasks ended in the last %(seconds)s seconds, by delivery and status, with the seconds from creation to end.
SELECT coalesce(delivery, 'nobody') AS delivery, status, count(*) AS tasks, avg(attempts)::double precision AS attempts,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM completed_at - created_at))::double precision AS median_s,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM completed_at - created_at))::double precision AS p95_s
FROM (SELECT delivery, status, attempts, completed_at, created_at FROM embedding_tasks WHERE completed_at > now() - make_interval(secs => %(seconds)s) LIMIT %(cap)s) lately
GROUP BY 1, 2 ORDER BY 1, 2

-- name: tokens_lately
SELECT coalesce(sum(e.tokens), 0) AS tokens FROM embeddings e
WHERE (e.model_id, e.article_id) IN (
    SELECT model_id, article_id FROM embedding_tasks
    WHERE status = 'completed' AND completed_at > now() - make_interval(secs => %(seconds)s) LIMIT %(cap)s)

-- name: audit_lines
SELECT id, timestamp, level, category, message, metadata FROM embedding_audit_logs
WHERE (%(category)s::text IS NULL OR category = %(category)s) AND (%(level)s::text IS NULL OR level = %(level)s)
  AND (%(since_s)s::double precision IS NULL OR timestamp > now() - make_interval(secs => %(since_s)s::double precision))
  AND (%(like)s::text IS NULL OR message ILIKE %(like)s OR metadata::text ILIKE %(like)s)
ORDER BY id DESC LIMIT %(limit)s

-- name: explained_task
SELECT t.id, t.article_id, t.slug, t.tenant_id, t.model_id, t.status, t.priority, t.version, t.attempts, t.forgiven_attempts, t.claims,
       t.lost_leases, t.lease_holder, t.delivery, t.error_message, t.error_class, t.errors, t.metadata, t.created_at, t.scheduled_at,
       t.dispatched_at, t.processed_at, t.completed_at, m.provider, m.name AS model_name, m.dimensions, coalesce(t.model_id = a.model_id, false) AS of_active_model,
       w.name AS worker, w.host AS worker_host, w.pid AS worker_pid, coalesce(w.alive_until >= clock_timestamp(), false) AS worker_alive,
       extract(epoch FROM clock_timestamp() - w.seen_at)::double precision AS worker_seen_s_ago,
       extract(epoch FROM t.scheduled_at - clock_timestamp())::double precision AS due_in_s,
       extract(epoch FROM clock_timestamp() - t.dispatched_at)::double precision AS dispatched_s_ago,
       extract(epoch FROM clock_timestamp() - t.processed_at)::double precision AS claimed_s_ago
FROM embedding_tasks t LEFT JOIN embedding_models m ON m.id = t.model_id LEFT JOIN embedding_active_model a ON true
LEFT JOIN embedding_workers w ON w.id = t.lease_holder
WHERE t.id = %(id)s

-- name: tasks_of_article
-- The decisive task comes first: open before finished, newer before older.
SELECT t.id, t.status, t.priority, t.model_id, t.version, t.attempts, t.error_class, t.error_message, t.created_at, t.completed_at
FROM embedding_tasks t WHERE t.article_id = %(article_id)s
ORDER BY t.model_id = (SELECT model_id FROM embedding_active_model) DESC,
         array_position(ARRAY['processing', 'pending'], t.status), t.id DESC LIMIT %(limit)s

-- name: explained_article
-- By id, using the index; by slug only if no article has that id.
SELECT a.id, a.tenant_id, a.slug, a.title, a.version, a.text_hash, a.created_at, a.updated_at, length(a.content) AS characters,
       (SELECT v.embedding_status FROM embedq_articles v WHERE v.id = a.id) AS embedding_status,
       e.text_hash AS stored_hash, e.version AS stored_version, e.embedded_at, e.chunks, e.tokens
FROM article_texts a
LEFT JOIN embeddings e ON e.article_id = a.id AND e.model_id = (SELECT model_id FROM embedding_active_model)
WHERE a.id = coalesce((SELECT b.id FROM article_texts b WHERE b.id = %(key)s),
                      (SELECT min(b.id) FROM article_texts b WHERE b.slug = %(key)s))
