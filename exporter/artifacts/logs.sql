-- name: keep_original
INSERT INTO artifact_originals (plan_id, generation, kind, member_path, sha256, byte_length, body)
VALUES (%(plan)s, %(generation)s, %(kind)s, %(path)s, %(sha256)s, %(byte_length)s, %(body)s)
ON CONFLICT ON CONSTRAINT artifact_originals_once DO NOTHING

-- name: keep_blob
INSERT INTO artifact_blobs (sha256, encoding, byte_length, body)
VALUES (%(sha256)s, 'gzip', %(byte_length)s, %(body)s)
ON CONFLICT (sha256) DO NOTHING
