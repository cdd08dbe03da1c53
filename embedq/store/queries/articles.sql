-- name: transaction_settings
-- Settings of this transaction that the trigger for new and changed articles reads.
SELECT set_config('embedq.priority', %(priority)s, true), set_config('embedq.reason', %(reason)s, true),
       set_config('embedq.mode', %(mode)s, true), set_config('embedq.dispatch', %(dispatch)s, true)

-- name: transaction_trace
-- A separate statement, sent only while traces are on.
SELECT set_config('embedq.traceparent', %(traceparent)s, true)

-- name: insert_articles
INSERT INTO article_texts (id, tenant_id, slug, title, content, metadata)
SELECT coalesce(u.id, gen_random_uuid()::text), u.tenant_id, u.slug, u.title, u.content, u.metadata::jsonb
FROM unnest(%(ids)s::text[], %(tenants)s::text[], %(slugs)s::text[], %(titles)s::text[], %(contents)s::text[], %(metadatas)s::text[])
    AS u (id, tenant_id, slug, title, content, metadata)
RETURNING id, tenant_id, slug, true AS created

-- name: create_article
-- As insert_articles, for one article, with the transaction's settings and the new task in the same statement. Returned is what the caller does not know;
-- the metadata as jsonb stores them. `live`: the live row as this statement sees it.
SELECT id, version, created_at, updated_at, nullif(metadata, '{}') AS metadata, live, task_id, priority, attempts, dispatched
FROM embedq_create_article(
    %(id)s, %(tenant_id)s, %(slug)s, %(title)s, %(content)s, %(metadata)s::jsonb,
    %(priority)s, %(reason)s, %(mode)s, %(dispatch)s, %(traceparent)s)

-- name: put_articles_by_slug
-- An article whose text and metadata are unchanged is neither updated nor returned.
INSERT INTO article_texts AS a (id, tenant_id, slug, title, content, metadata)
SELECT coalesce(u.id, gen_random_uuid()::text), u.tenant_id, u.slug, u.title, u.content, u.metadata::jsonb
FROM unnest(%(ids)s::text[], %(tenants)s::text[], %(slugs)s::text[], %(titles)s::text[], %(contents)s::text[], %(metadatas)s::text[])
    AS u (id, tenant_id, slug, title, content, metadata)
ORDER BY u.tenant_id, u.slug
ON CONFLICT (tenant_id, slug) DO UPDATE SET title = excluded.title, content = excluded.content, metadata = excluded.metadata
WHERE (a.title, a.content, a.metadata) IS DISTINCT FROM (excluded.title, excluded.content, excluded.metadata)
RETURNING id, tenant_id, slug, (xmax = 0) AS created

-- name: put_articles_by_id
INSERT INTO article_texts AS a (id, tenant_id, slug, title, content, metadata)
SELECT u.id, u.tenant_id, u.slug, u.title, u.content, u.metadata::jsonb
FROM unnest(%(ids)s::text[], %(tenants)s::text[], %(slugs)s::text[], %(titles)s::text[], %(contents)s::text[], %(metadatas)s::text[])
    AS u (id, tenant_id, slug, title, content, metadata)
ORDER BY u.id
ON CONFLICT (id) DO UPDATE SET slug = excluded.slug, title = excluded.title, content = excluded.content, metadata = excluded.metadata
WHERE a.tenant_id = excluded.tenant_id AND a.source IS NULL
  AND (a.slug, a.title, a.content, a.metadata) IS DISTINCT FROM (excluded.slug, excluded.title, excluded.content, excluded.metadata)
RETURNING id, tenant_id, slug, (xmax = 0) AS created

-- name: edit_article
-- The precondition is checked here, under the row's lock: after a wait, the statement sees what the other transaction has written.
UPDATE article_texts SET
    title = coalesce(%(title)s, title), content = coalesce(%(content)s, content), slug = coalesce(%(slug)s, slug),
    metadata = coalesce(%(metadata)s::jsonb, metadata)
WHERE id = %(id)s AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
  AND (%(if_version)s::integer IS NULL OR version = %(if_version)s)
  AND (%(if_updated_at)s::timestamptz IS NULL OR updated_at = %(if_updated_at)s)
RETURNING id, tenant_id, slug, title, content, metadata, version, updated_at

-- name: delete_articles
DELETE FROM article_texts
WHERE id = ANY (%(ids)s) AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
  AND (%(if_version)s::integer IS NULL OR version = %(if_version)s)
  AND (%(if_updated_at)s::timestamptz IS NULL OR updated_at = %(if_updated_at)s)
RETURNING id

-- name: article
SELECT id, tenant_id, slug, title, content, metadata, embedding_status, created_at, updated_at, version, source FROM embedq_articles
WHERE (id = %(key)s OR (slug = %(key)s AND tenant_id = coalesce(%(tenant_id)s, 'default')))
  AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
ORDER BY id = %(key)s DESC LIMIT 1

-- name: articles_by_id
-- In the requested order; missing articles are left out.
SELECT id, tenant_id, slug, title, content, metadata, embedding_status, created_at, updated_at, version FROM articles
WHERE id = ANY (%(ids)s) AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
ORDER BY array_position(%(ids)s::text[], id)

-- name: embedding_statuses
SELECT id, embedding_status FROM articles
WHERE id = ANY (%(ids)s) AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)

-- name: list_articles
SELECT id, tenant_id, slug, title, embedding_status, version, created_at, updated_at FROM embedq_articles
WHERE CASE WHEN %(source)s::text IS NULL THEN source IS NULL ELSE %(source)s IN (source, 'all') END AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s) AND id > %(after)s
  AND (%(status)s::text IS NULL OR embedding_status = %(status)s)
ORDER BY id LIMIT %(limit)s

-- name: rows_of_sources
SELECT id, source FROM article_texts WHERE id = ANY (%(ids)s) AND source IS NOT NULL LIMIT 1

-- name: article_versions
SELECT version_number, title, content, created_at, superseded_at, deleted, tenant_id, slug, metadata FROM article_versions
WHERE article_id = %(id)s AND purged_at IS NULL AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s) ORDER BY version_number

-- name: count_by_status
SELECT embedding_status, count(*) AS articles FROM embedq_articles GROUP BY embedding_status

-- name: article_origins
SELECT slug, metadata->>'imported_from' AS path FROM article_texts WHERE tenant_id = %(tenant_id)s AND slug = ANY (%(slugs)s::text[])

-- name: articles_imported_below
SELECT id, slug, metadata->>'imported_from' AS path FROM article_texts
WHERE tenant_id = %(tenant_id)s AND starts_with(metadata->>'imported_from', %(folder)s) ORDER BY slug
