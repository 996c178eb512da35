"""The archive: sessions, usage, activity, prices and identities, without any content.

Locks: none on existing tables; every statement creates a new object in the toolkit's own schema.
Undo: ``alembic downgrade 0001`` drops these tables. The archive can be imported again from its
sources; cursors handed out before are refused afterwards.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SOURCES = """
CREATE TABLE sources (
    source_id      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- 'agentsview-sqlite', 'agentsview-postgresql' or 'catalogue'
    kind           text NOT NULL,
    -- the identity that survives a rebuild of the source
    archive_id     text COLLATE "C" NOT NULL,
    database_id    text COLLATE "C" NOT NULL DEFAULT '',
    -- where it was last read; never holds a user or a password
    location       text NOT NULL,
    era            text NOT NULL DEFAULT '',
    data_version   integer,
    -- what the source looked like after the last complete import; equal means nothing to do
    watermark      text NOT NULL DEFAULT '',
    first_seen_at  timestamptz NOT NULL DEFAULT now(),
    completed_at   timestamptz,
    CONSTRAINT sources_identity UNIQUE (kind, archive_id)
);

CREATE TABLE import_runs (
    run_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id    integer NOT NULL REFERENCES sources,
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    -- counts only: new, changed, same, removed, refused, rows
    counts       jsonb NOT NULL DEFAULT '{}'
);

-- One row per committed change of the archive. A cursor names the revision it was made at, and the
-- token proves that this archive really passed through that revision (a restored backup did not).
CREATE TABLE revisions (
    revision   bigint PRIMARY KEY,
    token      uuid NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT now()
);
INSERT INTO revisions (revision, token) SELECT revision, revision_token FROM archive;
"""

MODELS_AND_PRICES = """
CREATE TABLE models (
    model_id  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name      text COLLATE "C" NOT NULL,
    CONSTRAINT models_name UNIQUE (name)
);

CREATE TABLE source_prices (
    source_id                integer NOT NULL REFERENCES sources,
    model_pattern            text COLLATE "C" NOT NULL,
    input_per_mtok           double precision NOT NULL,
    output_per_mtok          double precision NOT NULL,
    cache_creation_per_mtok  double precision NOT NULL,
    cache_read_per_mtok      double precision NOT NULL,
    updated_at_text          text NOT NULL DEFAULT '',
    updated_at               timestamptz,
    is_custom                boolean NOT NULL DEFAULT false,
    CONSTRAINT source_prices_key PRIMARY KEY (source_id, is_custom, model_pattern)
);

