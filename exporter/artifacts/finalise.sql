-- name: generation
SELECT p.run_generation FROM {plans} AS p WHERE p.id = %(plan)s

-- name: lock
SELECT FROM {plans} AS p WHERE p.id = %(plan)s FOR NO KEY UPDATE

-- A legacy snapshot may hold the only copy of an earlier log; and where there is no new snapshot,
-- the earlier one is all there was.
-- name: keep_replaced
INSERT INTO artifact_originals (plan_id, generation, kind, sha256, byte_length, body)
SELECT p.id, p.run_generation, 'snapshot', sha256(p.run_zip_snapshot),
    octet_length(p.run_zip_snapshot), p.run_zip_snapshot
FROM {plans} AS p
WHERE p.id = %(plan)s AND p.run_generation = %(generation)s
  AND octet_length(p.run_zip_snapshot) > 0
  AND (coalesce(p.run_artifact_layout_version, 0) < 2 OR %(snapshot)s::bytea IS NULL)
ON CONFLICT ON CONSTRAINT artifact_originals_once DO NOTHING

-- One statement, so that a plan has all of a run or nothing; a run that was superseded has nothing.
-- name: finalise
UPDATE {plans} AS p SET generated_report_html = %(report)s, run_zip_snapshot = %(snapshot)s,
    run_track_activity_jsonl = %(log)s, run_track_activity_bytes = %(log_bytes)s,
    run_track_activity_encoding = %(encoding)s, run_track_activity_ref = %(ref)s,
    run_activity_overview_json = %(overview)s, run_artifact_layout_version = 2
WHERE p.id = %(plan)s AND p.run_generation = %(generation)s
RETURNING octet_length(p.run_zip_snapshot), octet_length(p.run_track_activity_jsonl)

-- name: give_up
UPDATE {plans} AS p SET state = 'failed', progress_message = %(message)s
WHERE p.id = %(plan)s AND p.run_generation = %(generation)s
