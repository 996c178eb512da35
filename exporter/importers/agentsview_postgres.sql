-- Asked of the catalogue: the information schema leaves out what the role may not read, and what is
-- not there would count as removed.
-- name: columns
SELECT c.relname, a.attname, has_column_privilege(c.oid, a.attnum, 'SELECT')
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid
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

-- name: listing
SELECT s.id, md5(ROW({reading}, {columns})::text), s.message_count FROM sessions AS s

-- name: excluded
SELECT id FROM excluded_sessions

-- name: sessions
SELECT {columns} FROM sessions AS s WHERE s.id = ANY(%(ids)s)

-- name: messages
SELECT session_id, ordinal, role, {at}, is_system, model, token_usage, claude_message_id,
    claude_request_id, source_uuid
FROM messages WHERE session_id = ANY(%(ids)s)
ORDER BY session_id, ordinal

-- name: events
SELECT session_id, id, message_ordinal, source, model, input_tokens, output_tokens,
    cache_creation_input_tokens, cache_read_input_tokens, reasoning_tokens, {cost}::text, {at},
    dedup_key
FROM usage_events WHERE session_id = ANY(%(ids)s)
ORDER BY session_id, id

-- name: prices
SELECT model_pattern, {rates}, updated_at FROM model_pricing
WHERE NOT starts_with(model_pattern, '_')

-- name: observations
SELECT DISTINCT o.project, m.machine, o.root_path, o.git_remote, o.git_remote_name, {worktree},
    coalesce({at}, '')
FROM {table} AS o
CROSS JOIN LATERAL (
    SELECT o.machine
    UNION
    SELECT pusher FROM unnest(%(local)s::text[]) AS pusher WHERE o.machine = 'local'
) AS m (machine)

-- name: worktree
o.worktree_name, o.worktree_root_path

-- Later releases name the worktree of every checkout; v1 names it only where there is no remote.
-- name: later_worktree
CASE WHEN o.git_remote = '' THEN o.worktree_name ELSE '' END,
    CASE WHEN o.git_remote = '' THEN o.worktree_root_path ELSE '' END

-- name: pushers
SELECT DISTINCT value FROM sync_metadata WHERE key LIKE 'push\_marker:%%' AND value <> ''

-- name: mappings
SELECT DISTINCT machine, path_prefix, layout, project, enabled
FROM source_worktree_project_mappings

-- name: billing
SELECT {at}, model, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens,
    {charged}::text, is_headless, dedup_key
FROM cursor_usage_events
