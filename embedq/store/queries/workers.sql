-- name: register_worker
INSERT INTO embedding_workers (delivery, name, host, pid, queues, alive_until)
VALUES (%(delivery)s, %(name)s, %(host)s, %(pid)s, %(queues)s, clock_timestamp() + make_interval(secs => %(lease_s)s))
RETURNING id

-- name: heartbeat
-- One update per worker, for any number of tasks. No row: this worker was declared dead and must register again. If one of its threads sleeps,
-- transactions that make tasks send a NOTIFY during the next %(asleep_s)s seconds.
UPDATE embedding_workers w
SET seen_at = clock_timestamp(), alive_until = clock_timestamp() + make_interval(secs => %(lease_s)s), counters = %(counters)s,
    mode_seen = s.mode, mode_seen_at = clock_timestamp(),
    asleep_until = greatest(w.asleep_until, clock_timestamp() + make_interval(secs => %(asleep_s)s))
FROM (SELECT (SELECT mode FROM embedding_worker_status WHERE id = 1) AS mode) s  -- one row even if the live row is missing
WHERE w.id = %(worker)s

-- name: serve_queues
UPDATE embedding_workers SET queues = %(queues)s WHERE name = %(name)s

-- name: fall_asleep
UPDATE embedding_workers SET asleep_until = clock_timestamp() + make_interval(secs => %(for_s)s) WHERE id = %(worker)s

-- name: end_worker
UPDATE embedding_workers SET ending_since = coalesce(ending_since, clock_timestamp()), asleep_until = NULL WHERE id = %(worker)s

-- name: held_by
SELECT array_agg(t.id) AS ids FROM (
    SELECT id FROM embedding_tasks WHERE status = 'processing' AND lease_holder = %(worker)s ORDER BY id FOR UPDATE) t

-- name: leave_worker
DELETE FROM embedding_workers WHERE id = %(worker)s

-- name: bury_workers
-- Workers that have been dead for a while and hold no tasks.
DELETE FROM embedding_workers w
WHERE w.alive_until < clock_timestamp() - make_interval(secs => %(older_s)s)
  AND NOT EXISTS (SELECT FROM embedding_tasks t WHERE t.lease_holder = w.id AND t.status = 'processing')
RETURNING w.id, w.name, w.delivery

-- name: workers
-- A worker that is ending claims nothing more: it counts as gone, although it may still settle.
SELECT w.id, w.delivery, w.name, w.host, w.pid, w.queues, w.started_at, w.seen_at, w.alive_until, w.asleep_until, w.steward_since, w.mode_seen,
       w.mode_seen_at, w.counters, w.alive_until > clock_timestamp() AND w.ending_since IS NULL AS alive, w.ending_since IS NOT NULL AS ending,
       extract(epoch FROM clock_timestamp() - w.seen_at)::double precision AS seen_s_ago,
       (SELECT count(*) FROM embedding_tasks t WHERE t.lease_holder = w.id AND t.status = 'processing') AS held
FROM embedding_workers w ORDER BY w.delivery, w.id

-- name: stewardship
-- A new leader clears the flag of all others, because a leader that lost its session with PostgreSQL could not clear it.
UPDATE embedding_workers SET steward_since = CASE WHEN %(leading)s AND id = %(worker)s THEN coalesce(steward_since, clock_timestamp()) END
WHERE id = %(worker)s OR (%(leading)s AND steward_since IS NOT NULL)

-- name: lead
SELECT pg_try_advisory_lock(hashtextextended('embedq.steward.' || current_schema(), 0)) AS leading

-- name: end_silent_leader
-- A leader whose process was stopped (SIGSTOP) keeps its session and the lock. Its session is ended after it has not been seen for long.
SELECT pg_terminate_backend(l.pid)
FROM pg_locks l
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended('embedq.steward.' || current_schema(), 0)
  AND NOT EXISTS (
      SELECT FROM embedding_workers w WHERE w.steward_since IS NOT NULL AND w.alive_until > clock_timestamp())
  AND EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.backend_start < clock_timestamp() - make_interval(secs => %(grace_s)s))
