-- name: installation
-- The identity of this installation, and its name for display: one per server, database and schema.
SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()), d.oid, current_schema()) AS identity,
       'database ' || d.datname || ', schema ' || current_schema() || ' (' || right((SELECT system_identifier FROM pg_control_system())::text, 6) || ')' AS name
FROM pg_database d WHERE d.datname = current_database()

-- name: task_of_article
-- The decisive task of the active model: open before finished, newer before older.
SELECT t.id, t.status, t.priority, t.attempts, t.error_class, t.dispatched_at IS NOT NULL AS dispatched, t.scheduled_at,
       extract(epoch FROM t.scheduled_at - clock_timestamp())::double precision AS due_in_s
FROM embedding_tasks t
WHERE t.article_id = %(article_id)s AND t.model_id = (SELECT model_id FROM embedding_active_model)
ORDER BY array_position(ARRAY['processing', 'pending'], t.status), t.id DESC LIMIT 1

-- name: articles_of_others
-- Those of these ids that belong to another tenant.
SELECT id FROM article_texts WHERE id = ANY (%(ids)s) AND tenant_id <> %(tenant_id)s

-- name: own_articles_named
-- One tenant's articles by id or slug.
SELECT id, slug FROM article_texts WHERE tenant_id = %(tenant_id)s AND (id = ANY (%(ids)s) OR slug = ANY (%(slugs)s))

-- name: first_text
-- An article's text as first written, from the article or its history; `untouched`: it has not changed since.
SELECT title, content, slug, metadata, version = 1 AND updated_at = created_at AS untouched, false AS deleted FROM article_texts
WHERE id = %(id)s AND tenant_id = %(tenant_id)s AND version = 1
UNION ALL
SELECT title, content, slug, metadata, false, deleted FROM article_versions
WHERE article_id = %(id)s AND tenant_id = %(tenant_id)s AND version_number = 1 AND purged_at IS NULL

-- name: was_deleted
SELECT 1 AS deleted FROM article_versions v WHERE v.article_id = %(id)s AND v.deleted AND NOT EXISTS (SELECT FROM article_texts a WHERE a.id = v.article_id)

-- name: depth_samples
-- The steward's samples (one in ten seconds): open tasks by time, priority and delivery, with the broker and in the table. Uses the index, hence now():
-- clock_timestamp() is volatile and cannot be an index condition.
SELECT extract(epoch FROM timestamp)::double precision AS at, labels->>'priority' AS priority,
       CASE WHEN (labels->>'dispatched')::boolean THEN 'celery' ELSE 'poller' END AS delivery, sum(value) AS value
FROM performance_metrics
WHERE metric = 'depth' AND labels->>'status' = 'pending' AND timestamp > now() - make_interval(secs => %(seconds)s)
GROUP BY 1, 2, 3 ORDER BY 1

-- name: settled_steps
-- Completed tasks by time step, priority and delivery; the newest %(cap)s are read. Uses the index, hence now().
SELECT floor(extract(epoch FROM completed_at) / %(step_s)s)::bigint * %(step_s)s AS at, priority, delivery, count(*) AS value
FROM (SELECT completed_at, priority, delivery FROM embedding_tasks
      WHERE completed_at > now() - make_interval(secs => %(seconds)s) AND status = 'completed'
      ORDER BY completed_at DESC LIMIT %(cap)s) lately
WHERE delivery IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1
