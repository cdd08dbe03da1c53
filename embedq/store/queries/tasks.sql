-- name: fence
-- A statement of its own, before the claim: a statement's snapshot is older than a lock it takes itself.
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
WHERE t.id = ANY (%(ids)s) AND t.status IS NOT DISTINCT FROM 'pending' AND t.scheduled_at <= clock_timestamp()  -- only the key serves this
  AND NOT t.tenant_id = ANY (gate.paused_tenants) AND NOT t.model_id = ANY (gate.paused_models)
ORDER BY t.id
LIMIT %(limit)s
FOR UPDATE OF t SKIP LOCKED

-- name: lock_free
-- Tasks of one priority that are not with the broker, the same share for each tenant. The tenants are found by skipping through the index
-- (a recursive walk from %(after)s and round again), each with its earliest time, so that neither a tenant's 100k rows nor what is not yet
-- due is ever read, and a tenant that only waits takes no other's place. In mode hybrid a poller leaves what is free to the dispatcher for a
-- while, unless messages already wait for a Celery worker: then it helps at once. The last row, without an id, is the last tenant that was looked at.
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
-- As lock_free, while there is a backlog: the tenants of the claim before, each from where that ended, the same share for each.
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
-- What the broker was trusted with for longer than %(older_s)s seconds: for a poller in the modes hybrid and sync, what it does not deliver; for a Celery
-- worker that fills its batch (0 s), what its next messages would name. They will then find nothing to do. One probe per priority, in the order given: each reads its own stretch of the index, oldest first, and the limit ends them all.
-- NOT array @> ARRAY[x], and not x <> ALL (array): of the latter the planner thinks that it leaves no row, and then it sorts them all.
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
-- Locked rows become this worker's, if its own row says that it lives, with the text as it is after the lock was had: an edit committed before is seen, a later one waits
-- for us and leaves a successor. The columns are those of model.Claimed, in its order. OFFSET 0: one probe per task for its article, also where the planner would rather read all articles.
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
-- Only what this worker still holds, under the claim it was given, while it is alive. What is missing from the answer is either locked at
-- this moment (asked for again) or was taken away (a late result: discarded). A task that goes back to waiting needs its article's row too:
-- a transaction that has it may be making the article's next task, and the unique index would wait for that. Of a batch of hundreds the
-- planner expects one row, and would compare each with each. So each is looked up by its id (LATERAL, and IS NOT DISTINCT FROM, which no
-- other index serves), and what was said travels with the locked rows.
WITH ours AS MATERIALIZED (
    SELECT said.*, said.status = 'pending' AND (
        SELECT true FROM embedding_tasks n WHERE n.article_id = held.article_id AND n.model_id = held.model_id AND n.status = 'pending'
          AND CASE WHEN n.status = 'pending' THEN 0 ELSE n.id END = 0  -- as in the index: of all its tasks, one entry is read
    ) IS TRUE AS superseded  -- not EXISTS, which the planner may answer with a table of all that waits
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
-- For a statement that may wait for a row while it holds others: always less than deadlock_timeout (1 s), so that the writer of an article
-- is never the one whose transaction ends when it and embedq wait for each other. And: what changes now is embedq's own change.
SELECT set_config('lock_timeout', '200ms', true), set_config('embedq.own_change', 'on', true)

-- name: still_held
-- Of these claims: which a settle may still name (`ours`), and which were settled under this very claim before (`settled`): a settle that is
-- repeated because the answer to its COMMIT was lost.
SELECT t.id,
       t.status = 'processing' AND t.lease_holder IS NOT DISTINCT FROM %(worker)s
           AND EXISTS (SELECT FROM embedding_workers w WHERE w.id = %(worker)s AND w.alive_until > clock_timestamp()) AS ours,
       t.lease_holder IS NULL AND t.status IN ('completed', 'failed', 'skipped') AS settled
FROM embedding_tasks t
JOIN unnest(%(ids)s::bigint[], %(claims)s::integer[]) AS u (id, claim) ON u.id = t.id AND u.claim = t.claims

-- name: hold_article
-- Its text cannot change until we commit. `there` without a hash: a transaction is writing it at this moment.
SELECT (SELECT a.text_hash FROM article_texts a WHERE a.id = %(article_id)s FOR SHARE SKIP LOCKED) AS text_hash,
       EXISTS (SELECT FROM article_texts a WHERE a.id = %(article_id)s) AS there

-- name: mark_dispatched
-- What the same transaction has locked. By id alone: with the status the planner reads the index of all that waits as well.
UPDATE embedding_tasks SET dispatched_at = clock_timestamp() WHERE id = ANY (%(ids)s)

-- name: free_named
-- What could not be published, or was lost: the table has it again. What a writer has locked is passed over: the steward frees it later.
UPDATE embedding_tasks SET dispatched_at = NULL
WHERE id = ANY (ARRAY(
    SELECT id FROM embedding_tasks
    WHERE id = ANY (%(ids)s) AND status IS NOT DISTINCT FROM 'pending' AND dispatched_at IS DISTINCT FROM NULL  -- only the key serves this
    FOR UPDATE SKIP LOCKED))

-- name: free_dispatched
-- What the broker was trusted with for longer than %(older_s)s seconds (0: all of it) comes back to the table, a bounded number at a time.
UPDATE embedding_tasks SET dispatched_at = NULL
WHERE id = ANY (ARRAY(
    SELECT id FROM embedding_tasks
    WHERE status = 'pending' AND dispatched_at IS NOT NULL AND priority = ANY (%(priorities)s)
      AND dispatched_at <= CASE WHEN %(older_s)s = 0 THEN 'infinity' ELSE clock_timestamp() - make_interval(secs => %(older_s)s) END
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED))

-- name: depths
-- How much of each priority is with the broker, and how much is not, due or not. Counts, no estimates, and no further than their bounds:
-- each in the order of the one index that knows it.
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
-- A lease is worth as long as its holder lives, and no longer than the worker's time-out. No attempt is charged for a worker's death; a task
-- that was lost too often is failed, so that one that kills its worker ends. A task whose article a transaction is writing is passed over
-- and taken back later: the next task that this transaction may be making would have to be waited for.
WITH held AS MATERIALIZED (
    SELECT t.id, t.lease_holder, t.claims, t.lost_leases + (t.lease_holder <> 0)::integer AS losses,  -- 0: an operator has taken it from its worker
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
        WHERE t.status = 'processing' AND t.lease_holder = held.lease_holder AND t.claims = held.claims  -- still, when it is locked
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
-- Seconds until the first task that waits for its time is due; NULL if none waits. Asked by who found nothing due %(since_s)s seconds ago and
-- is about to sleep: what became due since then counts, or it would be slept over.
SELECT extract(epoch FROM min(scheduled_at) - clock_timestamp())::double precision AS wait_s
FROM embedding_tasks
WHERE status = 'pending' AND dispatched_at IS NULL AND scheduled_at > clock_timestamp() - make_interval(secs => %(since_s)s)
  AND priority = ANY (%(priorities)s)

-- name: wake
-- At the end of a transaction that makes tasks: costs a look at who sleeps, and the NOTIFY only while a worker does.
SELECT embedq_wake()

-- name: wake_all
-- Without asking whether a worker sleeps: what an operator or the steward does is rare, and every worker is to look at once.
SELECT pg_notify('embedq_' || current_schema(), '')

-- name: waiting_of_articles
SELECT id, priority FROM embedding_tasks
WHERE article_id = ANY (%(article_ids)s) AND status = 'pending' AND dispatched_at IS DISTINCT FROM NULL  -- as in left_to_writer
  AND dispatched_at >= transaction_timestamp()
ORDER BY id
