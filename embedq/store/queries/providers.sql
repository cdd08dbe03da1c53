-- name: pause_provider
-- The longer pause is kept; faults during a pause are not counted again.
UPDATE embedding_providers p
SET faults = p.faults + was.over::integer,
    faulty_since = coalesce(p.faulty_since, clock_timestamp()),
    paused_until = greatest(p.paused_until, clock_timestamp() + make_interval(secs => %(pause_s)s)),
    pause_reason = %(reason)s,
    probe_until = NULL
FROM (SELECT name, coalesce(paused_until, '-infinity') <= clock_timestamp() AS over FROM embedding_providers
      WHERE name = %(provider)s FOR UPDATE) was
WHERE p.name = was.name
RETURNING p.faults, extract(epoch FROM p.paused_until - clock_timestamp())::double precision AS pause_s, was.over AS began

-- name: provider_well
UPDATE embedding_providers SET faults = 0, paused_until = NULL, pause_reason = NULL, probe_until = NULL, faulty_since = NULL
WHERE name = %(provider)s AND faults > 0
  AND coalesce(paused_until, '-infinity') <= clock_timestamp()  -- the answer to a request from before the pause does not close the circuit
RETURNING name

-- name: may_call
-- After a fault one caller at a time probes; the others wait. No row: the provider has no fault, its pause lasts, or another caller probes.
UPDATE embedding_providers SET probe_until = clock_timestamp() + make_interval(secs => %(probe_s)s)
WHERE name = %(provider)s AND faults > 0 AND coalesce(paused_until, '-infinity') <= clock_timestamp()
  AND coalesce(probe_until, '-infinity') <= clock_timestamp()
RETURNING name

-- name: provider_states
-- The state of one provider, or without a name of all that have faults.
SELECT name, coalesce(pause_reason, '') AS why, faults,
       coalesce(extract(epoch FROM clock_timestamp() - faulty_since), 0)::double precision AS for_s,
       coalesce(greatest(0, extract(epoch FROM paused_until - clock_timestamp())), 0)::double precision AS left_s,
       coalesce(greatest(0, extract(epoch FROM probe_until - clock_timestamp())), 0)::double precision AS probe_left_s
FROM embedding_providers WHERE name = %(provider)s OR (%(provider)s::text IS NULL AND faults > 0) ORDER BY name

-- name: gate_of
-- Read before each batch: the state of the provider, as above, and whether storing vectors of the model is blocked.
SELECT name, coalesce(pause_reason, '') AS why, faults,
       coalesce(extract(epoch FROM clock_timestamp() - faulty_since), 0)::double precision AS for_s,
       coalesce(greatest(0, extract(epoch FROM paused_until - clock_timestamp())), 0)::double precision AS left_s,
       coalesce(greatest(0, extract(epoch FROM probe_until - clock_timestamp())), 0)::double precision AS probe_left_s,
       EXISTS (SELECT FROM embedding_canaries c WHERE c.model_id = %(model_id)s AND c.differs_since IS NOT NULL) AS swapped
FROM embedding_providers WHERE name = %(provider)s
