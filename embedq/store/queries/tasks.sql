-- name: fence
-- A separate statement before the claim, because a statement's snapshot is older than the locks that it takes.
SELECT pg_advisory_xact_lock_shared(embedq_fence_key())

-- name: lock_named
-- The tasks a message names, if they may be claimed now. SKIP LOCKED: rows that another transaction claims or changes are skipped.
WITH gate AS MATERIALIZED (
    SELECT p.priority, s.paused_tenants, embedq_models_held(p.priority) AS paused_models
    FROM embedding_worker_status s, unnest(ARRAY['urgent', 'high', 'normal', 'low']) AS p (priority)
    WHERE s.id = 1 AND s.is_running AND s.mode = ANY (%(modes)s) AND NOT p.priority = ANY (s.paused_priorities)
)
SELECT t.id, t.priority
FROM embedding_tasks t JOIN gate ON gate.priority = t.priority
WHERE t.id = ANY (%(ids)s) AND t.status IS NOT DISTINCT FROM 'pending' AND t.scheduled_at <= clock_timestamp()  -- written so that only the primary key matches
  AND NOT t.tenant_id = ANY (gate.paused_tenants) AND NOT t.model_id = ANY (gate.paused_models)
ORDER BY t.id
LIMIT %(limit)s
FOR UPDATE OF t SKIP LOCKED

-- name: lock_free
-- Free tasks of one priority, the same share for each tenant. The tenants are found by a loose index scan (recursive, from %(after)s and round again),
-- each with its earliest due time, so that neither a tenant's 100k rows nor tasks that are not due are read, and a tenant without due tasks takes no
-- share. In mode hybrid a poller leaves free tasks to the dispatcher for a short time, unless messages already wait for a Celery worker. The last row,
-- without an id, is the last tenant read.
WITH RECURSIVE gate AS MATERIALIZED (
    SELECT s.paused_tenants,
           clock_timestamp() - CASE WHEN s.mode = ANY (%(standing_back)s) AND (
               SELECT b.dispatched_at FROM embedding_tasks b WHERE b.status = 'pending' AND b.dispatched_at IS NOT NULL AND b.priority = %(priority)s
               ORDER BY b.dispatched_at LIMIT 1
           ) < clock_timestamp() - interval '0.2 s' IS NOT TRUE THEN %(grace)s::interval ELSE interval '0' END AS due,
           embedq_models_held(%(priority)s) AS paused_models
    FROM embedding_worker_status s
    WHERE s.id = 1 AND s.is_running AND s.mode = ANY (%(modes)s) AND NOT %(priority)s = ANY (s.paused_priorities)
      AND NOT (%(unless_held)s AND s.dispatch_held)
), onward AS (
    (SELECT t.tenant_id, t.scheduled_at FROM embedding_tasks t, gate
     WHERE t.status = 'pending' AND t.dispatched_at IS NULL AND t.priority = %(priority)s AND t.tenant_id > %(after)s
     ORDER BY t.tenant_id, t.scheduled_at LIMIT 1)
    UNION ALL
    SELECT next.tenant_id, next.scheduled_at
    FROM onward, LATERAL (
        SELECT t.tenant_id, t.scheduled_at FROM embedding_tasks t
        WHERE t.status = 'pending' AND t.dispatched_at IS NULL AND t.priority = %(priority)s AND t.tenant_id > onward.tenant_id
        ORDER BY t.tenant_id, t.scheduled_at LIMIT 1) next
), round_again AS (
    (SELECT t.tenant_id, t.scheduled_at FROM embedding_tasks t, gate
     WHERE t.status = 'pending' AND t.dispatched_at IS NULL AND t.priority = %(priority)s AND t.tenant_id <= %(after)s
     ORDER BY t.tenant_id, t.scheduled_at LIMIT 1)
    UNION ALL
    SELECT next.tenant_id, next.scheduled_at
    FROM round_again, LATERAL (
        SELECT t.tenant_id, t.scheduled_at FROM embedding_tasks t
        WHERE t.status = 'pending' AND t.dispatched_at IS NULL AND t.priority = %(priority)s
          AND t.tenant_id > round_again.tenant_id AND t.tenant_id <= %(after)s
        ORDER BY t.tenant_id, t.scheduled_at LIMIT 1) next
), lanes AS MATERIALIZED (
    SELECT walk.tenant_id
    FROM (SELECT * FROM onward UNION ALL SELECT * FROM round_again) walk, gate
    WHERE walk.scheduled_at <= gate.due AND NOT walk.tenant_id = ANY (gate.paused_tenants) AND NOT walk.tenant_id = ANY (%(without)s)
    LIMIT %(lanes)s
), share AS MATERIALIZED (
    SELECT greatest(1, ceil(%(limit)s::numeric / greatest(1, count(*))))::bigint AS each, count(*) AS lanes FROM lanes
)
(SELECT picked.id, lanes.tenant_id, picked.scheduled_at, NULL::bigint AS lanes
 FROM lanes, share, gate, LATERAL (
    SELECT t.id, t.scheduled_at FROM embedding_tasks t
    WHERE t.status = 'pending' AND t.dispatched_at IS NULL AND t.priority = %(priority)s AND t.tenant_id = lanes.tenant_id
      AND t.scheduled_at <= gate.due AND NOT gate.paused_models @> ARRAY[t.model_id]
    ORDER BY t.scheduled_at, t.id
    LIMIT (SELECT each FROM share)
    FOR UPDATE SKIP LOCKED
 ) picked
 LIMIT %(limit)s)
