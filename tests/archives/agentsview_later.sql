-- agentsview's SQLite archive as release 0.46.1 makes it (data version 143): the later era.
--
-- Money is held in whole microdollars, an archive has a stable id beside the id of its
-- database file, and every session has a snapshot of its project identity.
-- Left out: full-text search, triggers, caches, queues, and what holds nothing to export.

PRAGMA user_version = 143;

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    machine TEXT NOT NULL DEFAULT 'local',
    agent TEXT NOT NULL DEFAULT 'claude',
    agent_label TEXT NOT NULL DEFAULT '',
    entrypoint TEXT NOT NULL DEFAULT '',
    session_kind TEXT NOT NULL DEFAULT '',
    first_message TEXT,
    display_name TEXT,
    session_name TEXT,
    started_at TEXT,
    ended_at TEXT,
    message_count INTEGER NOT NULL DEFAULT 0,
    user_message_count INTEGER NOT NULL DEFAULT 0,
    file_path TEXT,
    file_size INTEGER,
    file_mtime INTEGER,
    next_ordinal INTEGER NOT NULL DEFAULT 0,
    last_entry_uuid TEXT,
    claude_linear_parse INTEGER,
    file_inode INTEGER,
    file_device INTEGER,
    file_hash TEXT,
    local_modified_at TEXT,
    transcript_revision TEXT NOT NULL DEFAULT '0',
    parent_session_id TEXT,
    parser_parent_session_id TEXT,
    parser_relationship_type TEXT,
    relationship_type TEXT NOT NULL DEFAULT '',
    total_output_tokens INTEGER NOT NULL DEFAULT 0,
    peak_context_tokens INTEGER NOT NULL DEFAULT 0,
    has_total_output_tokens INTEGER NOT NULL DEFAULT 0,
    has_peak_context_tokens INTEGER NOT NULL DEFAULT 0,
    is_automated INTEGER NOT NULL DEFAULT 0,
    tool_failure_signal_count INTEGER NOT NULL DEFAULT 0,
    tool_retry_count INTEGER NOT NULL DEFAULT 0,
    edit_churn_count INTEGER NOT NULL DEFAULT 0,
    consecutive_failure_max INTEGER NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL DEFAULT 'unknown',
    outcome_confidence TEXT NOT NULL DEFAULT 'low',
    ended_with_role TEXT NOT NULL DEFAULT '',
    final_failure_streak INTEGER NOT NULL DEFAULT 0,
    signals_pending_since TEXT,
    compaction_count INTEGER NOT NULL DEFAULT 0,
    mid_task_compaction_count INTEGER NOT NULL DEFAULT 0,
    context_pressure_max REAL,
    health_score INTEGER,
    health_grade TEXT,
    has_tool_calls INTEGER NOT NULL DEFAULT 0,
    has_context_data INTEGER NOT NULL DEFAULT 0,
    quality_signal_version INTEGER NOT NULL DEFAULT 0,
    short_prompt_count INTEGER NOT NULL DEFAULT 0,
    unstructured_start INTEGER NOT NULL DEFAULT 0,
    missing_success_criteria_count INTEGER NOT NULL DEFAULT 0,
    missing_verification_count INTEGER NOT NULL DEFAULT 0,
    duplicate_prompt_count INTEGER NOT NULL DEFAULT 0,
    no_code_context_count INTEGER NOT NULL DEFAULT 0,
    runaway_tool_loop_count INTEGER NOT NULL DEFAULT 0,
    data_version INTEGER NOT NULL DEFAULT 0,
    cwd TEXT NOT NULL DEFAULT '',
    git_branch TEXT NOT NULL DEFAULT '',
    pr_links TEXT NOT NULL DEFAULT '',
    source_session_id TEXT NOT NULL DEFAULT '',
    source_version TEXT NOT NULL DEFAULT '',
    group_key TEXT NOT NULL DEFAULT '',
    transcript_fidelity TEXT NOT NULL DEFAULT '',
    parser_malformed_lines INTEGER NOT NULL DEFAULT 0,
    is_truncated INTEGER NOT NULL DEFAULT 0,
    last_write_incremental INTEGER NOT NULL DEFAULT 0,
    deleted_at TEXT,
    trash_includes_codex_pages INTEGER NOT NULL DEFAULT 0,
    deletion_cause TEXT,
    source_missing_at TEXT,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    termination_status TEXT,
    secret_leak_count INTEGER NOT NULL DEFAULT 0,
    secrets_rules_version TEXT NOT NULL DEFAULT '',
    friction_count INTEGER NOT NULL DEFAULT 0,
    friction_rules_version TEXT NOT NULL DEFAULT '',
    friction_hash TEXT NOT NULL DEFAULT '',
    sync_marker TEXT
);

CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    thinking_text TEXT NOT NULL DEFAULT '',
    dialogue_text TEXT,
    timestamp TEXT,
    has_thinking INTEGER NOT NULL DEFAULT 0,
    has_tool_use INTEGER NOT NULL DEFAULT 0,
    content_length INTEGER NOT NULL DEFAULT 0,
    is_system INTEGER NOT NULL DEFAULT 0,
    model TEXT NOT NULL DEFAULT '',
    reasoning_effort TEXT NOT NULL DEFAULT '',
    token_usage TEXT NOT NULL DEFAULT '',
    context_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    provider_id TEXT NOT NULL DEFAULT '',
    has_context_tokens INTEGER NOT NULL DEFAULT 0,
    has_output_tokens INTEGER NOT NULL DEFAULT 0,
    claude_message_id TEXT NOT NULL DEFAULT '',
    claude_request_id TEXT NOT NULL DEFAULT '',
    source_type TEXT NOT NULL DEFAULT '',
    source_subtype TEXT NOT NULL DEFAULT '',
    prompt_source TEXT NOT NULL DEFAULT '',
    source_uuid TEXT NOT NULL DEFAULT '',
    source_parent_uuid TEXT NOT NULL DEFAULT '',
    is_sidechain INTEGER NOT NULL DEFAULT 0,
    is_compact_boundary INTEGER NOT NULL DEFAULT 0,
    UNIQUE(session_id, ordinal)
);

CREATE TABLE usage_events (
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
    message_ordinal INTEGER,
    source TEXT NOT NULL,
    model TEXT NOT NULL,
    provider_id TEXT NOT NULL DEFAULT '',
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    cache_creation_input_tokens INTEGER NOT NULL DEFAULT 0,
    cache_read_input_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens INTEGER NOT NULL DEFAULT 0,
    cost_microdollars INTEGER,
    cost_status TEXT NOT NULL DEFAULT '',
    cost_source TEXT NOT NULL DEFAULT '',
    occurred_at TEXT,
    dedup_key TEXT NOT NULL DEFAULT ''
);

CREATE TABLE cursor_usage_events (
    id INTEGER PRIMARY KEY,
    occurred_at TEXT NOT NULL,
    model TEXT NOT NULL,
    kind TEXT NOT NULL DEFAULT '',
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    cache_read_tokens INTEGER NOT NULL DEFAULT 0,
    charged_microdollars INTEGER NOT NULL DEFAULT 0,
    cursor_token_fee_microdollars INTEGER NOT NULL DEFAULT 0,
    user_id TEXT NOT NULL DEFAULT '',
    user_email TEXT NOT NULL DEFAULT '',
    is_headless INTEGER NOT NULL DEFAULT 0,
    dedup_key TEXT NOT NULL DEFAULT ''
);

CREATE TABLE model_pricing (
    model_pattern TEXT PRIMARY KEY,
    input_microdollars_per_mtok INTEGER NOT NULL DEFAULT 0,
    output_microdollars_per_mtok INTEGER NOT NULL DEFAULT 0,
    cache_creation_microdollars_per_mtok INTEGER NOT NULL DEFAULT 0,
    cache_creation_1h_microdollars_per_mtok INTEGER NOT NULL DEFAULT 0,
    cache_read_microdollars_per_mtok INTEGER NOT NULL DEFAULT 0,
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
);

CREATE TABLE model_pricing_bands (
    model_pattern TEXT NOT NULL REFERENCES model_pricing(model_pattern) ON DELETE CASCADE,
    above_input_tokens INTEGER NOT NULL,
    input_microdollars_per_mtok INTEGER NOT NULL,
    output_microdollars_per_mtok INTEGER NOT NULL,
    cache_creation_microdollars_per_mtok INTEGER NOT NULL,
    cache_creation_1h_microdollars_per_mtok INTEGER NOT NULL DEFAULT 0,
    cache_read_microdollars_per_mtok INTEGER NOT NULL,
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    PRIMARY KEY (model_pattern, above_input_tokens)
);

