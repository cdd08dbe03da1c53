-- name: free_lost
-- Queues are first in, first out. `first`: tasks of the next message; tasks dispatched well before them have no message in the queue.
-- `held`: tasks of messages that a worker has taken and not acknowledged, so they are not lost; `again`: held tasks to free anyway.
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

-- name: stretch_end
-- The last id of the next range of articles, and its number of articles.
SELECT max(id) AS last, count(*) AS articles FROM (
    SELECT id FROM article_texts WHERE id > %(after)s ORDER BY id LIMIT %(limit)s) next

-- name: stale
-- Wanted minus stored, as a set difference, with the state of the task to embed it. The difference is computed first, because a plan that contains the
-- other subquery cannot be parallel. `ids` (where they are to be %(named)s): those without a task, or with one that is done or has a
-- status in %(also)s.
WITH stale AS MATERIALIZED (
    SELECT a.id, a.version FROM article_texts a
    WHERE NOT EXISTS (SELECT FROM embeddings e WHERE e.model_id = %(model_id)s AND e.article_id = a.id AND e.text_hash = a.text_hash)
      AND {within}
), promised AS (
    SELECT a.id AS article_id,
           coalesce((SELECT t.status FROM embedding_tasks t
                     WHERE t.article_id = a.id AND t.model_id = %(model_id)s AND (t.version >= a.version OR t.status IN ('pending', 'processing'))
                     ORDER BY t.status IN ('pending', 'processing') DESC, t.id DESC LIMIT 1), 'none') AS task_status
    FROM stale a
)
SELECT task_status, count(*) AS articles,
       CASE WHEN %(named)s AND (task_status IN ('none', 'completed') OR task_status = ANY (%(also)s)) THEN array_agg(article_id ORDER BY article_id) END AS ids
FROM promised GROUP BY task_status

-- name: stale_within
-- Replaces {within} to restrict the statement to one range of ids.
a.id > %(after)s AND (%(last)s::text IS NULL OR a.id <= %(last)s::text)

-- name: misfits
-- Inconsistencies by article, for the active model and those kept in step. `orphan`: the article does not exist. `unvouched`: vectors without an embedding
-- row. `incomplete`: an embedding without all its chunks. `tenant`: vectors of another tenant than the article's. `ahead`: embedded with a higher version
-- than the article has. `renumbered`: the article's version number was used before in its history.
WITH models AS MATERIALIZED (
    SELECT m.id FROM embedding_models m WHERE m.kept_in_step OR m.id = (SELECT model_id FROM embedding_active_model)
), vectors AS MATERIALIZED (
    SELECT v.article_id, v.model_id, count(*) AS chunks, min(v.tenant_id) AS lowest, max(v.tenant_id) AS highest
    FROM embedding_vectors v WHERE v.model_id IN (SELECT id FROM models) AND {vectors_within} GROUP BY v.article_id, v.model_id
), embedded AS MATERIALIZED (
    SELECT e.article_id, e.model_id, e.chunks, e.version FROM embeddings e
    WHERE e.model_id IN (SELECT id FROM models) AND {embeddings_within}
), fit AS (
    SELECT article_id, model_id, e.chunks AS said, e.version, v.chunks, v.lowest, v.highest
    FROM embedded e FULL JOIN vectors v USING (article_id, model_id)
)
SELECT CASE WHEN a.id IS NULL THEN 'orphan'
            WHEN fit.said IS NULL THEN 'unvouched'
            WHEN fit.chunks IS DISTINCT FROM fit.said THEN 'incomplete'
            WHEN fit.lowest <> a.tenant_id OR fit.highest <> a.tenant_id THEN 'tenant'
            ELSE 'ahead' END AS kind,
       fit.article_id, fit.model_id
FROM fit LEFT JOIN article_texts a ON a.id = fit.article_id
WHERE a.id IS NULL OR fit.said IS NULL OR fit.chunks IS DISTINCT FROM fit.said
   OR fit.lowest <> a.tenant_id OR fit.highest <> a.tenant_id OR fit.version > a.version
UNION ALL
SELECT 'renumbered', a.id, NULL FROM article_texts a
WHERE {articles_within} AND EXISTS (SELECT FROM article_versions h WHERE h.article_id = a.id AND h.version_number >= a.version)

-- name: lock_misfits
-- Locks the articles and embeddings of inconsistencies until the transaction ends; articles that are being written are skipped.
WITH articles AS (
    SELECT a.id FROM article_texts a WHERE a.id = ANY (%(ids)s) ORDER BY a.id FOR NO KEY UPDATE SKIP LOCKED
), embedded AS (
    SELECT e.article_id FROM embeddings e WHERE e.article_id = ANY (%(ids)s) ORDER BY e.article_id, e.model_id FOR UPDATE SKIP LOCKED
)
SELECT u.id FROM unnest(%(ids)s::text[]) AS u (id)
WHERE (NOT EXISTS (SELECT FROM article_texts a WHERE a.id = u.id) OR u.id IN (SELECT id FROM articles))
  AND (SELECT count(*) FROM embeddings e WHERE e.article_id = u.id) = (SELECT count(*) FROM embedded WHERE article_id = u.id)

-- name: forget_misfits
-- Deletes orphans, and incomplete or unvouched embeddings; the article is then stale and gets a task.
WITH gone AS (
    DELETE FROM embeddings e USING unnest(%(article_ids)s::text[], %(models)s::integer[]) AS u (article_id, model_id)
    WHERE e.article_id = u.article_id AND e.model_id = u.model_id
)
DELETE FROM embedding_vectors v USING unnest(%(article_ids)s::text[], %(models)s::integer[]) AS u (article_id, model_id)
WHERE v.article_id = u.article_id AND v.model_id = u.model_id

