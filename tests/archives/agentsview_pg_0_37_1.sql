-- agentsview's shared PostgreSQL as release 0.37.1 makes it with `pg push` (data version 59).
--
-- A description of a layout: the tables and indexes an importer may meet. Names carry no
-- schema; set search_path to the one schema that holds them (`agentsview` unless renamed).
-- tests/interop checks every table here against a schema made by the program itself.

CREATE TABLE sessions (
    id text NOT NULL,
    machine text NOT NULL,
    owner_marker text NOT NULL DEFAULT '',
    project text NOT NULL,
    agent text NOT NULL,
    first_message text,
    display_name text,
    source_display_name text,
    session_name text,
    created_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    deleted_at timestamptz,
    source_deleted_at timestamptz,
    message_count integer NOT NULL DEFAULT 0,
    user_message_count integer NOT NULL DEFAULT 0,
    parent_session_id text,
    relationship_type text NOT NULL DEFAULT '',
    total_output_tokens integer NOT NULL DEFAULT 0,
    peak_context_tokens integer NOT NULL DEFAULT 0,
    has_total_output_tokens boolean NOT NULL DEFAULT false,
    has_peak_context_tokens boolean NOT NULL DEFAULT false,
    is_automated boolean NOT NULL DEFAULT false,
    tool_failure_signal_count integer NOT NULL DEFAULT 0,
    tool_retry_count integer NOT NULL DEFAULT 0,
    edit_churn_count integer NOT NULL DEFAULT 0,
    consecutive_failure_max integer NOT NULL DEFAULT 0,
    outcome text NOT NULL DEFAULT 'unknown',
    outcome_confidence text NOT NULL DEFAULT 'low',
    ended_with_role text NOT NULL DEFAULT '',
    final_failure_streak integer NOT NULL DEFAULT 0,
    signals_pending_since text,
    compaction_count integer NOT NULL DEFAULT 0,
    mid_task_compaction_count integer NOT NULL DEFAULT 0,
    context_pressure_max double precision,
    health_score integer,
    health_grade text,
    quality_signal_version integer NOT NULL DEFAULT 0,
    short_prompt_count integer NOT NULL DEFAULT 0,
    unstructured_start boolean NOT NULL DEFAULT false,
    missing_success_criteria_count integer NOT NULL DEFAULT 0,
    missing_verification_count integer NOT NULL DEFAULT 0,
    duplicate_prompt_count integer NOT NULL DEFAULT 0,
    no_code_context_count integer NOT NULL DEFAULT 0,
    runaway_tool_loop_count integer NOT NULL DEFAULT 0,
    termination_status text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    has_tool_calls boolean NOT NULL DEFAULT false,
    has_context_data boolean NOT NULL DEFAULT false,
    data_version integer NOT NULL DEFAULT 0,
    cwd text NOT NULL DEFAULT '',
    git_branch text NOT NULL DEFAULT '',
    source_session_id text NOT NULL DEFAULT '',
    source_version text NOT NULL DEFAULT '',
    transcript_fidelity text NOT NULL DEFAULT '',
    parser_malformed_lines integer NOT NULL DEFAULT 0,
    is_truncated boolean NOT NULL DEFAULT false,
    secret_leak_count integer NOT NULL DEFAULT 0,
    secrets_rules_version text NOT NULL DEFAULT '',
    PRIMARY KEY (id)
);

CREATE TABLE messages (
    session_id text NOT NULL,
    ordinal integer NOT NULL,
    role text NOT NULL,
    content text NOT NULL,
    thinking_text text NOT NULL DEFAULT '',
    timestamp timestamptz,
    has_thinking boolean NOT NULL DEFAULT false,
    has_tool_use boolean NOT NULL DEFAULT false,
    content_length integer NOT NULL DEFAULT 0,
    is_system boolean NOT NULL DEFAULT false,
    model text NOT NULL DEFAULT '',
    token_usage text NOT NULL DEFAULT '',
    context_tokens integer NOT NULL DEFAULT 0,
    output_tokens integer NOT NULL DEFAULT 0,
    has_context_tokens boolean NOT NULL DEFAULT false,
    has_output_tokens boolean NOT NULL DEFAULT false,
    claude_message_id text NOT NULL DEFAULT '',
    claude_request_id text NOT NULL DEFAULT '',
    source_type text NOT NULL DEFAULT '',
    source_subtype text NOT NULL DEFAULT '',
    source_uuid text NOT NULL DEFAULT '',
    source_parent_uuid text NOT NULL DEFAULT '',
    is_sidechain boolean NOT NULL DEFAULT false,
    is_compact_boundary boolean NOT NULL DEFAULT false,
    PRIMARY KEY (session_id, ordinal),
    FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);

