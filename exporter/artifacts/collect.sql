-- name: limit
SELECT clock_timestamp() - %(age)s

-- name: archive
SELECT database_id FROM archive

-- Those that somebody has in hand are passed over.
-- name: lock_blobs
SELECT b.sha256 FROM artifact_blobs AS b
WHERE b.created_at < %(limit)s
  AND NOT EXISTS (SELECT FROM {plans} AS p WHERE p.run_track_activity_ref IS NOT NULL
      AND p.run_track_activity_ref->>'store' = 'table'
      AND p.run_track_activity_ref->>'key' = encode(b.sha256, 'hex'))
ORDER BY b.sha256 LIMIT %(count)s
FOR UPDATE OF b SKIP LOCKED

-- name: delete_blobs
DELETE FROM artifact_blobs AS b
WHERE b.sha256 = ANY (%(keys)s)
  AND NOT EXISTS (SELECT FROM {plans} AS p WHERE p.run_track_activity_ref IS NOT NULL
      AND p.run_track_activity_ref->>'store' = 'table'
      AND p.run_track_activity_ref->>'key' = encode(b.sha256, 'hex'))
RETURNING CASE WHEN b.original_id IS NULL THEN b.byte_length ELSE 0 END

-- name: lock_objects
SELECT o.key FROM artifact_objects AS o
WHERE o.store = %(store)s AND o.used_at < %(limit)s
  AND NOT EXISTS (SELECT FROM {plans} AS p WHERE p.run_track_activity_ref IS NOT NULL
      AND p.run_track_activity_ref->>'store' = o.store AND p.run_track_activity_ref->>'key' = o.key)
  AND NOT EXISTS (SELECT FROM artifact_originals AS k WHERE k.ref IS NOT NULL
      AND k.ref->>'store' = o.store AND k.ref->>'key' = o.key)
ORDER BY o.key LIMIT %(count)s
FOR UPDATE OF o SKIP LOCKED

-- The same question, asked again when nobody can give another answer any more.
-- name: unused_objects
SELECT o.key, o.byte_length FROM artifact_objects AS o
WHERE o.store = %(store)s AND o.key = ANY (%(keys)s)
  AND NOT EXISTS (SELECT FROM {plans} AS p WHERE p.run_track_activity_ref IS NOT NULL
      AND p.run_track_activity_ref->>'store' = o.store AND p.run_track_activity_ref->>'key' = o.key)
  AND NOT EXISTS (SELECT FROM artifact_originals AS k WHERE k.ref IS NOT NULL
      AND k.ref->>'store' = o.store AND k.ref->>'key' = o.key)

-- name: delete_objects
DELETE FROM artifact_objects WHERE store = %(store)s AND key = ANY (%(keys)s)

-- name: adopt_objects
INSERT INTO artifact_objects (store, key, sha256, byte_length, created_at, used_at)
SELECT %(store)s, f.key, decode(right(f.key, 64), 'hex'), f.size, f.at, f.at
FROM unnest(%(keys)s::text[], %(sizes)s::bigint[], %(times)s::timestamptz[]) AS f (key, size, at)
ON CONFLICT (store, key) DO NOTHING
RETURNING key

-- name: preview
WITH used AS MATERIALIZED (
    SELECT p.run_track_activity_ref->>'store' AS store, p.run_track_activity_ref->>'key' AS key
    FROM {plans} AS p WHERE p.run_track_activity_ref IS NOT NULL
    UNION SELECT k.ref->>'store', k.ref->>'key' FROM artifact_originals AS k WHERE k.ref IS NOT NULL
), blobs AS (
    SELECT CASE WHEN b.original_id IS NULL THEN b.byte_length ELSE 0 END AS byte_length
    FROM artifact_blobs AS b WHERE b.created_at < %(limit)s
      AND NOT EXISTS (SELECT FROM used AS u
          WHERE u.store = 'table' AND u.key = encode(b.sha256, 'hex'))
), objects AS (
    SELECT o.byte_length FROM artifact_objects AS o
    WHERE o.store = %(store)s::text AND o.used_at < %(limit)s
      AND NOT EXISTS (SELECT FROM used AS u WHERE u.store = o.store AND u.key = o.key)
)
SELECT (SELECT count(*) FROM blobs), (SELECT count(*) FROM objects),
    coalesce((SELECT sum(byte_length) FROM blobs), 0)
        + coalesce((SELECT sum(byte_length) FROM objects), 0)
