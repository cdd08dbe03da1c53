-- name: pause_provider
-- The longer pause wins; a fault counts once per pause that was over.
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
  AND coalesce(paused_until, '-infinity') <= clock_timestamp()  -- an answer to what was asked before the pause proves nothing about now
RETURNING name

-- name: may_call
-- After a fault one caller at a time probes; the others wait for its answer. No row: no fault is held against the provider, its pause
-- lasts, or another caller probes.
UPDATE embedding_providers SET probe_until = clock_timestamp() + make_interval(secs => %(probe_s)s)
WHERE name = %(provider)s AND faults > 0 AND coalesce(paused_until, '-infinity') <= clock_timestamp()
  AND coalesce(probe_until, '-infinity') <= clock_timestamp()
RETURNING name

-- name: provider_states
-- One provider's, or without a name those that faults are held against.
SELECT name, coalesce(pause_reason, '') AS why, faults,
       coalesce(extract(epoch FROM clock_timestamp() - faulty_since), 0)::double precision AS for_s,
       coalesce(greatest(0, extract(epoch FROM paused_until - clock_timestamp())), 0)::double precision AS left_s,
       coalesce(greatest(0, extract(epoch FROM probe_until - clock_timestamp())), 0)::double precision AS probe_left_s
FROM embedding_providers WHERE name = %(provider)s OR (%(provider)s::text IS NULL AND faults > 0) ORDER BY name

-- name: gate_of
-- What is looked at before each batch: the state of the provider, as above, and whether nothing may be stored for the model.
SELECT name, coalesce(pause_reason, '') AS why, faults,
       coalesce(extract(epoch FROM clock_timestamp() - faulty_since), 0)::double precision AS for_s,
       coalesce(greatest(0, extract(epoch FROM paused_until - clock_timestamp())), 0)::double precision AS left_s,
       coalesce(greatest(0, extract(epoch FROM probe_until - clock_timestamp())), 0)::double precision AS probe_left_s,
       EXISTS (SELECT FROM embedding_canaries c WHERE c.model_id = %(model_id)s AND c.differs_since IS NOT NULL) AS swapped
FROM embedding_providers WHERE name = %(provider)s
