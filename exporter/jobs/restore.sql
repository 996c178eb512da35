-- Back to what it was before the split; the bytes come along when they are not in the database. A
-- packed log that stood in the row then is referred to as it was: it may be nowhere else.
-- name: restore
UPDATE {plans} AS p SET run_zip_snapshot = coalesce(o.body, %(data)s),
    run_track_activity_jsonl = CASE WHEN %(has_log)s THEN NULL ELSE p.run_track_activity_jsonl END,
    run_track_activity_bytes = CASE WHEN NOT %(has_log)s THEN p.run_track_activity_bytes
        WHEN %(stands)s AND p.run_track_activity_ref IS NOT NULL THEN %(log_stood)s::bigint END,
    run_track_activity_encoding = CASE WHEN NOT %(has_log)s THEN p.run_track_activity_encoding
        WHEN %(stands)s AND p.run_track_activity_ref IS NOT NULL THEN 'external' END,
    run_track_activity_ref =
        CASE WHEN %(has_log)s AND NOT %(stands)s THEN NULL ELSE p.run_track_activity_ref END,
    run_activity_overview_json = NULL, run_artifact_layout_version = NULL
FROM artifact_originals AS o
WHERE p.id = %(plan)s AND o.original_id = %(original)s AND o.plan_id = p.id
RETURNING octet_length(p.run_zip_snapshot)

-- The snapshot that the last split of a plan kept, whether the plan is as that split left it, and
-- whether its log was purged since.
-- name: find_original
SELECT o.original_id, o.byte_length, i.generation,
    p.run_generation = i.generation AND p.run_artifact_layout_version >= 2
      AND octet_length(p.run_zip_snapshot) = i.result_bytes
      AND sha256(p.run_zip_snapshot) = i.result_sha256,
    o.body IS NULL, i.facts ? 'log_bytes',
    i.facts ? 'log_bytes' AND coalesce(p.run_track_activity_encoding = 'purged', false),
    i.facts ? 'log_stood' AND p.run_track_activity_encoding IS DISTINCT FROM 'external',
    (i.facts->>'log_stood')::bigint
FROM job_items AS i
JOIN artifact_originals AS o ON o.plan_id = i.item::uuid AND o.generation = i.generation
    AND o.kind = 'snapshot' AND o.sha256 = i.source_sha256
JOIN {plans} AS p ON p.id = i.item::uuid
WHERE i.job = 'snapshots' AND i.item = %(plan)s::text AND i.status = 'done'
ORDER BY i.generation DESC LIMIT 1

-- Kept out of later runs until somebody asks for it.
-- name: mark_restored
UPDATE job_items SET status = 'quarantined', outcome = 'QUARANTINED', reason = 'RESTORED',
    source_bytes = %(source_bytes)s, changed_at = clock_timestamp()
WHERE job = 'snapshots' AND item = %(plan)s::text AND generation = %(generation)s