UNION ALL
(SELECT NULL, tenant_id, NULL, (SELECT lanes FROM share) FROM lanes OFFSET greatest(0, (SELECT lanes FROM share) - 1))

-- name: lock_following
-- As lock_free, during a backlog: the tenants of the previous claim, each from where that claim ended, the same share for each.
SELECT picked.id, ended.tenant_id, picked.scheduled_at
FROM (
    SELECT s.paused_tenants, embedq_models_held(%(priority)s) AS paused_models,
           clock_timestamp() - CASE WHEN s.mode = ANY (%(standing_back)s) AND (
               SELECT b.dispatched_at FROM embedding_tasks b WHERE b.status = 'pending' AND b.dispatched_at IS NOT NULL AND b.priority = %(priority)s
               ORDER BY b.dispatched_at LIMIT 1
           ) < clock_timestamp() - interval '0.2 s' IS NOT TRUE THEN %(grace)s::interval ELSE interval '0' END AS due
    FROM embedding_worker_status s
    WHERE s.id = 1 AND s.is_running AND s.mode = ANY (%(modes)s) AND NOT %(priority)s = ANY (s.paused_priorities)
      AND NOT (%(unless_held)s AND s.dispatch_held)
    OFFSET 0
) gate, unnest(%(tenants)s::text[], %(times)s::timestamptz[], %(last_ids)s::bigint[]) AS ended (tenant_id, scheduled_at, id), LATERAL (
    SELECT t.id, t.scheduled_at FROM embedding_tasks t
    WHERE t.status = 'pending' AND t.dispatched_at IS NULL AND t.priority = %(priority)s AND t.tenant_id = ended.tenant_id
      AND (t.scheduled_at, t.id) > (ended.scheduled_at, ended.id)
      AND t.scheduled_at <= gate.due AND NOT gate.paused_models @> ARRAY[t.model_id]
    ORDER BY t.scheduled_at, t.id
    LIMIT %(each)s
    FOR UPDATE SKIP LOCKED
) picked
WHERE NOT ended.tenant_id = ANY (gate.paused_tenants)
LIMIT %(limit)s

-- name: lock_dispatched
-- Tasks dispatched more than %(older_s)s seconds ago: for a poller in the modes hybrid and sync, those that the broker does not deliver; for a Celery
-- worker that fills its batch (0 s), those that later messages name, which then find nothing to do. One probe per priority, in the given order: each reads
-- its part of the index, oldest first, until the limit.
-- NOT array @> ARRAY[x] instead of x <> ALL (array), for which the planner estimates no rows and then sorts all.
SELECT picked.id
FROM (
    SELECT s.paused_tenants, p.priority,
           embedq_models_held(p.priority) AS paused_models
    FROM embedding_worker_status s, unnest(%(priorities)s::text[]) AS p (priority)
    WHERE s.id = 1 AND s.is_running AND s.mode = ANY (%(modes)s) AND NOT p.priority = ANY (s.paused_priorities)
    OFFSET 0
) gate, LATERAL (
    SELECT t.id FROM embedding_tasks t
    WHERE t.status = 'pending' AND t.priority = gate.priority
      AND t.dispatched_at < clock_timestamp() - make_interval(secs => %(older_s)s) AND t.scheduled_at <= clock_timestamp()
      AND NOT gate.paused_tenants @> ARRAY[t.tenant_id] AND NOT gate.paused_models @> ARRAY[t.model_id]
    ORDER BY t.dispatched_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) picked
LIMIT %(limit)s