CREATE TABLE project_identity_observations (
    session_id TEXT NOT NULL DEFAULT '',
    source_archive_id TEXT NOT NULL DEFAULT '',
    source_archive_salt TEXT NOT NULL DEFAULT '',
    project TEXT NOT NULL,
    machine TEXT NOT NULL,
    root_path TEXT NOT NULL DEFAULT '',
    git_remote TEXT NOT NULL DEFAULT '',
    git_remote_name TEXT NOT NULL DEFAULT '',
    repository_path TEXT NOT NULL DEFAULT '',
    worktree_name TEXT NOT NULL DEFAULT '',
    worktree_root_path TEXT NOT NULL DEFAULT '',
    worktree_relationship TEXT NOT NULL DEFAULT 'unknown',
    checkout_state TEXT NOT NULL DEFAULT 'unknown',
    git_branch TEXT NOT NULL DEFAULT '',
    remote_resolution TEXT NOT NULL DEFAULT 'unknown',
    remote_candidate_count INTEGER NOT NULL DEFAULT 0,
    observed_at TEXT NOT NULL,
    normalized_remote TEXT NOT NULL DEFAULT '',
    key_source TEXT NOT NULL DEFAULT '',
    key TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (project, machine, root_path, git_remote)
);

CREATE TABLE session_project_identity_snapshots (
    session_id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    machine TEXT NOT NULL,
    root_path TEXT NOT NULL DEFAULT '',
    git_remote TEXT NOT NULL DEFAULT '',
    git_remote_name TEXT NOT NULL DEFAULT '',
    recorded_git_remote TEXT NOT NULL DEFAULT '',
    repository_path TEXT NOT NULL DEFAULT '',
    worktree_name TEXT NOT NULL DEFAULT '',
    worktree_root_path TEXT NOT NULL DEFAULT '',
    worktree_relationship TEXT NOT NULL DEFAULT 'unknown',
    checkout_state TEXT NOT NULL DEFAULT 'unknown',
    git_branch TEXT NOT NULL DEFAULT '',
    remote_resolution TEXT NOT NULL DEFAULT 'unknown',
    remote_candidate_count INTEGER NOT NULL DEFAULT 0,
    observed_at TEXT NOT NULL,
    normalized_remote TEXT NOT NULL DEFAULT '',
    key_source TEXT NOT NULL DEFAULT '',
    key TEXT NOT NULL DEFAULT '',
    FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);

CREATE TABLE worktree_project_mappings (
    id INTEGER PRIMARY KEY,
    machine TEXT NOT NULL,
    path_prefix TEXT NOT NULL,
    layout TEXT NOT NULL DEFAULT 'explicit',
    project TEXT NOT NULL,
    original_project TEXT NOT NULL DEFAULT '',
    enabled INTEGER NOT NULL DEFAULT 1,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    UNIQUE(machine, path_prefix)
);

CREATE TABLE session_project_assignments (
    session_id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    original_project TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
);

CREATE TABLE session_external_parents (
    session_id TEXT PRIMARY KEY,
    parent_session_id TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
);

CREATE TABLE excluded_sessions (
    id TEXT PRIMARY KEY,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    file_path TEXT,
    include_codex_pages INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE starred_sessions (
    session_id TEXT PRIMARY KEY REFERENCES sessions(id) ON DELETE CASCADE,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
);

CREATE TABLE archive_metadata (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
);

CREATE TABLE pg_sync_state (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE tool_calls (
    id INTEGER PRIMARY KEY,
    message_id INTEGER NOT NULL REFERENCES messages(id) ON DELETE CASCADE,
    session_id TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
    tool_name TEXT NOT NULL,
    category TEXT NOT NULL,
    tool_use_id TEXT,
    input_json TEXT,
    skill_name TEXT,
    result_content_length INTEGER,
    result_content TEXT,
    subagent_session_id TEXT,
    file_path TEXT,
    call_index INTEGER,
    observed_outcome TEXT,
    observed_repeat TEXT,
    sequence_ending TEXT
);

CREATE UNIQUE INDEX idx_usage_events_dedup
    ON usage_events(session_id, source, dedup_key)
    WHERE dedup_key != '';

CREATE UNIQUE INDEX idx_cursor_usage_events_dedup
    ON cursor_usage_events(dedup_key)
    WHERE dedup_key != '';

CREATE INDEX idx_sessions_parent
    ON sessions(parent_session_id, is_automated)
    WHERE parent_session_id IS NOT NULL;

CREATE INDEX idx_usage_events_session
    ON usage_events(session_id);

CREATE INDEX idx_messages_usage_session_covering
    ON messages(
        session_id, ordinal, timestamp, role, model, provider_id, claude_message_id,
        claude_request_id, token_usage, source_uuid
    )
    WHERE token_usage != '' AND model != '' AND model != '<synthetic>';

CREATE INDEX idx_messages_velocity
    ON messages(session_id, ordinal, role, timestamp, content_length);

CREATE INDEX idx_project_identity_observations_project
    ON project_identity_observations(project);
