-- agentsview's shared PostgreSQL as release 0.46.1 makes it with `pg push` (data version 143):
-- the later era.
--
-- Money is held in whole microdollars; identity evidence and worktree mappings are kept per
-- source archive; project_identity_observations exists only where an older release made it.
-- Names carry no schema; set search_path to the one that holds them.

CREATE TABLE sessions (
    id text NOT NULL,
    machine text NOT NULL,
    owner_marker text NOT NULL DEFAULT '',
    project text NOT NULL,
    project_assigned boolean NOT NULL DEFAULT false,
    agent text NOT NULL,
    agent_label text NOT NULL DEFAULT '',
    entrypoint text NOT NULL DEFAULT '',
    session_kind text NOT NULL DEFAULT '',
    pr_links text NOT NULL DEFAULT '',
    labels text[] NOT NULL DEFAULT '{}',
    first_message text,
    display_name text,
    source_display_name text,
    session_name text,
    created_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    deleted_at timestamptz,
    source_deleted_at timestamptz,
    trash_includes_codex_pages boolean NOT NULL DEFAULT false,
    source_trash_includes_codex_pages boolean NOT NULL DEFAULT false,
    deletion_cause text,
    message_count integer NOT NULL DEFAULT 0,
    user_message_count integer NOT NULL DEFAULT 0,
    parent_session_id text,
    parser_parent_session_id text,
    relationship_type text NOT NULL DEFAULT '',
    total_output_tokens integer NOT NULL DEFAULT 0,
    peak_context_tokens integer NOT NULL DEFAULT 0,
    has_total_output_tokens boolean NOT NULL DEFAULT false,
    has_peak_context_tokens boolean NOT NULL DEFAULT false,
    is_automated boolean NOT NULL DEFAULT false,
    prompt_evidence_discarded boolean NOT NULL DEFAULT false,
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
    friction_count integer NOT NULL DEFAULT 0,
    friction_rules_version text NOT NULL DEFAULT '',
    friction_hash text NOT NULL DEFAULT '',
    transcript_revision text NOT NULL DEFAULT '0',
    source_archive_id text NOT NULL DEFAULT '',
    source_database_generation text NOT NULL DEFAULT '',
    file_path text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    provenance_kind text NOT NULL DEFAULT 'legacy',
    raw_group_id text NOT NULL DEFAULT '',
    raw_content_revision text NOT NULL DEFAULT '',
    has_tool_calls boolean NOT NULL DEFAULT false,
    has_context_data boolean NOT NULL DEFAULT false,
    data_version integer NOT NULL DEFAULT 0,
    cwd text NOT NULL DEFAULT '',
    git_branch text NOT NULL DEFAULT '',
    source_session_id text NOT NULL DEFAULT '',
    source_version text NOT NULL DEFAULT '',
    group_key text NOT NULL DEFAULT '',
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
    dialogue_text text,
    timestamp timestamptz,
    has_thinking boolean NOT NULL DEFAULT false,
    has_tool_use boolean NOT NULL DEFAULT false,
    content_length integer NOT NULL DEFAULT 0,
    is_system boolean NOT NULL DEFAULT false,
    model text NOT NULL DEFAULT '',
    reasoning_effort text NOT NULL DEFAULT '',
    token_usage text NOT NULL DEFAULT '',
    context_tokens integer NOT NULL DEFAULT 0,
    output_tokens integer NOT NULL DEFAULT 0,
    provider_id text NOT NULL DEFAULT '',
    has_context_tokens boolean NOT NULL DEFAULT false,
    has_output_tokens boolean NOT NULL DEFAULT false,
    claude_message_id text NOT NULL DEFAULT '',
    claude_request_id text NOT NULL DEFAULT '',
    source_type text NOT NULL DEFAULT '',
    source_subtype text NOT NULL DEFAULT '',
    prompt_source text NOT NULL DEFAULT '',
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
    provider_id text NOT NULL DEFAULT '',
    input_tokens integer NOT NULL DEFAULT 0,
    output_tokens integer NOT NULL DEFAULT 0,
    cache_creation_input_tokens integer NOT NULL DEFAULT 0,
    cache_read_input_tokens integer NOT NULL DEFAULT 0,
    reasoning_tokens integer NOT NULL DEFAULT 0,
    cost_microdollars bigint,
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
    charged_microdollars bigint NOT NULL DEFAULT 0,
    cursor_token_fee_microdollars bigint NOT NULL DEFAULT 0,
    user_id text NOT NULL DEFAULT '',
    user_email text NOT NULL DEFAULT '',
    is_headless boolean NOT NULL DEFAULT false,
    dedup_key text NOT NULL DEFAULT '',
    PRIMARY KEY (id)
);

CREATE TABLE model_pricing (
    model_pattern text NOT NULL,
    input_microdollars_per_mtok bigint NOT NULL DEFAULT 0,
    output_microdollars_per_mtok bigint NOT NULL DEFAULT 0,
    cache_creation_microdollars_per_mtok bigint NOT NULL DEFAULT 0,
    cache_creation_1h_microdollars_per_mtok bigint NOT NULL DEFAULT 0,
    cache_read_microdollars_per_mtok bigint NOT NULL DEFAULT 0,
    updated_at text NOT NULL DEFAULT '',
    PRIMARY KEY (model_pattern)
);