-- name: take
-- Assigns the locked rows to this worker, if its own row is alive, with the article's text as of after the lock: an earlier edit is seen, a later one
-- waits for this transaction and makes a successor. The columns are those of model.Claimed, in its order. OFFSET 0 forces one probe per task for its
-- article instead of a scan of all articles.
WITH taken AS (
    UPDATE embedding_tasks t
    SET status = 'processing', processed_at = clock_timestamp(), lease_holder = %(worker)s, delivery = %(delivery)s, claims = t.claims + 1,
        completed_at = NULL
    WHERE t.id = ANY (%(ids)s) AND (SELECT w.alive_until > clock_timestamp() FROM embedding_workers w WHERE w.id = %(worker)s)
    RETURNING t.id, t.article_id, t.tenant_id, t.model_id, t.priority, t.claims AS claim, t.attempts - t.forgiven_attempts AS attempts,
        t.lost_leases, t.created_at, coalesce(t.metadata @> '{"force": true}', false) AS forced,
        t.metadata->>'traceparent' AS traceparent
)
SELECT taken.id, taken.article_id, taken.tenant_id, taken.model_id, taken.priority, taken.claim, taken.attempts, taken.lost_leases,
       taken.created_at, facts.title, facts.content, coalesce(facts.version, 0), coalesce(facts.text_hash, ''::bytea), facts.stored_hash,
       taken.forced, taken.traceparent
FROM taken LEFT JOIN LATERAL (
    SELECT a.title, a.content, a.version, a.text_hash,
           (SELECT e.text_hash FROM embeddings e WHERE e.model_id = taken.model_id AND e.article_id = a.id) AS stored_hash
    FROM article_texts a WHERE a.id = taken.article_id OFFSET 0
) facts ON true

-- name: settle
-- Only tasks that this worker still holds, with the claim number it was given, while it is alive. Tasks missing from the result are either locked at the
-- moment (tried again) or were revoked (a late result: discarded). For a task that becomes pending again the article's row is locked too, because a
-- transaction that has it may be making the article's next task, and the unique index would wait for it. The planner expects one row for a batch of
-- hundreds, and would use a nested loop over all pairs. So each task is looked up by its id (LATERAL, with IS NOT DISTINCT FROM, which no other index
-- matches), and the outcome's values are joined to the locked rows.
WITH ours AS MATERIALIZED (
    SELECT said.*, said.status = 'pending' AND (
        SELECT true FROM embedding_tasks n WHERE n.article_id = held.article_id AND n.model_id = held.model_id AND n.status = 'pending'
          AND CASE WHEN n.status = 'pending' THEN 0 ELSE n.id END = 0  -- the index expression: one entry of all the article's tasks is read
    ) IS TRUE AS superseded  -- not EXISTS, for which the planner may hash all pending tasks
    FROM unnest(%(ids)s::bigint[], %(claims)s::integer[], %(statuses)s::text[], %(versions)s::integer[], %(charged)s::boolean[],
                %(waits)s::double precision[], %(classes)s::text[], %(messages)s::text[])
        AS said (id, claim, status, version, charged, wait_s, class, message),
    LATERAL (
        SELECT t.article_id, t.model_id FROM embedding_tasks t
        WHERE t.id = said.id AND t.claims = said.claim
          AND t.status IS NOT DISTINCT FROM 'processing' AND t.lease_holder IS NOT DISTINCT FROM %(worker)s
        FOR UPDATE SKIP LOCKED
    ) held
    LEFT JOIN LATERAL (
        SELECT true AS locked FROM article_texts a WHERE said.status = 'pending' AND a.id = held.article_id FOR SHARE SKIP LOCKED
    ) article ON true
    WHERE EXISTS (SELECT FROM embedding_workers w WHERE w.id = %(worker)s AND w.alive_until > clock_timestamp())
      AND (said.status <> 'pending' OR article.locked OR NOT EXISTS (SELECT FROM article_texts a WHERE a.id = held.article_id))
)
UPDATE embedding_tasks t
SET status = CASE WHEN ours.superseded THEN 'cancelled' ELSE ours.status END,
    lease_holder = NULL,
    dispatched_at = NULL,
    version = greatest(ours.version, CASE WHEN ours.status = 'pending' THEN t.version ELSE 0 END),
    attempts = t.attempts + ours.charged::integer,
    lost_leases = CASE WHEN ours.status = 'pending' AND NOT ours.charged THEN t.lost_leases ELSE 0 END,
    scheduled_at = CASE WHEN ours.status = 'pending' THEN clock_timestamp() + make_interval(secs => ours.wait_s) ELSE t.scheduled_at END,
    completed_at = CASE WHEN ours.status = 'pending' AND NOT ours.superseded THEN NULL ELSE clock_timestamp() END,
    error_class = ours.class,
    error_message = ours.message,
    errors = CASE WHEN ours.charged AND ours.class IS NOT NULL THEN
        (CASE WHEN jsonb_array_length(t.errors) >= 20 THEN t.errors - 0 ELSE t.errors END) || jsonb_build_object(
            'at', clock_timestamp(), 'attempt', t.attempts + 1, 'class', ours.class, 'message', ours.message,
            'worker', %(worker_name)s::text, 'delivery', t.delivery)
        ELSE t.errors END
