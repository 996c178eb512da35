-- Puts the next plans that may need work on the ledger. What a plan was found to be in this run
-- stands until the next one; what is in quarantine stays there until its bytes change. An entry that
-- another run changed since this statement began is left alone: its plan was seen as it is no more.
-- name: enqueue
WITH found AS (
    SELECT p.id, p.run_generation, octet_length(p.run_zip_snapshot) AS source_bytes,
        e.changed_at
    FROM {plans} AS p LEFT JOIN job_items AS e ON e.job = 'snapshots' AND e.item = p.id::text
        AND e.generation = p.run_generation
    WHERE p.run_zip_snapshot IS NOT NULL
      AND (p.run_artifact_layout_version IS NULL OR p.run_artifact_layout_version < 2)
      AND (%(after)s::uuid IS NULL OR p.id > %(after)s::uuid)
    ORDER BY p.id LIMIT %(count)s
), queued AS (
    INSERT INTO job_items AS i (job, item, generation, status, source_bytes, changed_at)
    SELECT 'snapshots', id::text, run_generation, 'pending', source_bytes,
        coalesce(changed_at, clock_timestamp())
    FROM found
    ON CONFLICT (job, item, generation) DO UPDATE SET status = 'pending', attempts = 0,
        lease_id = NULL, outcome = NULL, reason = NULL, notes = '{{}}', changed_at = clock_timestamp()
    WHERE i.changed_at = excluded.changed_at
      AND ((i.status IN ('done', 'skipped') AND i.run_id IS DISTINCT FROM %(run_id)s
            AND (i.outcome <> 'SKIPPED_NO_SOURCE' OR excluded.source_bytes > 0))
        OR (i.status = 'quarantined' AND i.reason <> 'RESTORED'
            AND i.source_bytes <> excluded.source_bytes))
    RETURNING 1
)
SELECT (SELECT id FROM found ORDER BY id DESC LIMIT 1), (SELECT count(*) FROM queued)

-- Plans that a run would look at: not those in quarantine, nor empty ones seen as such.
-- name: remaining
SELECT count(*) FROM {plans} AS p
WHERE p.run_zip_snapshot IS NOT NULL
  AND (p.run_artifact_layout_version IS NULL OR p.run_artifact_layout_version < 2)
  AND NOT EXISTS (SELECT FROM job_items AS i WHERE i.job = 'snapshots' AND i.item = p.id::text
      AND i.generation = p.run_generation
      AND (i.status = 'quarantined' AND i.source_bytes = octet_length(p.run_zip_snapshot)
           OR i.outcome = 'SKIPPED_NO_SOURCE' AND octet_length(p.run_zip_snapshot) = 0))

-- name: pending
SELECT p.id::text, p.run_generation FROM {plans} AS p
WHERE p.run_zip_snapshot IS NOT NULL
  AND (p.run_artifact_layout_version IS NULL OR p.run_artifact_layout_version < 2)
  AND (%(after)s::uuid IS NULL OR p.id > %(after)s::uuid)
  AND NOT EXISTS (SELECT FROM job_items AS i WHERE i.job = 'snapshots' AND i.item = p.id::text
      AND i.generation = p.run_generation
      AND (i.status = 'quarantined' AND i.source_bytes = octet_length(p.run_zip_snapshot)
           OR i.outcome = 'SKIPPED_NO_SOURCE' AND octet_length(p.run_zip_snapshot) = 0))
ORDER BY p.id LIMIT %(count)s

-- Facts first: the snapshot comes along only when it is worth its way. Last, whether a packed log
-- stands in the row, also beside the text of an earlier split, and its bytes.
-- name: read
SELECT coalesce(p.run_artifact_layout_version >= 2, false), p.run_generation,
    coalesce(p.state::text IN ('pending', 'processing'), false),
    octet_length(p.run_zip_snapshot),
    CASE WHEN p.state::text IN ('pending', 'processing') OR p.run_artifact_layout_version >= 2
              OR p.run_generation <> %(generation)s
              OR octet_length(p.run_zip_snapshot) > %(most)s
         THEN NULL ELSE p.run_zip_snapshot END,
    {value_id},
    coalesce(p.run_track_activity_encoding = 'external', false) OR stood.facts IS NOT NULL,
    CASE WHEN p.run_track_activity_encoding = 'external' THEN p.run_track_activity_bytes
         ELSE (stood.facts->>'log_stood')::bigint END
