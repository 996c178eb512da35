"""Adopt the plan table where it is: its split columns, and the index that finds pending rows.

The table is ``task_item`` or ``plans`` with a ``run_zip_snapshot``, in any schema. There must be
one at most; none means that ``task_item`` is made here, in the toolkit's schema and in the shape
it had before the split. A split column that is there already stays as it is when its type is one
of those listed below; any other type stops the migration with the list of differences.

Locks: ACCESS EXCLUSIVE on the plan table while nullable columns and one with a constant default
are added: catalogue changes only, no rewrite, no scan. SHARE while the index is built, and only
on a table of at most 64 MB; above that the backfill builds it concurrently, because one migration
is one transaction. A lock that does not come within the lock timeout is given back.
Undo: ``alembic downgrade 0004`` puts every kept snapshot back that nobody replaced since, drops
the columns that were added here and an empty table made here. A plan whose log was purged keeps the
snapshot without it; the kept one stays among the originals. The table is looked for in every
schema, since its owner may have renamed and moved it. It refuses, with the count, when a row would
lose a log that is nowhere else, and when more is to be put back than one transaction should hold
(1,000 plans, or 1 GiB of snapshots); ``exporter jobs restore --all`` does that plan by plan.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# All in the server's own language, so that the printed script (--sql) probes as well. No percent
# sign and no colon before a letter: both mean something else on the way to the server.

CANDIDATES = """
    SELECT c.oid, n.nspname, c.relname
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relname IN ('task_item', 'plans') AND c.relkind IN ('r', 'p')
       AND n.nspname <> 'information_schema' AND left(n.nspname, 3) <> 'pg_'
       AND EXISTS (SELECT FROM pg_attribute AS a
                    WHERE a.attrelid = c.oid AND a.attname = 'run_zip_snapshot'
                      AND NOT a.attisdropped)
"""

CREATED = """
        CREATE TYPE taskstate AS ENUM ('pending', 'processing', 'completed', 'failed');
        CREATE TABLE task_item (
            id uuid CONSTRAINT task_item_pkey PRIMARY KEY,
            timestamp_created timestamp,
            state taskstate,
            prompt text,
            progress_percentage numeric(5, 2),
            progress_message varchar(128),
            last_seen_timestamp timestamp,
            stop_requested boolean,
            stop_requested_timestamp timestamp,
            user_id varchar(256),
            parameters json,
            generated_report_html text,
            run_zip_snapshot bytea
        );
"""

# Column, type to add ('' for one that must be there), types to accept.
COLUMNS = """
        ('id', '', ARRAY['uuid']),
        ('state', '', ARRAY['enum', 'text', 'character varying']),
        ('generated_report_html', '', ARRAY['text', 'character varying']),
        ('run_zip_snapshot', '', ARRAY['bytea']),
        ('run_track_activity_jsonl', 'text', ARRAY['text', 'character varying']),
        ('run_track_activity_bytes', 'bigint', ARRAY['integer', 'bigint']),
        ('run_activity_overview_json', 'jsonb', ARRAY['json', 'jsonb']),
        ('run_artifact_layout_version', 'integer', ARRAY['smallint', 'integer', 'bigint']),
        ('run_generation', 'bigint NOT NULL DEFAULT 0', ARRAY['integer', 'bigint']),
        ('run_track_activity_encoding', 'text', ARRAY['text', 'character varying']),
        ('run_track_activity_ref', 'jsonb', ARRAY['json', 'jsonb'])
"""

ADOPT = f"""
DO $adopt$
DECLARE
    how_many integer; listed text; plans regclass; place text; wrong text;
    created boolean := false; added text[]; clauses text; has_lz4 boolean;