FROM ours
WHERE t.id = ours.id AND t.id = ANY (%(ids)s)
RETURNING t.id, t.status

-- name: patience
-- For statements that may wait for a row while they hold others: always less than deadlock_timeout (1 s), so that in a deadlock the statement of embedq
-- fails and not the writer of an article. It also marks the changes of this transaction as embedq's own (not by hand).
SELECT set_config('lock_timeout', '200ms', true), set_config('embedq.own_change', 'on', true)

-- name: still_held
-- Of these claims: which are still valid (`ours`), and which were already settled with the same claim number (`settled`), when a settle is repeated
-- because the answer to its COMMIT was lost.
SELECT t.id,
       t.status = 'processing' AND t.lease_holder IS NOT DISTINCT FROM %(worker)s
           AND EXISTS (SELECT FROM embedding_workers w WHERE w.id = %(worker)s AND w.alive_until > clock_timestamp()) AS ours,
       t.lease_holder IS NULL AND t.status IN ('completed', 'failed', 'skipped') AS settled
FROM embedding_tasks t
JOIN unnest(%(ids)s::bigint[], %(claims)s::integer[]) AS u (id, claim) ON u.id = t.id AND u.claim = t.claims

-- name: hold_article
-- Locks the article until the commit. `there` without a hash: another transaction is writing it.
SELECT (SELECT a.text_hash FROM article_texts a WHERE a.id = %(article_id)s FOR SHARE SKIP LOCKED) AS text_hash,
       EXISTS (SELECT FROM article_texts a WHERE a.id = %(article_id)s) AS there

-- name: mark_dispatched
-- Tasks that this transaction has locked. By id only: with the status, the planner would also read the index of all pending tasks.
UPDATE embedding_tasks SET dispatched_at = clock_timestamp() WHERE id = ANY (%(ids)s)

-- name: free_named
-- Frees tasks that could not be published or whose messages were lost. Tasks that a writer has locked are skipped; the steward frees them later.
UPDATE embedding_tasks SET dispatched_at = NULL
WHERE id = ANY (ARRAY(
    SELECT id FROM embedding_tasks
    WHERE id = ANY (%(ids)s) AND status IS NOT DISTINCT FROM 'pending' AND dispatched_at IS DISTINCT FROM NULL  -- written so that only the primary key matches
    FOR UPDATE SKIP LOCKED))

-- name: free_dispatched
-- Frees tasks dispatched more than %(older_s)s seconds ago (0: all), a bounded number at a time.
UPDATE embedding_tasks SET dispatched_at = NULL
WHERE id = ANY (ARRAY(
    SELECT id FROM embedding_tasks
    WHERE status = 'pending' AND dispatched_at IS NOT NULL AND priority = ANY (%(priorities)s)
      AND dispatched_at <= CASE WHEN %(older_s)s = 0 THEN 'infinity' ELSE clock_timestamp() - make_interval(secs => %(older_s)s) END
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED))

-- name: depths
-- Numbers of dispatched and free tasks by priority, due or not. Exact counts up to their limits; each ORDER BY matches the index to use.
SELECT p.priority, dispatched.tasks AS dispatched, free.tasks AS free
FROM unnest(ARRAY['urgent', 'high', 'normal', 'low']) AS p (priority)
CROSS JOIN LATERAL (
    SELECT count(*) AS tasks FROM (
        SELECT FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NOT NULL AND priority = p.priority
        ORDER BY dispatched_at LIMIT %(dispatched)s) AS those
) dispatched
CROSS JOIN LATERAL (
    SELECT count(*) AS tasks FROM (
        SELECT FROM embedding_tasks WHERE status = 'pending' AND dispatched_at IS NULL AND priority = p.priority
        ORDER BY tenant_id, scheduled_at LIMIT %(free)s) AS those
) free

-- name: tenants_over_share
-- Tenants that already have their share of one priority's queue.
SELECT tenant_id FROM (
    SELECT tenant_id FROM embedding_tasks
    WHERE status = 'pending' AND dispatched_at IS NOT NULL AND priority = %(priority)s
    ORDER BY dispatched_at OFFSET 0  -- as in depths
) dispatched
GROUP BY tenant_id HAVING count(*) >= %(share)s

