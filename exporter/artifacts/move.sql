-- Logs that are packed, in our table (is_inside) or elsewhere.
-- name: logs
SELECT p.id, p.run_generation, p.run_track_activity_ref FROM {plans} AS p
WHERE p.run_track_activity_ref IS NOT NULL
  AND (p.run_track_activity_ref->>'store' = 'table') = %(is_inside)s
  AND (%(after)s::uuid IS NULL OR p.id > %(after)s::uuid)
ORDER BY p.id LIMIT 200

-- name: refer
UPDATE {plans} AS p SET run_track_activity_ref = %(new)s
WHERE p.id = %(plan)s AND p.run_generation = %(generation)s
  AND p.run_track_activity_ref::jsonb = %(old)s

-- name: originals
SELECT original_id, plan_id FROM artifact_originals
WHERE original_id > %(after)s AND (body IS NOT NULL) = %(is_inside)s
  AND (NOT %(is_inside)s OR byte_length > %(limit)s)
ORDER BY original_id LIMIT 200

-- name: replace
UPDATE artifact_originals SET body = %(body)s, ref = %(ref)s
WHERE original_id = %(original)s AND (body IS NOT NULL) = %(is_inside)s
