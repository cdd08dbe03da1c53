-- name: be_patient_for
-- How long the statements of this transaction wait for a lock. Shorter than deadlock_timeout: if a writer and embedq wait for each other, the statement of
-- embedq fails, never the writer's.
SELECT set_config('lock_timeout', %(timeout)s, true)

-- name: who
SELECT set_config('embedq.who', %(who)s, true)

-- name: close_fence
-- The lock that the live row's trigger takes; taken before the row is read, so that the decision stays valid until the commit.
SELECT pg_advisory_xact_lock(embedq_fence_key())

-- name: live_for_update
SELECT id, is_running, mode, submissions_accepted, dispatch_held, paused_priorities, paused_tenants, maintenance, throttle, reason,
       changed_by, changed_at
FROM embedding_worker_status WHERE id = 1 FOR UPDATE

-- name: live_anew
-- The row was deleted: recreate it with the values of a new installation.
INSERT INTO embedding_worker_status (id, reason) VALUES (1, 'the row had been deleted') ON CONFLICT (id) DO NOTHING

-- name: write_live
UPDATE embedding_worker_status
SET is_running = %(is_running)s, mode = %(mode)s, submissions_accepted = %(submissions_accepted)s, dispatch_held = %(dispatch_held)s,
    paused_priorities = %(paused_priorities)s, paused_tenants = %(paused_tenants)s, maintenance = %(maintenance)s, throttle = %(throttle)s,
    reason = %(reason)s, changed_by = %(changed_by)s
WHERE id = 1

-- name: holders
-- Sessions of this database that hold the fence or the live row (`fence`), or write locks on articles and tasks (`tables`). A claim holds the fence in
-- shared mode; reading the live row takes no relevant lock. `ours`: sessions of embedq, by their application_name.
-- `stuck`: for `stuck_s` seconds its client has sent and read nothing, or it waits for a lock while it holds the fence for a claim. The query is shown
-- only up to its first literal, because the rest may contain the text of an article. `copied`: progress of its COPY. `end`: end stuck sessions of embedq,
-- as far as this role may; with `pids` only those.
SELECT h.*, CASE WHEN %(end)s AND h.ours AND h.stuck AND h.may_end AND (%(pids)s::integer[] IS NULL OR h.pid = ANY (%(pids)s::integer[]))
                 THEN pg_terminate_backend(h.pid) ELSE false END AS ended
FROM (
    SELECT a.pid, a.application_name, a.usename, a.xact_start AS since, a.state, a.state_change,
           left(substring(regexp_replace(a.query, '\s+', ' ', 'g') FROM '^[^''$"]*'), 60) AS query,
           a.application_name ~ '^embedq( |$)' AS ours,
           coalesce(a.state_change < clock_timestamp() - make_interval(secs => %(stuck_s)s)
                    AND (a.state LIKE 'idle in transaction%%' OR a.wait_event_type = 'Client'
                         OR (a.wait_event_type = 'Lock' AND locks.in_claim)), false) AS stuck,
           pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE') AND NOT r.rolsuper AS may_end,
           c.bytes_processed AS copied
    FROM pg_stat_activity a
    JOIN pg_roles r ON r.oid = a.usesysid
    JOIN (
        SELECT l.pid, bool_or(l.locktype = 'advisory' AND l.mode = 'ShareLock') AS in_claim
        FROM pg_locks l
        WHERE l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND ((%(fence)s AND (
                  (l.locktype = 'advisory' AND l.objsubid = 1 AND (l.classid::bigint << 32 | l.objid::bigint) = embedq_fence_key())
                  OR (l.locktype = 'relation' AND l.relation = 'embedding_worker_status'::regclass AND l.mode <> 'AccessShareLock')))
            OR (%(tables)s AND l.locktype = 'relation' AND l.mode <> 'AccessShareLock'
                AND l.relation IN ('embedding_tasks'::regclass, 'article_texts'::regclass, 'embeddings'::regclass)))
        GROUP BY l.pid
    ) locks ON locks.pid = a.pid
    LEFT JOIN pg_stat_progress_copy c ON c.pid = a.pid
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
) h
ORDER BY h.since, h.pid

-- name: in_the_way
-- Sessions that lock a task in flight, or its article, and for how long.
SELECT a.pid, a.application_name, a.usename, a.xact_start AS since,
       left(substring(regexp_replace(a.query, '\s+', ' ', 'g') FROM '^[^''$"]*'), 60) AS query
FROM pg_stat_activity a
WHERE a.pid <> pg_backend_pid() AND a.pid IN (
    SELECT l.pid FROM pg_locks l
    JOIN (
        SELECT t.xmax AS transaction FROM embedding_tasks t WHERE t.status = 'processing'
        UNION
        SELECT x.xmax FROM embedding_tasks t JOIN article_texts x ON x.id = t.article_id WHERE t.status = 'processing'
    ) rows ON rows.transaction = l.transactionid
    WHERE l.locktype = 'transactionid' AND l.granted)
ORDER BY a.xact_start, a.pid

-- name: is_ended
SELECT EXISTS (SELECT FROM embedding_audit_logs
               WHERE category = 'procedure' AND metadata->>'run' = %(run)s AND metadata->>'state' IN ('ended', 'undone')) AS ended

-- name: procedure_holder
-- The session of a running procedure (see Switches.alone), if there is one.
SELECT a.pid, a.application_name, a.usename, a.backend_start AS since, '' AS query
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended('embedq.procedure.' || current_schema(), 0)

-- name: end_session
SELECT pg_terminate_backend(%(pid)s) AS ended
