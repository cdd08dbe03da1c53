-- name: kept_for_people
-- Bounded: a monitor asks this every minute.
SELECT (SELECT count(*) FROM (SELECT FROM embedding_rejected_messages WHERE reviewed_at IS NULL LIMIT %(cap)s) few) AS rejected,
       count(*) AS dead_letters, coalesce(sum(few.bytes), 0)::bigint AS dead_letters_bytes
FROM (SELECT pg_column_size(errors) + pg_column_size(error_message) + pg_column_size(metadata) AS bytes
      FROM embedding_tasks WHERE status = 'failed' LIMIT %(cap)s) few

-- name: series
-- One row per time bucket of %(bucket_s)s seconds and label: the mean of depths, the sum of ended tasks. `samples` distinguishes a bucket without samples
-- from one with empty queues.
SELECT floor(extract(epoch FROM m.timestamp - (clock_timestamp() - make_interval(secs => %(seconds)s))) / %(bucket_s)s)::integer AS bucket,
       m.metric, coalesce(m.labels->>%(by)s, '-') AS label, sum(m.value) AS total,
       count(DISTINCT date_bin('5 seconds', m.timestamp, '2000-01-01'::timestamptz)) AS samples
FROM performance_metrics m
WHERE m.metric = %(metric)s AND m.timestamp > clock_timestamp() - make_interval(secs => %(seconds)s)
GROUP BY 1, 2, 3 ORDER BY 1
