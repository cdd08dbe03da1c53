-- Named tokens. The secret itself is stored nowhere: it has 256 random bits, so that a plain hash of it cannot be searched through.
CREATE TABLE embedding_tokens (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CHECK (name <> ''),
    secret_hash bytea NOT NULL UNIQUE CHECK (length(secret_hash) = 32),
    scope text NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    tenant_id text CHECK (tenant_id <> ''),
    source text CHECK (source <> ''),
    rate_requests integer CHECK (rate_requests > 0),
    rate_s double precision CHECK (rate_s > 0),
    -- When the requests made so far have been paid for, at the rate's even pace (generic cell rate algorithm).
    paid_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL,
    expires_at timestamptz,
    replaced_at timestamptz,
    revoked_at timestamptz,
    revoked_by text,
    last_used_at timestamptz,
    CHECK ((rate_requests IS NULL) = (rate_s IS NULL)),
    CHECK (scope <> 'admin' OR (tenant_id IS NULL AND source IS NULL))
);
-- One token of a name; the one that it replaced keeps the name until it expires.
CREATE UNIQUE INDEX embedding_tokens_name ON embedding_tokens (name) WHERE replaced_at IS NULL AND revoked_at IS NULL;
