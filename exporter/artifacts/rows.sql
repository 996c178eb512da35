-- Columns of the plan table, with their types, and whether the role may read them.
-- name: columns
SELECT a.attname::text, format_type(a.atttypid, NULL),
    has_column_privilege(a.attrelid, a.attnum, 'SELECT')
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum

-- One plan as JSON, made by the server, whatever its columns are.
-- name: row
SELECT to_json(t)::text FROM (SELECT {fields} FROM {plans} AS p WHERE p.id = %(plan)s) AS t

-- name: owner
SELECT p.user_id::text FROM {plans} AS p WHERE p.id = %(plan)s

-- name: report
SELECT p.generated_report_html, coalesce(p.state::text IN ('failed', 'stopped'), false)
FROM {plans} AS p WHERE p.id = %(plan)s
