-- The staging tables of one importing connection; every commit empties them.
-- name: create_stage
CREATE TEMP TABLE IF NOT EXISTS stage_listing (
    id text COLLATE "C" PRIMARY KEY, fingerprint uuid NOT NULL, weight bigint NOT NULL
);
CREATE TEMP TABLE IF NOT EXISTS stage_sessions (
    slot integer NOT NULL,
    id text COLLATE "C" NOT NULL, project text COLLATE "C" NOT NULL,
    machine text COLLATE "C" NOT NULL, agent text COLLATE "C" NOT NULL,
    cwd text COLLATE "C" NOT NULL, git_branch text COLLATE "C" NOT NULL,
    file_directory text COLLATE "C" NOT NULL,
    started_at_text text, ended_at_text text, created_at_text text, deleted_at_text text,
    started_at timestamptz, ended_at timestamptz, created_at timestamptz,
    last_message_at timestamptz,
    last_activity_text text COLLATE "C" NOT NULL, activity_ms bigint,
    start_day text COLLATE "C", duration_seconds bigint,
    message_count bigint NOT NULL, user_message_count bigint NOT NULL,
    assistant_message_count bigint NOT NULL,
    parent_session_id text COLLATE "C", relationship_type text COLLATE "C" NOT NULL,
    is_automated boolean NOT NULL,
    total_output_tokens bigint NOT NULL, peak_context_tokens bigint NOT NULL,
    has_total_output_tokens boolean NOT NULL, has_peak_context_tokens boolean NOT NULL,
    outcome text COLLATE "C" NOT NULL, health_grade text COLLATE "C",
    tool_failure_signal_count bigint NOT NULL, secret_leak_count bigint NOT NULL,
    termination_status text COLLATE "C",
    has_worktree boolean NOT NULL, worktree_name text COLLATE "C" NOT NULL,
    worktree_root text COLLATE "C" NOT NULL,
    path_key text COLLATE "C", path_root text COLLATE "C",
    fingerprint uuid NOT NULL, digest uuid NOT NULL
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS stage_usage (
    slot integer NOT NULL, position integer NOT NULL, ordinal integer NOT NULL,
    model_id integer NOT NULL, event_source text, at timestamptz, at_nanoseconds smallint NOT NULL,
    day_text text, input_tokens bigint NOT NULL, output_tokens bigint NOT NULL,
    cache_creation_input_tokens bigint NOT NULL, cache_read_input_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL, reported_cost numeric, dedup_key uuid,
    is_counted boolean NOT NULL
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS stage_points (
    slot integer NOT NULL, ordinal integer NOT NULL, at timestamptz,
    at_nanoseconds smallint NOT NULL, role_class "char" NOT NULL, model_id integer,
    active_nanoseconds bigint, active_model_id integer
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS touched (
    slot integer NOT NULL, session_key bigint NOT NULL, is_new boolean NOT NULL
) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS stage_derived (
    session_key bigint NOT NULL, has_worktree boolean NOT NULL,
    worktree_name text COLLATE "C" NOT NULL, worktree_root text COLLATE "C" NOT NULL,
    path_key text COLLATE "C", path_root text COLLATE "C"
) ON COMMIT DELETE ROWS

-- Open the next revision. The row lock makes the order of revisions the order of commits, so a
-- reader that sees revision r sees every change up to r and none after it.
-- name: next_revision
WITH opened AS (
    UPDATE archive SET revision = revision + 1, revision_token = gen_random_uuid()
    RETURNING revision, revision_token
), noted AS (
    INSERT INTO revisions (revision, token) SELECT revision, revision_token FROM opened
)
SELECT revision FROM opened

-- The stored row of each staged session, one index probe each: without statistics of a table that
-- grows under it, the planner would read all sessions for every batch.
-- name: known
LEFT JOIN LATERAL (
    SELECT o.session_key, o.digest, o.presence FROM sessions AS o
    WHERE o.id = t.id AND o.source_id = %(source_id)s LIMIT 1
) AS k ON true

-- Sessions that say something new, or are back. Children are replaced by the statements below.
-- name: update_sessions
WITH changed AS (
    UPDATE sessions AS s SET (
        project, machine, agent, cwd, git_branch, file_directory,
        started_at_text, ended_at_text, created_at_text, deleted_at_text,
        started_at, ended_at, created_at, last_message_at,
        last_activity_text, activity_ms, start_day, duration_seconds,
        message_count, user_message_count, assistant_message_count,
        parent_session_id, relationship_type, is_automated,
        total_output_tokens, peak_context_tokens, has_total_output_tokens, has_peak_context_tokens,
        outcome, health_grade, tool_failure_signal_count, secret_leak_count, termination_status,
        has_worktree, worktree_name, worktree_root, path_key, path_root,
        fingerprint, digest, presence, changed_revision
    ) = (
        t.project, t.machine, t.agent, t.cwd, t.git_branch, t.file_directory,
        t.started_at_text, t.ended_at_text, t.created_at_text, t.deleted_at_text,
        t.started_at, t.ended_at, t.created_at, t.last_message_at,
        t.last_activity_text, t.activity_ms, t.start_day, t.duration_seconds,
        t.message_count, t.user_message_count, t.assistant_message_count,
        t.parent_session_id, t.relationship_type, t.is_automated,
        t.total_output_tokens, t.peak_context_tokens,
        t.has_total_output_tokens, t.has_peak_context_tokens,
        t.outcome, t.health_grade, t.tool_failure_signal_count, t.secret_leak_count,
        t.termination_status,
        t.has_worktree, t.worktree_name, t.worktree_root, t.path_key, t.path_root,
        t.fingerprint, t.digest, 'present', %(revision)s
    )
    FROM stage_sessions AS t {known}
    WHERE s.session_key = k.session_key AND (k.digest <> t.digest OR k.presence <> 'present')
    RETURNING t.slot, s.session_key
)
INSERT INTO touched SELECT slot, session_key, false FROM changed

-- Sessions that this source brings for the first time.
-- name: insert_sessions
WITH fresh AS (
    INSERT INTO sessions (
        source_id, id, project, machine, agent, cwd, git_branch, file_directory,
        started_at_text, ended_at_text, created_at_text, deleted_at_text,
        started_at, ended_at, created_at, last_message_at,
        last_activity_text, activity_ms, start_day, duration_seconds,
        message_count, user_message_count, assistant_message_count,
        parent_session_id, relationship_type, is_automated,
        total_output_tokens, peak_context_tokens, has_total_output_tokens, has_peak_context_tokens,
        outcome, health_grade, tool_failure_signal_count, secret_leak_count, termination_status,
        has_worktree, worktree_name, worktree_root, path_key, path_root,
        fingerprint, digest, inserted_revision, changed_revision
    )
    SELECT %(source_id)s, t.id, t.project, t.machine, t.agent, t.cwd, t.git_branch,
        t.file_directory,
        t.started_at_text, t.ended_at_text, t.created_at_text, t.deleted_at_text,
        t.started_at, t.ended_at, t.created_at, t.last_message_at,
        t.last_activity_text, t.activity_ms, t.start_day, t.duration_seconds,
        t.message_count, t.user_message_count, t.assistant_message_count,
        t.parent_session_id, t.relationship_type, t.is_automated,
        t.total_output_tokens, t.peak_context_tokens,
        t.has_total_output_tokens, t.has_peak_context_tokens,
        t.outcome, t.health_grade, t.tool_failure_signal_count, t.secret_leak_count,
        t.termination_status,
        t.has_worktree, t.worktree_name, t.worktree_root, t.path_key, t.path_root,
        t.fingerprint, t.digest, %(revision)s, %(revision)s
    FROM stage_sessions AS t {known}
    WHERE k.session_key IS NULL
    ORDER BY t.slot
    RETURNING id, session_key
)
INSERT INTO touched SELECT t.slot, f.session_key, true FROM fresh AS f JOIN stage_sessions AS t USING (id)

-- The old children of the sessions that changed.
-- name: delete_children
WITH old AS (SELECT session_key FROM touched WHERE NOT is_new),
usage AS (DELETE FROM usage_rows AS u USING old WHERE u.session_key = old.session_key),
models AS (DELETE FROM session_models AS m USING old WHERE m.session_key = old.session_key)
DELETE FROM activity_points AS p USING old WHERE p.session_key = old.session_key

-- name: insert_usage
INSERT INTO usage_rows
SELECT h.session_key, u.position, u.ordinal, u.model_id, u.event_source, u.at, u.at_nanoseconds,
    u.day_text, u.input_tokens, u.output_tokens, u.cache_creation_input_tokens,
    u.cache_read_input_tokens, u.reasoning_tokens, u.reported_cost, u.dedup_key, u.is_counted
FROM stage_usage AS u JOIN touched AS h USING (slot)

-- name: insert_points
INSERT INTO activity_points
SELECT h.session_key, p.ordinal, p.at, p.at_nanoseconds, p.role_class, p.model_id,
    p.active_nanoseconds, p.active_model_id
FROM stage_points AS p JOIN touched AS h USING (slot)

-- What each session spent on each model, from the rows that count. Sums stop at 64 bits.
-- name: roll_up
SELECT session_key, model_id,
    least(sum(input_tokens), 9223372036854775807),
    least(sum(output_tokens), 9223372036854775807),
    least(sum(cache_creation_input_tokens), 9223372036854775807),
    least(sum(cache_read_input_tokens), 9223372036854775807),
    greatest(least(sum(reasoning_tokens), 9223372036854775807), -9223372036854775807),
    least(coalesce(sum(input_tokens) FILTER (WHERE reported_cost IS NULL), 0), 9223372036854775807),
    greatest(least(coalesce(sum(
        CASE WHEN output_tokens <> 0 THEN output_tokens ELSE reasoning_tokens END
    ) FILTER (WHERE reported_cost IS NULL), 0), 9223372036854775807), -9223372036854775807),
    least(coalesce(sum(cache_creation_input_tokens) FILTER (WHERE reported_cost IS NULL), 0),
        9223372036854775807),
    least(coalesce(sum(cache_read_input_tokens) FILTER (WHERE reported_cost IS NULL), 0),
        9223372036854775807),
    coalesce(sum(reported_cost), 0),
    count(*) FILTER (WHERE reported_cost IS NULL),
    count(reported_cost)
FROM {rows}
WHERE is_counted
GROUP BY session_key, model_id

-- name: staged_rows
stage_usage JOIN touched USING (slot)

-- name: rows_in_range
(SELECT * FROM usage_rows WHERE session_key BETWEEN %(low)s AND %(high)s) AS rows

-- name: delete_wrong_roll_ups
DELETE FROM session_models AS m
WHERE m.session_key BETWEEN %(low)s AND %(high)s AND NOT EXISTS (
    SELECT FROM ({fresh}) AS f (session_key, model_id, a, b, c, d, e, f, g, h, i, j, k, l)
    WHERE (m.session_key, m.model_id, m.input_tokens, m.output_tokens,
           m.cache_creation_input_tokens, m.cache_read_input_tokens, m.reasoning_tokens,
           m.priced_input, m.priced_output, m.priced_cache_creation, m.priced_cache_read,
           m.reported_cost, m.computed_rows, m.reported_rows)
        = (f.session_key, f.model_id, f.a, f.b, f.c, f.d, f.e, f.f, f.g, f.h, f.i, f.j, f.k, f.l)
)

-- name: add_missing_roll_ups
INSERT INTO session_models {fresh} ON CONFLICT (session_key, model_id) DO NOTHING

-- Of an id that several sources hold, one copy is exported: not deleted before deleted, present
-- before gone, the latest activity, the most messages, the source that was seen last. Which rows of
-- usage have a key to themselves depends on the choice.
-- name: choose_copies
WITH ranked AS MATERIALIZED (
    SELECT session_key, shadowed, row_number() OVER (
        PARTITION BY id
        ORDER BY deleted_at_text IS NOT NULL, presence <> 'present', message_count = 0,
            activity_ms DESC NULLS LAST, message_count DESC, source_id DESC
    ) AS place
    FROM sessions
    WHERE (%(always)s OR (SELECT count(*) > 1 FROM sources)) AND id IN (
        SELECT mine.id FROM sessions AS mine WHERE mine.session_key IN ({keys})
    )
), noted AS (
    INSERT INTO pending_usage
    SELECT session_key FROM ranked WHERE shadowed <> (place > 1)
    ON CONFLICT DO NOTHING
)
UPDATE sessions AS s SET shadowed = ranked.place > 1, changed_revision = %(revision)s
FROM ranked
WHERE s.session_key = ranked.session_key AND s.shadowed <> (ranked.place > 1)

-- The v1 text of the sessions given; rows whose text stays as it was are not written.
-- name: render_lines
INSERT INTO session_lines AS l (session_key, head, usage, tail)
SELECT s.session_key, {head}, coalesce(u.usage, {no_usage}), {tail}
FROM sessions AS s LEFT JOIN ({usage}) AS u USING (session_key)
WHERE s.session_key IN ({keys})
ON CONFLICT (session_key) DO UPDATE
    SET head = excluded.head, usage = excluded.usage, tail = excluded.tail
    WHERE (l.head, l.usage, l.tail) IS DISTINCT FROM (excluded.head, excluded.usage, excluded.tail)

-- Which of the ids hold these very rows already.
-- name: same_digests
SELECT s.id, replace(s.digest::text, '-', '') FROM sessions AS s
WHERE s.source_id = %(source_id)s AND s.id = ANY(%(ids)s) AND s.presence = 'present'

-- The source row changed, what is kept of it did not.
-- name: note_fingerprints
UPDATE sessions AS s SET fingerprint = seen.fingerprint
FROM unnest(%(ids)s::text[], %(fingerprints)s::uuid[]) AS seen (id, fingerprint)
WHERE s.source_id = %(source_id)s AND s.id = seen.id AND s.fingerprint <> seen.fingerprint

-- Sessions of the listing that are new or look different, the ids in batches by weight.
-- name: pending
SELECT l.id, replace(l.fingerprint::text, '-', ''), l.weight
FROM stage_listing AS l
LEFT JOIN sessions AS s ON s.id = l.id AND s.source_id = %(source_id)s
WHERE (%(everything)s OR s.session_key IS NULL OR s.fingerprint <> l.fingerprint
       OR s.presence <> 'present')
  AND l.id > %(after)s
ORDER BY l.id
LIMIT %(limit)s

-- name: count_pending
SELECT count(*), count(*) FILTER (WHERE is_pending),
    coalesce(sum(weight) FILTER (WHERE is_pending), 0)::bigint
FROM (
    SELECT l.weight, %(everything)s OR s.session_key IS NULL OR s.fingerprint <> l.fingerprint
        OR s.presence <> 'present' AS is_pending
    FROM stage_listing AS l
    LEFT JOIN sessions AS s ON s.id = l.id AND s.source_id = %(source_id)s
) AS listed

-- name: count_merged
SELECT count(*) FROM stage_listing AS l
JOIN sessions AS s ON s.id = l.id AND s.source_id = %(source_id)s
WHERE s.fingerprint = l.fingerprint AND s.presence = 'present' AND s.changed_revision > %(since)s

-- Sessions that the source no longer lists, or has removed for good. Their rows stay.
-- name: mark_gone
UPDATE sessions AS s SET presence = now_is.presence, changed_revision = %(revision)s
FROM (
    SELECT s.session_key,
        CASE WHEN s.id = ANY(%(excluded)s) THEN 'excluded' ELSE 'vanished' END AS presence
    FROM sessions AS s
    WHERE s.source_id = %(source_id)s
      AND NOT EXISTS (SELECT FROM stage_listing AS l WHERE l.id = s.id)
) AS now_is
WHERE s.session_key = now_is.session_key AND s.presence <> now_is.presence
RETURNING s.session_key

-- Whether any session would be marked gone.
-- name: gone
SELECT EXISTS (
    SELECT FROM sessions AS s
    WHERE s.source_id = %(source_id)s
      AND NOT EXISTS (SELECT FROM stage_listing AS l WHERE l.id = s.id)
      AND s.presence <> CASE WHEN s.id = ANY(%(excluded)s) THEN 'excluded' ELSE 'vanished' END
)

-- name: find_source
SELECT source_id, watermark FROM sources
WHERE kind = %(kind)s
  AND (archive_id = %(archive_id)s OR (database_id <> '' AND database_id = %(database_id)s))
ORDER BY archive_id = %(archive_id)s DESC, source_id
LIMIT 1

-- name: add_source
INSERT INTO sources (kind, archive_id, database_id, location, era, data_version)
VALUES (%(kind)s, %(archive_id)s, %(database_id)s, %(location)s, %(era)s, %(data_version)s)
ON CONFLICT (kind, archive_id) DO UPDATE SET location = excluded.location
RETURNING source_id, watermark

-- name: note_source
UPDATE sources SET archive_id = %(archive_id)s, database_id = %(database_id)s,
    location = %(location)s, era = %(era)s, data_version = %(data_version)s
WHERE source_id = %(source_id)s
  AND (archive_id, database_id, location, era, data_version) IS DISTINCT FROM
      (%(archive_id)s, %(database_id)s, %(location)s, %(era)s, %(data_version)s)

-- name: stage_prices
CREATE TEMP TABLE stage_prices (
    model_pattern text COLLATE "C" NOT NULL,
    input double precision NOT NULL, output double precision NOT NULL,
    cache_creation double precision NOT NULL, cache_read double precision NOT NULL,
    updated_at_text text NOT NULL, updated_at timestamptz, is_custom boolean NOT NULL
) ON COMMIT DROP

-- name: upsert_prices
INSERT INTO source_prices AS p (source_id, model_pattern, input_per_mtok, output_per_mtok,
    cache_creation_per_mtok, cache_read_per_mtok, updated_at_text, updated_at, is_custom)
SELECT %(source_id)s, model_pattern, input, output, cache_creation, cache_read, updated_at_text,
    updated_at, is_custom
FROM stage_prices
ON CONFLICT (source_id, is_custom, model_pattern) DO UPDATE SET
    input_per_mtok = excluded.input_per_mtok, output_per_mtok = excluded.output_per_mtok,
    cache_creation_per_mtok = excluded.cache_creation_per_mtok,
    cache_read_per_mtok = excluded.cache_read_per_mtok,
    updated_at_text = excluded.updated_at_text, updated_at = excluded.updated_at
WHERE (p.input_per_mtok, p.output_per_mtok, p.cache_creation_per_mtok, p.cache_read_per_mtok,
       p.updated_at_text)
    IS DISTINCT FROM (excluded.input_per_mtok, excluded.output_per_mtok,
       excluded.cache_creation_per_mtok, excluded.cache_read_per_mtok, excluded.updated_at_text)

-- name: delete_prices
DELETE FROM source_prices AS p
WHERE p.source_id = %(source_id)s AND NOT EXISTS (
    SELECT FROM stage_prices AS t
    WHERE t.model_pattern = p.model_pattern AND t.is_custom = p.is_custom
)

-- name: update_prices
INSERT INTO source_prices AS p (source_id, model_pattern, input_per_mtok, output_per_mtok,
    cache_creation_per_mtok, cache_read_per_mtok, updated_at_text, updated_at, is_custom)
SELECT %(source_id)s, model_pattern, input, output, cache_creation, cache_read, updated_at_text,
    updated_at, is_custom
FROM stage_prices
ON CONFLICT (source_id, is_custom, model_pattern) DO UPDATE SET
    input_per_mtok = excluded.input_per_mtok, output_per_mtok = excluded.output_per_mtok,
    cache_creation_per_mtok = excluded.cache_creation_per_mtok,
    cache_read_per_mtok = excluded.cache_read_per_mtok,
    updated_at_text = excluded.updated_at_text, updated_at = excluded.updated_at
WHERE (p.input_per_mtok, p.output_per_mtok, p.cache_creation_per_mtok, p.cache_read_per_mtok)
    IS DISTINCT FROM (excluded.input_per_mtok, excluded.output_per_mtok,
       excluded.cache_creation_per_mtok, excluded.cache_read_per_mtok)

-- name: add_models
INSERT INTO models (name) SELECT unnest(%(names)s::text[]) ON CONFLICT (name) DO NOTHING

-- name: model_ids
SELECT name, model_id FROM models WHERE name = ANY(%(names)s)

-- name: write_rates
INSERT INTO model_rates AS r (model_id, matched_pattern, input_rate, output_rate,
    cache_write_rate, cache_read_rate)
SELECT * FROM unnest(%(ids)s::integer[], %(patterns)s::text[], %(i)s::numeric[], %(o)s::numeric[],
    %(w)s::numeric[], %(r)s::numeric[])
ON CONFLICT (model_id) DO UPDATE SET
    matched_pattern = excluded.matched_pattern, input_rate = excluded.input_rate,
    output_rate = excluded.output_rate, cache_write_rate = excluded.cache_write_rate,
    cache_read_rate = excluded.cache_read_rate
WHERE (r.matched_pattern, r.input_rate, r.output_rate, r.cache_write_rate, r.cache_read_rate)
    IS DISTINCT FROM (excluded.matched_pattern, excluded.input_rate, excluded.output_rate,
       excluded.cache_write_rate, excluded.cache_read_rate)
RETURNING model_id

-- name: stage_billing
CREATE TEMP TABLE stage_billing (
    row_key uuid NOT NULL, model_id integer NOT NULL, at timestamptz, at_nanoseconds smallint,
    day_text text, input_tokens bigint, output_tokens bigint, cache_write_tokens bigint,
    cache_read_tokens bigint, charged_cost numeric, is_headless boolean, dedup_key uuid
) ON COMMIT DROP

-- name: upsert_billing
INSERT INTO billing_rows AS b
SELECT %(source_id)s, t.* FROM stage_billing AS t
ON CONFLICT (source_id, row_key) DO UPDATE SET
    model_id = excluded.model_id, at = excluded.at, at_nanoseconds = excluded.at_nanoseconds,
    day_text = excluded.day_text, input_tokens = excluded.input_tokens,
    output_tokens = excluded.output_tokens, cache_write_tokens = excluded.cache_write_tokens,
    cache_read_tokens = excluded.cache_read_tokens, charged_cost = excluded.charged_cost,
    is_headless = excluded.is_headless, dedup_key = excluded.dedup_key
WHERE (b.model_id, b.at, b.at_nanoseconds, b.day_text, b.input_tokens, b.output_tokens,
       b.cache_write_tokens, b.cache_read_tokens, b.charged_cost, b.is_headless, b.dedup_key)
    IS DISTINCT FROM (excluded.model_id, excluded.at, excluded.at_nanoseconds, excluded.day_text,
       excluded.input_tokens, excluded.output_tokens, excluded.cache_write_tokens,
       excluded.cache_read_tokens, excluded.charged_cost, excluded.is_headless,
       excluded.dedup_key)

-- name: delete_billing
DELETE FROM billing_rows AS b
WHERE b.source_id = %(source_id)s
  AND NOT EXISTS (SELECT FROM stage_billing AS t WHERE t.row_key = b.row_key)

-- name: note_usage
INSERT INTO pending_usage
SELECT DISTINCT session_key FROM usage_rows WHERE session_key BETWEEN %(low)s AND %(high)s
ON CONFLICT DO NOTHING

-- Whether the sums that the reports read lack anything.
-- name: is_usage_pending
SELECT EXISTS (SELECT FROM pending_usage)

-- Keys that several rows hold only because several sources hold the session: of those rows no two
-- are ever counted together, so that they are summed up like any other, which fold_usage() does not
-- do by itself. Whoever changes the choice of copies notes the sessions, and their keys are looked
-- at again.
-- name: release_keys
WITH released AS MATERIALIZED (
    SELECT u.dedup_key FROM repeated_usage AS u JOIN sessions AS s USING (session_key)
    WHERE (SELECT count(*) > 1 FROM sources)
    GROUP BY u.dedup_key
    HAVING bool_or(s.shadowed) AND count(*) FILTER (WHERE NOT s.shadowed) <= 1
), keys AS (
    DELETE FROM repeated_keys AS k USING released AS r WHERE k.dedup_key = r.dedup_key
), rows AS (
    DELETE FROM repeated_usage AS u USING released AS r WHERE u.dedup_key = r.dedup_key
    RETURNING u.*
)
INSERT INTO usage_slots
SELECT u.session_key,
    CASE WHEN u.at >= '2012-01-01Z' THEN date_bin('15 minutes', u.at, '2012-01-01Z') ELSE u.at END,
    u.day_text, u.model_id, u.reported_cost IS NOT NULL,
    least(sum(u.input_tokens), 9223372036854775807),
    least(sum(u.output_tokens), 9223372036854775807),
    least(sum(CASE WHEN u.output_tokens <> 0 THEN u.output_tokens
        ELSE greatest(u.reasoning_tokens, 0) END), 9223372036854775807),
    least(sum(u.cache_creation_input_tokens), 9223372036854775807),
    least(sum(u.cache_read_input_tokens), 9223372036854775807),
    sum(u.reported_cost)
FROM rows AS u
GROUP BY 1, 2, 3, 4, 5

-- name: analyze
ANALYZE sessions, session_lines, session_models, usage_rows, activity_points, usage_slots,
    repeated_usage
