"""Logs and originals may be kept in an object store: the list of objects, and references to them.

``artifact_objects`` names every object that was ever put for this database and has not been
collected since; its row locks are what keeps the collector from an object that is being put to
use. An original has its bytes in ``body`` or, in the form that plans use for their logs, in
``ref``; never in both.

Locks: ACCESS EXCLUSIVE on artifact_originals, which is the toolkit's own, for a nullable column, a
dropped NOT NULL and a constraint that is added NOT VALID: catalogue changes only. The constraint
is validated at the end: one scan of the table that does not read the bodies. The plan table is
not touched. A lock that does not come within the lock timeout is given back.
Undo: ``alembic downgrade 0005`` refuses, with the count, while a log or an original is in the
object store and nowhere else. Objects that nothing refers to stay there.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

OBJECTS = """
-- Written, and committed, before the object itself: there is no object that is not listed.
CREATE TABLE artifact_objects (
    -- file: a folder; s3: a bucket. Where exactly is told by the configuration, not here.
    store        text COLLATE "C" NOT NULL
        CONSTRAINT artifact_objects_store CHECK (store IN ('file', 's3')),
    -- ends in the hash of the stored bytes
    key          text COLLATE "C" NOT NULL,
    sha256       bytea NOT NULL,
    byte_length  bigint NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- when it was last put, which is its age for the collector
    used_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT artifact_objects_key PRIMARY KEY (store, key)
);
CREATE INDEX artifact_objects_age ON artifact_objects (used_at);
"""

REFERENCES = """
ALTER TABLE artifact_originals ADD COLUMN IF NOT EXISTS ref jsonb;
ALTER TABLE artifact_originals ALTER COLUMN body DROP NOT NULL;
ALTER TABLE artifact_originals ADD CONSTRAINT artifact_originals_one_place
    CHECK ((body IS NULL) <> (ref IS NULL)) NOT VALID;
ALTER TABLE artifact_originals VALIDATE CONSTRAINT artifact_originals_one_place;
"""

# The plan table is looked for as revision 0005 does: its owner may have renamed it since.
REFUSE = """
DO $refuse$
DECLARE
    place text; logs bigint := 0; originals bigint;
BEGIN
    LOCK TABLE artifact_originals IN ACCESS EXCLUSIVE MODE;
    SELECT count(*) INTO originals FROM artifact_originals WHERE body IS NULL;
    FOR place IN
        SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.relname IN ('task_item', 'plans') AND c.relkind IN ('r', 'p')
           AND n.nspname <> 'information_schema' AND left(n.nspname, 3) <> 'pg_'
           AND EXISTS (SELECT FROM pg_attribute AS a
                        WHERE a.attrelid = c.oid AND a.attname = 'run_track_activity_ref'
                          AND NOT a.attisdropped)
    LOOP
        EXECUTE 'SELECT ' || logs || ' + count(*) FROM ' || place
            || ' WHERE run_track_activity_ref IS NOT NULL'
            || ' AND run_track_activity_ref->>''store'' <> ''table''' INTO logs;
    END LOOP;
    IF logs + originals > 0 THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE =
            logs || ' logs and ' || originals || ' originals are in the object store only,'
            || ' and nothing was changed; bring them back with'
            || ' exporter artifacts move --to database';
    END IF;
END
$refuse$
"""

RELEASE = """
ALTER TABLE artifact_originals DROP CONSTRAINT artifact_originals_one_place;
ALTER TABLE artifact_originals DROP COLUMN ref;
ALTER TABLE artifact_originals ALTER COLUMN body SET NOT NULL;
DROP TABLE artifact_objects;
"""


def upgrade() -> None:
    op.execute(OBJECTS)
    op.execute(REFERENCES)


def downgrade() -> None:
    op.execute(REFUSE)
    op.execute(RELEASE)
