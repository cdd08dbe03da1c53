-- step: embedding_models
-- Prefixes, fields of requests and sizes of chunks, of models that are registered from now on. {}: nothing is put before texts, and the
-- settings of each process decide about chunks, as it was before.
ALTER TABLE embedding_models ADD COLUMN preparation jsonb NOT NULL DEFAULT '{}';

-- step: embedding_models
-- The vector that a model made of a harmless text when it was first asked, and whether it makes the same today. While it does not, nothing
-- is stored for that model. No vector: it was never asked while it was as before. `server`: where the other vector came from, host and port. `looked_at`: the latest look at it since then.
CREATE TABLE embedding_canaries (
    model_id integer PRIMARY KEY REFERENCES embedding_models ON DELETE CASCADE,
    embedding real[],
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    same_at timestamptz,
    differs_since timestamptz,
    cosine double precision,
    server text NOT NULL DEFAULT '',
    worker text NOT NULL DEFAULT '',
    looked_at timestamptz
);
