DROP VIEW articles;
DROP TABLE embedding_rejected_messages, performance_metrics, embedding_audit_logs, embedding_workers, embedding_worker_status,
    embedding_tasks, embedding_vectors, embeddings, embedding_active_model, embedding_providers, embedding_models, article_versions;
DROP TRIGGER embedq_articles_inserted ON article_texts;
DROP TRIGGER embedq_article_born ON article_texts;
DROP TRIGGER embedq_article_edit ON article_texts;
DROP TRIGGER embedq_articles_updated ON article_texts;
DROP TRIGGER embedq_articles_deleted ON article_texts;
DROP TRIGGER embedq_articles_truncated ON article_texts;
DROP FUNCTION embedq_articles_inserted, embedq_article_born, embedq_article_edit, embedq_articles_updated, embedq_articles_deleted, embedq_articles_truncated,
    embedq_want, embedq_wake, embedq_more_urgent, embedq_fence, embedq_fence_key, embedq_stamp_status, embedq_task_changed_by_hand,
    embedq_attempts_never_go_down, embedq_add_model;