BEGIN
    SELECT count(*), string_agg(quote_ident(nspname) || '.' || quote_ident(relname), ', '
               ORDER BY nspname, relname)
      INTO how_many, listed FROM ({CANDIDATES}) AS candidates;
    IF how_many > 1 THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE =
            'several tables could be the plan table, and none was changed: ' || listed
            || '; move the ones that are not in use to another name';
    END IF;
    IF how_many = 0 THEN
{CREATED}
        created := true;
    END IF;
    SELECT oid, quote_ident(nspname) || '.' || quote_ident(relname)
      INTO plans, place FROM ({CANDIDATES}) AS candidates;

    CREATE TEMP TABLE wanted ON COMMIT DROP AS
    SELECT w.name, w.type_to_add, w.accepted, t.actual
      FROM (VALUES {COLUMNS}) AS w (name, type_to_add, accepted)
      LEFT JOIN LATERAL (
          SELECT CASE WHEN y.typtype = 'e' THEN 'enum'
                      WHEN y.typname = 'varchar' AND a.atttypmod >= 0
                          AND w.name = 'run_track_activity_jsonl' THEN 'limited varchar'
                      ELSE format_type(a.atttypid, NULL) END AS actual
            FROM pg_attribute AS a JOIN pg_type AS y ON y.oid = a.atttypid
           WHERE a.attrelid = plans AND a.attname = w.name AND NOT a.attisdropped
      ) AS t ON true;
    SELECT string_agg(name || ' is ' || coalesce(actual, 'absent') || ', wanted '
               || array_to_string(accepted, ' or '), '; ' ORDER BY name)
      INTO wrong FROM wanted
     WHERE actual <> ALL (accepted) OR (actual IS NULL AND type_to_add = '');
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE =
            place || ' has another shape and was not changed: ' || wrong;
    END IF;

    SELECT EXISTS (SELECT FROM pg_settings
                    WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals))
      INTO has_lz4;
    SELECT coalesce(array_agg(name ORDER BY name), ARRAY[]::text[]),
           string_agg('ADD COLUMN ' || name || ' ' || type_to_add
               || CASE WHEN has_lz4 AND name = 'run_track_activity_jsonl'
                       THEN ' COMPRESSION lz4' ELSE '' END, ', ' ORDER BY name)
      INTO added, clauses FROM wanted WHERE actual IS NULL;
    DROP TABLE wanted;
    IF clauses IS NOT NULL THEN
        EXECUTE 'ALTER TABLE ' || place || ' ' || clauses;
    END IF;
    IF pg_relation_size(plans) <= 64 * 1024 * 1024 THEN
        EXECUTE 'CREATE INDEX IF NOT EXISTS exporter_pending_snapshots ON ' || place || ' (id)'
            || ' WHERE run_zip_snapshot IS NOT NULL AND (run_artifact_layout_version IS NULL'
            || ' OR run_artifact_layout_version < 2)';
    END IF;
    INSERT INTO adopted_tables (kind, schema_name, table_name, is_created, added_columns)
    SELECT 'plans', nspname, relname, created, added FROM ({CANDIDATES}) AS candidates;
END
$adopt$
"""

# The adopted table now; another program's table of that name has no such column.
ADOPTED = f"""
    SELECT oid, nspname, relname FROM ({CANDIDATES}) AS candidates
     WHERE EXISTS (SELECT FROM pg_attribute AS a
                    WHERE a.attrelid = candidates.oid AND a.attname = 'run_generation'
                      AND NOT a.attisdropped)
"""

RELEASE = f"""
DO $release$
DECLARE
    adopted adopted_tables; how_many integer; listed text; place text; home text; lost bigint;
    left_over bigint; bytes numeric; clauses text; is_empty boolean;
    -- A log that was purged does not come back inside the snapshot it was taken out of.
    purged_stays text := '(p.run_track_activity_encoding IS DISTINCT FROM ''purged'''
        || ' OR (i.facts ? ''members'' AND NOT i.facts ? ''log_bytes''))';