-- name: move_misfits
UPDATE embedding_vectors v SET tenant_id = a.tenant_id
FROM article_texts a WHERE a.id = v.article_id AND v.article_id = ANY (%(ids)s) AND v.tenant_id <> a.tenant_id

-- name: lower_misfits
UPDATE embeddings e SET version = a.version FROM article_texts a WHERE a.id = e.article_id AND e.article_id = ANY (%(ids)s) AND e.version > a.version

-- name: renumber_misfits
-- This is not an edit: embedq.continuing makes the triggers on articles ignore it (set to their trigger depth).
WITH told AS MATERIALIZED (SELECT set_config('embedq.continuing', '1', true))
UPDATE article_texts a SET version = 1 + (SELECT max(h.version_number) FROM article_versions h WHERE h.article_id = a.id)
FROM told WHERE a.id = ANY (%(ids)s) AND EXISTS (SELECT FROM article_versions h WHERE h.article_id = a.id AND h.version_number >= a.version)

-- name: unlocked_articles
-- Locks those of these articles that no other transaction is writing, until this transaction ends.
SELECT id FROM article_texts WHERE id = ANY (%(ids)s) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED

-- name: want
SELECT embedq_want(%(ids)s, 'reconcile') AS made

-- name: want_of
-- Only for the model that lacks them; tasks of other models are not changed.
SELECT embedq_want_of(%(model_id)s, %(ids)s, %(why)s) AS made

-- name: wanted_and_stored
SELECT (SELECT count(*) FROM article_texts) AS wanted,
       (SELECT count(*) FROM embeddings e WHERE e.model_id = %(model_id)s) AS stored,
       (SELECT count(*) FROM embedding_tasks WHERE status = 'pending') AS pending,
       (SELECT count(*) FROM embedding_tasks WHERE status = 'processing') AS processing,
       (SELECT count(*) FROM embedding_tasks WHERE status = 'failed') AS failed

-- name: held_by_nobody
SELECT count(*) AS tasks FROM embedding_tasks t LEFT JOIN embedding_workers w ON w.id = t.lease_holder
WHERE t.status = 'processing' AND t.lease_holder <> 0 AND (w.id IS NULL OR w.alive_until < clock_timestamp())

-- name: last_cleanup
SELECT max(timestamp) > clock_timestamp() - make_interval(hours => %(hours)s) AS recent FROM embedding_audit_logs WHERE category = 'cleanup'

-- name: cleanup_tasks
-- An article's last task is kept if it is cancelled: without it, reconcile would make a new task for the cancelled text.
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
        WHERE timestamp < now() - make_interval(days => %(days)s) AND (level <> 'error' OR category IN ('task', 'provider')) AND category <> 'config') AS audit,
       (SELECT count(*) FROM article_versions v
        WHERE v.purged_at IS NULL AND {purged_article}) AS versions,
       (SELECT count(*) FROM embedding_rejected_messages WHERE reviewed_at < now() - make_interval(days => %(days)s)) AS rejected

-- name: cleanup_metrics
DELETE FROM performance_metrics WHERE timestamp < now() - make_interval(days => %(days)s)

-- name: cleanup_audit
-- Saved configurations are kept for good.
DELETE FROM embedding_audit_logs WHERE timestamp < now() - make_interval(days => %(days)s) AND (level <> 'error' OR category IN ('task', 'provider')) AND category <> 'config'

-- name: purged_article
-- The condition that the article of version v was deleted so long ago that its texts must be deleted. It replaces {purged_article}.
EXISTS (SELECT FROM article_versions d WHERE d.article_id = v.article_id AND d.deleted AND d.purged_at IS NULL
        GROUP BY d.article_id HAVING max(d.superseded_at) < now() - make_interval(days => %(days)s))
AND NOT EXISTS (SELECT FROM article_texts a WHERE a.id = v.article_id)

-- name: cleanup_versions
-- Deletes all texts of articles that were deleted %(days)s days ago. The highest version number is kept, without a text, so that it is not used again.
-- Versions of existing articles are kept, also those from before an earlier deletion.
WITH old AS MATERIALIZED (
    SELECT v.article_id, max(v.version_number) AS last FROM article_versions v
    WHERE v.article_id = ANY (ARRAY(SELECT DISTINCT v.article_id FROM article_versions v WHERE v.deleted AND v.purged_at IS NULL AND {purged_article} LIMIT %(limit)s))
    GROUP BY v.article_id
), emptied AS (
    UPDATE article_versions v SET title = '', content = '', slug = NULL, metadata = '{}', purged_at = now()
    FROM old WHERE v.article_id = old.article_id AND v.version_number = old.last
    RETURNING v.article_id
), gone AS (
    DELETE FROM article_versions v USING old WHERE v.article_id = old.article_id AND v.version_number < old.last RETURNING v.article_id
)
SELECT (SELECT count(*) FROM emptied) + (SELECT count(*) FROM gone) AS texts

-- name: cleanup_rejected
-- Deletes reviewed messages only.
DELETE FROM embedding_rejected_messages WHERE reviewed_at < now() - make_interval(days => %(days)s)

-- name: sample_depth
INSERT INTO performance_metrics (metric, labels, value)
SELECT 'depth', jsonb_build_object('status', status, 'priority', priority, 'dispatched', dispatched_at IS NOT NULL), count(*)
FROM embedding_tasks WHERE status IN ('pending', 'processing') GROUP BY status, priority, dispatched_at IS NOT NULL

-- name: sample_done
INSERT INTO performance_metrics (metric, labels, value)
SELECT 'settled', jsonb_build_object('status', status, 'delivery', delivery), count(*) FROM embedding_tasks
WHERE completed_at >= now() - make_interval(secs => %(seconds)s) GROUP BY status, delivery
