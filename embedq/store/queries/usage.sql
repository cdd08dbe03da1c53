-- name: put_usage
-- The last statement of a settle, so that its row locks are held only until the commit that follows.
INSERT INTO embedding_usage AS u (day, tenant_id, model, slot, requests, inputs, reused, tokens, cost)
SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date, b.tenant_id,
       coalesce(m.provider || '/' || m.name || '/' || m.dimensions, 'dropped model ' || b.model_id), %(slot)s,
       b.requests, b.inputs, b.reused, b.tokens, b.cost
FROM unnest(%(tenants)s::text[], %(models)s::integer[], %(requests)s::double precision[], %(inputs)s::bigint[], %(reused)s::bigint[],
            %(tokens)s::bigint[], %(costs)s::double precision[])
    AS b (tenant_id, model_id, requests, inputs, reused, tokens, cost)
LEFT JOIN embedding_models m ON m.id = b.model_id
ORDER BY 2, 3
ON CONFLICT (day, tenant_id, model, slot) DO UPDATE SET
    requests = u.requests + excluded.requests, inputs = u.inputs + excluded.inputs, reused = u.reused + excluded.reused,
    tokens = u.tokens + excluded.tokens, cost = u.cost + excluded.cost

-- name: usage
SELECT day, tenant_id, model, sum(requests) AS requests, sum(inputs)::bigint AS inputs, sum(reused)::bigint AS reused,
       sum(tokens)::bigint AS tokens, sum(cost) AS cost
FROM embedding_usage
WHERE day > (clock_timestamp() AT TIME ZONE 'UTC')::date - %(days)s::integer
  AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s) AND (%(model)s::text IS NULL OR model LIKE '%%' || %(model)s || '%%')
GROUP BY day, tenant_id, model ORDER BY day DESC, tenant_id, model

-- name: usage_today
SELECT coalesce(sum(requests), 0) AS requests, coalesce(sum(inputs), 0)::bigint AS inputs, coalesce(sum(reused), 0)::bigint AS reused,
       coalesce(sum(tokens), 0)::bigint AS tokens, coalesce(sum(cost), 0) AS cost
FROM embedding_usage WHERE day = (clock_timestamp() AT TIME ZONE 'UTC')::date
