-- name: backfill_wanted
-- The condition for articles without a vector of the newest text by the active model, without an open task, and with text to embed. It replaces {wanted};
-- a is the article.
NOT EXISTS (SELECT FROM embeddings e WHERE e.model_id = %(model_id)s AND e.article_id = a.id AND e.text_hash = a.text_hash)
AND NOT EXISTS (SELECT FROM embedding_tasks t WHERE t.article_id = a.id AND t.model_id = %(model_id)s
                AND (t.status IN ('pending', 'processing') OR (t.status = 'skipped' AND t.version >= a.version)))
AND (%(tenant)s::text IS NULL OR a.tenant_id = %(tenant)s)

-- name: backfill_counts
SELECT count(*) AS articles, coalesce(sum(octet_length(a.title) + octet_length(a.content) + 2), 0)::bigint AS bytes,
       count(DISTINCT a.tenant_id) AS tenants
FROM article_texts a WHERE a.id > %(after)s AND {wanted}

-- name: backfill_step
-- The next articles by id, and their tasks, in one statement, so that the counts always match the tasks made. An article that is being written is skipped:
-- that transaction makes its task, or the steward's reconcile does.
WITH next AS MATERIALIZED (
    SELECT a.id, a.slug, a.tenant_id, a.version FROM article_texts a WHERE a.id > %(after)s AND {wanted} ORDER BY a.id LIMIT %(limit)s
    FOR NO KEY UPDATE OF a SKIP LOCKED
), made AS (
    INSERT INTO embedding_tasks (article_id, slug, tenant_id, model_id, priority, version, metadata)
    SELECT id, slug, tenant_id, %(model_id)s, %(priority)s, version, jsonb_build_object('reason', 'migration', 'backfill', %(backfill)s::text)
    FROM next ORDER BY id
    ON CONFLICT (article_id, model_id, (CASE WHEN status = 'pending' THEN 0 ELSE id END)) DO NOTHING
    RETURNING id
)
SELECT (SELECT max(id) FROM next) AS last, (SELECT count(*) FROM made) AS made

-- name: backfills
SELECT id AS line, timestamp, metadata FROM embedding_audit_logs WHERE category = 'backfill' AND metadata ? 'backfill'
ORDER BY id DESC LIMIT %(limit)s

-- name: backfill_tasks
-- The states of the tasks that it queued, without those that a later edit has updated.
SELECT CASE WHEN metadata->>'reason' = 'migration' THEN status ELSE 'taken over by an edit' END AS became, count(*) AS tasks
FROM embedding_tasks WHERE metadata->>'backfill' = %(backfill)s GROUP BY 1 ORDER BY 1

-- name: pick_backfilled
-- Open tasks that it queued, a bounded number at a time; tasks superseded by an edit are not included.
SELECT id FROM embedding_tasks
WHERE metadata->>'backfill' = %(backfill)s AND metadata->>'reason' = 'migration' AND status IN ('pending', 'processing') AND id > %(after)s
ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED

-- name: count_backfilled
SELECT count(*) AS tasks FROM embedding_tasks
WHERE metadata->>'backfill' = %(backfill)s AND metadata->>'reason' = 'migration' AND status IN ('pending', 'processing')
