-- name: free_lost
-- A queue is first in, first out. `first`: tasks of the message next in line; what was dispatched a while before them is not in the queue.
-- `held`: tasks of messages that some worker has taken and not acknowledged, so these have one; `again`: those that get another all the same.
WITH oldest AS (
    SELECT CASE WHEN %(empty)s THEN clock_timestamp()
                ELSE (SELECT min(dispatched_at) FROM embedding_tasks WHERE id = ANY (%(first)s::bigint[]) AND status = 'pending') END AS at
)
UPDATE embedding_tasks SET dispatched_at = NULL
WHERE id = ANY (ARRAY(
    SELECT t.id FROM embedding_tasks t, oldest
    WHERE t.status = 'pending' AND t.dispatched_at IS NOT NULL AND t.priority = %(priority)s
      AND (t.id = ANY (%(again)s::bigint[])
           OR (NOT t.id = ANY (%(held)s::bigint[]) AND t.dispatched_at < oldest.at - make_interval(secs => %(after_s)s)))
    LIMIT 20000
    FOR UPDATE OF t SKIP LOCKED))

-- name: stale
-- Wanted and not stored, by set difference, with what became of the promise to embed it. First the difference alone: a plan with the
-- other subquery in it cannot be parallel.
CREATE TEMPORARY TABLE embedq_stale ON COMMIT DROP AS
WITH stale AS MATERIALIZED (
    SELECT a.id, a.version FROM article_texts a
    WHERE NOT EXISTS (SELECT FROM embeddings e WHERE e.model_id = %(model_id)s AND e.article_id = a.id AND e.text_hash = a.text_hash)
)
SELECT a.id AS article_id, a.version,
       (SELECT t.status FROM embedding_tasks t
        WHERE t.article_id = a.id AND t.model_id = %(model_id)s AND (t.version >= a.version OR t.status IN ('pending', 'processing'))
        ORDER BY t.status IN ('pending', 'processing') DESC, t.id DESC LIMIT 1) AS task_status
FROM stale a

-- name: stale_counts
SELECT coalesce(task_status, 'none') AS task_status, count(*) AS articles FROM embedq_stale GROUP BY 1

-- name: untracked_stale
SELECT array_agg(article_id ORDER BY article_id) AS ids FROM embedq_stale
WHERE task_status IS NULL OR task_status = 'completed' OR task_status = ANY (%(also)s)

-- name: want
SELECT embedq_want(%(ids)s, 'reconcile') AS made

-- name: want_of
-- For the model that lacks them alone: no other model's task is touched.
SELECT embedq_want_of(%(model_id)s, %(ids)s, %(why)s) AS made

-- name: wanted_and_stored
SELECT (SELECT count(*) FROM article_texts) AS wanted,
       (SELECT count(*) FROM embeddings e WHERE e.model_id = %(model_id)s) AS stored,
       (SELECT count(*) FROM embedding_tasks WHERE status = 'pending') AS pending,
       (SELECT count(*) FROM embedding_tasks WHERE status = 'processing') AS processing,
       (SELECT count(*) FROM embedding_tasks WHERE status = 'failed') AS failed

-- name: orphans
SELECT count(*) AS orphans FROM embeddings e LEFT JOIN article_texts a ON a.id = e.article_id WHERE a.id IS NULL

-- name: vectors_without_embedding
SELECT count(DISTINCT (v.model_id, v.article_id)) AS articles FROM embedding_vectors v
WHERE NOT EXISTS (SELECT FROM embeddings e WHERE e.model_id = v.model_id AND e.article_id = v.article_id)

-- name: embeddings_without_vectors
SELECT count(*) AS embeddings FROM embeddings e
WHERE NOT EXISTS (SELECT FROM embedding_vectors v WHERE v.model_id = e.model_id AND v.article_id = e.article_id AND v.chunk = 0)

-- name: held_by_nobody
SELECT count(*) AS tasks FROM embedding_tasks t LEFT JOIN embedding_workers w ON w.id = t.lease_holder
WHERE t.status = 'processing' AND (w.id IS NULL OR w.alive_until < clock_timestamp())

-- name: last_cleanup
SELECT max(timestamp) > clock_timestamp() - make_interval(hours => %(hours)s) AS recent FROM embedding_audit_logs WHERE category = 'cleanup'

-- name: cleanup_tasks
-- A cancelled task that is the last word on an article stays: without it, reconcile would promise anew what somebody has called off.
DELETE FROM embedding_tasks WHERE id = ANY (ARRAY(
    SELECT t.id FROM embedding_tasks t WHERE t.completed_at < now() - make_interval(days => %(days)s) AND {old_task}
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED))

-- name: old_task
(t.status = 'completed' OR (t.status = 'cancelled' AND (
    NOT EXISTS (SELECT FROM article_texts a WHERE a.id = t.article_id)
    OR EXISTS (SELECT FROM embedding_tasks n WHERE n.article_id = t.article_id AND n.model_id = t.model_id AND n.id > t.id))))

-- name: would_clean_up
SELECT (SELECT count(*) FROM embedding_tasks t
        WHERE t.completed_at < now() - make_interval(days => %(days)s) AND {old_task}) AS tasks,
       (SELECT count(*) FROM performance_metrics WHERE timestamp < now() - make_interval(days => %(days)s)) AS metrics,
       (SELECT count(*) FROM embedding_audit_logs
        WHERE timestamp < now() - make_interval(days => %(days)s) AND level <> 'error' AND category <> 'config') AS audit,
       (SELECT count(*) FROM article_versions
        WHERE deleted AND superseded_at < now() - make_interval(days => %(days)s)) AS versions

-- name: cleanup_metrics
DELETE FROM performance_metrics WHERE timestamp < now() - make_interval(days => %(days)s)

-- name: cleanup_audit
-- Saved configurations are kept for good.
DELETE FROM embedding_audit_logs WHERE timestamp < now() - make_interval(days => %(days)s) AND level <> 'error' AND category <> 'config'

-- name: cleanup_versions
DELETE FROM article_versions WHERE deleted AND superseded_at < now() - make_interval(days => %(days)s)

-- name: sample_depth
INSERT INTO performance_metrics (metric, labels, value)
SELECT 'depth', jsonb_build_object('status', status, 'priority', priority, 'dispatched', dispatched_at IS NOT NULL), count(*)
FROM embedding_tasks WHERE status IN ('pending', 'processing') GROUP BY status, priority, dispatched_at IS NOT NULL

-- name: sample_done
INSERT INTO performance_metrics (metric, labels, value)
SELECT 'settled', jsonb_build_object('status', status, 'delivery', delivery), count(*) FROM embedding_tasks
WHERE completed_at >= now() - make_interval(secs => %(seconds)s) GROUP BY status, delivery
