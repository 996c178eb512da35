-- What is kept of a plan; never the bytes.
-- name: list
SELECT original_id, generation, kind, member_path, byte_length, encode(sha256, 'hex'), created_at
FROM artifact_originals WHERE plan_id = %(plan)s
ORDER BY generation, original_id

-- name: one
SELECT plan_id, kind, byte_length FROM artifact_originals WHERE original_id = %(original)s

-- name: audit
INSERT INTO artifact_reads (plan_id, kind, bytes, purpose)
VALUES (%(plan)s, %(kind)s, %(bytes)s, %(purpose)s)
