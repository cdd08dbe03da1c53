-- name: known_tasks
SELECT id FROM embedding_tasks WHERE id = ANY (%(ids)s)

-- name: known_articles
SELECT id FROM article_texts WHERE id = ANY (%(ids)s)

-- name: free_drained
-- Tasks named by drained messages become free. Rows locked by other sessions are left to the step that frees all tasks.
UPDATE embedding_tasks SET dispatched_at = NULL
WHERE id = ANY (ARRAY(
    SELECT id FROM embedding_tasks WHERE id = ANY (%(ids)s) AND status = 'pending' AND dispatched_at IS NOT NULL
    ORDER BY id FOR UPDATE SKIP LOCKED))

-- name: want_drained
SELECT embedq_want(%(ids)s, 'message') AS made

-- name: try_lock
SELECT pg_try_advisory_lock(hashtextextended('embedq.' || %(what)s || '.' || current_schema(), 0)) AS held

-- name: counts_for_switch
SELECT (SELECT count(*) FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NULL) AS free,
       (SELECT count(*) FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NOT NULL) AS with_broker,
       (SELECT count(*) FROM embedding_tasks WHERE status = 'processing' AND delivery = 'celery') AS held_by_celery,
       (SELECT count(*) FROM embedding_tasks WHERE status = 'processing' AND delivery = 'poller') AS held_by_poller

-- name: in_flight
-- Tasks that workers of these deliveries hold; those whose lease was taken away (holder 0) are with no worker.
SELECT count(*) AS tasks FROM embedding_tasks
WHERE status = 'processing' AND delivery = ANY (%(deliveries)s) AND lease_holder IS DISTINCT FROM 0

-- name: in_flight_unlocked
-- The same, without those that a transaction has locked at this moment.
SELECT count(*) AS tasks FROM (
    SELECT FROM embedding_tasks
    WHERE status = 'processing' AND delivery = ANY (%(deliveries)s) AND lease_holder IS DISTINCT FROM 0
    FOR UPDATE SKIP LOCKED) held

-- name: held_by_no_worker
SELECT count(*) AS tasks FROM embedding_tasks WHERE status = 'processing' AND lease_holder = 0

-- name: journal_of
SELECT id, timestamp, level, message, metadata FROM embedding_audit_logs
WHERE category = 'procedure' AND metadata->>'run' = %(run)s ORDER BY id

-- name: latest_runs
SELECT metadata->>'run' AS run, min(id) AS first_id, max(id) AS last_id FROM embedding_audit_logs
WHERE category = 'procedure' AND metadata ? 'run' GROUP BY 1 ORDER BY 2 DESC LIMIT %(limit)s

-- name: timeline
SELECT timestamp, level, category, message, metadata FROM embedding_audit_logs
WHERE timestamp BETWEEN %(begin)s AND %(end)s AND category NOT IN ('cleanup') ORDER BY id

-- name: settled_between
SELECT delivery, status, count(*) AS tasks FROM embedding_tasks
WHERE completed_at BETWEEN %(begin)s AND %(end)s GROUP BY delivery, status ORDER BY delivery, status

-- name: deliveries_lately
-- Tasks settled by each delivery in the last seconds, with failures, and tasks whose workers died.
SELECT coalesce(delivery, 'nobody') AS delivery, count(*) FILTER (WHERE status = 'completed') AS completed,
       count(*) FILTER (WHERE status = 'failed') AS failed, count(*) FILTER (WHERE error_class = 'WorkerLost') AS lost_workers,
       extract(epoch FROM clock_timestamp() - max(completed_at) FILTER (WHERE status = 'completed'))::double precision AS completed_s_ago
FROM embedding_tasks WHERE completed_at > clock_timestamp() - make_interval(secs => %(seconds)s)
GROUP BY 1 ORDER BY 1

-- name: oldest_with_broker
SELECT priority, count(*) AS tasks, extract(epoch FROM clock_timestamp() - min(dispatched_at))::double precision AS oldest_s
FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NOT NULL GROUP BY priority

-- name: audit_lately
SELECT category, level, count(*) AS entries FROM embedding_audit_logs
WHERE timestamp > clock_timestamp() - make_interval(secs => %(seconds)s) GROUP BY category, level

-- name: latest_switch
-- The latest switch that changed the mode, as the audit log has it.
SELECT timestamp, metadata->>'before' AS before, metadata->>'after' AS after, metadata->>'who' AS who, metadata->>'reason' AS reason
FROM embedding_audit_logs
WHERE category = 'mode' AND metadata ? 'before' AND metadata->>'before' <> metadata->>'after' ORDER BY id DESC LIMIT 1

-- name: lost_messages_lately
-- How often the steward found that the broker had lost something: entries with a priority (no message any more, and nothing else explains
-- it), or of a wiped broker.
SELECT count(*) AS times FROM embedding_audit_logs
WHERE category = 'broker' AND timestamp > clock_timestamp() - make_interval(secs => %(seconds)s)
  AND (metadata ? 'priority' AND coalesce(metadata->>'explained', '') = '' OR message LIKE '%%has lost what it held%%')
