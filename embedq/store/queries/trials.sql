-- name: forget_articles_of
DELETE FROM article_texts WHERE tenant_id = %(tenant)s

-- name: forget_tasks_of
DELETE FROM embedding_tasks WHERE tenant_id = %(tenant)s

-- name: forget_versions_of
DELETE FROM article_versions WHERE tenant_id = %(tenant)s

-- name: ready_of
SELECT count(*) FILTER (WHERE embedding_status = 'ready') AS ready, count(*) FILTER (WHERE embedding_status = 'failed') AS failed
FROM articles WHERE tenant_id = %(tenant)s
