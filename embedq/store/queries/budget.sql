-- name: take_budget
SELECT embedq_take_budget(%(provider)s, %(tokens)s, %(patience_s)s, %(early_s)s, %(request_rate)s, %(request_room)s, %(requests_kept)s,
                          %(token_rate)s, %(token_room)s, %(tokens_kept)s) AS wait_s

-- name: budget_spent
UPDATE embedding_providers SET spent_until = clock_timestamp() + make_interval(secs => %(wait_s)s)
WHERE name = %(provider)s AND coalesce(spent_until, '-infinity') < clock_timestamp()

-- name: cap_providers
-- Hold normal and low tasks until the end of the day (UTC). Returns only providers that were not held yet.
UPDATE embedding_providers
SET capped_until = date_trunc('day', clock_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + interval '1 day', cap_reason = %(reason)s
WHERE coalesce(capped_until, '-infinity') <= clock_timestamp()
RETURNING name

-- name: uncap_providers
UPDATE embedding_providers SET capped_until = NULL, cap_reason = NULL
WHERE capped_until IS NOT NULL AND (capped_until <= clock_timestamp() OR %(anyway)s)
RETURNING name

-- name: spent_s
SELECT coalesce(max(extract(epoch FROM p.spent_until - clock_timestamp())), 0)::double precision AS spent_s
FROM embedding_providers p
WHERE p.spent_until > clock_timestamp() AND (%(ids)s::bigint[] IS NULL OR EXISTS (
    SELECT FROM embedding_tasks t JOIN embedding_models m ON m.id = t.model_id
    WHERE t.id = ANY (%(ids)s::bigint[]) AND t.status = 'pending' AND m.provider = p.name))
