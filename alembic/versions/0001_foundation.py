"""The foundation: one row that says which archive this is.

Locks: none on existing tables; one new table in the toolkit's own schema.
Undo: ``alembic downgrade base`` drops the table. The archive's id and cursor secret are gone with
it: the next upgrade makes new ones, and cursors handed out before are refused.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The server makes the random values, so that the printed script (--sql) holds no secret and two
# databases made from it differ. gen_random_uuid() and sha256() are in core since PostgreSQL 13.
ARCHIVE = """
CREATE TABLE archive (
    only_row        boolean CONSTRAINT archive_one_row PRIMARY KEY DEFAULT true CHECK (only_row),
    database_id     text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text,
    cursor_secret   bytea NOT NULL
        DEFAULT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())),
    revision        bigint NOT NULL DEFAULT 0,
    revision_token  uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT archive_database_id_is_uuid
        CHECK (database_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}'
                             '-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'),
    CONSTRAINT archive_cursor_secret_length CHECK (octet_length(cursor_secret) = 32),
    CONSTRAINT archive_revision_counts_up CHECK (revision >= 0)
)
"""

COMMENTS = (
    "COMMENT ON TABLE archive IS 'Which archive this is: always exactly one row'",
    "COMMENT ON COLUMN archive.database_id IS 'Random UUIDv4, made once and never replaced'",
    "COMMENT ON COLUMN archive.cursor_secret IS 'Signs page cursors; 32 random bytes'",
    "COMMENT ON COLUMN archive.revision IS 'Counts committed changes of the archive'",
    "COMMENT ON COLUMN archive.revision_token IS 'Random value of the newest revision'",
)


def upgrade() -> None:
    op.execute(ARCHIVE)
    for comment in COMMENTS:
        op.execute(comment)
    op.execute("INSERT INTO archive DEFAULT VALUES")


def downgrade() -> None:
    op.execute("DROP TABLE archive")
