-- name: settings_versions
-- Stored in the audit log; clean-up does not delete this category.
SELECT (metadata->>'version')::integer AS version, timestamp, metadata->>'who' AS who, metadata->>'reason' AS reason, metadata
FROM embedding_audit_logs WHERE category = 'config' AND metadata ? 'version' AND (%(version)s::integer IS NULL OR (metadata->>'version')::integer = %(version)s)
ORDER BY id DESC LIMIT %(limit)s

-- name: one_version_at_a_time
SELECT pg_advisory_xact_lock(hashtextextended('embedq.config.' || current_schema(), 0))

-- name: next_version
SELECT 1 + coalesce(max((metadata->>'version')::integer), 0) AS version FROM embedding_audit_logs WHERE category = 'config'