-- Derived: the rates that the stored prices give each recorded model.
CREATE TABLE model_rates (
    model_id         integer PRIMARY KEY REFERENCES models,
    matched_pattern  text COLLATE "C",
    input_rate       numeric NOT NULL DEFAULT 0,
    output_rate      numeric NOT NULL DEFAULT 0,
    cache_write_rate numeric NOT NULL DEFAULT 0,
    cache_read_rate  numeric NOT NULL DEFAULT 0
);
"""

SESSIONS = """
CREATE TABLE sessions (
    session_key        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id          integer NOT NULL REFERENCES sources,
    id                 text COLLATE "C" NOT NULL,
    project            text COLLATE "C" NOT NULL,
    machine            text COLLATE "C" NOT NULL,
    agent              text COLLATE "C" NOT NULL,
    cwd                text COLLATE "C" NOT NULL,
    git_branch         text COLLATE "C" NOT NULL,
    -- directory of the transcript file, evidence for the project identity
    file_directory     text COLLATE "C" NOT NULL,
    started_at_text    text,
    ended_at_text      text,
    created_at_text    text,
    deleted_at_text    text,
    started_at         timestamptz,
    ended_at           timestamptz,
    created_at         timestamptz,
    last_message_at    timestamptz,
    -- what the wire shows, and what sorts: the instant in Unix milliseconds
    last_activity_text text COLLATE "C" NOT NULL,
    activity_ms        bigint,
    start_day          text COLLATE "C",
    duration_seconds   bigint,
    message_count            bigint NOT NULL,
    user_message_count       bigint NOT NULL,
    assistant_message_count  bigint NOT NULL,
    parent_session_id  text COLLATE "C",
    relationship_type  text COLLATE "C" NOT NULL,
    is_automated       boolean NOT NULL,
    total_output_tokens      bigint NOT NULL,
    peak_context_tokens      bigint NOT NULL,
    has_total_output_tokens  boolean NOT NULL,
    has_peak_context_tokens  boolean NOT NULL,
    outcome            text COLLATE "C" NOT NULL,
    health_grade       text COLLATE "C",
    tool_failure_signal_count bigint NOT NULL,
    secret_leak_count  bigint NOT NULL,
    termination_status text COLLATE "C",
    -- worktree of the cwd and the path identity, both derived from the rows beside them
    has_worktree       boolean NOT NULL DEFAULT false,
    worktree_name      text COLLATE "C" NOT NULL DEFAULT '',
    worktree_root      text COLLATE "C" NOT NULL DEFAULT '',
    path_key           text COLLATE "C",
    path_root          text COLLATE "C",
    -- present, vanished (gone from its source) or excluded (its owner removed it for good)
    presence           text COLLATE "C" NOT NULL DEFAULT 'present'
        CONSTRAINT sessions_presence CHECK (presence IN ('present', 'vanished', 'excluded')),
    -- another source holds a better copy of the same id, which is the one that is exported
    shadowed           boolean NOT NULL DEFAULT false,
    -- of the source's row, to see whether it must be read again
    fingerprint        uuid NOT NULL,
    -- of what was made of it, to see whether anything must be written
    digest             uuid NOT NULL,
    inserted_revision  bigint NOT NULL,
    changed_revision   bigint NOT NULL,
    visible            boolean NOT NULL GENERATED ALWAYS AS (
        message_count > 0 AND deleted_at_text IS NULL AND presence = 'present' AND NOT shadowed
    ) STORED,
    CONSTRAINT sessions_natural_key UNIQUE (id, source_id)
);

CREATE INDEX sessions_default_page ON sessions (activity_ms DESC, id)
    WHERE visible AND activity_ms IS NOT NULL AND NOT is_automated AND user_message_count > 1
      AND relationship_type NOT IN ('subagent', 'fork');
CREATE INDEX sessions_page ON sessions (activity_ms DESC, id)
    WHERE visible AND activity_ms IS NOT NULL;
CREATE INDEX sessions_project_page ON sessions (project, activity_ms DESC, id)
    WHERE visible AND activity_ms IS NOT NULL;
CREATE INDEX sessions_parent ON sessions (parent_session_id)
    WHERE parent_session_id IS NOT NULL;
CREATE INDEX sessions_path_identity ON sessions (project, path_key)
    WHERE path_key IS NOT NULL AND deleted_at_text IS NULL AND presence = 'present';
CREATE INDEX sessions_inserted ON sessions (inserted_revision);

-- The log of key changes: what a session looked like before a revision changed anything that
-- decides whether, and where, an export shows it. Inserts are found by inserted_revision.
CREATE TABLE session_changes (
    revision           bigint NOT NULL,
    session_key        bigint NOT NULL,
    visible            boolean NOT NULL,
    project            text COLLATE "C" NOT NULL,
    machine            text COLLATE "C" NOT NULL,
    agent              text COLLATE "C" NOT NULL,
    git_branch         text COLLATE "C" NOT NULL,
    last_activity_text text COLLATE "C" NOT NULL,
    activity_ms        bigint,
    start_day          text COLLATE "C",
    message_count      bigint NOT NULL,
    user_message_count bigint NOT NULL,
    parent_session_id  text COLLATE "C",
    relationship_type  text COLLATE "C" NOT NULL,
    is_automated       boolean NOT NULL,
    outcome            text COLLATE "C" NOT NULL,
    health_grade       text COLLATE "C",
    tool_failure_signal_count bigint NOT NULL,
    secret_leak_count  bigint NOT NULL,
    CONSTRAINT session_changes_key PRIMARY KEY (revision, session_key)
);
"""

# The membership columns of a session: they decide whether an export shows it, and where.
MEMBERSHIP = """
    visible, project, machine, agent, git_branch, last_activity_text, activity_ms, start_day,
    message_count, user_message_count, parent_session_id, relationship_type, is_automated,
    outcome, health_grade, tool_failure_signal_count, secret_leak_count
