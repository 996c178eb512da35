-- Roles by name, with what they may do already; a superuser reads past every grant.
-- name: roles
SELECT r.rolname, r.rolsuper,
    has_database_privilege(r.oid, current_database(), 'CONNECT'),
    has_database_privilege(r.oid, current_database(), 'TEMPORARY'),
    array(SELECT n.nspname::text FROM pg_namespace AS n
           WHERE has_schema_privilege(r.oid, n.oid, 'USAGE'))
FROM pg_roles AS r WHERE r.rolname = ANY(%(roles)s::text[])

-- Tables that grants are about: ours, the plan table, and those with git remotes to scrub.
-- name: tables
SELECT n.nspname, c.relname, r.rolname, pg_has_role(current_user, c.relowner, 'USAGE'),
    CASE WHEN n.nspname = %(schema)s AND c.oid IS DISTINCT FROM p.oid THEN 'own'
         WHEN c.oid = p.oid THEN 'plans' ELSE 'remotes' END,
    array(SELECT a.attname::text FROM pg_attribute AS a
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_roles AS r ON r.oid = c.relowner
LEFT JOIN (SELECT x.oid FROM pg_class AS x JOIN pg_namespace AS y ON y.oid = x.relnamespace
            WHERE y.nspname = %(plan_schema)s AND x.relname = %(plan_table)s) AS p ON true
WHERE c.relkind IN ('r', 'p') AND (n.nspname = %(schema)s OR c.oid = p.oid
    OR c.relname IN ('project_identity_observations', 'source_project_identity_observations',
        'source_session_project_identity_snapshots', 'source_project_identity_observation_scopes')
    AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid
        AND a.attname = 'git_remote' AND NOT a.attisdropped))
ORDER BY 5, 1, 2

-- What roles may really do, by whatever road: their own grants, PUBLIC, other roles, ownership.
-- name: effective
SELECT r.role, n.nspname, c.relname, a.attname, p.privilege
FROM unnest(%(roles)s::text[]) AS r (role)
CROSS JOIN unnest(%(schemas)s::text[], %(tables)s::text[]) AS t (schema, name)
JOIN pg_namespace AS n ON n.nspname = t.schema
JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.name
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE')) AS p (privilege)
WHERE has_column_privilege(r.role, c.oid, a.attnum, p.privilege)
UNION ALL
SELECT r.role, t.schema, t.name, '', p.privilege
FROM unnest(%(roles)s::text[]) AS r (role)
CROSS JOIN unnest(%(schemas)s::text[], %(tables)s::text[]) AS t (schema, name)
CROSS JOIN (VALUES ('DELETE'), ('TRUNCATE')) AS p (privilege)
WHERE has_table_privilege(r.role, format('%%I.%%I', t.schema, t.name), p.privilege)
ORDER BY 1, 2, 3, 5, 4

-- Tables of ours that nobody was granted anything on, where somebody was let into the schema, and
-- functions that only their owner may call, where somebody else runs jobs: a later migration made
-- them.
-- name: ungranted
SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p') AND c.relacl IS NULL
  AND EXISTS (SELECT FROM aclexplode(n.nspacl) AS g WHERE g.grantee <> n.nspowner)
UNION ALL
SELECT p.proname || '()' FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname = %(schema)s AND p.prosecdef
  AND NOT EXISTS (SELECT FROM aclexplode(p.proacl) AS g WHERE g.grantee <> p.proowner)
  AND EXISTS (SELECT FROM pg_class AS c, aclexplode(c.relacl) AS g
      WHERE c.relnamespace = n.oid AND c.relname = 'job_items'
        AND g.privilege_type = 'INSERT' AND g.grantee <> c.relowner)
ORDER BY 1

-- Columns of one table that the role of this connection lacks a right on.
-- name: lacking
SELECT a.attname FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND a.attname = ANY(%(columns)s::text[])
  AND NOT a.attisdropped AND NOT has_column_privilege(c.oid, a.attnum, %(privilege)s)
ORDER BY a.attname
