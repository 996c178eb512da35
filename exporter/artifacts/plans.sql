-- Tables that could be the plan table now; its owner may have renamed it since it was adopted.
-- name: candidates
SELECT n.nspname, c.relname,
    coalesce((SELECT i.indisvalid FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid
               WHERE i.indrelid = c.oid AND x.relname = 'exporter_pending_snapshots'), false),
    EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid
               AND a.attname = 'run_generation' AND NOT a.attisdropped)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname IN ('task_item', 'plans') AND c.relkind IN ('r', 'p')
  AND n.nspname <> 'information_schema' AND left(n.nspname, 3) <> 'pg_'
  AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid
                 AND a.attname = 'run_zip_snapshot' AND NOT a.attisdropped)
ORDER BY n.nspname, c.relname

-- name: drop_index
DROP INDEX CONCURRENTLY IF EXISTS {index}

-- Finds the rows that wait without a scan of those that are done.
-- name: make_index
CREATE INDEX CONCURRENTLY IF NOT EXISTS exporter_pending_snapshots ON {plans} (id)
WHERE run_zip_snapshot IS NOT NULL
  AND (run_artifact_layout_version IS NULL OR run_artifact_layout_version < 2)
