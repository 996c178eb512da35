-- name: stage_observations
CREATE TEMP TABLE stage_observations (LIKE project_observations) ON COMMIT DROP

-- Observations that are new or read differently now.
-- name: upsert_observations
INSERT INTO project_observations AS o
SELECT * FROM stage_observations
ON CONFLICT (source_id, observation_key) DO UPDATE SET
    git_remote_name = excluded.git_remote_name, worktree_name = excluded.worktree_name,
    worktree_root_path = excluded.worktree_root_path,
    observed_at_text = excluded.observed_at_text, observed_at = excluded.observed_at,
    key = excluded.key, key_source = excluded.key_source,
    normalized_remote = excluded.normalized_remote, normalized_root = excluded.normalized_root,
    is_redacted = excluded.is_redacted
WHERE (o.git_remote_name, o.worktree_name, o.worktree_root_path, o.observed_at_text, o.key,
       o.is_redacted)
    IS DISTINCT FROM (excluded.git_remote_name, excluded.worktree_name,
       excluded.worktree_root_path, excluded.observed_at_text, excluded.key, excluded.is_redacted)
RETURNING o.project, o.machine

-- Observations that the source no longer holds.
-- name: delete_observations
DELETE FROM project_observations AS o
WHERE o.source_id = %(source_id)s AND NOT EXISTS (
    SELECT FROM stage_observations AS t WHERE t.observation_key = o.observation_key
)
RETURNING o.project, o.machine

-- name: stage_mappings
CREATE TEMP TABLE stage_mappings (LIKE worktree_mappings) ON COMMIT DROP

-- name: upsert_mappings
INSERT INTO worktree_mappings AS m
SELECT * FROM stage_mappings
ON CONFLICT (source_id, mapping_key) DO UPDATE SET
    layout = excluded.layout, project = excluded.project, is_enabled = excluded.is_enabled
WHERE (m.layout, m.project, m.is_enabled)
    IS DISTINCT FROM (excluded.layout, excluded.project, excluded.is_enabled)

-- name: delete_mappings
DELETE FROM worktree_mappings AS m
WHERE m.source_id = %(source_id)s AND NOT EXISTS (
    SELECT FROM stage_mappings AS t WHERE t.mapping_key = m.mapping_key
)

-- name: worktrees
SELECT project, machine, root_path, git_remote, git_remote_name, worktree_name, worktree_root_path
FROM project_observations
WHERE source_id = %(source_id)s AND (worktree_name <> '' OR worktree_root_path <> '')
ORDER BY project, machine

-- name: mappings
SELECT machine, path_prefix, layout, project, is_enabled
FROM worktree_mappings WHERE source_id = %(source_id)s

-- Sessions whose place may read differently now: those of the pairs, or all of the source.
-- name: places
SELECT session_key, project, machine, cwd, file_directory,
    has_worktree, worktree_name, worktree_root, path_key, path_root
FROM sessions
WHERE source_id = %(source_id)s
  AND (%(all)s OR (project, machine) IN (
      SELECT * FROM unnest(%(projects)s::text[], %(machines)s::text[])))

-- name: update_places
UPDATE sessions AS s SET has_worktree = t.has_worktree, worktree_name = t.worktree_name,
    worktree_root = t.worktree_root, path_key = t.path_key, path_root = t.path_root
FROM stage_derived AS t WHERE s.session_key = t.session_key
