"""What the usage reports read: usage summed up beforehand, and the responses that several hold.

A report must count a response once that several sessions hold, and finding the duplicates among
all rows would cost it more than all the rest. So the rows whose key is theirs alone are summed up
per session, quarter of an hour, model and kind of cost, and the others are kept apart to be ranked.

Statement triggers on usage_rows note the sessions whose rows were written, whoever wrote them;
fold_usage() brings the sums up to date, at the end of every import. Until then a report ranks all
rows, which is as right and slower.

Locks: named at each block. The sums of an existing archive are made in the same transaction, about
five seconds for each million usage rows; imports wait meanwhile, exports do not.
Undo: ``alembic downgrade 0002`` drops what is made here; all of it can be derived again.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Locks: none on existing tables; all four tables are new.
USAGE_TABLES = """
-- Sessions whose usage was written since the sums were last brought up to date.
CREATE TABLE pending_usage (
    session_key  bigint PRIMARY KEY
);

-- Keys that more than one row of usage_rows holds, or once held.
CREATE TABLE repeated_keys (
    dedup_key  uuid PRIMARY KEY
);

-- The rows with such a key, as they are in usage_rows: a report ranks them.
CREATE TABLE repeated_usage (LIKE usage_rows);
CREATE INDEX repeated_usage_session ON repeated_usage (session_key);
CREATE INDEX repeated_usage_at ON repeated_usage (at);

-- Sums over the other rows.
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

# Locks: none that wait. When it runs, the row lock on archive keeps writers of usage_rows waiting,
# because they open a revision first (see next_revision of the importers).
FOLD = """
CREATE FUNCTION fold_usage() RETURNS bigint LANGUAGE plpgsql SET work_mem = '64MB' AS $$
DECLARE
    noted bigint;
    is_large boolean;
    newly_repeated uuid[];
BEGIN
    PERFORM FROM archive FOR UPDATE;
    SELECT count(*) INTO noted FROM pending_usage;
    IF noted = 0 THEN
        RETURN 0;
    END IF;
    -- A look at all keys is cheaper than comparing many with all.
    SELECT noted * 4 > count(*) INTO is_large FROM sessions;
    WITH fresh AS (
        INSERT INTO repeated_keys (dedup_key)
        SELECT u.dedup_key FROM usage_rows AS u
        WHERE u.dedup_key IS NOT NULL AND (is_large OR u.dedup_key IN (
            SELECT w.dedup_key FROM usage_rows AS w JOIN pending_usage USING (session_key)
        ))
        GROUP BY u.dedup_key HAVING count(*) > 1
        ON CONFLICT DO NOTHING
        RETURNING dedup_key
    )
    SELECT array_agg(dedup_key) INTO newly_repeated FROM fresh;
    -- Sessions that had one of these keys to themselves have it in their sums.
    IF newly_repeated IS NOT NULL THEN
        INSERT INTO pending_usage
        SELECT DISTINCT u.session_key
        FROM usage_rows AS u JOIN unnest(newly_repeated) AS n (dedup_key) USING (dedup_key)
        ON CONFLICT DO NOTHING;
    END IF;
    DELETE FROM usage_slots USING pending_usage AS p WHERE usage_slots.session_key = p.session_key;
    DELETE FROM repeated_usage USING pending_usage AS p
        WHERE repeated_usage.session_key = p.session_key;
    INSERT INTO repeated_usage
    SELECT u.* FROM usage_rows AS u JOIN pending_usage USING (session_key)
    WHERE u.dedup_key IN (SELECT dedup_key FROM repeated_keys);
    -- Sums stop at 64 bits.
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
    FROM usage_rows AS u JOIN pending_usage USING (session_key)
    WHERE NOT EXISTS (SELECT FROM repeated_keys AS r WHERE r.dedup_key = u.dedup_key)
    GROUP BY 1, 2, 3, 4, 5;
    DELETE FROM pending_usage;
    RETURN noted;
END
$$;
"""

# Locks: SHARE ROW EXCLUSIVE on usage_rows and on sources for a moment, to attach the triggers.
TRIGGERS = """
CREATE FUNCTION note_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        INSERT INTO pending_usage SELECT DISTINCT session_key FROM added ON CONFLICT DO NOTHING;
    END IF;
    IF TG_OP IN ('DELETE', 'UPDATE') THEN
        INSERT INTO pending_usage SELECT DISTINCT session_key FROM removed ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION note_emptied_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM usage_slots;
    DELETE FROM repeated_usage;
    DELETE FROM repeated_keys;
    DELETE FROM pending_usage;
    RETURN NULL;
END
$$;

CREATE FUNCTION fold_usage_of_import() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM fold_usage();
    RETURN NULL;
END
$$;

CREATE TRIGGER usage_rows_added AFTER INSERT ON usage_rows
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION note_usage();
CREATE TRIGGER usage_rows_removed AFTER DELETE ON usage_rows
    REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION note_usage();
CREATE TRIGGER usage_rows_changed AFTER UPDATE ON usage_rows
    REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION note_usage();
CREATE TRIGGER usage_rows_emptied AFTER TRUNCATE ON usage_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_emptied_usage();
-- An import that came to its end says when.
CREATE TRIGGER sources_completed AFTER UPDATE OF completed_at ON sources
    FOR EACH STATEMENT EXECUTE FUNCTION fold_usage_of_import();
"""

# Locks: none that wait; reads usage_rows for the keys and for the sums.
DATA = """
INSERT INTO pending_usage SELECT DISTINCT session_key FROM usage_rows;
SELECT fold_usage();
"""


def upgrade() -> None:
    for block in (USAGE_TABLES, FOLD, DATA, TRIGGERS):
        op.execute(block)


def downgrade() -> None:
    op.execute("DROP TRIGGER sources_completed ON sources")
    for event in ("added", "removed", "changed", "emptied"):
        op.execute(f"DROP TRIGGER usage_rows_{event} ON usage_rows")
    op.execute("DROP FUNCTION note_usage(), note_emptied_usage(), fold_usage_of_import()")
    op.execute("DROP FUNCTION fold_usage()")
    op.execute("DROP TABLE usage_slots, repeated_usage, repeated_keys, pending_usage")
