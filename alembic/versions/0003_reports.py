"""What the usage and activity reports read: duplicates known beforehand, and usage in slots.

A report must count a response once that several sessions hold, and finding the duplicates among
all rows would cost it more than all the rest. So the keys that occur more than once are kept in
a small table, and the rows whose key is theirs alone are summed up per session, quarter of an
hour, model and kind of cost. Statement triggers on usage_rows keep both right, whoever writes.

Locks: named at each block. The data of an existing archive is derived in the same transaction,
about ten seconds for each million usage rows; imports wait meanwhile, exports do not.
Undo: ``alembic downgrade 0002`` drops what is made here; all of it can be derived again.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Locks: none on existing tables; both tables are new.
USAGE_TABLES = """
-- Keys that more than one row of usage_rows holds, or once held: a report ranks their rows.
CREATE TABLE repeated_keys (
    dedup_key  uuid PRIMARY KEY
);

-- Sums over the rows of a session whose key is not repeated. Several entries may say the same slot:
-- they add up.
CREATE TABLE usage_slots (
    session_key  bigint NOT NULL,
    -- the start of the quarter of an hour in UTC; no zone of today begins a day inside of one.
    -- Before 2012 some did, so there it is the row's own instant
    at           timestamptz,
    -- only where the stored time is no instant
    day_text     text,
    model_id     integer NOT NULL,
    -- the rows came with their cost
    is_reported  boolean NOT NULL,
    input_tokens                bigint NOT NULL,
    output_tokens               bigint NOT NULL,
    -- what the output rate applies to: output, or reasoning where a row has no output
    billable_tokens             bigint NOT NULL,
    cache_creation_input_tokens bigint NOT NULL,
    cache_read_input_tokens     bigint NOT NULL,
    reported_cost numeric
);
CREATE INDEX usage_slots_session ON usage_slots (session_key);
CREATE INDEX usage_slots_at ON usage_slots (at);
"""

# Locks: SHARE on usage_rows while the index is built, so imports wait and exports go on.
USAGE_KEYS = """
CREATE INDEX usage_rows_dedup ON usage_rows (dedup_key) WHERE dedup_key IS NOT NULL;
"""

# The sums of rows, from a relation with the columns of usage_rows. They stop at 64 bits.
SLOTS_OF = """
    INSERT INTO usage_slots
    SELECT u.session_key,
        CASE WHEN u.at >= '2012-01-01Z' THEN date_bin('15 minutes', u.at, '2012-01-01Z')
            ELSE u.at END,
        u.day_text, u.model_id, u.reported_cost IS NOT NULL,
        least(sum(u.input_tokens), 9223372036854775807),
        least(sum(u.output_tokens), 9223372036854775807),
        least(sum(CASE WHEN u.output_tokens <> 0 THEN u.output_tokens
            ELSE greatest(u.reasoning_tokens, 0) END), 9223372036854775807),
        least(sum(u.cache_creation_input_tokens), 9223372036854775807),
        least(sum(u.cache_read_input_tokens), 9223372036854775807),
        sum(u.reported_cost)
    FROM {rows} AS u
    WHERE NOT EXISTS (SELECT FROM repeated_keys AS r WHERE r.dedup_key = u.dedup_key)
    GROUP BY 1, 2, 3, 4, 5
"""

# Take in the keys of the rows in `added` that another row holds too.
NEWLY_REPEATED = """
    WITH fresh AS (
        INSERT INTO repeated_keys (dedup_key)
        SELECT DISTINCT a.dedup_key FROM added AS a
        WHERE a.dedup_key IS NOT NULL AND EXISTS (
            SELECT FROM usage_rows AS u
            WHERE u.dedup_key = a.dedup_key
              AND (u.session_key <> a.session_key OR u.position <> a.position)
        )
        ON CONFLICT DO NOTHING
        RETURNING dedup_key
    )
    SELECT array_agg(dedup_key) INTO newly_repeated FROM fresh;
"""

# Locks: SHARE ROW EXCLUSIVE on usage_rows for a moment, to attach the triggers.
# Writers of usage_rows are one at a time, because they open a revision first (see next_revision
# of the importers): two of them cannot miss each other's keys. A key stays in repeated_keys when
# its other rows go; ranking the one that is left is as right as summing it.
USAGE_TRIGGERS = f"""
-- Derive the sums of some sessions again.
CREATE FUNCTION refresh_usage_slots(keys bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM usage_slots WHERE session_key = ANY(keys);
    {SLOTS_OF.format(rows="(SELECT * FROM usage_rows WHERE session_key = ANY(keys))")};
END
$$;

CREATE FUNCTION note_added_usage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    newly_repeated uuid[];
BEGIN
    {NEWLY_REPEATED}
    {SLOTS_OF.format(rows="added")};
    -- Sessions of earlier rows with these keys had them in their sums.
    IF newly_repeated IS NOT NULL THEN
        PERFORM refresh_usage_slots(ARRAY(
            SELECT DISTINCT u.session_key
            FROM usage_rows AS u
            WHERE u.dedup_key = ANY(newly_repeated) AND NOT EXISTS (
                SELECT FROM added AS a
                WHERE a.session_key = u.session_key AND a.position = u.position
            )
        ));
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION note_removed_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM refresh_usage_slots(ARRAY(SELECT DISTINCT session_key FROM removed));
    RETURN NULL;
END
$$;

CREATE FUNCTION note_changed_usage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    newly_repeated uuid[];
BEGIN
    {NEWLY_REPEATED}
    PERFORM refresh_usage_slots(ARRAY(
        SELECT session_key FROM removed UNION SELECT session_key FROM added
        UNION SELECT session_key FROM usage_rows WHERE dedup_key = ANY(newly_repeated)
    ));
    RETURN NULL;
END
$$;

CREATE FUNCTION note_emptied_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM usage_slots;
    DELETE FROM repeated_keys;
    RETURN NULL;
END
$$;

CREATE TRIGGER usage_rows_added AFTER INSERT ON usage_rows
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION note_added_usage();
CREATE TRIGGER usage_rows_removed AFTER DELETE ON usage_rows
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION note_removed_usage();
CREATE TRIGGER usage_rows_changed AFTER UPDATE ON usage_rows
    REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION note_changed_usage();
CREATE TRIGGER usage_rows_emptied AFTER TRUNCATE ON usage_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_emptied_usage();
"""

# Locks: none that wait; reads usage_rows once for the keys and once for the sums.
USAGE_DATA = f"""
INSERT INTO repeated_keys
SELECT dedup_key FROM usage_rows WHERE dedup_key IS NOT NULL GROUP BY dedup_key HAVING count(*) > 1;
{SLOTS_OF.format(rows="usage_rows")};
"""


def upgrade() -> None:
    for block in (USAGE_TABLES, USAGE_KEYS, USAGE_DATA, USAGE_TRIGGERS):
        op.execute(block)


def downgrade() -> None:
    for event in ("added", "removed", "changed", "emptied"):
        op.execute(f"DROP TRIGGER usage_rows_{event} ON usage_rows")
        op.execute(f"DROP FUNCTION note_{event}_usage()")
    op.execute("DROP FUNCTION refresh_usage_slots(bigint[])")
    op.execute("DROP INDEX usage_rows_dedup")
    op.execute("DROP TABLE usage_slots, repeated_keys")
