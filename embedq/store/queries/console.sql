-- name: console_planning
-- Each page is planned for its own filter (force_custom_plan): a generic plan, made for every combination of filters, uses the index of none.
SELECT set_config('enable_seqscan', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true)

-- name: console_tasks
-- One page of tasks. A window (the part of the table that one page may read) replaces `tasks` in braces.
SELECT t.id, t.article_id, t.slug, t.tenant_id, t.model_id, t.status, t.priority, t.attempts, t.delivery, t.error_class, left(t.error_message, 300) AS error_message,
       CASE jsonb_typeof(t.metadata) WHEN 'object' THEN t.metadata->>'reason' END AS source, t.created_at, t.scheduled_at, t.completed_at, t.lease_holder
FROM {tasks} t WHERE {picked} ORDER BY {order} LIMIT %(page)s

-- name: console_window_newest
(SELECT id, article_id, slug, tenant_id, model_id, status, priority, version, attempts, claims, lost_leases, delivery, lease_holder, error_message, error_class,
        metadata, created_at, scheduled_at, dispatched_at, processed_at, completed_at
 FROM embedding_tasks WHERE id > %(after)s AND id <= %(up_to)s ORDER BY id DESC LIMIT %(window)s)

-- name: console_window_oldest
(SELECT id, article_id, slug, tenant_id, model_id, status, priority, version, attempts, claims, lost_leases, delivery, lease_holder, error_message, error_class,
        metadata, created_at, scheduled_at, dispatched_at, processed_at, completed_at
 FROM embedding_tasks WHERE id > %(after)s AND id <= %(up_to)s ORDER BY id LIMIT %(window)s)

-- name: console_window_ended
(SELECT id, article_id, slug, tenant_id, model_id, status, priority, version, attempts, claims, lost_leases, delivery, lease_holder, error_message, error_class,
        metadata, created_at, scheduled_at, dispatched_at, processed_at, completed_at
 FROM embedding_tasks WHERE completed_at IS NOT NULL AND (%(ended_before)s::timestamptz IS NULL
    OR completed_at <= %(ended_before)s::timestamptz AND (completed_at, id) < (%(ended_before)s::timestamptz, %(ended_id)s::bigint))
 ORDER BY completed_at DESC, id DESC LIMIT %(window)s)

-- name: console_window_end
-- The last task that a page read: the start of the next page if none matched the filter.
SELECT t.id, t.completed_at FROM {tasks} t ORDER BY {order} OFFSET %(window)s::bigint - 1 LIMIT 1

-- name: console_estimate
EXPLAIN (FORMAT JSON) SELECT FROM embedding_tasks t WHERE {picked}

-- name: console_count
-- Exact up to %(cap)s.
SELECT count(*) AS tasks FROM (SELECT FROM embedding_tasks t WHERE {picked} LIMIT %(cap)s) few

-- name: console_article
SELECT a.id, a.tenant_id, a.slug, a.title, left(a.content, 4000) AS content, length(a.content) AS characters, a.metadata, a.version, a.text_hash,
       a.created_at, a.updated_at, (SELECT v.embedding_status FROM embedq_articles v WHERE v.id = a.id) AS embedding_status
FROM article_texts a WHERE a.id = %(id)s

-- name: console_article_ids
-- Articles with this slug, of all tenants.
SELECT id FROM article_texts WHERE slug = %(slug)s ORDER BY id LIMIT %(limit)s

-- name: console_vectors
SELECT m.id, m.provider, m.name, m.dimensions, m.kept_in_step, coalesce(m.id = active.model_id, false) AS active, e.version, e.chunks, e.tokens, e.embedded_at,
       e.text_hash = a.text_hash AS newest
FROM embedding_models m LEFT JOIN embedding_active_model active ON true
LEFT JOIN embeddings e ON e.model_id = m.id AND e.article_id = %(id)s LEFT JOIN article_texts a ON a.id = %(id)s
ORDER BY m.id

