-- name: may_pause
-- Time-outs for a snapshot that is written to a file: a slow disk may take longer between two rows than the usual time-outs allow.
SET LOCAL idle_in_transaction_session_timeout = '10min'

-- name: export_tasks
SELECT row_to_json(t)::text FROM (
SELECT t.id, t.article_id, t.slug, t.tenant_id, t.status, t.priority, t.version, t.attempts, t.forgiven_attempts, t.error_class,
       t.error_message, t.errors, t.metadata, t.created_at, t.scheduled_at, t.processed_at, t.completed_at,
       m.provider, m.name AS model, m.dimensions
FROM embedding_tasks t JOIN embedding_models m ON m.id = t.model_id
WHERE t.status = ANY (%(statuses)s) AND (%(priorities)s::text[] IS NULL OR t.priority = ANY (%(priorities)s::text[]))
  AND (%(tenants)s::text[] IS NULL OR t.tenant_id = ANY (%(tenants)s::text[]))
) t ORDER BY t.id

-- name: sort_promises
-- The outcome of each line: foreign (no such article of that tenant), other model, embedded (the newest text has its vector), promised
-- (an open task is there; its priority may be raised), or made.
SELECT p.line, CASE
    WHEN a.id IS NULL THEN 'foreign'
    WHEN m.id IS NULL THEN 'unknown model'
    WHEN e.text_hash = a.text_hash THEN 'embedded'
    WHEN EXISTS (SELECT FROM embedding_tasks t WHERE t.article_id = a.id AND t.model_id = m.id
                 AND (t.status = 'pending' OR (t.status = 'processing' AND t.version >= a.version))) THEN 'promised'
    WHEN row_number() OVER (PARTITION BY a.id, m.id ORDER BY p.line) > 1 THEN 'promised'
    ELSE 'made' END AS becomes
FROM unnest(%(lines)s::integer[], %(article_ids)s::text[], %(tenant_ids)s::text[], %(providers)s::text[], %(models)s::text[],
            %(dimensions)s::integer[]) AS p (line, article_id, tenant_id, provider, model, dimensions)
LEFT JOIN article_texts a ON a.id = p.article_id AND a.tenant_id = p.tenant_id
LEFT JOIN embedding_models m ON m.provider = p.provider AND m.name = p.model AND m.dimensions = p.dimensions
LEFT JOIN embeddings e ON e.article_id = a.id AND e.model_id = m.id

-- name: put_promises
-- Locks are taken in the order that all writers use; the caller holds the articles' rows. Attempts and errors are taken from the file; the task is for the
-- newest text.
INSERT INTO embedding_tasks AS t (article_id, slug, tenant_id, model_id, priority, version, attempts, forgiven_attempts, error_class,
    error_message, errors, metadata, created_at)
SELECT DISTINCT ON (a.id, m.id) a.id, a.slug, a.tenant_id, m.id, p.priority, a.version, p.attempts, p.attempts, p.error_class,
       p.error_message, p.errors::jsonb, p.metadata::jsonb, p.created_at
FROM unnest(%(article_ids)s::text[], %(providers)s::text[], %(models)s::text[], %(dimensions)s::integer[], %(priorities)s::text[],
            %(attempts)s::integer[], %(error_classes)s::text[], %(error_messages)s::text[], %(errors)s::text[], %(metadatas)s::text[],
            %(created_ats)s::timestamptz[])
    AS p (article_id, provider, model, dimensions, priority, attempts, error_class, error_message, errors, metadata, created_at)
JOIN article_texts a ON a.id = p.article_id
JOIN embedding_models m ON m.provider = p.provider AND m.name = p.model AND m.dimensions = p.dimensions
ORDER BY a.id, m.id, array_position(ARRAY['urgent', 'high', 'normal', 'low'], p.priority)
ON CONFLICT (article_id, model_id, (CASE WHEN status = 'pending' THEN 0 ELSE id END)) DO UPDATE SET
    priority = excluded.priority, dispatched_at = NULL
WHERE embedq_more_urgent(t.priority, excluded.priority) <> t.priority
RETURNING (xmax = 0) AS made