FROM {plans} AS p LEFT JOIN LATERAL (
    SELECT i.facts FROM job_items AS i
    WHERE i.job = 'snapshots' AND i.item = p.id::text AND i.facts ? 'log_stood'
      AND p.run_track_activity_encoding IN ('utf8', 'utf8-lossy')
    ORDER BY i.generation DESC LIMIT 1) AS stood ON true
WHERE p.id = %(item)s::uuid

-- The server's own number for a large stored value: another value has another number. It spares
-- the server the hash of some megabytes. Since PostgreSQL 17; null for a value inside the row.
-- name: value_id
pg_column_toast_chunk_id(p.run_zip_snapshot)::bigint

-- name: no_value_id
NULL::bigint

-- name: lock
SELECT p.id FROM {plans} AS p
WHERE {unchanged}
FOR NO KEY UPDATE

-- The row is still the one that was read.
-- name: unchanged
p.id = %(item)s::uuid AND p.run_generation = %(generation)s
  AND (p.run_artifact_layout_version IS NULL OR p.run_artifact_layout_version < 2)
  AND (p.state IS NULL OR p.state::text NOT IN ('pending', 'processing'))
  AND octet_length(p.run_zip_snapshot) = %(source_bytes)s
  AND {same_bytes}

-- name: same_hash
sha256(p.run_zip_snapshot) = %(source_sha256)s

-- name: same_value
pg_column_toast_chunk_id(p.run_zip_snapshot)::bigint = %(value_id)s

-- The whole snapshot as it was, without a trip to the client.
-- name: keep_snapshot
INSERT INTO artifact_originals (plan_id, generation, kind, sha256, byte_length, body)
SELECT p.id, %(generation)s, 'snapshot', %(source_sha256)s, %(source_bytes)s, p.run_zip_snapshot
FROM {plans} AS p WHERE p.id = %(item)s::uuid
ON CONFLICT ON CONSTRAINT artifact_originals_once DO NOTHING

-- A log that stands in the row, before another one takes its place. By a function, so that the
-- job's role need not read logs; nor does it for the length that the row holds in the end.
-- name: keep_text
SELECT keep_standing_log(%(item)s::uuid, %(generation)s)

-- name: log_bytes
SELECT standing_log_bytes(%(item)s::uuid)

-- Without a log in the archive the log columns stay as they are: a log that was purged on
-- purpose does not come back, and one that stands there is not lost.
-- name: write_clean
UPDATE {plans} AS p SET run_artifact_layout_version = 2,
    run_activity_overview_json = coalesce(%(overview)s, CASE
        WHEN p.run_activity_overview_json::text = 'null' THEN NULL
        ELSE p.run_activity_overview_json END)
WHERE p.id = %(item)s::uuid
RETURNING octet_length(p.run_zip_snapshot)

-- name: write_without_log
UPDATE {plans} AS p SET run_artifact_layout_version = 2, run_zip_snapshot = %(snapshot)s,
    run_activity_overview_json = coalesce(%(overview)s, CASE
        WHEN p.run_activity_overview_json::text = 'null' THEN NULL
        ELSE p.run_activity_overview_json END)
WHERE p.id = %(item)s::uuid
RETURNING octet_length(p.run_zip_snapshot)

-- A reference counts only where there is no text: one to an earlier log stays beside a text, so
-- that the log is not collected.
-- name: write_split
UPDATE {plans} AS p SET run_artifact_layout_version = 2, run_zip_snapshot = %(snapshot)s,
    run_track_activity_jsonl = %(log)s, run_track_activity_bytes = %(log_bytes)s,
    run_track_activity_encoding = %(encoding)s, {packed}
    run_activity_overview_json = coalesce(%(overview)s, CASE
        WHEN p.run_activity_overview_json::text = 'null' THEN NULL
        ELSE p.run_activity_overview_json END, %(derived)s)
WHERE p.id = %(item)s::uuid
RETURNING octet_length(p.run_zip_snapshot)

-- name: packed
run_track_activity_ref = %(ref)s,