-- name: console_versions
SELECT version_number, title, length(content) AS characters, created_at, superseded_at, deleted FROM article_versions
WHERE article_id = %(id)s AND purged_at IS NULL ORDER BY version_number DESC LIMIT %(limit)s

-- name: console_article_tasks
SELECT id, status, priority, model_id, version, attempts, error_class, left(error_message, 300) AS error_message, created_at, completed_at
FROM embedding_tasks WHERE article_id = %(id)s ORDER BY id DESC LIMIT %(limit)s

-- name: console_error_classes
-- The error classes of failed tasks, by a loose index scan with one probe per class, at most %(classes)s of them.
WITH RECURSIVE walk AS (
    (SELECT error_class, 1 AS step FROM embedding_tasks WHERE status = 'failed' AND error_class IS NOT NULL ORDER BY error_class LIMIT 1)
    UNION ALL
    SELECT following.error_class, walk.step + 1 FROM walk, LATERAL (
        SELECT t.error_class FROM embedding_tasks t WHERE t.status = 'failed' AND t.error_class > walk.error_class
        ORDER BY t.error_class LIMIT 1) following
    WHERE walk.step < %(classes)s
)
SELECT w.error_class, few.tasks, few.tenants, few.first, few.last, few.examples FROM walk w, LATERAL (
    SELECT count(*) AS tasks, (array_agg(DISTINCT newest.tenant_id))[1:50] AS tenants, min(newest.completed_at) AS first,
           max(newest.completed_at) AS last, (array_agg(newest.id ORDER BY newest.completed_at DESC))[1:3] AS examples
    FROM (SELECT t.id, t.tenant_id, t.completed_at FROM embedding_tasks t WHERE t.status = 'failed' AND t.error_class = w.error_class
          ORDER BY t.completed_at DESC LIMIT %(cap)s) newest) few
UNION ALL  -- those that were marked as failed by hand, without a class
SELECT NULL, few.tasks, few.tenants, few.first, few.last, few.examples FROM (
    SELECT count(*) AS tasks, (array_agg(DISTINCT newest.tenant_id))[1:50] AS tenants, min(newest.completed_at) AS first,
           max(newest.completed_at) AS last, (array_agg(newest.id ORDER BY newest.completed_at DESC))[1:3] AS examples
    FROM (SELECT t.id, t.tenant_id, t.completed_at FROM embedding_tasks t WHERE t.status = 'failed' AND t.error_class IS NULL
          ORDER BY t.completed_at DESC LIMIT %(cap)s) newest) few
WHERE few.tasks > 0
ORDER BY tasks DESC, error_class

-- name: console_error_messages
-- The messages of one class among its newest failed tasks; messages that differ only in numbers are grouped.
SELECT left(regexp_replace(error_message, '[0-9]+', 'N', 'g'), 200) AS message, count(*) AS tasks, max(completed_at) AS last, max(id) AS example
FROM (SELECT t.id, t.error_message, t.completed_at FROM embedding_tasks t WHERE t.status = 'failed' AND t.error_class = %(error_class)s
      ORDER BY t.completed_at DESC LIMIT %(cap)s) newest
GROUP BY 1 ORDER BY tasks DESC, last DESC LIMIT %(limit)s

-- name: console_held
-- The tasks that each worker holds, longest first.
SELECT w.id AS worker, t.id, t.article_id, t.priority, t.tenant_id, extract(epoch FROM clock_timestamp() - t.processed_at)::double precision AS held_s
FROM embedding_workers w, LATERAL (
    SELECT t.id, t.article_id, t.priority, t.tenant_id, t.processed_at FROM embedding_tasks t WHERE t.lease_holder = w.id AND t.status = 'processing' ORDER BY t.processed_at LIMIT %(limit)s) t
ORDER BY w.id, t.processed_at

