-- Facts of one plan, without its large columns.
-- name: facts
SELECT p.run_artifact_layout_version, octet_length(p.run_zip_snapshot), p.run_generation,
    p.run_track_activity_bytes, p.run_track_activity_encoding, p.run_track_activity_ref,
    octet_length(p.run_track_activity_jsonl), p.run_activity_overview_json::text
FROM {plans} AS p WHERE p.id = %(plan)s

-- The snapshot, why the backfill put the plan aside, if it did, and the hash of what it left there:
-- a program that knows nothing of the split may have written other bytes since.
-- name: snapshot
SELECT p.run_artifact_layout_version, p.run_zip_snapshot,
    (SELECT i.reason FROM job_items AS i WHERE i.job = 'snapshots' AND i.item = p.id::text
        AND i.generation = p.run_generation AND i.status = 'quarantined'
        AND i.reason <> 'RESTORED' AND i.source_bytes = octet_length(p.run_zip_snapshot)),
    (SELECT i.result_sha256 FROM job_items AS i WHERE i.job = 'snapshots' AND i.item = p.id::text
        AND i.generation = p.run_generation AND i.status = 'done')
FROM {plans} AS p WHERE p.id = %(plan)s

-- Bytes of the text, as they are.
-- name: log_text
SELECT convert_to(p.run_track_activity_jsonl, 'UTF8') FROM {plans} AS p WHERE p.id = %(plan)s

-- What may be the exact bytes of a log whose text is only like it, newest first.
-- name: log_original
SELECT original_id FROM artifact_originals
WHERE plan_id = %(plan)s AND kind = 'log' AND member_path = '' AND byte_length = %(bytes)s
ORDER BY generation DESC, original_id DESC

-- name: audit
INSERT INTO artifact_reads (plan_id, kind, bytes, purpose)
VALUES (%(plan)s, %(kind)s, %(bytes)s, %(purpose)s)

-- Split plans, by key; a sample takes them where a random key points.
-- name: split_plans
SELECT p.id, octet_length(p.run_zip_snapshot), p.run_generation,
    p.run_track_activity_encoding = 'utf8'
        AND octet_length(p.run_track_activity_jsonl) <> p.run_track_activity_bytes,
    i.result_sha256
FROM {plans} AS p
LEFT JOIN job_items AS i ON i.job = 'snapshots' AND i.item = p.id::text
    AND i.generation = p.run_generation AND i.status = 'done'
WHERE p.run_artifact_layout_version >= 2 AND p.run_zip_snapshot IS NOT NULL
  AND (%(after)s::uuid IS NULL OR p.id > %(after)s::uuid)
ORDER BY p.id LIMIT %(count)s

-- Not served as it is any more; the next backfill looks at it.
-- name: demote
UPDATE {plans} AS p SET run_artifact_layout_version = NULL
WHERE p.id = %(plan)s AND p.run_generation = %(generation)s
  AND p.run_artifact_layout_version >= 2 AND sha256(p.run_zip_snapshot) = %(sha256)s

-- The snapshot was exchanged for one that is proven clean: it is source and result at once now, so
-- that the one before the split is not put back over it.
-- name: settle_exchanged
UPDATE job_items SET outcome = 'CLEAN', source_bytes = %(bytes)s, source_sha256 = %(actual)s,
    result_bytes = %(bytes)s, result_sha256 = %(actual)s, changed_at = clock_timestamp()
WHERE job = 'snapshots' AND item = %(plan)s::text AND generation = %(generation)s
  AND status = 'done' AND result_sha256 = %(known)s

-- A snapshot that was proven clean when it was stored, not by the backfill: source and result at
-- once. A worker that has the plan in hand finds out by itself that it was changed.
-- name: record_proven
INSERT INTO job_items AS i (job, item, generation, status, outcome, source_bytes, source_sha256,
    result_bytes, result_sha256, changed_at)
VALUES ('snapshots', %(plan)s::text, %(generation)s, 'done', 'CLEAN', %(bytes)s, %(sha256)s,
    %(bytes)s, %(sha256)s, clock_timestamp())
ON CONFLICT (job, item, generation) DO UPDATE SET status = 'done', outcome = 'CLEAN',
    reason = NULL, source_bytes = excluded.source_bytes, source_sha256 = excluded.source_sha256,
    result_bytes = excluded.result_bytes, result_sha256 = excluded.result_sha256,
    changed_at = clock_timestamp()
WHERE i.status <> 'leased'

-- A plan starts over: every trace of its last run goes, and late writers find another generation.
-- name: reset
UPDATE {plans} AS p SET state = 'pending', generated_report_html = NULL, run_zip_snapshot = NULL,
    run_track_activity_jsonl = NULL, run_track_activity_bytes = NULL,
    run_track_activity_encoding = NULL, run_track_activity_ref = NULL,
    run_activity_overview_json = NULL, run_artifact_layout_version = NULL,
    run_generation = p.run_generation + 1, progress_percentage = 0, stop_requested = false,
    stop_requested_timestamp = NULL
WHERE p.id = %(plan)s
  AND (p.state::text IN ('failed', 'stopped') OR coalesce(p.stop_requested, false))
RETURNING p.run_generation

-- Legacy rows with bytes, and those of them that were put aside. What is in quarantine of a plan
-- that was deleted, emptied or started over since is history.
-- name: open_work
SELECT (SELECT count(*) FROM {plans} AS p WHERE p.run_zip_snapshot IS NOT NULL
          AND octet_length(p.run_zip_snapshot) > 0 AND (p.run_artifact_layout_version IS NULL OR p.run_artifact_layout_version < 2)),
    (SELECT count(*) FROM job_items AS i JOIN {plans} AS p ON p.id::text = i.item
            AND p.run_generation = i.generation
      WHERE i.job = 'snapshots' AND i.status = 'quarantined'
        AND octet_length(p.run_zip_snapshot) > 0
        AND (p.run_artifact_layout_version IS NULL OR p.run_artifact_layout_version < 2))

-- name: cut_over
INSERT INTO jobs (job, version, state, finished_at)
VALUES ('cutover', 1, 'finished', clock_timestamp())
ON CONFLICT (job) DO NOTHING

-- name: is_cut_over
SELECT EXISTS (SELECT FROM jobs WHERE job = 'cutover' AND state = 'finished')
