-- name: progress
-- Measures progress of due tasks; each part uses an index. `given_s`: seconds for which the oldest claimable task with the broker or a worker has been
-- due; for a task whose worker died, since its original due time. `settled_s`: since the last task ended. `changed_s`: since the live row was changed.
-- `held`: priorities whose tasks wait for their provider (its pause, rate limit, daily cap). `ahead_s`: how far the newest audit entry and tasks are ahead
-- of the clock. `losing`: tasks in work whose workers died more than once.
WITH may AS MATERIALIZED (
    SELECT p.priority, s.paused_tenants AS tenants, embedq_models_held(p.priority) AS models
    FROM embedding_worker_status s, unnest(ARRAY['urgent', 'high', 'normal', 'low']) AS p (priority)
    WHERE s.id = 1 AND s.is_running AND NOT p.priority = ANY (s.paused_priorities)
), given AS (
    SELECT oldest.since FROM may, LATERAL (
        SELECT CASE WHEN t.lost_leases > 0 THEN t.created_at ELSE t.scheduled_at END AS since FROM embedding_tasks t
        WHERE t.status = 'pending' AND t.dispatched_at IS NOT NULL AND t.priority = may.priority AND t.scheduled_at <= clock_timestamp()
          AND NOT t.tenant_id = ANY (may.tenants) AND NOT t.model_id = ANY (may.models)
        ORDER BY t.dispatched_at LIMIT 100) oldest
    UNION ALL
    SELECT CASE WHEN t.lost_leases > 0 THEN t.created_at ELSE t.processed_at END FROM embedding_tasks t WHERE t.status = 'processing'
), free AS (
    SELECT waits.created_at FROM unnest(ARRAY['urgent', 'high', 'normal', 'low']) AS p (priority), LATERAL (
        SELECT t.created_at FROM embedding_tasks t
        WHERE t.status = 'pending' AND t.dispatched_at IS NULL AND t.priority = p.priority ORDER BY t.tenant_id, t.scheduled_at LIMIT 100) waits
)
SELECT (SELECT extract(epoch FROM clock_timestamp() - min(since)) FROM given)::double precision AS given_s,
       (SELECT extract(epoch FROM clock_timestamp() - t.completed_at) FROM embedding_tasks t
        WHERE t.completed_at IS NOT NULL ORDER BY t.completed_at DESC LIMIT 1)::double precision AS settled_s,
       (SELECT extract(epoch FROM clock_timestamp() - changed_at) FROM embedding_worker_status WHERE id = 1)::double precision AS changed_s,
       ARRAY(SELECT p FROM unnest(ARRAY['urgent', 'high', 'normal', 'low']) AS p
             WHERE (SELECT model_id FROM embedding_active_model) = ANY (embedq_models_held(p))) AS held,
       extract(epoch FROM greatest(
           (SELECT timestamp FROM embedding_audit_logs ORDER BY id DESC LIMIT 1), (SELECT max(created_at) FROM free)
       ) - clock_timestamp())::double precision AS ahead_s,
       (SELECT count(*) FROM embedding_tasks WHERE status = 'processing' AND lost_leases > 1) AS losing,
       current_setting('transaction_read_only') = 'on' AS read_only