-- name: rescue
-- Takes back tasks whose lease holder is dead or which were held longer than the worker's time-out. No attempt is charged for a worker's death; a task
-- whose workers died too often is failed, because it may be the cause. A task whose article is being written is skipped and taken back later, because the
-- unique index would wait for the next task that this transaction may be making.
WITH held AS MATERIALIZED (
    SELECT t.id, t.lease_holder, t.claims, t.lost_leases + (t.lease_holder <> 0)::integer AS losses,  -- 0: an operator has revoked it
           CASE WHEN t.lease_holder = 0 THEN 'an operator took it from its worker'
                WHEN w.id IS NULL OR w.alive_until < clock_timestamp() THEN 'the worker that held it died'
                ELSE 'the worker held it longer than EMBEDDING_WORKER_TIMEOUT' END AS cause
    FROM embedding_tasks t
    LEFT JOIN embedding_workers w ON w.id = t.lease_holder
    WHERE t.status = 'processing'
      AND (w.id IS NULL OR w.alive_until < clock_timestamp() OR t.processed_at IS NULL
           OR t.processed_at < clock_timestamp() - make_interval(secs => %(timeout_s)s))
), lost AS MATERIALIZED (
    SELECT * FROM (
        SELECT held.* FROM held JOIN embedding_tasks t ON t.id = held.id JOIN article_texts a ON a.id = t.article_id
        WHERE t.status = 'processing' AND t.lease_holder = held.lease_holder AND t.claims = held.claims  -- checked again under the lock
        ORDER BY held.id LIMIT %(limit)s
        FOR UPDATE OF t SKIP LOCKED FOR SHARE OF a SKIP LOCKED) of_articles
    UNION ALL
    SELECT * FROM (
        SELECT held.* FROM held JOIN embedding_tasks t ON t.id = held.id
        WHERE t.status = 'processing' AND t.lease_holder = held.lease_holder AND t.claims = held.claims AND NOT EXISTS (SELECT FROM article_texts a WHERE a.id = t.article_id)
        ORDER BY held.id LIMIT %(limit)s
        FOR UPDATE OF t SKIP LOCKED) of_none
)
UPDATE embedding_tasks t
SET lease_holder = NULL, dispatched_at = NULL, lost_leases = lost.losses, scheduled_at = clock_timestamp(),
    status = CASE
        WHEN lost.losses >= %(max_losses)s THEN 'failed'
        WHEN EXISTS (SELECT FROM embedding_tasks n WHERE n.article_id = t.article_id AND n.model_id = t.model_id AND n.status = 'pending') THEN 'cancelled'
        ELSE 'pending' END,
    completed_at = CASE
        WHEN lost.losses >= %(max_losses)s
          OR EXISTS (SELECT FROM embedding_tasks n WHERE n.article_id = t.article_id AND n.model_id = t.model_id AND n.status = 'pending')
        THEN clock_timestamp() END,
    error_class = 'WorkerLost',
    error_message = lost.cause || format(' (lost %%s times)', lost.losses),
    errors = (CASE WHEN jsonb_array_length(t.errors) >= 20 THEN t.errors - 0 ELSE t.errors END) || jsonb_build_object(
        'at', clock_timestamp(), 'attempt', t.attempts, 'class', 'WorkerLost', 'message', lost.cause,
        'worker', t.lease_holder, 'delivery', t.delivery)
FROM lost
WHERE t.id = lost.id
RETURNING t.id, t.status

-- name: next_due
-- Seconds until the earliest scheduled task is due; NULL if there is none. For a caller that found nothing due %(since_s)s seconds ago and is about to
-- sleep: tasks that became due since then are included.
SELECT extract(epoch FROM min(scheduled_at) - clock_timestamp())::double precision AS wait_s
FROM embedding_tasks
WHERE status = 'pending' AND dispatched_at IS NULL AND scheduled_at > clock_timestamp() - make_interval(secs => %(since_s)s)
  AND priority = ANY (%(priorities)s)

-- name: wake
-- For the end of a transaction that makes tasks: NOTIFY only if a worker sleeps.
SELECT embedq_wake()

-- name: wake_all
-- Unconditional NOTIFY, for rare actions of operators or the steward after which every worker must look at once.
SELECT pg_notify('embedq_' || current_schema(), '')

-- name: waiting_of_articles
SELECT id, priority FROM embedding_tasks
WHERE article_id = ANY (%(article_ids)s) AND status = 'pending' AND dispatched_at IS DISTINCT FROM NULL  -- as in left_to_writer
  AND dispatched_at >= transaction_timestamp()
ORDER BY id
