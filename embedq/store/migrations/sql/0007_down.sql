DROP TABLE embedding_tokens;
