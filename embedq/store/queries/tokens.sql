-- name: create_token
INSERT INTO embedding_tokens (name, secret_hash, scope, tenant_id, source, rate_requests, rate_s, created_by, expires_at)
VALUES (%(name)s, %(secret_hash)s, %(scope)s, %(tenant_id)s, %(source)s, %(rate_requests)s, %(rate_s)s, %(created_by)s,
        clock_timestamp() + make_interval(secs => %(expires_s)s::double precision))
RETURNING id, name, scope, tenant_id, source, rate_requests, rate_s, created_at, created_by, expires_at

-- name: tokens
-- The current token of a name first. %(ended)s: include revoked and expired ones.
SELECT id, name, scope, tenant_id, source, rate_requests, rate_s, created_at, created_by, expires_at, replaced_at, revoked_at, revoked_by, last_used_at,
       CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= clock_timestamp() THEN 'expired'
            WHEN replaced_at IS NOT NULL THEN 'replaced' ELSE 'open' END AS state
FROM embedding_tokens
WHERE %(ended)s OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp()))
ORDER BY name, replaced_at IS NOT NULL, id DESC

-- name: open_tokens
-- All valid tokens, for the short-lived cache of a service process.
SELECT id, name, secret_hash, scope, tenant_id, source, rate_requests IS NOT NULL AS has_rate,
       coalesce(last_used_at > clock_timestamp() - make_interval(secs => %(noted_s)s), false) AS lately_used
FROM embedding_tokens WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())

-- name: token_named
-- Locked, so that concurrent rotations of a name are serialised.
SELECT id, scope, tenant_id, source, rate_requests, rate_s, extract(epoch FROM expires_at - created_at)::double precision AS lasts_s
FROM embedding_tokens WHERE name = %(name)s AND replaced_at IS NULL AND revoked_at IS NULL FOR UPDATE

-- name: replace_token
UPDATE embedding_tokens SET replaced_at = clock_timestamp(),
       expires_at = least(expires_at, clock_timestamp() + make_interval(secs => %(overlap_s)s))
WHERE id = %(id)s RETURNING expires_at

-- name: revoke_tokens
-- All tokens of the name: the current one and those that it replaced.
UPDATE embedding_tokens SET revoked_at = clock_timestamp(), revoked_by = %(who)s
WHERE name = %(name)s AND revoked_at IS NULL RETURNING id

-- name: use_token
-- Counts one request if the rate allows it (generic cell rate algorithm: a full burst at once, then at an even pace).
UPDATE embedding_tokens SET last_used_at = clock_timestamp(),
       paid_until = greatest(paid_until, clock_timestamp()) + make_interval(secs => rate_s / rate_requests)
WHERE id = %(id)s
  AND (rate_requests IS NULL OR paid_until IS NULL OR paid_until <= clock_timestamp() + make_interval(secs => rate_s * (1 - 1.0 / rate_requests)))

-- name: token_wait
-- Seconds until the rate allows the next request.
SELECT extract(epoch FROM paid_until - clock_timestamp() - make_interval(secs => rate_s * (1 - 1.0 / rate_requests)))::double precision AS wait_s
FROM embedding_tokens WHERE id = %(id)s