"""

# One statement trigger keeps the log, whatever statement changes a session. Of several changes
# within one revision the first image is the one that a cursor may have seen.
CHANGE_LOG = f"""
CREATE FUNCTION log_session_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO session_changes (revision, session_key, {MEMBERSHIP})
    SELECT (SELECT revision FROM archive), session_key, {MEMBERSHIP} FROM (
        SELECT session_key, {MEMBERSHIP} FROM before_update
        EXCEPT
        SELECT session_key, {MEMBERSHIP} FROM after_update
    ) AS changed
    ON CONFLICT (revision, session_key) DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER sessions_change_log AFTER UPDATE ON sessions
    REFERENCING OLD TABLE AS before_update NEW TABLE AS after_update
    FOR EACH STATEMENT EXECUTE FUNCTION log_session_changes();
"""

# The two large tables carry no foreign key: they are replaced whole with their session, in the
# session's own transaction, and a check per row would cost a quarter of the import.
USAGE_AND_ACTIVITY = """
CREATE TABLE usage_rows (
    session_key    bigint NOT NULL,
    -- position in the order in which the session's rows are counted
    position       integer NOT NULL,
    ordinal        integer NOT NULL,
    model_id       integer NOT NULL,
    -- null: a message; else the event's own source label
    event_source   text,
    at             timestamptz,
    at_nanoseconds smallint NOT NULL,
    -- only where a stored time is no instant: its first ten characters
    day_text       text,
    input_tokens                bigint NOT NULL,
    output_tokens               bigint NOT NULL,
    cache_creation_input_tokens bigint NOT NULL,
    cache_read_input_tokens     bigint NOT NULL,
    reasoning_tokens            bigint NOT NULL,
    reported_cost  numeric,
    -- equal keys are one provider response; null is never a duplicate
    dedup_key      uuid,
    -- first of its key in the session, and not empty: a session's own total counts it
    is_counted     boolean NOT NULL,
    CONSTRAINT usage_rows_key PRIMARY KEY (session_key, position)
);
CREATE INDEX usage_rows_at ON usage_rows USING brin (at);

CREATE TABLE activity_points (
    session_key     bigint NOT NULL,
    ordinal         integer NOT NULL,
    at              timestamptz,
    at_nanoseconds  smallint NOT NULL,
    -- a: assistant, u: user, s: system, t: tool, o: other
    role_class      "char" NOT NULL,
    model_id        integer,
    -- the active time that begins here, and the model it belongs to (null: unknown)
    active_nanoseconds bigint,
    active_model_id    integer,
    CONSTRAINT activity_points_key PRIMARY KEY (session_key, ordinal)
);
CREATE INDEX activity_points_at ON activity_points USING brin (at);

CREATE TABLE billing_rows (
    source_id       integer NOT NULL REFERENCES sources,
    row_key         uuid NOT NULL,
    model_id        integer NOT NULL,
    at              timestamptz,
    at_nanoseconds  smallint NOT NULL,
    day_text        text,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    charged_cost    numeric NOT NULL,
    is_headless     boolean NOT NULL,
    dedup_key       uuid,
    CONSTRAINT billing_rows_key PRIMARY KEY (source_id, row_key)
);
"""

DERIVED = """
-- Derived from usage_rows: what one session spent on one model.
CREATE TABLE session_models (
    session_key    bigint NOT NULL REFERENCES sessions ON DELETE CASCADE,
    model_id       integer NOT NULL REFERENCES models,
    input_tokens                bigint NOT NULL,
    output_tokens               bigint NOT NULL,
    cache_creation_input_tokens bigint NOT NULL,
    cache_read_input_tokens     bigint NOT NULL,
    reasoning_tokens            bigint NOT NULL,
    -- the same sums over the rows that a rate must price
    priced_input          bigint NOT NULL,
    priced_output         bigint NOT NULL,
    priced_cache_creation bigint NOT NULL,
    priced_cache_read     bigint NOT NULL,
    reported_cost  numeric NOT NULL,
    computed_rows  integer NOT NULL,
    reported_rows  integer NOT NULL,
    CONSTRAINT session_models_key PRIMARY KEY (session_key, model_id)
);
CREATE INDEX session_models_model ON session_models (model_id);

