-- name: state
SELECT coalesce(p.state::text = 'processing', false), p.run_generation
FROM {plans} AS p WHERE p.id = %(plan)s

-- name: lock
SELECT coalesce(p.state::text = 'processing', false), p.run_generation
FROM {plans} AS p WHERE p.id = %(plan)s FOR NO KEY UPDATE

-- What is to be replaced, if it is too large to be kept in the database.
-- name: large
SELECT p.run_zip_snapshot FROM {plans} AS p
WHERE p.id = %(plan)s AND octet_length(p.run_zip_snapshot) > greatest(%(largest)s, 0)

-- name: digest
SELECT sha256(p.run_zip_snapshot) FROM {plans} AS p WHERE p.id = %(plan)s

-- What is replaced is kept, as the backfill keeps it.
-- name: keep_replaced
INSERT INTO artifact_originals (plan_id, generation, kind, sha256, byte_length, body)
SELECT p.id, p.run_generation, 'snapshot', sha256(p.run_zip_snapshot),
    octet_length(p.run_zip_snapshot), p.run_zip_snapshot
FROM {plans} AS p
WHERE p.id = %(plan)s AND octet_length(p.run_zip_snapshot) > 0
  AND sha256(p.run_zip_snapshot) <> %(sha256)s
ON CONFLICT ON CONSTRAINT artifact_originals_once DO NOTHING

-- name: put
UPDATE {plans} AS p SET run_zip_snapshot = %(snapshot)s, run_artifact_layout_version = 2,
    run_generation = p.run_generation + 1
WHERE p.id = %(plan)s
RETURNING p.run_generation, octet_length(p.run_zip_snapshot)

-- The bytes that were put aside are not in the plan any more.
-- name: close_quarantine
UPDATE job_items SET status = 'skipped', outcome = 'SKIPPED_CHANGED', reason = NULL,
    changed_at = clock_timestamp()
WHERE job = 'snapshots' AND item = %(plan)s::text AND status = 'quarantined'
