-- A source archive as agentsview 0.37.1 keeps it, with the tables and columns that an import reads.
-- Built with SQLite, imported into an empty database, exported with --all and prices.toml.

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
INSERT INTO sessions (id, project, machine, agent, cwd, git_branch, started_at, message_count,
    user_message_count, total_output_tokens, peak_context_tokens, has_total_output_tokens,
    has_peak_context_tokens)
VALUES ('cdx-4f21', 'tidepool', 'mbp-ana', 'codex', '/home/ana/src/tidepool/wt/retry/api',
    'retry-budget', '2026-02-11T08:00:00.250Z', 9, 3, 300, 9600, 1, 1);
INSERT INTO sessions (id, project, machine, agent, started_at, ended_at, message_count,
    user_message_count, parent_session_id, relationship_type)
VALUES ('cld-9a07', 'barnacle', 'build-7', 'claude', '2026-02-11T06:00:00+01:00',
    '2026-02-11T05:30:00Z', 4, 2, 'cld-8e55', 'continuation');

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
    ('cdx-4f21', 0, 'user', '2026-02-11T08:00:00.250Z', '', ''),
    ('cdx-4f21', 1, 'assistant', '2026-02-11T08:00:31.400Z', 'orca-large-2',
     '{"input_tokens":1200,"output_tokens":300,"cache_creation_input_tokens":400,"cache_read_input_tokens":8000}'),
    ('cdx-4f21', 2, 'assistant', '2026-02-11T08:01:02Z', '', ''),
    ('cdx-4f21', 3, 'user', '2026-02-11T08:12:00Z', '', ''),
    ('cdx-4f21', 4, 'assistant', '2026-02-11T08:12:40Z', '', ''),
    ('cdx-4f21', 5, 'user', '2026-02-11T08:39:00Z', '', ''),
    ('cdx-4f21', 6, 'assistant', '2026-02-11T08:40:10Z', 'orca-large-2',
     '{"input_tokens":500,"output_tokens":0,"reasoning_tokens":120}'),
    ('cdx-4f21', 7, 'assistant', '2026-02-11T08:41:07.900Z', '', ''),
    ('cld-9a07', 0, 'user', '2026-02-11T05:00:00Z', '', ''),
    ('cld-9a07', 1, 'assistant', '2026-02-11T05:00:20Z', 'orca-large-2',
     '{"input_tokens":100,"output_tokens":10}'),
    ('cld-9a07', 2, 'user', '2026-02-11T05:28:00Z', '', ''),
    ('cld-9a07', 3, 'assistant', '2026-02-11T05:29:50Z', 'grebe-nano',
     '{"input_tokens":50,"output_tokens":5}');
INSERT INTO messages (session_id, ordinal, role, timestamp, is_system) VALUES
    ('cdx-4f21', 8, 'assistant', '2026-02-11T08:40:59Z', 1);

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
INSERT INTO usage_events (session_id, source, model, input_tokens, output_tokens, cost_usd,
    occurred_at)
VALUES ('cdx-4f21', 'provider', 'tern-mini', 2000, 100, 0.004, '2026-02-11T08:20:00Z');

CREATE TABLE model_pricing (
    model_pattern TEXT PRIMARY KEY,
    input_per_mtok REAL NOT NULL,
    output_per_mtok REAL NOT NULL,
    cache_creation_per_mtok REAL NOT NULL,
    cache_read_per_mtok REAL NOT NULL,
    updated_at TEXT NOT NULL
);
INSERT INTO model_pricing VALUES
    ('orca-large-2', 3, 15, 3.75, 0.3, '2026-02-10T06:30:00.250Z'),
    ('tern-mini', 0.25, 1.25, 0.3, 0.025, '2026-02-10T06:30:00.250Z');

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
    ('tidepool', 'mbp-ana', '/home/ana/src/tidepool/wt/retry',
     'git@git.example.net:ana/tidepool.git', 'origin', 'retry', '/home/ana/src/tidepool',
     '2026-02-11T08:00:01Z');
