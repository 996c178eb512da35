"""A backfill needs no right to read the log column that it writes.

Before a split overwrites a text that stands in a row, that text is kept as an original; after it,
the length that the server holds is compared with what was sent. Both used to need SELECT on the
raw log. Two functions do them now with the rights of the role that runs the migrations: they give
back a number and nothing else, and only roles that are granted EXECUTE may call them.

They find the plan table by its columns, since its owner may have renamed it, and take nothing but a
plain table with a column of text, without its row policies: so that a table which somebody else
made under that name has no code of theirs run with these rights.

Locks: none but those of a new function.
Undo: ``alembic downgrade 0008`` drops the functions.
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

FUNCTIONS = r"""
CREATE FUNCTION log_holder() RETURNS text LANGUAGE plpgsql STABLE AS $log_holder$
DECLARE
    found text[];
BEGIN
    SELECT array_agg(quote_ident(n.nspname) || '.' || quote_ident(c.relname)) INTO found
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_attribute AS a ON a.attrelid = c.oid
       AND a.attname = 'run_track_activity_jsonl'
       AND a.atttypid IN ('text'::regtype, 'varchar'::regtype)
     WHERE c.relname IN ('task_item', 'plans') AND c.relkind IN ('r', 'p')
       AND n.nspname <> 'information_schema' AND left(n.nspname, 3) <> 'pg_'
       AND EXISTS (SELECT FROM pg_attribute AS z WHERE z.attrelid = c.oid
                      AND z.attname = 'run_zip_snapshot' AND NOT z.attisdropped);
    IF found IS NULL OR cardinality(found) <> 1 THEN
        RAISE EXCEPTION 'there is not one plan table with a log column'
            USING ERRCODE = 'undefined_table';
    END IF;
    RETURN found[1];
END
$log_holder$;

CREATE FUNCTION keep_standing_log(plan uuid, split_generation bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET row_security = off AS $keep_standing_log$
BEGIN
    EXECUTE 'INSERT INTO artifact_originals (plan_id, generation, kind, sha256, byte_length, body)'
        || ' SELECT id, $2, ''log'', sha256(body), octet_length(body), body'
        || ' FROM (SELECT p.id, convert_to(p.run_track_activity_jsonl, ''UTF8'') AS body'
        || '       FROM ' || log_holder() || ' AS p'
        || '       WHERE p.id = $1 AND p.run_track_activity_jsonl IS NOT NULL OFFSET 0) AS earlier'
        || ' ON CONFLICT ON CONSTRAINT artifact_originals_once DO NOTHING'
      USING plan, split_generation;
END
$keep_standing_log$;

CREATE FUNCTION standing_log_bytes(plan uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET row_security = off AS $standing_log_bytes$
DECLARE
    found bigint;
BEGIN
    EXECUTE 'SELECT octet_length(p.run_track_activity_jsonl) FROM ' || log_holder()
        || ' AS p WHERE p.id = $1'
      INTO found USING plan;
    RETURN found;
END
$standing_log_bytes$;

REVOKE ALL ON FUNCTION log_holder(), keep_standing_log(uuid, bigint), standing_log_bytes(uuid)
    FROM PUBLIC;
"""

# The names inside are looked up in the toolkit's schema, whatever the caller's path says.
BIND = r"""
DO $bind$
DECLARE
    path text := 'pg_catalog, ' || quote_ident(current_schema()) || ', pg_temp';
BEGIN
    EXECUTE 'ALTER FUNCTION log_holder() SET search_path = ' || path;
    EXECUTE 'ALTER FUNCTION keep_standing_log(uuid, bigint) SET search_path = ' || path;
    EXECUTE 'ALTER FUNCTION standing_log_bytes(uuid) SET search_path = ' || path;
END
$bind$;
"""

DROP = """
DROP FUNCTION keep_standing_log(uuid, bigint);
DROP FUNCTION standing_log_bytes(uuid);
DROP FUNCTION log_holder();
"""


def upgrade() -> None:
    op.execute(FUNCTIONS)
    op.execute(BIND)


def downgrade() -> None:
    op.execute(DROP)
