-- A source archive as agentsview 0.37.1 keeps it, with the tables and columns that an import reads:
-- four responses on two local dates, one of them a helper's, one without a price, one billed by the
-- account. Built with SQLite, imported into an empty database, reported with prices.toml.

CREATE TABLE archive_metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO archive_metadata VALUES ('database_id', '5b7d0f3c-6a1e-4c28-9f40-8e2a7d915c36');

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
INSERT INTO sessions (id, project, machine, agent, started_at, message_count, user_message_count,
    relationship_type)
VALUES ('fern', 'orchard', 'mbp-ana', 'claude', '2026-09-13T08:59:00Z', 2, 1, ''),
    ('gull', 'orchard', 'mbp-ana', 'claude', '2026-09-13T23:29:00Z', 2, 1, 'subagent'),
    ('hazel', 'tidepool', 'mbp-ana', 'copilot', '2026-09-14T09:00:00Z', 2, 1, '');

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
    ('fern', 0, 'user', '2026-09-13T08:59:00Z', '', ''),
    ('fern', 1, 'assistant', '2026-09-13T09:00:00Z', 'aurora-2',
     '{"input_tokens":1000,"output_tokens":400,"cache_creation_input_tokens":2000,"cache_read_input_tokens":10000}'),
    ('gull', 0, 'user', '2026-09-13T23:29:00Z', '', ''),
    ('gull', 1, 'assistant', '2026-09-13T23:30:00Z', 'ember-mini',
     '{"input_tokens":4000,"output_tokens":1000}');

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
INSERT INTO usage_events (session_id, source, model, input_tokens, output_tokens, occurred_at)
VALUES ('hazel', 'shutdown', 'aurora-2', 2000, 300, '2026-09-14T10:00:00Z');

CREATE TABLE cursor_usage_events (
    id INTEGER PRIMARY KEY,
    occurred_at TEXT NOT NULL,
    model TEXT NOT NULL,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    cache_read_tokens INTEGER NOT NULL DEFAULT 0,
    charged_cents REAL NOT NULL DEFAULT 0,
    is_headless INTEGER NOT NULL DEFAULT 0,
    dedup_key TEXT NOT NULL
);
INSERT INTO cursor_usage_events (occurred_at, model, input_tokens, output_tokens, cache_read_tokens,
    charged_cents, dedup_key)
VALUES ('2026-09-14T11:15:00Z', 'drift-max', 700, 90, 1500, 12.5, 'one');

CREATE TABLE model_pricing (
    model_pattern TEXT PRIMARY KEY,
    input_per_mtok REAL NOT NULL,
    output_per_mtok REAL NOT NULL,
    cache_creation_per_mtok REAL NOT NULL,
    cache_read_per_mtok REAL NOT NULL,
    updated_at TEXT NOT NULL
);
INSERT INTO model_pricing VALUES ('aurora-2', 3, 15, 3.75, 0.3, '2026-09-01T06:30:00Z');

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
INSERT INTO project_identity_observations (project, machine, root_path, git_remote, git_remote_name,
    observed_at)
VALUES ('orchard', 'mbp-ana', '/home/ana/src/orchard',
    'git@GitHub.com:evergreen-labs/orchard.git', 'origin', '2026-09-13T09:00:00Z');
