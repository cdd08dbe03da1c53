-- name: live_throttle
SELECT throttle FROM embedding_worker_status WHERE id = 1 AND throttle <> '{}'

-- name: one_claim_at_a_time
-- Only while a rate is set: claims that count recent claims must be serialised.
SELECT pg_advisory_xact_lock(hashtextextended('embedq.rate.' || current_schema(), 0))

-- name: claimed_lately
-- Claims of the last %(seconds)s seconds, using the indexes of held and of ended tasks; tasks that are pending again are not counted.
SELECT (SELECT count(*) FROM embedding_tasks
        WHERE status = 'processing' AND processed_at > clock_timestamp() - make_interval(secs => %(seconds)s))
     + (SELECT count(*) FROM embedding_tasks
        WHERE completed_at > clock_timestamp() - make_interval(secs => %(seconds)s)
          AND processed_at > clock_timestamp() - make_interval(secs => %(seconds)s)) AS tasks

-- name: put_off
-- Frees tasks that a message named and the throttle left unclaimed, with due times spread by the rate. Tasks that a writer has locked are skipped; the
-- steward frees them later.
UPDATE embedding_tasks t SET dispatched_at = NULL, scheduled_at = clock_timestamp() + make_interval(secs => u.wait_s)
FROM unnest(%(ids)s::bigint[], %(waits)s::double precision[]) AS u (id, wait_s)
WHERE t.id = u.id AND t.id = ANY (ARRAY(
    SELECT id FROM embedding_tasks WHERE id = ANY (%(ids)s::bigint[]) AND status = 'pending' AND dispatched_at IS NOT NULL
    FOR UPDATE SKIP LOCKED))
