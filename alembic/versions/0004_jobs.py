"""The job ledger: runs, leases with fencing numbers, items and quarantine, kept originals.

Locks: none on existing tables; every statement creates a new object in the toolkit's own schema.
Undo: ``alembic downgrade 0003`` drops these tables and with them the history of the jobs. It
refuses, with the counts, as long as bytes would be lost that are nowhere else. A kept original may
go when its plan's row has the whole snapshot again, byte for byte, that was kept in the same
transaction as the original: what that transaction took out of it is in there. A later split of the
same snapshot finds it kept already; the exact log that this one kept may go as well. All else stays
in the way: a snapshot that was not put back, or that a newer one has replaced since; the log or the
members of such a snapshot; a log that stood in the row before the split; what was salvaged from a
snapshot that was cut; originals of a plan that was deleted. A packed log stays in the way as long
as a row of any table refers to it.
Locks then: ACCESS EXCLUSIVE on the two tables; the snapshots that were put back are hashed once.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JOBS = """
CREATE TABLE jobs (
    job          text COLLATE "C" PRIMARY KEY,
    version      integer NOT NULL,
    -- pending: work may be left; running; finished: a full pass found nothing left to do
    state        text NOT NULL DEFAULT 'pending'
        CONSTRAINT jobs_state CHECK (state IN ('pending', 'running', 'finished')),
    finished_at  timestamptz,
    -- of the run that finished it: outcomes and how many rows had each
    counts       jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE job_runs (
    run_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job          text COLLATE "C" NOT NULL REFERENCES jobs,
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    state        text NOT NULL DEFAULT 'running' CONSTRAINT job_runs_state
        CHECK (state IN ('running', 'finished', 'stopped', 'failed')),
    counts       jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX job_runs_job ON job_runs (job, run_id DESC);

-- One row per worker. Its number only grows, so it fences: what a late worker writes names a
-- number that the ledger has since replaced.
CREATE TABLE job_leases (
    lease_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job           text COLLATE "C" NOT NULL REFERENCES jobs,
    run_id        bigint NOT NULL REFERENCES job_runs,
    -- host and process, for people
    holder        text NOT NULL,
    is_exclusive  boolean NOT NULL,
    taken_at      timestamptz NOT NULL DEFAULT now(),
    lease_until   timestamptz NOT NULL,
    released_at   timestamptz
);
CREATE UNIQUE INDEX job_leases_exclusive ON job_leases (job)
    WHERE is_exclusive AND released_at IS NULL;
CREATE INDEX job_leases_open ON job_leases (job) WHERE released_at IS NULL;
"""

# status: pending -> leased -> done | skipped | quarantined; leased -> pending when a worker stops
# or its lease runs out; done and skipped -> pending when a later run finds work in the row again;
# quarantined -> pending by "jobs retry".
ITEMS = """
CREATE TABLE job_items (
    job            text COLLATE "C" NOT NULL,
    -- a plan's id, or a digest where the key itself may be secret
    item           text COLLATE "C" NOT NULL,
    generation     bigint NOT NULL DEFAULT 0,
    status         text NOT NULL CONSTRAINT job_items_status
        CHECK (status IN ('pending', 'leased', 'done', 'skipped', 'quarantined')),
    outcome        text,
    -- why it is in quarantine; codes only, never content
    reason         text COLLATE "C",
    notes          text[] NOT NULL DEFAULT '{}',
    -- sizes, counts and names of places
    facts          jsonb NOT NULL DEFAULT '{}',
    attempts       integer NOT NULL DEFAULT 0,
    lease_id       bigint,
    run_id         bigint,
    source_bytes   bigint,
    source_sha256  bytea,
    result_bytes   bigint,
    result_sha256  bytea,
    seconds        double precision,
    changed_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT job_items_key PRIMARY KEY (job, item, generation)
);
CREATE INDEX job_items_open ON job_items (job, item) WHERE status IN ('pending', 'leased');
CREATE INDEX job_items_quarantined ON job_items (job, reason) WHERE status = 'quarantined';
"""

ORIGINALS = """
-- Bytes as they were before a job changed a row. Append-only; for the admin role.
CREATE TABLE artifact_originals (
    original_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plan_id      uuid NOT NULL,
    generation   bigint NOT NULL,
    kind         text NOT NULL CONSTRAINT artifact_originals_kind
        CHECK (kind IN ('snapshot', 'log', 'overview', 'member')),
    member_path  text COLLATE "C" NOT NULL DEFAULT '',
    sha256       bytea NOT NULL,
    byte_length  bigint NOT NULL,
    body         bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT artifact_originals_once UNIQUE (plan_id, generation, kind, member_path, sha256)
);
-- Archives do not shrink any further; not trying saves the server the time.
ALTER TABLE artifact_originals ALTER body SET STORAGE EXTERNAL;

-- Logs that are not in the plan's own row, each once, under the hash of the stored bytes.
CREATE TABLE artifact_blobs (
    sha256       bytea PRIMARY KEY,
    encoding     text NOT NULL CONSTRAINT artifact_blobs_encoding CHECK (encoding = 'gzip'),
    byte_length  bigint NOT NULL,
    body         bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE artifact_blobs ALTER body SET STORAGE EXTERNAL;

-- Who read a raw log or an original.
CREATE TABLE artifact_reads (
    read_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    principal  text NOT NULL DEFAULT session_user,
    plan_id    uuid NOT NULL,
    kind       text NOT NULL,
    bytes      bigint NOT NULL,
    purpose    text NOT NULL,
    read_at    timestamptz NOT NULL DEFAULT now()
);

-- Tables of other programs that are used in place, and which of their columns are ours.
CREATE TABLE adopted_tables (
    kind           text PRIMARY KEY,
    schema_name    text NOT NULL,
    table_name     text NOT NULL,
    is_created     boolean NOT NULL,
    added_columns  text[] NOT NULL,
    adopted_at     timestamptz NOT NULL DEFAULT now()
);
"""

# Without a percent sign or a colon before a letter: both mean something else on the way to the
# server. A plan table is known by its columns here, since revision 0005 has left it by now.
REFUSE = """
DO $refuse$
DECLARE
    place text; originals bigint; here bigint; logs bigint := 0;
BEGIN
    LOCK TABLE artifact_originals, artifact_blobs IN ACCESS EXCLUSIVE MODE;
    CREATE TEMP TABLE put_back (original_id bigint) ON COMMIT DROP;
    -- A split keeps the exact log of a snapshot only when it is no text; one that stood in the row
    -- is a text.
    CREATE FUNCTION pg_temp.is_text(body bytea) RETURNS boolean LANGUAGE plpgsql AS $is_text$
    BEGIN
        PERFORM convert_from(body, 'UTF8');
        RETURN true;
    EXCEPTION WHEN data_exception THEN
        RETURN false;
    END
    $is_text$;
    FOR place IN
        SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
          JOIN pg_attribute AS i ON i.attrelid = c.oid AND i.attname = 'id'
           AND i.atttypid = 'uuid'::regtype
          JOIN pg_attribute AS z ON z.attrelid = c.oid AND z.attname = 'run_zip_snapshot'
           AND z.atttypid = 'bytea'::regtype
         WHERE c.relname IN ('task_item', 'plans') AND c.relkind IN ('r', 'p')
           AND n.nspname <> 'information_schema' AND left(n.nspname, 3) <> 'pg_'
    LOOP
        EXECUTE 'INSERT INTO put_back SELECT o.original_id FROM artifact_originals AS o'
            || ' JOIN ' || place || ' AS p ON p.id = o.plan_id'
            || ' WHERE o.kind = ''snapshot'''
            || '   AND octet_length(p.run_zip_snapshot) = o.byte_length'
            || '   AND sha256(p.run_zip_snapshot) = o.sha256';
    END LOOP;
    SELECT count(*) INTO originals FROM artifact_originals AS o
     WHERE NOT EXISTS (
        SELECT FROM put_back AS b JOIN artifact_originals AS s USING (original_id)
          -- what the last split found in it, if that was of this very snapshot
          LEFT JOIN job_items AS i ON i.job = 'snapshots' AND i.item = s.plan_id::text
           AND i.generation = s.generation AND i.source_sha256 = s.sha256
         WHERE s.original_id = o.original_id
            OR (o.kind <> 'snapshot' AND s.plan_id = o.plan_id AND s.generation = o.generation
                AND CASE
                    WHEN o.created_at = s.created_at THEN
                        o.kind <> 'log' OR o.member_path <> ''
                        OR i.facts->'log_bytes' IS NULL
                        OR (i.facts->>'log_bytes')::bigint = o.byte_length
                    ELSE o.created_at > s.created_at AND o.kind = 'log' AND o.member_path = ''
                        AND (i.facts->>'log_bytes')::bigint = o.byte_length
                        AND NOT EXISTS (SELECT FROM artifact_originals AS other
                            WHERE other.kind = 'snapshot' AND other.plan_id = o.plan_id
                              AND other.created_at = o.created_at)
                        AND NOT pg_temp.is_text(o.body)
                    END));
    DROP FUNCTION pg_temp.is_text(bytea);
    DROP TABLE put_back;
    FOR place IN
        SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
          JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'run_track_activity_ref'
           AND a.atttypid IN ('json'::regtype, 'jsonb'::regtype)
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
           AND n.nspname <> 'information_schema' AND left(n.nspname, 3) <> 'pg_'
    LOOP
        EXECUTE 'SELECT count(*) FROM ' || place
            || ' WHERE run_track_activity_ref->>''store'' = ''table''' INTO here;
        logs := logs + here;
    END LOOP;
    IF originals + logs > 0 THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE =
            originals || ' originals and ' || logs || ' packed logs are in no other place,'
            || ' and nothing was changed; at the newest revision, put plans back with exporter'
            || ' jobs restore, or save what is kept with exporter artifacts original and log,'
            || ' then remove it from artifact_originals';
    END IF;
END
$refuse$
"""

TABLES = (
    "adopted_tables",
    "artifact_reads",
    "artifact_blobs",
    "artifact_originals",
    "job_items",
    "job_leases",
    "job_runs",
    "jobs",
)


def upgrade() -> None:
    for block in (JOBS, ITEMS, ORIGINALS):
        op.execute(block)


def downgrade() -> None:
    op.execute(REFUSE)
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
