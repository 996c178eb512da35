-- name: keep_original
INSERT INTO artifact_originals
    (plan_id, generation, kind, member_path, sha256, byte_length, body, ref)
VALUES (%(plan)s, %(generation)s, %(kind)s, %(path)s, %(sha256)s, %(byte_length)s, %(body)s,
    %(ref)s)
ON CONFLICT ON CONSTRAINT artifact_originals_once DO NOTHING

-- Comes again: its row is locked and young, so that the collector leaves it alone.
-- name: keep_blob
INSERT INTO artifact_blobs (sha256, encoding, byte_length, body)
VALUES (%(sha256)s, 'gzip', %(byte_length)s, %(body)s)
ON CONFLICT (sha256) DO UPDATE SET created_at = clock_timestamp()

-- Lists an object before it is put, and makes one that is listed young again. Waits for a
-- collector that is about to remove it.
-- name: list_object
INSERT INTO artifact_objects AS o (store, key, sha256, byte_length, created_at)
SELECT %(store)s, a.database_id || '/' || left(%(name)s, 2) || '/' || %(name)s, %(sha256)s,
    %(byte_length)s, clock_timestamp()
FROM archive AS a
ON CONFLICT (store, key) DO UPDATE SET used_at = clock_timestamp()
RETURNING o.key, o.created_at

-- Stands in the way of the collector alone. The time tells an entry from one that took its place,
-- whose object need not be there yet.
-- name: hold_object
SELECT FROM artifact_objects
WHERE store = %(store)s AND key = %(key)s AND created_at = %(created_at)s::timestamptz
FOR KEY SHARE

-- name: original
SELECT body, ref, sha256 FROM artifact_originals WHERE original_id = %(original)s

-- Logs and originals that are in the database. Reads the rows, not what is stored beside them, and
-- not the log column, which is not for the job's role.
-- name: inline_bytes
SELECT coalesce((SELECT sum(p.run_track_activity_bytes) FROM {plans} AS p
                  WHERE p.run_track_activity_encoding IS DISTINCT FROM 'external'), 0)
    + coalesce((SELECT sum(byte_length) FROM artifact_blobs WHERE original_id IS NULL), 0)
    + coalesce((SELECT sum(byte_length) FROM artifact_originals WHERE ref IS NULL), 0)

-- A packed log that stands in a kept snapshot as it is: where, instead of the bytes once more. If
-- that snapshot is elsewhere already, they are taken from the plan's row.
-- name: keep_part
INSERT INTO artifact_blobs (sha256, encoding, byte_length, original_id, first_byte, frame_end, body)
SELECT %(packed_sha256)s, 'gzip', %(byte_length)s,
    CASE WHEN o.ref IS NULL THEN o.original_id END,
    CASE WHEN o.ref IS NULL THEN %(first_byte)s::bigint END,
    CASE WHEN o.ref IS NULL THEN %(frame_end)s::bytea END,
    CASE WHEN o.ref IS NOT NULL THEN decode('1f8b08000000000000ff', 'hex')
        || substring(p.run_zip_snapshot FROM (%(first_byte)s::bigint + 1)::int
                     FOR (%(byte_length)s::bigint - 18)::int)
        || %(frame_end)s::bytea END
FROM artifact_originals AS o JOIN {plans} AS p ON p.id = o.plan_id
WHERE o.plan_id = %(plan)s::uuid AND o.generation = %(generation)s AND o.kind = 'snapshot'
  AND o.member_path = '' AND o.sha256 = %(source_sha256)s
ON CONFLICT (sha256) DO UPDATE SET created_at = clock_timestamp()

-- Whether the original that holds a packed log is still here. The reference to it keeps it from
-- being moved until the end of the transaction, but not from having been moved a moment before.
-- name: is_part_here
SELECT b.original_id IS NULL OR o.ref IS NULL
FROM artifact_blobs AS b LEFT JOIN artifact_originals AS o USING (original_id)
WHERE b.sha256 = %(packed_sha256)s

-- name: blob
SELECT {packed_body} FROM artifact_blobs AS b LEFT JOIN artifact_originals AS o USING (original_id)
WHERE b.sha256 = %(sha256)s

-- The whole gzip file of a packed log: its own bytes, or those of an original with a header before
-- and an end behind.
-- name: packed_body
coalesce(b.body, decode('1f8b08000000000000ff', 'hex')
    || substring(o.body FROM (b.first_byte + 1)::int FOR (b.byte_length - 18)::int)
    || b.frame_end)

-- name: is_blob_whole
SELECT coalesce(sha256({packed_body}) = b.sha256, false)
FROM artifact_blobs AS b LEFT JOIN artifact_originals AS o USING (original_id)
WHERE b.sha256 = decode(%(key)s, 'hex')

-- An original is about to leave: whoever refers to it from now on waits for us.
-- name: lock_original
SELECT FROM artifact_originals WHERE original_id = %(original)s FOR UPDATE

-- Whoever has such a log in hand is waited for, before it is asked whether a plan refers to it.
-- name: lock_parts
SELECT FROM artifact_blobs WHERE original_id = %(original)s FOR UPDATE

-- Packed logs in it that a plan refers to get bytes of their own.
-- name: write_out_parts
UPDATE artifact_blobs AS b SET original_id = NULL, first_byte = NULL, frame_end = NULL,
    body = {packed_body}
FROM artifact_originals AS o
WHERE o.original_id = b.original_id AND b.original_id = %(original)s
  AND EXISTS (SELECT FROM {plans} AS p WHERE p.run_track_activity_ref IS NOT NULL
      AND p.run_track_activity_ref->>'store' = 'table'
      AND p.run_track_activity_ref->>'key' = encode(b.sha256, 'hex'))

-- The others are of no use any more.
-- name: drop_parts
DELETE FROM artifact_blobs WHERE original_id = %(original)s
