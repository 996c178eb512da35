-- Asked of the catalogue: the information schema leaves out what the role may not read, and what is
-- not there would count as removed.
-- name: columns
SELECT c.relname, a.attname, coalesce(b.typname, t.typname),
    has_column_privilege(c.oid, a.attnum, 'SELECT')
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid
JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_type AS b ON b.oid = t.typbasetype
WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND a.attnum > 0 AND NOT a.attisdropped

-- name: data_version
SELECT max(data_version) FROM sessions

-- name: cluster
SELECT (pg_control_system()).system_identifier, current_database()

-- name: time_text
CASE WHEN {at} >= '0001-01-01' AND {at} < '10000-01-01' THEN
    rtrim(rtrim(to_char({at} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '0'), '.') || 'Z'
END

-- One row for each id, also where a view or a table without a key holds several.
-- name: listing
SELECT DISTINCT ON (1) {id}, md5(ROW({reading}, {columns})::text), {count} FROM sessions ORDER BY 1

-- name: excluded
SELECT {columns} FROM excluded_sessions

-- name: sessions
SELECT {columns} FROM sessions WHERE id::text = ANY(%(ids)s)

-- name: messages
SELECT {columns} FROM messages WHERE session_id::text = ANY(%(ids)s) ORDER BY session_id, ordinal

-- name: events
SELECT {columns} FROM usage_events WHERE session_id::text = ANY(%(ids)s) ORDER BY session_id, id

-- name: prices
SELECT {columns} FROM model_pricing WHERE NOT starts_with(model_pattern::text, '_')

-- name: observations
SELECT DISTINCT {project}, m.pusher, {root_path}, {git_remote}, {git_remote_name}, {worktree},
    coalesce({observed_at}, '')
FROM {table} AS o
CROSS JOIN LATERAL (
    SELECT {machine}
    UNION
    SELECT pusher FROM unnest(%(local)s::text[]) AS pusher WHERE {machine} = 'local'
) AS m (pusher)

-- name: worktree
{worktree_name}, {worktree_root_path}

-- Later releases name the worktree of every checkout; v1 names it only where there is no remote.
-- name: later_worktree
CASE WHEN {git_remote} = '' THEN {worktree_name} ELSE '' END,
    CASE WHEN {git_remote} = '' THEN {worktree_root_path} ELSE '' END

-- name: pushers
SELECT DISTINCT value FROM sync_metadata WHERE key LIKE 'push\_marker:%%' AND value <> ''

-- name: mappings
SELECT DISTINCT {columns} FROM source_worktree_project_mappings

-- name: billing
SELECT {columns} FROM cursor_usage_events
