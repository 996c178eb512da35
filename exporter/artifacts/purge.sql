-- name: has_time
SELECT EXISTS (SELECT FROM pg_attribute AS a
    JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND a.attname = 'timestamp_created'
      AND NOT a.attisdropped)

-- Plans with a log beyond the newest ones, the oldest first.
-- name: beyond
SELECT id, run_generation, is_split, is_busy FROM (
    SELECT p.id, p.run_generation, coalesce(p.run_artifact_layout_version >= 2, false) AS is_split,
        coalesce(p.state::text IN ('pending', 'processing'), false) AS is_busy,
        row_number() OVER (ORDER BY p.timestamp_created DESC NULLS LAST, p.id DESC) AS place
    FROM {plans} AS p
    WHERE p.run_track_activity_jsonl IS NOT NULL OR p.run_track_activity_ref IS NOT NULL
) AS logged
WHERE place > %(keep)s
ORDER BY place DESC

-- Legacy plans: whether a log is in their snapshots is not known without a look inside.
-- name: legacy
SELECT count(*) FROM {plans} AS p
WHERE octet_length(p.run_zip_snapshot) > 0
  AND (p.run_artifact_layout_version IS NULL OR p.run_artifact_layout_version < 2)

-- Only what is still as it was when it was chosen. The encoding says why there is no log.
-- name: purge
UPDATE {plans} AS p SET run_track_activity_jsonl = NULL, run_track_activity_bytes = NULL,
    run_track_activity_ref = NULL, run_track_activity_encoding = 'purged'
FROM unnest(%(plans)s::uuid[], %(generations)s::bigint[]) AS c (id, generation)
WHERE p.id = c.id AND p.run_generation = c.generation AND p.run_artifact_layout_version >= 2
  AND (p.state IS NULL OR p.state::text NOT IN ('pending', 'processing'))
