-- name: keep_rejected
-- A repeated message increments the count of its row, which becomes unreviewed again. With %(most)s rows, further new messages are counted in one row per
-- queue (`digest` \x00, which no SHA-256 has), so that a flood takes bounded disk space.
INSERT INTO embedding_rejected_messages AS r (queue, reason, raw, seen, whole_size, whole_digest, last_at)
WITH said AS (
    SELECT u.*, u.place <= room.rows OR EXISTS (
        SELECT FROM embedding_rejected_messages k WHERE k.queue = u.queue AND k.digest = u.digest) AS fits
    FROM unnest(%(queues)s::text[], %(reasons)s::text[], %(raws)s::bytea[], %(sizes)s::bigint[], %(digests)s::bytea[], %(seen)s::integer[])
        WITH ORDINALITY AS u (queue, reason, raw, size, digest, seen, place),
        (SELECT %(most)s - count(*) AS rows FROM (SELECT FROM embedding_rejected_messages LIMIT %(most)s) few) room
)
SELECT queue, reason, raw, seen, CASE WHEN size > octet_length(raw) THEN size END, CASE WHEN size > octet_length(raw) THEN digest END, clock_timestamp()
FROM said WHERE fits
UNION ALL
SELECT queue, %(full)s, ''::bytea, sum(seen)::integer, sum(size * seen)::bigint, '\x00'::bytea, clock_timestamp()
FROM said WHERE NOT fits GROUP BY queue
ON CONFLICT (queue, digest) DO UPDATE
SET seen = least(2147483647, r.seen::bigint + excluded.seen)::integer, last_at = excluded.last_at, reviewed_at = NULL

-- name: rejected_count
-- Unreviewed messages. A full count is cheap, because the table is bounded.
SELECT count(*) AS messages FROM embedding_rejected_messages WHERE reviewed_at IS NULL

-- name: rejected_by_reason
SELECT queue, reason, count(*) AS messages, min(received_at) AS first_at, max(coalesce(last_at, received_at)) AS last_at
FROM embedding_rejected_messages WHERE reviewed_at IS NULL GROUP BY queue, reason ORDER BY messages DESC

-- name: rejected_listed
-- Newest first, without the content.
SELECT id, received_at, coalesce(last_at, received_at) AS last_at, queue, reason, seen, coalesce(whole_size, octet_length(raw)) AS bytes,
       reviewed_at, count(*) OVER () AS of_all
FROM embedding_rejected_messages WHERE reviewed_at IS NULL OR %(reviewed)s
ORDER BY coalesce(last_at, received_at) DESC, id DESC LIMIT %(limit)s

-- name: rejected_one
SELECT id, received_at, coalesce(last_at, received_at) AS last_at, queue, reason, seen, coalesce(whole_size, octet_length(raw)) AS bytes,
       reviewed_at, raw
FROM embedding_rejected_messages WHERE id = %(id)s

-- name: rejected_picked
-- The messages with these ids, or all reviewed or unreviewed ones.
SELECT id FROM embedding_rejected_messages
WHERE CASE WHEN %(ids)s::bigint[] IS NOT NULL THEN id = ANY (%(ids)s) ELSE %(all)s OR (reviewed_at IS NOT NULL) = %(reviewed)s END
ORDER BY id

-- name: review_rejected
UPDATE embedding_rejected_messages SET reviewed_at = clock_timestamp() WHERE id = ANY (%(ids)s) AND reviewed_at IS NULL

-- name: purge_rejected
DELETE FROM embedding_rejected_messages WHERE id = ANY (%(ids)s)
