-- name: live_status
SELECT * FROM embedding_worker_status WHERE id = 1

-- name: first_status
INSERT INTO embedding_worker_status (id, mode, reason) VALUES (1, %(mode)s, 'first set up') ON CONFLICT (id) DO NOTHING

-- name: who
SELECT set_config('embedq.who', %(who)s, true)

-- name: set_mode
UPDATE embedding_worker_status SET mode = %(mode)s, reason = %(reason)s, changed_by = %(who)s WHERE id = 1

-- name: set_running
INSERT INTO embedding_worker_status (id, is_running, reason, changed_by) VALUES (1, %(running)s, %(reason)s, %(who)s)
ON CONFLICT (id) DO UPDATE SET is_running = excluded.is_running, reason = excluded.reason, changed_by = excluded.changed_by

-- name: set_paused
UPDATE embedding_worker_status SET paused_priorities = %(priorities)s, paused_tenants = %(tenants)s, reason = %(reason)s, changed_by = %(who)s
WHERE id = 1

-- name: audit
INSERT INTO embedding_audit_logs (level, category, message, metadata) VALUES (%(level)s, %(category)s, %(message)s, %(metadata)s) RETURNING id

-- name: recent_audit
SELECT * FROM embedding_audit_logs WHERE (%(category)s::text IS NULL OR category = %(category)s) ORDER BY id DESC LIMIT %(limit)s
