-- The sessions whose usage counts, empty ones included.
-- name: kept
SELECT s.session_key, s.id, s.project, s.agent
FROM sessions AS s
WHERE s.deleted_at_text IS NULL AND s.presence = 'present' AND NOT s.shadowed AND {filters}

-- Filters over one row `s` of sessions.
-- name: of_project
s.project = %(project)s

-- name: of_machines
s.machine = ANY(%(machines)s)

-- name: of_agents
s.agent = ANY(%(agents)s)

-- What the clocks of the zone show at an instant, by the rules of the server; or by ours for the
-- years that ours tell, where the two differ; or by ours alone, where the server knows no such zone.
-- name: local_by_server
u.at AT TIME ZONE %(zone)s

-- name: local_by_ours
CASE WHEN u.at >= %(ours_from)s AND u.at < %(ours_to)s
    THEN (u.at AT TIME ZONE 'UTC')
        + (%(offsets)s::interval[])[width_bucket(u.at, %(changes)s::timestamptz[]) + 1]
    ELSE u.at AT TIME ZONE %(zone)s END

-- name: local_by_ours_alone
(u.at AT TIME ZONE 'UTC')
    + (%(offsets)s::interval[])[width_bucket(u.at, %(changes)s::timestamptz[]) + 1]

-- Whether the server's rules differ from ours at any of these instants; all are whole seconds.
-- name: rules_differ
SELECT coalesce(bool_or(to_timestamp(p.at) AT TIME ZONE %(zone)s
    <> to_timestamp(p.at + p.ahead) AT TIME ZONE 'UTC'), false)
FROM unnest(%(probes)s::bigint[], %(ahead)s::integer[]) AS p (at, ahead)

-- Bounds over one row `u` with an instant `at`, or without one and with `day_text`. The instants
-- narrow the search; the local date decides, since clocks set back over midnight repeat a date.
-- name: from_day
(u.at >= %(first)s::date::timestamp AT TIME ZONE %(zone)s - interval '1 day'
    AND ({local})::date >= %(first)s::date
 OR u.at IS NULL AND u.day_text COLLATE "C" >= %(first)s::text AND u.day_text <> '')

-- name: to_day
(u.at < (%(last)s::date + 1)::timestamp AT TIME ZONE %(zone)s + interval '1 day'
    AND ({local})::date <= %(last)s::date
 OR u.at IS NULL AND u.day_text COLLATE "C" <= %(last)s::text AND u.day_text <> '')

-- Three kinds of survivors, to be united. First the sums over rows whose key is theirs alone.
-- name: summed
SELECT k.project, k.agent, u.at, u.day_text, u.model_id, u.is_reported,
    u.input_tokens, u.output_tokens, u.billable_tokens, u.cache_creation_input_tokens,
    u.cache_read_input_tokens, u.reported_cost
FROM usage_slots AS u JOIN ({kept}) AS k USING (session_key)
WHERE {in_range}

-- Second the other rows, or all of them where the sums are not up to date. Rows of one key compete:
-- the earliest instant counts, none comes last, then the smaller session id, then the earlier
-- message.
-- name: ranked
SELECT u.*
FROM (
    SELECT u.*, k.project, k.agent,
        CASE WHEN u.dedup_key IS NULL THEN 1 ELSE row_number() OVER (
            PARTITION BY u.dedup_key
            ORDER BY u.at NULLS LAST, u.at_nanoseconds, k.id, u.ordinal, u.position
        ) END AS place
    FROM {rows} AS u JOIN ({kept}) AS k USING (session_key)
    WHERE {in_range}
) AS u
WHERE u.place = 1

-- name: ranked_rows
SELECT u.project, u.agent, u.at, u.day_text, u.model_id, u.reported_cost IS NOT NULL AS is_reported,
    u.input_tokens, u.output_tokens,
    CASE WHEN u.output_tokens <> 0 THEN u.output_tokens ELSE greatest(u.reasoning_tokens, 0) END
        AS billable_tokens,
    u.cache_creation_input_tokens, u.cache_read_input_tokens, u.reported_cost
FROM ({ranked}) AS u

-- name: repeated
repeated_usage

-- name: every_row
usage_rows

