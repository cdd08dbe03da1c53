-- Budgets, the ledger, models that are built beside the active one, and vectors that are found again by their text.

-- A provider is left alone by some priorities while its budget is spent (all but urgent) or the day's cap is reached (normal and low).
ALTER TABLE embedding_providers
    ADD COLUMN spent_until timestamptz,
    ADD COLUMN capped_until timestamptz,
    ADD COLUMN cap_reason text;

-- Models that tasks of this priority must not ask at this moment.
CREATE FUNCTION embedq_models_held(the_priority text) RETURNS integer[]
LANGUAGE sql STABLE SET search_path FROM CURRENT
RETURN ARRAY(
    SELECT m.id FROM embedding_models m JOIN embedding_providers p ON p.name = m.provider
    WHERE p.paused_until > clock_timestamp()
       OR (p.spent_until > clock_timestamp() AND the_priority <> 'urgent')
       OR (p.capped_until > clock_timestamp() AND the_priority IN ('normal', 'low')));

-- Rate limits: one bucket of requests and one of tokens per provider, for all processes. Levels may be negative: places in line that were given out.
CREATE TABLE embedding_budgets (
    provider text PRIMARY KEY,
    requests double precision NOT NULL,
    tokens double precision NOT NULL,
    refilled_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 10);

-- A place in line: seconds until the request may be sent, or minus the seconds until one is free when that is further off than patience_s
-- (nothing is taken then). Rates per second; a rate of 0 is no limit. `kept` is what this caller must leave for the urgent. Whoever takes
-- the last place that is near enough closes the door: nobody else claims tasks only to hand them back.
CREATE FUNCTION embedq_take_budget(
    the_provider text, need_tokens double precision, patience_s double precision, early_s double precision,
    request_rate double precision, request_room double precision, requests_kept double precision,
    token_rate double precision, token_room double precision, tokens_kept double precision
) RETURNS double precision
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    bucket embedding_budgets;
    gone_s double precision;
    wait_s double precision := 0;
    next_s double precision;
BEGIN
    SELECT * INTO bucket FROM embedding_budgets WHERE provider = the_provider FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO embedding_budgets (provider, requests, tokens) VALUES (the_provider, request_room, token_room) ON CONFLICT DO NOTHING;
        SELECT * INTO bucket FROM embedding_budgets WHERE provider = the_provider FOR UPDATE;
    END IF;
    gone_s := greatest(0, extract(epoch FROM clock_timestamp() - bucket.refilled_at));
    bucket.requests := least(request_room, bucket.requests + gone_s * request_rate);
    bucket.tokens := least(token_room, bucket.tokens + gone_s * token_rate);
    IF request_rate > 0 THEN
        wait_s := greatest(wait_s, (1 + requests_kept - bucket.requests) / request_rate);
    END IF;
    IF token_rate > 0 THEN
        -- A request larger than the bucket goes when the bucket is full, and is paid off by those after it.
        wait_s := greatest(wait_s, (least(need_tokens, token_room - tokens_kept) + tokens_kept - bucket.tokens) / token_rate);
    END IF;
    IF wait_s > patience_s THEN
        UPDATE embedding_budgets SET requests = bucket.requests, tokens = bucket.tokens, refilled_at = clock_timestamp()
        WHERE provider = the_provider;
        RETURN -wait_s;
    END IF;
    UPDATE embedding_budgets SET requests = bucket.requests - 1, tokens = bucket.tokens - need_tokens, refilled_at = clock_timestamp()
    WHERE provider = the_provider;
    next_s := 0;
    IF request_rate > 0 THEN
        next_s := greatest(next_s, (2 + requests_kept - bucket.requests) / request_rate);
    END IF;
    IF token_rate > 0 THEN
        next_s := greatest(next_s, (tokens_kept - bucket.tokens + need_tokens) / token_rate);
    END IF;
    IF next_s > patience_s THEN
        UPDATE embedding_providers SET spent_until = clock_timestamp() + make_interval(secs => next_s - patience_s + early_s)
        WHERE name = the_provider;
    END IF;
    RETURN wait_s;
END $$;

-- The ledger: what was bought, by day (UTC), tenant and model. Several rows (slots) for each, so that workers do not wait for each other.
CREATE TABLE embedding_usage (
    day date NOT NULL,
    tenant_id text NOT NULL,
    model text NOT NULL,
    slot smallint NOT NULL,
    requests double precision NOT NULL DEFAULT 0,
    inputs bigint NOT NULL DEFAULT 0,
    reused bigint NOT NULL DEFAULT 0,
    tokens bigint NOT NULL DEFAULT 0,
    cost double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (day, tenant_id, model, slot)
) WITH (fillfactor = 50);

-- A vector is found again by the text it was made from, within its tenant. Eight bytes of the hash are the index's, the rest is compared.
CREATE INDEX embedding_vectors_by_text ON embedding_vectors (tenant_id, substring(chunk_hash FROM 1 FOR 8));

-- R12: tasks for one model's stale articles, which leave the other models' tasks alone. A waiting task is left as it is.
CREATE FUNCTION embedq_want_of(the_model integer, ids text[], why text) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    live embedding_worker_status;
    born integer;
BEGIN
    SELECT * INTO live FROM embedding_worker_status WHERE id = 1;
    IF live.mode IN ('sync', 'off') OR NOT coalesce(live.submissions_accepted, true) THEN
        RETURN 0;
    END IF;
    INSERT INTO embedding_tasks (article_id, slug, tenant_id, model_id, priority, version, metadata)
    SELECT a.id, a.slug, a.tenant_id, the_model, CASE WHEN active.model_id = the_model THEN 'normal' ELSE 'low' END, a.version,
           jsonb_build_object('reason', why)
    FROM article_texts a LEFT JOIN embedding_active_model active ON true
    WHERE a.id = ANY (ids) AND EXISTS (SELECT FROM embedding_models WHERE id = the_model)
    ORDER BY a.id
    ON CONFLICT (article_id, model_id) WHERE status = 'pending' DO NOTHING;
    GET DIAGNOSTICS born = ROW_COUNT;
    IF born > 0 THEN
        PERFORM embedq_wake();
    END IF;
    RETURN born;
END $$;

-- Words for ranking by words (hybrid search). Only a part of a very long text: a tsvector holds one megabyte, and saving never breaks.
CREATE FUNCTION embedq_words(title text, content text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN setweight(to_tsvector('english', left(title, 1000)), 'A') || to_tsvector('english', left(content, 100000));