-- name: console_audit
-- One page of the audit log; a window replaces `entries` in braces.
SELECT a.id, a.timestamp, a.level, a.category, a.message, a.metadata FROM {entries} a
WHERE (%(level)s::text IS NULL OR a.level = %(level)s::text)
  AND (%(newer_s)s::double precision IS NULL OR a.timestamp >= now() - make_interval(secs => %(newer_s)s::double precision))
  AND (%(who)s::text IS NULL OR a.metadata->>'who' ILIKE %(who)s::text)
  AND (%(text)s::text IS NULL OR a.message ILIKE %(text)s::text OR a.metadata::text ILIKE %(text)s::text)
ORDER BY a.id DESC LIMIT %(page)s

-- name: console_audit_window
(SELECT id, timestamp, level, category, message, metadata FROM embedding_audit_logs WHERE id < %(before)s AND (%(category)s::text IS NULL OR category = %(category)s::text)
 ORDER BY id DESC LIMIT %(window)s)

-- name: console_audit_window_end
SELECT a.id FROM {entries} a ORDER BY a.id DESC OFFSET %(window)s::bigint - 1 LIMIT 1

-- name: console_sampled_depth
-- Open tasks by priority and place in time buckets of equal length: the mean of the samples of each bucket's last %(look_s)s seconds. `samples`
-- distinguishes a bucket without samples from one with empty queues.
SELECT b.bucket, s.label, s.total, s.samples
FROM generate_series(0, %(buckets)s::integer - 1) AS b (bucket), LATERAL (
    SELECT m.labels->>%(by)s AS label, sum(m.value) AS total, max(count(DISTINCT date_bin('5 seconds', m.timestamp, '2000-01-01'::timestamptz))) OVER () AS samples
    FROM performance_metrics m
    WHERE m.metric = 'depth' AND m.timestamp <= now() - make_interval(secs => (%(buckets)s::integer - 1 - b.bucket) * %(bucket_s)s::double precision)
      AND m.timestamp > now() - make_interval(secs => (%(buckets)s::integer - 1 - b.bucket) * %(bucket_s)s::double precision + %(look_s)s::double precision)
    GROUP BY 1) s
ORDER BY 1

-- name: console_ended
-- Ended tasks by status, in time buckets. width_bucket over their beginnings takes half the time of arithmetic with intervals: a week has 120,000 samples.
SELECT width_bucket(m.timestamp, (SELECT array_agg(now() - make_interval(secs => (%(buckets)s::integer - n) * %(bucket_s)s::double precision) ORDER BY n)
                                  FROM generate_series(0, %(buckets)s::integer - 1) n)) - 1 AS bucket,
       m.labels->>'status' AS label, sum(m.value) AS total
FROM performance_metrics m
WHERE m.metric = 'settled' AND m.timestamp > now() - make_interval(secs => %(seconds)s) GROUP BY 1, 2 ORDER BY 1

-- name: console_failed_lately
-- Failed tasks by class, in time buckets; of each class the newest %(cap)s are read.
SELECT least(floor(extract(epoch FROM t.completed_at - (now() - make_interval(secs => %(seconds)s)))::double precision / %(bucket_s)s::double precision)::integer, %(buckets)s::integer - 1) AS bucket,
       c.error_class AS label, count(*) AS total
FROM unnest(%(classes)s::text[]) AS c (error_class), LATERAL (
    SELECT f.completed_at FROM embedding_tasks f WHERE f.status = 'failed' AND f.error_class = c.error_class
      AND f.completed_at > now() - make_interval(secs => %(seconds)s) ORDER BY f.completed_at DESC LIMIT %(cap)s) t
GROUP BY 1, 2 ORDER BY 1

-- name: console_model_facts
-- Estimated number of articles of a model (the planner's; -1 if the table was never analyzed) and its size, without reading all rows.
SELECT coalesce((SELECT c.reltuples FROM pg_class c WHERE c.oid = to_regclass(%(table)s)), 0)::bigint AS about_vectors,
       coalesce(pg_total_relation_size(to_regclass(%(table)s)), 0) AS bytes
