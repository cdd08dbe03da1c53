DROP INDEX IF EXISTS article_texts_words;
DROP FUNCTION embedq_words, embedq_want_of, embedq_take_budget, embedq_models_held;
DROP INDEX embedding_vectors_by_text;
DROP TABLE embedding_usage, embedding_budgets;
ALTER TABLE embedding_providers DROP COLUMN spent_until, DROP COLUMN capped_until, DROP COLUMN cap_reason;
