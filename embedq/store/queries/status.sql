-- name: live_status
SELECT id, is_running, mode, submissions_accepted, dispatch_held, paused_priorities, paused_tenants, maintenance, throttle, reason, changed_by, changed_at
FROM embedding_worker_status WHERE id = 1

-- name: audit
INSERT INTO embedding_audit_logs (level, category, message, metadata) VALUES (%(level)s, %(category)s, %(message)s, %(metadata)s) RETURNING id

-- name: author_of_mode
SELECT timestamp AS at, metadata->>'after' AS after, metadata->>'who' AS who, metadata->>'reason' AS reason FROM embedding_audit_logs
WHERE id = (SELECT max(m.id) FROM (
    (SELECT id FROM embedding_audit_logs WHERE category = 'mode' AND metadata ? 'after' ORDER BY id DESC LIMIT 1)
    UNION ALL
    (SELECT id FROM embedding_audit_logs WHERE category = 'set up' AND metadata ? 'after' ORDER BY id DESC LIMIT 1)) m)

-- name: latest_stop
SELECT timestamp AS at, category, metadata->>'who' AS who, metadata->>'reason' AS reason FROM embedding_audit_logs
WHERE category IN ('stop', 'start') ORDER BY id DESC LIMIT 1

-- name: recent_audit
SELECT id, timestamp, level, category, message, metadata FROM embedding_audit_logs WHERE (%(category)s::text IS NULL OR category = %(category)s) ORDER BY id DESC LIMIT %(limit)s

-- name: session_has_ended
-- A cookie of the cockpit that was signed out of. Found by (category, id): few lines have this category.
SELECT EXISTS (
    SELECT FROM embedding_audit_logs
    WHERE category = 'cockpit' AND metadata->>'session' = %(session)s AND timestamp > now() - make_interval(secs => %(lasts_s)s)
) AS ended
