-- name: live_throttle
SELECT throttle FROM embedding_worker_status WHERE id = 1 AND throttle <> '{}'

-- name: one_claim_at_a_time
-- Only while a rate is set: a claim that counts recent claims must be the only one at that time.
SELECT pg_advisory_xact_lock(hashtextextended('embedq.rate.' || current_schema(), 0))

-- name: claimed_lately
-- Claims of the last %(seconds)s seconds, by the indexes of what is held and of what ended; what waits again is not counted.
SELECT (SELECT count(*) FROM embedding_tasks
        WHERE status = 'processing' AND processed_at > clock_timestamp() - make_interval(secs => %(seconds)s))
     + (SELECT count(*) FROM embedding_tasks
        WHERE completed_at > clock_timestamp() - make_interval(secs => %(seconds)s)
          AND processed_at > clock_timestamp() - make_interval(secs => %(seconds)s)) AS tasks

-- name: put_off
-- What a message named and the throttle left unclaimed: the table has it again, each due a little after the one before. What a writer has
-- locked is passed over: the steward frees it later.
UPDATE embedding_tasks t SET dispatched_at = NULL, scheduled_at = clock_timestamp() + make_interval(secs => u.wait_s)
FROM unnest(%(ids)s::bigint[], %(waits)s::double precision[]) AS u (id, wait_s)
WHERE t.id = u.id AND t.id = ANY (ARRAY(
    SELECT id FROM embedding_tasks WHERE id = ANY (%(ids)s::bigint[]) AND status = 'pending' AND dispatched_at IS NOT NULL
    FOR UPDATE SKIP LOCKED))
