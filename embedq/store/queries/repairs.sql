-- name: picked_articles
-- The condition for the articles of a repair; it replaces {picked}. A filter that was not given is NULL. The status is computed, so it is checked last.
a.id > %(after)s AND (%(ids)s::text[] IS NULL OR a.id = ANY (%(ids)s::text[]))
AND (%(tenant)s::text IS NULL OR a.tenant_id = %(tenant)s)
AND (NOT %(marked)s::boolean OR a.metadata ? 'embedq_review' OR a.metadata->>'needs_review' = 'true')
AND (%(status)s::text IS NULL OR (SELECT v.embedding_status FROM embedq_articles v WHERE v.id = a.id) = %(status)s)

-- name: articles_named
-- Ids of articles by id or slug; the id is NULL where a key names none.
SELECT k.key, a.id FROM unnest(%(keys)s::text[]) AS k (key)
LEFT JOIN LATERAL (SELECT b.id FROM article_texts b
                   WHERE (b.id = k.key OR b.slug = k.key) AND (%(tenant)s::text IS NULL OR b.tenant_id = %(tenant)s)
                   ORDER BY b.id = k.key DESC LIMIT 1) a ON true

-- name: count_articles_picked
SELECT count(*) AS articles, coalesce(sum(octet_length(a.title) + octet_length(a.content) + 2), 0)::bigint AS bytes
FROM article_texts a WHERE {picked}

-- name: pick_articles
SELECT a.id FROM article_texts a WHERE {picked} ORDER BY a.id LIMIT %(limit)s

-- name: marked_articles
SELECT a.id, a.tenant_id, a.slug, a.title, coalesce(a.metadata->'embedq_review', '{"reason": "needs_review, set by hand"}') AS review
FROM article_texts a WHERE (a.metadata ? 'embedq_review' OR a.metadata->>'needs_review' = 'true') AND (%(tenant)s::text IS NULL OR a.tenant_id = %(tenant)s) ORDER BY a.id LIMIT %(limit)s

-- name: mark_articles
UPDATE article_texts SET metadata = metadata || jsonb_build_object('embedq_review', %(review)s::jsonb) WHERE id = ANY (%(ids)s) RETURNING id

-- name: unmark_articles
UPDATE article_texts SET metadata = metadata - 'embedq_review' - 'needs_review'
WHERE id = ANY (%(ids)s) AND (metadata ? 'embedq_review' OR metadata ? 'needs_review') RETURNING id

-- name: reindex
-- Makes a task that embeds again although the stored vector is of this text; search uses the stored one until it settles. A pending task is changed to
-- this, a task in work gets a successor. Locks are taken in the order that all writers use; the caller holds the articles' rows.
INSERT INTO embedding_tasks AS t (article_id, slug, tenant_id, model_id, priority, version, metadata)
SELECT a.id, a.slug, a.tenant_id, m.model_id, %(priority)s, a.version, '{"reason": "reindex", "force": true}'
FROM article_texts a CROSS JOIN embedding_active_model m
WHERE a.id = ANY (%(ids)s) ORDER BY a.id
ON CONFLICT (article_id, model_id, (CASE WHEN status = 'pending' THEN 0 ELSE id END)) DO UPDATE SET
    metadata = t.metadata || excluded.metadata, forgiven_attempts = t.attempts, scheduled_at = least(t.scheduled_at, excluded.scheduled_at),
    priority = embedq_more_urgent(t.priority, excluded.priority),
    dispatched_at = CASE WHEN embedq_more_urgent(t.priority, excluded.priority) = t.priority THEN t.dispatched_at END
RETURNING id
