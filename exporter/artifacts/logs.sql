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

-- Logs and originals that are in the database. Reads the rows, not what is stored beside them.
-- name: inline_bytes
SELECT coalesce((SELECT sum(p.run_track_activity_bytes) FROM {plans} AS p
                  WHERE p.run_track_activity_jsonl IS NOT NULL), 0)
    + coalesce((SELECT sum(byte_length) FROM artifact_blobs), 0)
    + coalesce((SELECT sum(byte_length) FROM artifact_originals WHERE ref IS NULL), 0)

-- name: is_blob_whole
SELECT sha256(body) = sha256 FROM artifact_blobs WHERE sha256 = decode(%(key)s, 'hex')
