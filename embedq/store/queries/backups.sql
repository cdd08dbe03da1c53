-- name: backup_facts
SELECT (SELECT version_num FROM embedq_schema_version) AS schema, clock_timestamp() AS taken_at

-- name: columns_of
-- The columns that can be written; generated columns are left out.
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type FROM pg_attribute a
WHERE a.attrelid = to_regclass(%(table)s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum

-- name: newer_than
-- Number of rows, and how many of them are newer than a backup.
SELECT EXISTS (SELECT FROM embedding_tasks) AS tasks, EXISTS (SELECT FROM article_texts) AS articles,
       (SELECT count(*) FROM (SELECT FROM embedding_tasks WHERE created_at > %(taken_at)s LIMIT %(cap)s) few) AS tasks_since,
       (SELECT count(*) FROM (SELECT FROM article_texts WHERE updated_at > %(taken_at)s LIMIT %(cap)s) few) AS articles_since

-- name: backed_up_vectors
-- One row per vector, with its embedding's facts, in primary key order, so that an article's vectors are adjacent.
SELECT v.article_id, v.model_id, v.chunk, v.chunk_hash, v.starts_at, v.ends_at, coalesce(v.embedding, v.half::vector) AS embedding, e.text_hash, e.version, e.tokens, e.embedded_at
FROM embedding_vectors v JOIN embeddings e ON e.article_id = v.article_id AND e.model_id = v.model_id
ORDER BY v.article_id, v.model_id, v.chunk

-- name: model_map
CREATE TEMPORARY TABLE embedq_model_map (old_id integer PRIMARY KEY, new_id integer NOT NULL)

-- name: staged_models_have_a_preparation
-- Backups of earlier versions have no preparation.
ALTER TABLE staged_embedding_models ADD COLUMN IF NOT EXISTS preparation jsonb NOT NULL DEFAULT '{}'

-- name: staged_models
-- A backup of an older schema does not say how vectors were stored: in full.
SELECT id, provider, name, dimensions, preparation, kept_in_step, coalesce(to_jsonb(s) ->> 'storage', 'vector') AS storage
FROM staged_embedding_models s ORDER BY id

-- name: map_model
INSERT INTO embedq_model_map VALUES (%(old)s, %(new)s) ON CONFLICT (old_id) DO UPDATE SET new_id = excluded.new_id

-- name: keep_in_step
UPDATE embedding_models SET kept_in_step = %(kept)s WHERE id = %(id)s AND kept_in_step <> %(kept)s

-- name: load_active_model
INSERT INTO embedding_active_model (id, model_id)
SELECT 1, m.new_id FROM staged_embedding_active_model s JOIN embedq_model_map m ON m.old_id = s.model_id
ON CONFLICT (id) DO NOTHING

-- name: other_active_model
SELECT here.provider || '/' || here.name AS here, there.provider || '/' || there.name AS there
FROM staged_embedding_active_model s JOIN embedq_model_map m ON m.old_id = s.model_id JOIN embedding_models there ON there.id = m.new_id
JOIN embedding_active_model a ON a.model_id <> m.new_id JOIN embedding_models here ON here.id = a.model_id

-- name: load_versions
INSERT INTO article_versions ({columns}) SELECT {columns} FROM staged_article_versions ON CONFLICT DO NOTHING

-- name: load_articles
-- A text that was edited since the backup is restored as a new version; the newer one stays in the history. A slug that another article has now stays with
-- that article. Existing articles of sources are not changed, because their text is in the source's table. {columns} has no version: the trigger continues
-- from the history.
INSERT INTO article_texts AS a (id, tenant_id, slug, title, content, metadata, created_at, updated_at, source)
SELECT s.id, s.tenant_id,
       CASE WHEN EXISTS (SELECT FROM article_texts o WHERE o.tenant_id = s.tenant_id AND o.slug = s.slug AND o.id <> s.id) THEN NULL ELSE s.slug END,
       s.title, s.content, s.metadata, s.created_at, s.updated_at, s.source
FROM staged_article_texts s ORDER BY s.id
ON CONFLICT (id) DO UPDATE SET title = excluded.title, content = excluded.content, metadata = excluded.metadata, tenant_id = excluded.tenant_id,
    slug = coalesce(excluded.slug, a.slug)
WHERE a.source IS NULL AND excluded.source IS NULL AND (a.title, a.content, a.metadata, a.tenant_id, a.slug)
    IS DISTINCT FROM (excluded.title, excluded.content, excluded.metadata, excluded.tenant_id, coalesce(excluded.slug, a.slug))
RETURNING CASE WHEN xmax = 0 THEN 'made' ELSE 'put back' END AS became

-- name: staged_articles_have_a_source
ALTER TABLE pg_temp.staged_article_texts ADD COLUMN IF NOT EXISTS source text

-- name: staged_sources_not_here
SELECT s.name, s.given FROM staged_embedding_sources s WHERE NOT EXISTS (SELECT FROM embedding_sources e WHERE e.name = s.name) ORDER BY 1

-- name: hold_staged_articles
SELECT a.id FROM article_texts a WHERE a.id IN (SELECT article_id FROM staged_embedding_vectors) ORDER BY a.id FOR KEY SHARE

-- name: load_embeddings
-- Only for the article's current text, and never over a vector of newer text (G4). If there is no embedding at all, also one of an older text: search used
-- it before, and the article stays stale. Vectors are loaded only for the rows that this returns.
INSERT INTO embeddings AS e (model_id, article_id, version, text_hash, chunks, tokens, embedded_at)
SELECT m.new_id, s.article_id, CASE WHEN a.text_hash = s.text_hash THEN a.version ELSE least(s.version, a.version - 1) END, s.text_hash,
       count(*), max(s.tokens), max(s.embedded_at)
FROM staged_embedding_vectors s JOIN embedq_model_map m ON m.old_id = s.model_id
JOIN article_texts a ON a.id = s.article_id
WHERE a.text_hash = s.text_hash OR NOT EXISTS (SELECT FROM embeddings x WHERE x.article_id = a.id AND x.model_id = m.new_id)
GROUP BY 1, 2, 3, 4 ORDER BY s.article_id, m.new_id
ON CONFLICT (article_id, model_id) DO UPDATE SET
    version = excluded.version, text_hash = excluded.text_hash, chunks = excluded.chunks, tokens = excluded.tokens, embedded_at = excluded.embedded_at
WHERE e.version <= excluded.version AND e.text_hash IS DISTINCT FROM excluded.text_hash
RETURNING e.article_id, e.model_id

-- name: drop_replaced_vectors
DELETE FROM embedding_vectors v USING unnest(%(articles)s::text[], %(models)s::integer[]) AS u (article_id, model_id)
WHERE v.article_id = u.article_id AND v.model_id = u.model_id

-- name: load_vectors
INSERT INTO embedding_vectors (model_id, article_id, chunk, tenant_id, chunk_hash, starts_at, ends_at, embedding)
SELECT m.new_id, s.article_id, s.chunk, a.tenant_id, s.chunk_hash, s.starts_at, s.ends_at, s.embedding
FROM unnest(%(articles)s::text[], %(models)s::integer[]) AS u (article_id, model_id)
JOIN embedq_model_map m ON m.new_id = u.model_id
JOIN staged_embedding_vectors s ON s.article_id = u.article_id AND s.model_id = m.old_id
JOIN article_texts a ON a.id = s.article_id

-- name: ids_after
-- Move the sequence beyond the file's ids, with a margin, because writers take numbers between the read and the move.
SELECT setval(pg_get_serial_sequence(%(table)s, 'id'), %(highest)s + 10000)
WHERE %(highest)s > coalesce(pg_sequence_last_value(pg_get_serial_sequence(%(table)s, 'id')::regclass), 0)

-- name: revive_staged_tasks
-- A task that was open in the backup and was cancelled or failed since becomes pending, unless its article has its vector. The trigger for changes by hand
-- completes the row. Tasks are matched by article, model and creation time, because ids may be of another database.
UPDATE embedding_tasks t SET status = 'pending', priority = s.priority, lost_leases = 0
FROM staged_embedding_tasks s JOIN embedq_model_map m ON m.old_id = s.model_id JOIN article_texts a ON a.id = s.article_id
WHERE t.article_id = s.article_id AND t.model_id = m.new_id AND t.created_at = s.created_at
  AND s.status IN ('pending', 'processing') AND t.status IN ('cancelled', 'failed', 'skipped')
  AND NOT EXISTS (SELECT FROM embeddings e WHERE e.article_id = a.id AND e.model_id = m.new_id AND e.text_hash = a.text_hash)
  AND NOT EXISTS (SELECT FROM embedding_tasks n WHERE n.article_id = t.article_id AND n.model_id = t.model_id AND n.status = 'pending')

-- name: load_tasks
-- Insert the tasks that are missing. Open tasks become pending, for the newest text and without a lease. A task whose article is missing is cancelled;
-- none is made if the article has its vector or an open task.
INSERT INTO embedding_tasks (id, model_id, status, version, lease_holder, dispatched_at, processed_at, completed_at, error_message, {rest})
SELECT CASE WHEN EXISTS (SELECT FROM embedding_tasks o WHERE o.id = s.id)
            THEN nextval(pg_get_serial_sequence('embedding_tasks', 'id')) ELSE s.id END,
       m.new_id,
       CASE WHEN NOT o.was_open THEN s.status WHEN a.id IS NULL THEN 'cancelled' ELSE 'pending' END,
       CASE WHEN o.was_open THEN coalesce(a.version, s.version) ELSE s.version END,
       NULL, NULL,
       CASE WHEN NOT o.was_open THEN s.processed_at END,
       CASE WHEN NOT o.was_open THEN s.completed_at WHEN a.id IS NULL THEN clock_timestamp() END,
       CASE WHEN o.was_open AND a.id IS NULL THEN 'its article was not there when the backup was restored' ELSE s.error_message END,
       {s_rest}
FROM staged_embedding_tasks s JOIN embedq_model_map m ON m.old_id = s.model_id
LEFT JOIN article_texts a ON a.id = s.article_id
CROSS JOIN LATERAL (SELECT s.status IN ('pending', 'processing') AS was_open) o
WHERE NOT EXISTS (SELECT FROM embedding_tasks t WHERE t.article_id = s.article_id AND t.model_id = m.new_id AND t.created_at = s.created_at)
  AND NOT (o.was_open AND EXISTS (
      SELECT FROM embeddings e WHERE e.article_id = a.id AND e.model_id = m.new_id AND e.text_hash = a.text_hash))
ORDER BY s.id
ON CONFLICT (article_id, model_id, (CASE WHEN status = 'pending' THEN 0 ELSE id END)) DO NOTHING

-- name: load_rejected
INSERT INTO embedding_rejected_messages ({columns})
SELECT {columns} FROM staged_embedding_rejected_messages ORDER BY id
ON CONFLICT (queue, digest) DO NOTHING

-- name: load_usage
INSERT INTO embedding_usage ({columns}) SELECT {columns} FROM staged_embedding_usage ON CONFLICT DO NOTHING

-- name: load_audit
-- Entries are matched by time and category, because the message of an entry may be extended while its command runs.
INSERT INTO embedding_audit_logs (id, timestamp, level, category, message, metadata) OVERRIDING SYSTEM VALUE
SELECT CASE WHEN EXISTS (SELECT FROM embedding_audit_logs o WHERE o.id = s.id)
            THEN nextval(pg_get_serial_sequence('embedding_audit_logs', 'id')) ELSE s.id END,
       s.timestamp, s.level, s.category, s.message, s.metadata
FROM staged_embedding_audit_logs s
WHERE NOT EXISTS (SELECT FROM embedding_audit_logs l WHERE l.timestamp = s.timestamp AND l.category = s.category)
ORDER BY s.id

-- name: staged_live_row
SELECT is_running, mode, submissions_accepted, paused_priorities, paused_tenants, throttle FROM staged_embedding_worker_status