CREATE TABLE usage_events (
    id bigserial,
    session_id text NOT NULL,
    message_ordinal integer,
    source text NOT NULL,
    model text NOT NULL,
    input_tokens integer NOT NULL DEFAULT 0,
    output_tokens integer NOT NULL DEFAULT 0,
    cache_creation_input_tokens integer NOT NULL DEFAULT 0,
    cache_read_input_tokens integer NOT NULL DEFAULT 0,
    reasoning_tokens integer NOT NULL DEFAULT 0,
    cost_usd double precision,
    cost_status text NOT NULL DEFAULT '',
    cost_source text NOT NULL DEFAULT '',
    occurred_at timestamptz,
    dedup_key text NOT NULL DEFAULT '',
    PRIMARY KEY (id),
    FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);

CREATE TABLE cursor_usage_events (
    id bigserial,
    occurred_at timestamptz NOT NULL,
    model text NOT NULL,
    kind text NOT NULL DEFAULT '',
    input_tokens integer NOT NULL DEFAULT 0,
    output_tokens integer NOT NULL DEFAULT 0,
    cache_write_tokens integer NOT NULL DEFAULT 0,
    cache_read_tokens integer NOT NULL DEFAULT 0,
    charged_cents double precision NOT NULL DEFAULT 0,
    cursor_token_fee double precision NOT NULL DEFAULT 0,
    user_id text NOT NULL DEFAULT '',
    user_email text NOT NULL DEFAULT '',
    is_headless boolean NOT NULL DEFAULT false,
    dedup_key text NOT NULL DEFAULT '',
    PRIMARY KEY (id)
);

CREATE TABLE model_pricing (
    model_pattern text NOT NULL,
    input_per_mtok double precision NOT NULL DEFAULT 0,
    output_per_mtok double precision NOT NULL DEFAULT 0,
    cache_creation_per_mtok double precision NOT NULL DEFAULT 0,
    cache_read_per_mtok double precision NOT NULL DEFAULT 0,
    updated_at text NOT NULL DEFAULT '',
    PRIMARY KEY (model_pattern)
);

CREATE TABLE project_identity_observations (
    project text NOT NULL,
    machine text NOT NULL,
    root_path text NOT NULL DEFAULT '',
    git_remote text NOT NULL DEFAULT '',
    git_remote_name text NOT NULL DEFAULT '',
    worktree_name text NOT NULL DEFAULT '',
    worktree_root_path text NOT NULL DEFAULT '',
    observed_at timestamptz NOT NULL,
    normalized_remote text NOT NULL DEFAULT '',
    key_source text NOT NULL DEFAULT '',
    key text NOT NULL DEFAULT '',
    PRIMARY KEY (project, machine, root_path, git_remote)
);

CREATE TABLE excluded_sessions (
    id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id)
);

CREATE TABLE starred_sessions (
    session_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id),
    FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);

CREATE TABLE session_aliases (
    session_id text NOT NULL,
    alias_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id, alias_id),
    FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);

CREATE TABLE sync_metadata (
    key text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (key)
);

CREATE TABLE tool_calls (
    id bigserial,
    session_id text NOT NULL,
    tool_name text NOT NULL,
    category text NOT NULL,
    call_index integer NOT NULL DEFAULT 0,
    tool_use_id text NOT NULL DEFAULT '',
    input_json text,
    skill_name text,
    result_content_length integer,
    result_content text,
    subagent_session_id text,
    message_ordinal integer NOT NULL,
    file_path text,
    PRIMARY KEY (id),
    FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);

CREATE UNIQUE INDEX idx_usage_events_dedup
    ON usage_events (session_id, source, dedup_key)
    WHERE dedup_key <> '';

CREATE UNIQUE INDEX idx_cursor_usage_events_dedup
    ON cursor_usage_events (dedup_key)
    WHERE dedup_key <> '';

CREATE UNIQUE INDEX idx_tool_calls_dedup
    ON tool_calls (session_id, message_ordinal, call_index);

CREATE INDEX idx_sessions_parent
    ON sessions (parent_session_id)
    WHERE parent_session_id IS NOT NULL;

CREATE INDEX idx_usage_events_session
    ON usage_events (session_id);

CREATE INDEX idx_messages_usage_covering
    ON messages (timestamp, session_id, ordinal, model, claude_message_id, claude_request_id)
    WHERE (token_usage <> '') AND (model <> '') AND (model <> '<synthetic>');

CREATE INDEX idx_messages_velocity
    ON messages (session_id, ordinal, role, timestamp, content_length);

CREATE INDEX idx_project_identity_observations_project
    ON project_identity_observations (project);