CREATE TABLE model_pricing_bands (
    model_pattern text NOT NULL,
    above_input_tokens bigint NOT NULL,
    input_microdollars_per_mtok bigint NOT NULL,
    output_microdollars_per_mtok bigint NOT NULL,
    cache_creation_microdollars_per_mtok bigint NOT NULL,
    cache_creation_1h_microdollars_per_mtok bigint NOT NULL DEFAULT 0,
    cache_read_microdollars_per_mtok bigint NOT NULL,
    updated_at text NOT NULL DEFAULT '',
    PRIMARY KEY (model_pattern, above_input_tokens),
    FOREIGN KEY (model_pattern) REFERENCES model_pricing(model_pattern) ON DELETE CASCADE
);

CREATE TABLE source_archives (
    source_archive_id text NOT NULL,
    source_archive_salt text NOT NULL,
    PRIMARY KEY (source_archive_id)
);

CREATE TABLE source_project_identity_observations (
    source_archive_id text NOT NULL DEFAULT '',
    source_archive_salt text NOT NULL DEFAULT '',
    project text NOT NULL,
    machine text NOT NULL,
    root_path text NOT NULL DEFAULT '',
    git_remote text NOT NULL DEFAULT '',
    git_remote_name text NOT NULL DEFAULT '',
    repository_path text NOT NULL DEFAULT '',
    worktree_name text NOT NULL DEFAULT '',
    worktree_root_path text NOT NULL DEFAULT '',
    worktree_relationship text NOT NULL DEFAULT 'unknown',
    checkout_state text NOT NULL DEFAULT 'unknown',
    git_branch text NOT NULL DEFAULT '',
    remote_resolution text NOT NULL DEFAULT 'unknown',
    remote_candidate_count integer NOT NULL DEFAULT 0,
    observed_at timestamptz NOT NULL,
    normalized_remote text NOT NULL DEFAULT '',
    key_source text NOT NULL DEFAULT '',
    key text NOT NULL DEFAULT '',
    PRIMARY KEY (source_archive_id, project, machine, root_path, git_remote)
);

CREATE TABLE source_project_identity_observation_scopes (
    source_archive_id text NOT NULL,
    project text NOT NULL,
    machine text NOT NULL,
    root_path text NOT NULL DEFAULT '',
    git_remote text NOT NULL DEFAULT '',
    publication_scope text NOT NULL,
    PRIMARY KEY (source_archive_id, project, machine, root_path, git_remote, publication_scope),
    FOREIGN KEY (source_archive_id, project, machine, root_path, git_remote)
        REFERENCES source_project_identity_observations ON DELETE CASCADE
);

CREATE TABLE source_session_project_identity_snapshots (
    source_archive_id text NOT NULL,
    source_database_generation text NOT NULL,
    source_session_id text NOT NULL,
    project text NOT NULL,
    machine text NOT NULL,
    root_path text NOT NULL DEFAULT '',
    git_remote text NOT NULL DEFAULT '',
    git_remote_name text NOT NULL DEFAULT '',
    repository_path text NOT NULL DEFAULT '',
    worktree_name text NOT NULL DEFAULT '',
    worktree_root_path text NOT NULL DEFAULT '',
    worktree_relationship text NOT NULL DEFAULT 'unknown',
    checkout_state text NOT NULL DEFAULT 'unknown',
    git_branch text NOT NULL DEFAULT '',
    remote_resolution text NOT NULL DEFAULT 'unknown',
    remote_candidate_count integer NOT NULL DEFAULT 0,
    observed_at timestamptz NOT NULL,
    normalized_remote text NOT NULL DEFAULT '',
    key_source text NOT NULL DEFAULT '',
    key text NOT NULL DEFAULT '',
    PRIMARY KEY (source_archive_id, source_database_generation, source_session_id)
);

CREATE TABLE source_session_project_identity_snapshot_scopes (
    source_archive_id text NOT NULL,
    source_database_generation text NOT NULL,
    source_session_id text NOT NULL,
    publication_scope text NOT NULL,
    PRIMARY KEY (
        source_archive_id, source_database_generation, source_session_id, publication_scope
    ),
    FOREIGN KEY (source_archive_id, source_database_generation, source_session_id)
        REFERENCES source_session_project_identity_snapshots ON DELETE CASCADE
);

CREATE TABLE source_worktree_project_mappings (
    source_archive_id text NOT NULL,
    machine text NOT NULL,
    path_prefix text NOT NULL,
    layout text NOT NULL DEFAULT 'explicit',
    project text NOT NULL DEFAULT '',
    original_project text NOT NULL DEFAULT '',
    enabled boolean NOT NULL DEFAULT true,
    updated_at text NOT NULL DEFAULT '',
    PRIMARY KEY (source_archive_id, machine, path_prefix)
);

CREATE TABLE source_worktree_project_mapping_scopes (
    source_archive_id text NOT NULL,
    machine text NOT NULL,
    path_prefix text NOT NULL,
    publication_scope text NOT NULL,
    PRIMARY KEY (source_archive_id, machine, path_prefix, publication_scope),
    FOREIGN KEY (source_archive_id, machine, path_prefix)
        REFERENCES source_worktree_project_mappings ON DELETE CASCADE
);

CREATE TABLE excluded_sessions (
    id text NOT NULL,
    include_codex_pages boolean NOT NULL DEFAULT false,
    owner_marker text,
    machine text,
    agent text,
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
    observed_outcome text,
    observed_repeat text,
    sequence_ending text,
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

CREATE INDEX idx_source_project_identity_observations_project
    ON source_project_identity_observations (project);
