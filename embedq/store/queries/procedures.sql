-- name: known_tasks
SELECT id FROM embedding_tasks WHERE id = ANY (%(ids)s)

-- name: known_articles
SELECT id FROM article_texts WHERE id = ANY (%(ids)s)

-- name: free_drained
-- What a drained message promised to deliver is free again. Rows somebody holds at this moment are left to the step that frees everything.
UPDATE embedding_tasks SET dispatched_at = NULL
WHERE id = ANY (ARRAY(
    SELECT id FROM embedding_tasks WHERE id = ANY (%(ids)s) AND status = 'pending' AND dispatched_at IS NOT NULL
    ORDER BY id FOR UPDATE SKIP LOCKED))

-- name: want_drained
SELECT embedq_want(%(ids)s, 'message') AS made

-- name: keep_rejected
INSERT INTO embedding_rejected_messages AS r (queue, reason, raw, seen)
SELECT * FROM unnest(%(queues)s::text[], %(reasons)s::text[], %(raws)s::bytea[], %(seen)s::integer[])
ON CONFLICT (queue, digest) DO UPDATE SET seen = r.seen + excluded.seen

-- name: rejected_count
SELECT count(*) AS messages FROM embedding_rejected_messages

-- name: rejected_by_reason
SELECT queue, reason, count(*) AS messages, min(received_at) AS first_at, max(received_at) AS last_at
FROM embedding_rejected_messages WHERE reviewed_at IS NULL GROUP BY queue, reason ORDER BY messages DESC

-- name: try_lock
SELECT pg_try_advisory_lock(hashtextextended('embedq.' || %(what)s || '.' || current_schema(), 0)) AS held

-- name: wake_everybody
-- Unlike embedq_wake, without asking whether anybody sleeps: a switch is rare, and every worker is to look at once.
SELECT pg_notify('embedq_' || current_schema(), '')

-- name: counts_for_switch
SELECT (SELECT count(*) FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NULL) AS free,
       (SELECT count(*) FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NOT NULL) AS with_broker,
       (SELECT count(*) FROM embedding_tasks WHERE status = 'processing' AND delivery = 'celery') AS held_by_celery,
       (SELECT count(*) FROM embedding_tasks WHERE status = 'processing' AND delivery = 'poller') AS held_by_poller

-- name: in_flight
-- Tasks that workers of these deliveries hold, claimed before the switch.
SELECT count(*) AS tasks FROM embedding_tasks
WHERE status = 'processing' AND delivery = ANY (%(deliveries)s) AND processed_at <= coalesce(%(before)s::timestamptz, clock_timestamp())

-- name: hand_over
-- Taken out of the hands that hold them: nobody is charged, the next claim has a higher number, and what comes late is discarded.
WITH held AS MATERIALIZED (
    SELECT id FROM embedding_tasks
    WHERE status = 'processing' AND delivery = ANY (%(deliveries)s) AND processed_at <= coalesce(%(before)s::timestamptz, clock_timestamp())
    ORDER BY id LIMIT %(limit)s FOR UPDATE
)
UPDATE embedding_tasks t
SET lease_holder = NULL, dispatched_at = NULL, scheduled_at = clock_timestamp(),
    status = CASE WHEN newer.id IS NULL THEN 'pending' ELSE 'cancelled' END,
    completed_at = CASE WHEN newer.id IS NULL THEN NULL ELSE clock_timestamp() END,
    error_message = CASE WHEN newer.id IS NULL THEN 'handed over: ' || %(why)s::text ELSE 'a newer task for the same article is already waiting' END
FROM held
LEFT JOIN LATERAL (
    SELECT n.id FROM embedding_tasks h JOIN embedding_tasks n ON n.article_id = h.article_id AND n.model_id = h.model_id AND n.status = 'pending'
    WHERE h.id = held.id LIMIT 1
) newer ON true
WHERE t.id = held.id
RETURNING t.id, t.status

-- name: set_dispatch_held
-- Reason and author of the row stay those of its mode; the audit log has those of the hold.
UPDATE embedding_worker_status SET dispatch_held = %(held)s WHERE id = 1

-- name: set_maintenance
UPDATE embedding_worker_status
SET maintenance = %(maintenance)s, submissions_accepted = coalesce(%(accepted)s::boolean, submissions_accepted)
WHERE id = 1

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
-- What each delivery settled in the last seconds, with the failures among it and those it lost workers over.
SELECT coalesce(delivery, 'nobody') AS delivery, count(*) FILTER (WHERE status = 'completed') AS completed,
       count(*) FILTER (WHERE status = 'failed') AS failed, count(*) FILTER (WHERE error_class = 'WorkerLost') AS lost_workers
FROM embedding_tasks WHERE completed_at > clock_timestamp() - make_interval(secs => %(seconds)s)
GROUP BY 1 ORDER BY 1

-- name: oldest_with_broker
SELECT priority, count(*) AS tasks, extract(epoch FROM clock_timestamp() - min(dispatched_at))::double precision AS oldest_s
FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NOT NULL GROUP BY priority

-- name: audit_lately
SELECT category, level, count(*) AS entries FROM embedding_audit_logs
WHERE timestamp > clock_timestamp() - make_interval(secs => %(seconds)s) GROUP BY category, level

-- name: faulty_providers
SELECT name, faults, pause_reason, greatest(0, extract(epoch FROM paused_until - clock_timestamp()))::double precision AS pause_s
FROM embedding_providers WHERE paused_until > clock_timestamp() OR faults > 0

-- name: latest_switch
-- The latest switch that changed the mode, as the audit log has it.
SELECT timestamp, metadata->>'before' AS before, metadata->>'after' AS after, metadata->>'who' AS who, metadata->>'reason' AS reason
FROM embedding_audit_logs
WHERE category = 'mode' AND metadata ? 'before' AND metadata->>'before' <> metadata->>'after' ORDER BY id DESC LIMIT 1

-- name: free_everything
UPDATE embedding_tasks SET dispatched_at = NULL
WHERE id = ANY (ARRAY(
    SELECT id FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NOT NULL LIMIT %(limit)s FOR UPDATE SKIP LOCKED))

-- name: lost_messages_lately
-- How often the steward found that the broker had lost something: entries with a priority (no message any more), or of a wiped broker.
SELECT count(*) AS times FROM embedding_audit_logs
WHERE category = 'broker' AND timestamp > clock_timestamp() - make_interval(secs => %(seconds)s)
  AND (metadata ? 'priority' OR message LIKE '%%has lost what it held%%')