-- Third the billing lines of accounts, which belong to no session. Two sources may know one line.
-- name: billed
SELECT '' AS project, 'cursor' AS agent, u.at, u.day_text, u.model_id, true AS is_reported,
    u.input_tokens, u.output_tokens, 0::bigint AS billable_tokens,
    u.cache_write_tokens AS cache_creation_input_tokens,
    u.cache_read_tokens AS cache_read_input_tokens, u.charged_cost AS reported_cost
FROM (
    SELECT DISTINCT ON (coalesce(u.dedup_key, u.row_key)) u.*
    FROM billing_rows AS u
    WHERE {in_range}
    ORDER BY coalesce(u.dedup_key, u.row_key), u.at NULLS LAST, u.at_nanoseconds, u.source_id
) AS u

-- What was spent, per day and model, and with breakdowns also per day and project and per day and
-- agent. Sums are priced, not rows: a rate times a sum of counts is exact. The year before 1 is 0,
-- which PostgreSQL calls 1 BC; no stored instant is of an earlier one.
-- name: spent
SELECT level,
    coalesce(CASE WHEN day < '0001-01-01' THEN '0000' ELSE to_char(day, 'YYYY') END
        || to_char(day, '-MM-DD'), day_text) AS date,
    CASE WHEN level = 'model' THEN m.name ELSE label END,
    sum(input_tokens), sum(output_tokens), sum(write_tokens), sum(read_tokens),
    sum(cost), coalesce(sum(cost) FILTER (WHERE has_credits), 0),
    sum(read_tokens * (r.input_rate - r.read_rate) + write_tokens * (r.input_rate - r.write_rate))
        * 0.000001,
    bool_or(NOT is_reported), bool_or(is_reported)
FROM (
    SELECT {labels}, ({local})::date AS day, u.day_text, u.model_id,
        u.is_reported,
        sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS output_tokens,
        sum(u.billable_tokens) AS billable_tokens,
        sum(u.cache_creation_input_tokens) AS write_tokens,
        sum(u.cache_read_input_tokens) AS read_tokens, sum(u.reported_cost) AS reported_cost
    FROM (
        SELECT u.*, u.agent = ANY(%(credit_agents)s) AS has_credits FROM ({survivors}) AS u
    ) AS u
    GROUP BY day, u.day_text, u.model_id, u.is_reported, {sets}
) AS spent
JOIN models AS m USING (model_id)
JOIN unnest(%(rate_models)s::integer[], %(rate_input)s::numeric[], %(rate_output)s::numeric[],
        %(rate_write)s::numeric[], %(rate_read)s::numeric[])
    AS r (model_id, input_rate, output_rate, write_rate, read_rate) USING (model_id)
CROSS JOIN LATERAL (
    SELECT CASE WHEN is_reported THEN reported_cost
        ELSE (input_tokens * r.input_rate + billable_tokens * r.output_rate
              + write_tokens * r.write_rate + read_tokens * r.read_rate) * 0.000001 END AS cost
) AS priced
GROUP BY level, 2, 3

-- What a row of sums is about.
-- name: models_only
'model' AS level, NULL::text AS label, has_credits

-- name: models_only_sets
has_credits

-- name: all_labels
CASE GROUPING(has_credits, project, agent) WHEN 3 THEN 'model' WHEN 5 THEN 'project'
    ELSE 'agent' END AS level,
CASE WHEN GROUPING(project) = 0 THEN project ELSE agent END AS label, has_credits

-- name: all_labels_sets
GROUPING SETS ((has_credits), (project), (agent))

-- The sessions with a survivor, each once however many days it touches.
-- name: session_counts
SELECT k.project, k.agent, count(*)
FROM ({kept}) AS k
WHERE k.session_key IN ({sessions})
GROUP BY k.project, k.agent

-- name: summed_sessions
SELECT u.session_key FROM usage_slots AS u WHERE {in_range}

-- name: ranked_sessions
SELECT u.session_key FROM ({ranked}) AS u

-- Whether the sums lack anything, and what else there is: a branch of a statement that finds
-- nothing still keeps PostgreSQL from sharing the work out.
-- name: what_there_is
SELECT EXISTS (SELECT FROM pending_usage), EXISTS (SELECT FROM repeated_usage),
    EXISTS (SELECT FROM billing_rows)

-- name: model_names
SELECT model_id, name FROM models
