-- Cannot have come out of the rewriting: may hold a user or a password. Per cent signs are doubled
-- for the driver. exporter.core.remotes has the same rule; a test compares the two.
-- name: dirty
(strpos(git_remote, '://') > 0 AND git_remote COLLATE "C" !~
    '^(https?|ssh|git)://[]A-Za-z0-9!"$&''()*+,.;<=>[_~:%%-]+/[]A-Za-z0-9!$&''()*+,./:;=@[_~%%-]*$')
OR (strpos(git_remote, '://') = 0 AND strpos(git_remote, '@') > 0)

-- May hold a credential that the rewriting leaves where it is.
-- name: suspect
(strpos(git_remote, '://') > 0 AND
    regexp_replace(git_remote COLLATE "C", '^[^:]*://[^/]*', '') COLLATE "C"
        ~* '[^/]@|[:&=;]|%%(40|3a|26|3d|3b|3f|23)')
OR (strpos(git_remote, '://') = 0 AND strpos(git_remote, ':') > 0 AND
    substr(git_remote, strpos(git_remote, ':') + 1) COLLATE "C" ~ '[?#&:=;]')
OR git_remote COLLATE "C" ~ 'gh[pousr]_[A-Za-z0-9]{20}|github_pat_[A-Za-z0-9_]{20}|gl(pat|rt|dt|ptt|ft|soat|cbt|imt|agent)-[A-Za-z0-9_-]{16}|AT(ATT|BB|CTT)[A-Za-z0-9_=-]{16}|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10}|npm_[A-Za-z0-9]{30}|hf_[A-Za-z0-9]{30}|eyJ[A-Za-z0-9_-]{10,}\.eyJ'

-- Tables that hold remotes: the toolkit's own, and those of agentsview wherever its schema is.
-- name: tables
SELECT n.nspname, c.relname,
    array(SELECT a.attname::text FROM pg_attribute AS a
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             AND a.attgenerated = '' ORDER BY a.attnum),
    array(SELECT a.attname::text FROM pg_index AS i
            JOIN unnest(i.indkey) WITH ORDINALITY AS k (number, place) ON true
            JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.number
           WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY k.place)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND left(n.nspname, 3) <> 'pg_'
  AND (c.relname = 'project_observations' AND n.nspname = current_schema()
    OR c.relname IN ('project_identity_observations', 'source_project_identity_observations',
        'source_session_project_identity_snapshots'))
  AND EXISTS (SELECT FROM pg_attribute AS a
               WHERE a.attrelid = c.oid AND a.attname = 'git_remote' AND NOT a.attisdropped)
ORDER BY n.nspname, c.relname

-- Whether this role may count the dirty rows of a table.
-- name: is_readable
SELECT has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, 'git_remote', 'SELECT')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s

-- name: count
SELECT count(*) FROM {table} WHERE git_remote <> '' AND ({found})

-- One page of rows to look at, by primary key.
-- name: page
SELECT {keys}, git_remote, {facts} FROM {table}
WHERE git_remote <> '' AND (({dirty}) OR ({suspect})) AND {after}
ORDER BY {order} LIMIT %(count)s

-- The remote is not part of the key: the row stays where it is.
-- name: rewrite
UPDATE {table} SET git_remote = %(new)s, normalized_remote = %(normalized)s,
    key_source = %(key_source)s, key = %(key)s
WHERE {same} AND git_remote = %(old)s

-- The remote is part of the key: the row moves. Where it meets another, the one seen later stays;
-- of two seen at the same moment, the one that moves.
-- name: move
INSERT INTO {table} AS t ({columns}) SELECT {values} FROM {table} WHERE {same}
ON CONFLICT ({keys}) DO UPDATE SET {overwrite} WHERE excluded.observed_at >= t.observed_at

-- name: move_scopes
INSERT INTO {scopes} (source_archive_id, project, machine, root_path, git_remote, publication_scope)
SELECT source_archive_id, project, machine, root_path, %(new)s, publication_scope
FROM {scopes} WHERE {same}
ON CONFLICT DO NOTHING

-- name: remove
DELETE FROM {table} WHERE {same}

-- Whether a root has a remote beside the one that is going.
-- name: has_other
SELECT EXISTS (SELECT FROM {table} WHERE project = %(project)s AND machine = %(machine)s
    AND root_path = %(root_path)s AND git_remote <> '' AND git_remote <> %(old)s)

-- A root with a remote needs no entry without one.
-- name: remove_fallback
DELETE FROM {table} WHERE project = %(project)s AND machine = %(machine)s
    AND root_path = %(root_path)s AND git_remote = ''

-- The same for two rows of ours that become one: whether it is the one that is there.
-- name: own_rival
SELECT coalesce(observed_at, '-infinity') > (
    SELECT coalesce(observed_at, '-infinity') FROM project_observations
    WHERE source_id = %(source_id)s AND observation_key = %(observation_key)s)
FROM project_observations
WHERE source_id = %(source_id)s AND observation_key = %(new_key)s
FOR UPDATE

-- name: own_remove
DELETE FROM project_observations
WHERE source_id = %(source_id)s AND observation_key = %(gone)s

-- name: own_rewrite
UPDATE project_observations SET observation_key = %(new_key)s, git_remote = %(new)s,
    normalized_remote = %(normalized)s, key = %(key)s, key_source = %(key_source)s,
    is_redacted = %(is_redacted)s
WHERE source_id = %(source_id)s AND observation_key = %(observation_key)s
  AND git_remote = %(old)s

-- What an earlier run reported and this one did not find any more.
-- name: forget_reports
DELETE FROM job_items WHERE job = 'remotes' AND run_id IS DISTINCT FROM %(run_id)s

-- Rows that were there before the guard are not proven yet.
-- name: guard_is_open
SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass('project_observations')
    AND conname = 'project_observations_clean' AND NOT convalidated)

-- Reads the table once; others read and write meanwhile.
-- name: validate_guard
ALTER TABLE project_observations VALIDATE CONSTRAINT project_observations_clean

-- name: salt
SELECT database_id FROM archive