-- Derived: the v1 text of a session, in three parts so that new prices change only the middle one.
CREATE TABLE session_lines (
    session_key  bigint PRIMARY KEY REFERENCES sessions ON DELETE CASCADE,
    head         text NOT NULL,
    usage        text NOT NULL,
    tail         text NOT NULL
);
ALTER TABLE session_lines ALTER head SET STORAGE EXTERNAL, ALTER usage SET STORAGE EXTERNAL,
    ALTER tail SET STORAGE EXTERNAL;
"""

IDENTITY = """
CREATE TABLE project_observations (
    source_id          integer NOT NULL REFERENCES sources,
    -- digest of the natural key: project, machine, root_path, git_remote and the redacted key
    observation_key    uuid NOT NULL,
    project            text COLLATE "C" NOT NULL,
    machine            text COLLATE "C" NOT NULL,
    root_path          text COLLATE "C" NOT NULL,
    -- storage form only: no user, password, query or fragment ever
    git_remote         text COLLATE "C" NOT NULL,
    git_remote_name    text NOT NULL,
    worktree_name      text NOT NULL,
    worktree_root_path text COLLATE "C" NOT NULL,
    observed_at_text   text NOT NULL,
    observed_at        timestamptz,
    key                text COLLATE "C",
    key_source         text,
    normalized_remote  text,
    normalized_root    text,
    -- the remote's text was withheld because it may carry a credential; its key is kept
    is_redacted        boolean NOT NULL DEFAULT false,
    CONSTRAINT project_observations_key PRIMARY KEY (source_id, observation_key)
);
CREATE INDEX project_observations_project ON project_observations (project, key)
    WHERE key IS NOT NULL;

CREATE TABLE worktree_mappings (
    source_id    integer NOT NULL REFERENCES sources,
    mapping_key  uuid NOT NULL,
    machine      text COLLATE "C" NOT NULL,
    path_prefix  text COLLATE "C" NOT NULL,
    layout       text NOT NULL,
    project      text COLLATE "C" NOT NULL,
    is_enabled   boolean NOT NULL,
    CONSTRAINT worktree_mappings_key PRIMARY KEY (source_id, mapping_key)
);
"""

# The one renderer of v1 text in SQL; exporter.core.wire is its twin for everything else.
TEXT_FUNCTIONS = r"""
CREATE FUNCTION json_text(value text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(to_json(value)::text, 'null')
$$;

-- The escapes that v1 has beyond JSON's own. None of these characters is JSON syntax, so whole
-- documents can be escaped at once.
CREATE FUNCTION wire_text(document text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT replace(replace(replace(replace(replace(document,
        '<', '\u003c'), '>', '\u003e'), '&', '\u0026'),
        U&'\2028', '\u2028'), U&'\2029', '\u2029')
$$;

-- Shortest text of a double: positional from 1e-6 up to 1e21, else a bare exponent.
CREATE FUNCTION json_number(value double precision) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN value = 0 THEN '0'
        WHEN abs(value) >= 1e21 OR abs(value) < 1e-6
            THEN regexp_replace(value::text, 'e([+-])0*', 'e\1')
        ELSE trim_scale(value::text::numeric)::text
    END
$$;
"""

TABLES = (
    "worktree_mappings",
    "project_observations",
    "session_lines",
    "session_models",
    "billing_rows",
    "activity_points",
    "usage_rows",
    "session_changes",
    "sessions",
    "model_rates",
    "source_prices",
    "models",
    "revisions",
    "import_runs",
    "sources",
)


def upgrade() -> None:
    for block in (
        SOURCES,
        MODELS_AND_PRICES,
        SESSIONS,
        CHANGE_LOG,
        USAGE_AND_ACTIVITY,
        DERIVED,
        IDENTITY,
        TEXT_FUNCTIONS,
    ):
        op.execute(block)


def downgrade() -> None:
    op.execute("DROP FUNCTION json_number(double precision), json_text(text), wire_text(text)")
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION log_session_changes()")
