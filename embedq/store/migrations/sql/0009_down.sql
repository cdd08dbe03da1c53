DROP TABLE embedding_canaries;
-- The version before puts nothing before texts: under its own name such a model would get vectors of two kinds. A server knows no model of this
-- name, so that nothing is embedded with it.
UPDATE embedding_models SET name = name || '#with-prefixes'
WHERE preparation ?| ARRAY['document', 'query', 'document_parameters', 'query_parameters'];
ALTER TABLE embedding_models DROP COLUMN preparation;
