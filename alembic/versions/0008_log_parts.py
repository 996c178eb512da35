"""A packed log that is part of a kept original is not stored a second time.

A row of ``artifact_blobs`` has its bytes in ``body``, or it names the original that holds the
packed bytes and where they begin there; the length is its own, less the 18 bytes of a gzip
header and end, and the end, checksum and size, is in ``frame_end``.

Locks: ACCESS EXCLUSIVE on artifact_blobs and SHARE ROW EXCLUSIVE on artifact_originals, both the
toolkit's own, for nullable columns, a dropped NOT NULL and constraints that are added NOT VALID
and then validated, and for an index over no row: scans that read no body. The plan table is not
touched. A lock that does not come within the lock timeout is given back.
Undo: ``alembic downgrade 0007`` writes every such log that a plan refers to out again, which takes
as much room as they have bytes.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

PARTS = """
ALTER TABLE artifact_blobs
    ADD COLUMN original_id bigint, ADD COLUMN first_byte bigint, ADD COLUMN frame_end bytea;
ALTER TABLE artifact_blobs ALTER COLUMN body DROP NOT NULL;
ALTER TABLE artifact_blobs ADD CONSTRAINT artifact_blobs_one_place CHECK (
    num_nulls(original_id, first_byte, frame_end) = CASE WHEN body IS NULL THEN 0 ELSE 3 END
) NOT VALID;
ALTER TABLE artifact_blobs VALIDATE CONSTRAINT artifact_blobs_one_place;
-- Whoever removes an original by hand is told of the log in it.
ALTER TABLE artifact_blobs ADD CONSTRAINT artifact_blobs_original
    FOREIGN KEY (original_id) REFERENCES artifact_originals NOT VALID;
ALTER TABLE artifact_blobs VALIDATE CONSTRAINT artifact_blobs_original;
CREATE INDEX artifact_blobs_parts ON artifact_blobs (original_id) WHERE original_id IS NOT NULL;
"""

# Logs that no row refers to are in the kept snapshots all the same: the collector would drop them,
# and after "exporter jobs restore --all" that is every one of them. The plan table is known by its
# column here, since its owner may have renamed it. Without a percent sign, as in revision 0004.
WRITE_OUT = r"""
DO $write_out$
DECLARE
    place text;
BEGIN
    LOCK TABLE artifact_originals, artifact_blobs IN ACCESS EXCLUSIVE MODE;
    CREATE TEMP TABLE in_use (key text) ON COMMIT DROP;
    FOR place IN
        SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
          JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'run_track_activity_ref'
           AND a.atttypid IN ('json'::regtype, 'jsonb'::regtype)
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
           AND n.nspname <> 'information_schema' AND left(n.nspname, 3) <> 'pg_'
    LOOP
        EXECUTE 'INSERT INTO in_use SELECT run_track_activity_ref->>''key'' FROM ' || place
            || ' WHERE run_track_activity_ref->>''store'' = ''table''';
    END LOOP;
    DELETE FROM artifact_blobs AS b WHERE b.original_id IS NOT NULL
       AND NOT EXISTS (SELECT FROM in_use AS u WHERE u.key = encode(b.sha256, 'hex'));
    DROP TABLE in_use;
END
$write_out$;
UPDATE artifact_blobs AS b SET original_id = NULL, first_byte = NULL, frame_end = NULL,
    body = decode('1f8b08000000000000ff', 'hex')
        || substring(o.body FROM (b.first_byte + 1)::int FOR (b.byte_length - 18)::int)
        || b.frame_end
FROM artifact_originals AS o WHERE o.original_id = b.original_id;
"""

RELEASE = """
DROP INDEX artifact_blobs_parts;
ALTER TABLE artifact_blobs DROP CONSTRAINT artifact_blobs_original;
ALTER TABLE artifact_blobs DROP CONSTRAINT artifact_blobs_one_place;
ALTER TABLE artifact_blobs ALTER COLUMN body SET NOT NULL;
ALTER TABLE artifact_blobs
    DROP COLUMN original_id, DROP COLUMN first_byte, DROP COLUMN frame_end;
"""


def upgrade() -> None:
    op.execute(PARTS)


def downgrade() -> None:
    op.execute(WRITE_OUT)
    op.execute(RELEASE)
