-- A source archive as agentsview 0.37.1 keeps it, with the tables and columns that an import reads.
-- Built with SQLite, imported into an empty database, reported on with the command lines beside it.
--
-- Two projects at work side by side, one of them automated; a session that only spent, and one that
-- did nothing.

CREATE TABLE archive_metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO archive_metadata VALUES ('database_id', '2f8c6b1d-7e35-4a90-b4d8-6c0e9a17f253');

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    machine TEXT NOT NULL,
    agent TEXT NOT NULL,
    cwd TEXT NOT NULL DEFAULT '',
    git_branch TEXT NOT NULL DEFAULT '',
    file_path TEXT,
    started_at TEXT,
    ended_at TEXT,
    created_at TEXT NOT NULL DEFAULT '2026-02-11T09:00:00.000Z',
    deleted_at TEXT,
    message_count INTEGER NOT NULL,
    user_message_count INTEGER NOT NULL,
    parent_session_id TEXT,
    relationship_type TEXT NOT NULL DEFAULT '',
    is_automated INTEGER NOT NULL DEFAULT 0,
    total_output_tokens INTEGER NOT NULL DEFAULT 0,
    peak_context_tokens INTEGER NOT NULL DEFAULT 0,
    has_total_output_tokens INTEGER NOT NULL DEFAULT 0,
    has_peak_context_tokens INTEGER NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL DEFAULT 'unknown',
    health_grade TEXT,
    tool_failure_signal_count INTEGER NOT NULL DEFAULT 0,
    secret_leak_count INTEGER NOT NULL DEFAULT 0
);
INSERT INTO sessions (id, project, machine, agent, started_at, ended_at, message_count,
    user_message_count, is_automated)
VALUES
    ('s-amber', 'orchard', 'oak', 'claude', '2026-02-14T07:58:00Z', '2026-02-14T08:20:00Z', 5, 2, 0),
    ('s-birch', 'tidepool', 'oak', 'codex', '2026-02-14T08:02:00Z', '2026-02-14T08:44:00Z', 4, 2, 1),
    ('s-cedar', 'orchard', 'oak', 'claude', '2026-02-14T08:31:00Z', '2026-02-14T08:31:00Z', 1, 1, 0),
    ('s-dune', 'tidepool', 'oak', 'codex', '2026-02-14T08:10:00Z', '2026-02-14T08:10:00Z', 1, 1, 0);

-- The columns for text of people and models are there, and empty: no import reads them.
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    role TEXT NOT NULL,
    content TEXT NOT NULL DEFAULT '',
    timestamp TEXT,
    is_system INTEGER NOT NULL DEFAULT 0,
    model TEXT NOT NULL DEFAULT '',
    token_usage TEXT NOT NULL DEFAULT '',
    claude_message_id TEXT NOT NULL DEFAULT '',
    claude_request_id TEXT NOT NULL DEFAULT '',
    source_uuid TEXT NOT NULL DEFAULT ''
);
INSERT INTO messages (session_id, ordinal, role, timestamp, model, token_usage) VALUES
    ('s-amber', 0, 'user', '2026-02-14T07:58:00Z', '', ''),
    ('s-amber', 1, 'assistant', '2026-02-14T08:03:00Z', 'aurora-2',
     '{"input_tokens":1000,"output_tokens":400,"cache_creation_input_tokens":2000,"cache_read_input_tokens":10000}'),
    ('s-amber', 2, 'user', '2026-02-14T08:04:00Z', '', ''),
    ('s-amber', 3, 'assistant', '2026-02-14T08:07:30Z', 'aurora-2',
     '{"input_tokens":500,"output_tokens":200,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}'),
    ('s-amber', 4, 'assistant', '2026-02-14T08:20:00Z', 'ember-mini', ''),
    ('s-birch', 0, 'user', '2026-02-14T08:02:00Z', '', ''),
    ('s-birch', 1, 'assistant', '2026-02-14T08:05:30Z', 'ember-mini',
     '{"input_tokens":3000,"output_tokens":900,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}'),
    ('s-birch', 2, 'user', '2026-02-14T08:38:00Z', '', ''),
    ('s-birch', 3, 'assistant', '2026-02-14T08:44:00Z', 'ember-mini',
     '{"input_tokens":700,"output_tokens":80,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}'),
    ('s-cedar', 0, 'user', '2026-02-14T08:31:00Z', '', ''),
    ('s-dune', 0, 'user', '2026-02-14T08:10:00Z', '', '');

CREATE TABLE usage_events (
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    message_ordinal INTEGER,
    source TEXT NOT NULL,
    model TEXT NOT NULL,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    cache_creation_input_tokens INTEGER NOT NULL DEFAULT 0,
    cache_read_input_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens INTEGER NOT NULL DEFAULT 0,
    cost_usd REAL,
    occurred_at TEXT,
    dedup_key TEXT NOT NULL DEFAULT ''
);
INSERT INTO usage_events (session_id, source, model, output_tokens, cost_usd, occurred_at)
VALUES ('s-cedar', 'provider', 'quartz-pro', 700, 0.0625, '2026-02-14T08:31:00Z');

CREATE TABLE model_pricing (
    model_pattern TEXT PRIMARY KEY,
    input_per_mtok REAL NOT NULL,
    output_per_mtok REAL NOT NULL,
    cache_creation_per_mtok REAL NOT NULL,
    cache_read_per_mtok REAL NOT NULL,
    updated_at TEXT NOT NULL
);
INSERT INTO model_pricing VALUES
    ('aurora-2', 3, 15, 3.75, 0.3, '2026-02-01T06:30:00Z');

CREATE TABLE project_identity_observations (
    project TEXT NOT NULL,
    machine TEXT NOT NULL,
    root_path TEXT NOT NULL,
    git_remote TEXT NOT NULL DEFAULT '',
    git_remote_name TEXT NOT NULL DEFAULT '',
    worktree_name TEXT NOT NULL DEFAULT '',
    worktree_root_path TEXT NOT NULL DEFAULT '',
    observed_at TEXT NOT NULL
);
INSERT INTO project_identity_observations VALUES
    ('orchard', 'oak', '/srv/orchard', 'git@GitHub.com:evergreen-labs/orchard.git', 'origin', '', '',
     '2026-02-14T08:00:00Z');