BEGIN
    SELECT * INTO adopted FROM adopted_tables WHERE kind = 'plans';
    SELECT count(*), string_agg(quote_ident(nspname) || '.' || quote_ident(relname), ', '
               ORDER BY nspname, relname),
           min(quote_ident(nspname) || '.' || quote_ident(relname)), min(nspname)
      INTO how_many, listed, place, home FROM ({ADOPTED}) AS adopted_now;
    IF how_many > 1 THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE =
            'several tables could be the adopted one, and none was changed: ' || listed
            || '; move the ones that are not in use to another name';
    END IF;
    DELETE FROM adopted_tables WHERE kind = 'plans';
    IF how_many = 0 THEN
        RETURN;
    END IF;

    EXECUTE 'SELECT count(*), coalesce(sum(o.byte_length), 0) FROM ' || place || ' AS p'
        || ' JOIN job_items AS i ON i.job = ''snapshots'' AND i.item = p.id::text'
        || '  AND i.generation = p.run_generation'
        || ' JOIN artifact_originals AS o'
        || '   ON o.kind = ''snapshot'' AND o.sha256 = i.source_sha256'
        || '  AND o.plan_id = p.id AND o.generation = i.generation'
        || ' WHERE i.status = ''done'' AND i.outcome = ''MIGRATED'''
        || '   AND p.run_artifact_layout_version >= 2'
        || '   AND octet_length(p.run_zip_snapshot) = i.result_bytes'
        || '   AND ' || purged_stays
        INTO left_over, bytes;
    IF left_over > 1000 OR bytes > 1024 * 1024 * 1024 THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE =
            left_over || ' plans of ' || place || ' are to be put back, ' || bytes || ' bytes,'
            || ' which is too much at once, and nothing was changed; put them back first with'
            || ' exporter jobs restore --all';
    END IF;
    EXECUTE 'UPDATE ' || place || ' AS p SET run_zip_snapshot = o.body,'
        -- A log that the split did not bring is not in the snapshot that comes back.
        || ' run_track_activity_jsonl = CASE WHEN i.facts ? ''members'''
        || '   AND NOT i.facts ? ''log_bytes'' THEN p.run_track_activity_jsonl END,'
        || ' run_track_activity_bytes = CASE WHEN i.facts ? ''members'''
        || '   AND NOT i.facts ? ''log_bytes'' THEN p.run_track_activity_bytes END,'
        || ' run_track_activity_encoding = CASE WHEN i.facts ? ''members'''
        || '   AND NOT i.facts ? ''log_bytes'' THEN p.run_track_activity_encoding END,'
        || ' run_track_activity_ref = CASE WHEN i.facts ? ''members'''
        -- A reference to a packed log that stood there before the split is not of the split either.
        || '   AND NOT i.facts ? ''log_bytes'' OR i.facts ? ''log_stood'''
        || '   AND p.run_track_activity_encoding IS DISTINCT FROM ''external'''
        || '   THEN p.run_track_activity_ref END,'
        || ' run_activity_overview_json = NULL, run_artifact_layout_version = NULL'
        || ' FROM job_items AS i JOIN artifact_originals AS o'
        || '   ON o.kind = ''snapshot'' AND o.sha256 = i.source_sha256'
        || '  AND o.plan_id = i.item::uuid AND o.generation = i.generation'
        || ' WHERE i.job = ''snapshots'' AND i.status = ''done'' AND i.outcome = ''MIGRATED'''
        || '   AND p.id = i.item::uuid AND p.run_generation = i.generation'
        || '   AND p.run_artifact_layout_version >= 2'
        || '   AND octet_length(p.run_zip_snapshot) = i.result_bytes'
        || '   AND sha256(p.run_zip_snapshot) = i.result_sha256'
        || '   AND ' || purged_stays;
    EXECUTE 'SELECT count(*) FROM ' || place || ' WHERE run_track_activity_ref IS NOT NULL'
        || CASE WHEN 'run_track_activity_jsonl' = ANY (adopted.added_columns)
                THEN ' OR run_track_activity_jsonl IS NOT NULL' ELSE '' END INTO lost;
    IF lost > 0 THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE =
            lost || ' rows of ' || place || ' hold a log that has no original to go back to,'
            || ' and nothing was changed; reset or export these plans first';
    END IF;

    EXECUTE 'SELECT NOT EXISTS (SELECT FROM ' || place || ')' INTO is_empty;
    EXECUTE 'DROP INDEX IF EXISTS ' || quote_ident(home) || '.exporter_pending_snapshots';
    IF adopted.is_created AND is_empty THEN
        EXECUTE 'DROP TABLE ' || place;
        EXECUTE 'DROP TYPE IF EXISTS ' || quote_ident(adopted.schema_name) || '.taskstate';
    ELSE
        SELECT string_agg('DROP COLUMN IF EXISTS ' || name, ', ') INTO clauses
          FROM unnest(adopted.added_columns) AS name;
        IF clauses IS NOT NULL THEN
            EXECUTE 'ALTER TABLE ' || place || ' ' || clauses;
        END IF;
    END IF;
END
$release$
"""


def upgrade() -> None:
    op.execute(ADOPT)


def downgrade() -> None:
    op.execute(RELEASE)
