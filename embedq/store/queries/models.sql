-- name: add_model
SELECT embedq_add_model(%(provider)s, %(name)s, %(dimensions)s) AS id

-- name: models
SELECT m.*, m.id = a.model_id AS active, m.id = a.previous_model_id AS previous
FROM embedding_models m LEFT JOIN embedding_active_model a ON true ORDER BY m.id

-- name: active_model
SELECT m.id, m.provider, m.name, m.dimensions FROM embedding_models m JOIN embedding_active_model a ON a.model_id = m.id

-- name: first_model
INSERT INTO embedding_active_model (id, model_id) VALUES (1, %(model_id)s) ON CONFLICT (id) DO NOTHING

-- name: pause_provider
-- The longer pause wins; a fault counts once per pause that was over.
UPDATE embedding_providers
SET faults = faults + CASE WHEN paused_until IS NULL OR paused_until <= clock_timestamp() THEN 1 ELSE 0 END,
    faulty_since = coalesce(faulty_since, clock_timestamp()),
    paused_until = greatest(paused_until, clock_timestamp() + make_interval(secs => %(pause_s)s)),
    pause_reason = %(reason)s,
    probe_until = NULL
WHERE name = %(provider)s
RETURNING faults, extract(epoch FROM paused_until - clock_timestamp())::double precision AS pause_s

-- name: provider_well
UPDATE embedding_providers SET faults = 0, paused_until = NULL, pause_reason = NULL, probe_until = NULL, faulty_since = NULL
WHERE name = %(provider)s AND faults > 0
  AND coalesce(paused_until, '-infinity') <= clock_timestamp()  -- an answer to what was asked before the pause proves nothing about now
RETURNING name

-- name: may_call
-- After a fault one caller at a time probes; the others wait for its answer. No row: the provider is well, or the probe is somebody's.
UPDATE embedding_providers SET probe_until = clock_timestamp() + make_interval(secs => %(probe_s)s)
WHERE name = %(provider)s AND faults > 0 AND coalesce(paused_until, '-infinity') <= clock_timestamp()
  AND coalesce(probe_until, '-infinity') <= clock_timestamp()
RETURNING name

-- name: provider_state
SELECT name, faults, pause_reason, paused_until, faulty_since, probe_until,
       coalesce(greatest(0, extract(epoch FROM paused_until - clock_timestamp())), 0)::double precision AS pause_s,
       coalesce(greatest(0, extract(epoch FROM probe_until - clock_timestamp())), 0)::double precision AS probe_s
FROM embedding_providers WHERE name = %(provider)s
