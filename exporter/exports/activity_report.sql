-- All instants inside a report are offsets from its start in nanoseconds, so that durations are
-- whole numbers; activity is stored in microseconds and the nanoseconds beyond them. The parts
-- below are put together into one statement, so that what it needs of the archive is read once.

-- Sessions that the report is about. The first text that is not empty decides where a session
-- begins and ends; one that is no instant is compared byte by byte with the bound as text.
-- name: candidates
SELECT coalesce(array_agg(s.session_key), '{{}}'), coalesce(array_agg(DISTINCT s.project), '{{}}')
FROM sessions AS s
WHERE s.visible
  AND coalesce(
    CASE WHEN s.started_at_text <> '' THEN s.started_at ELSE s.created_at END
        < %(candidate_end)s,
    coalesce(nullif(s.started_at_text, ''), nullif(s.created_at_text, ''))
        COLLATE "C" < %(end_text)s,
    false)
  AND coalesce(
    CASE
        WHEN s.ended_at_text <> '' THEN s.ended_at
        WHEN s.last_message_at IS NOT NULL THEN s.last_message_at
        WHEN s.last_activity_text = s.started_at_text THEN s.started_at
        WHEN s.last_activity_text = s.created_at_text THEN s.created_at
    END >= %(candidate_start)s,
    s.last_activity_text >= %(start_text)s)
  AND {filters}

-- name: no_filter
true

-- name: project
s.project = %(project)s

-- name: agents
s.agent = ANY(%(agents)s)

-- name: machines
s.machine = ANY(%(machines)s)

-- name: interactive
NOT s.is_automated

-- name: automated
s.is_automated

-- Offset of a stored time from the start of the range. Doubles hold the microseconds of far more
-- than a year exactly; the caller looks only at rows near the range.
-- name: offset
(round(date_part('epoch', {row}.at - %(start)s::timestamptz) * 1000000)::bigint * 1000
    + {row}.at_nanoseconds - %(start_beyond)s)

-- Stretches of activity that may reach into the range.
-- name: stretches
SELECT p.session_key, p.active_model_id AS model_id, c.is_automated,
    {offset} AS begun_ns, p.active_nanoseconds AS lasts_ns
FROM candidates AS c JOIN activity_points AS p USING (session_key)
WHERE p.active_nanoseconds > 0
  AND p.at > %(start)s::timestamptz - interval '301 s' AND p.at <= %(effective_end)s

-- The same, cut to what lies within. The planner would take the exact bounds to be a sieve, though
-- almost everything passes it; of a CASE it knows nothing and assumes the half. In a range that only
-- begins now nothing has had time to happen.
-- name: intervals
SELECT session_key, model_id, is_automated, greatest(begun_ns, 0) AS start_ns,
    least(begun_ns + lasts_ns, %(length_ns)s) AS end_ns
FROM stretches
WHERE CASE WHEN begun_ns < %(length_ns)s AND begun_ns + lasts_ns > 0 AND %(length_ns)s > 0
    THEN true END

-- What each session was active with each model.
-- name: timed
SELECT session_key, model_id, sum(end_ns - start_ns)::bigint AS active_ns,
    min(start_ns) AS first_ns, max(end_ns) AS last_ns
FROM intervals
GROUP BY session_key, model_id

-- Usage within the range, of equal keys only the first, summed by session, model and bucket.
-- Tokens of rows that bring their own cost are not priced. What is shown stops at 64 bits.
-- name: spent
SELECT session_key, model_id, width_bucket(offset_ns, %(bucket_starts)s::bigint[]) AS bucket,
    least(sum(output_tokens), 9223372036854775807)::bigint AS output_tokens,
    bool_or(reported_cost IS NULL) AS is_computed,
    bool_or(reported_cost IS NOT NULL) AS is_reported,
    coalesce(sum(reported_cost), 0) AS reported_cost,
    sum(input_tokens) FILTER (WHERE reported_cost IS NULL) AS input,
    sum(CASE WHEN output_tokens <> 0 THEN output_tokens ELSE greatest(reasoning_tokens, 0) END)
        FILTER (WHERE reported_cost IS NULL) AS output,
    sum(cache_creation_input_tokens) FILTER (WHERE reported_cost IS NULL) AS cache_write,
    sum(cache_read_input_tokens) FILTER (WHERE reported_cost IS NULL) AS cache_read
FROM (
    SELECT u.*, row_number() OVER (
        PARTITION BY dedup_key ORDER BY offset_ns, id, ordinal, session_key, position
    ) AS copy
    FROM (
        SELECT u.*, c.id, {offset} AS offset_ns
        FROM candidates AS c JOIN usage_rows AS u USING (session_key)
        WHERE u.at >= %(start)s AND u.at <= %(effective_end)s
    ) AS u
    WHERE CASE WHEN offset_ns >= 0 AND offset_ns < %(length_ns)s THEN true END
) AS u
WHERE CASE WHEN copy = 1 OR dedup_key IS NULL THEN true END
GROUP BY session_key, model_id, bucket

-- The same with its cost in dollars, at the rates of this run.
-- name: priced
SELECT s.session_key, s.model_id, s.bucket, s.output_tokens, s.is_computed, s.is_reported,
    s.reported_cost + CASE WHEN s.is_computed THEN
        (s.input * r.input + s.output * r.output + s.cache_write * r.cache_write
            + s.cache_read * r.cache_read) * 0.000001
    ELSE 0 END AS cost
FROM spent AS s JOIN unnest(
    %(rate_models)s::integer[], %(rate_input)s::numeric[], %(rate_output)s::numeric[],
    %(rate_write)s::numeric[], %(rate_read)s::numeric[]
) AS r (model_id, input, output, cache_write, cache_read) USING (model_id)

-- name: models
SELECT model_id, name FROM models

-- The models that a session lists with what they weigh: those it was active with, by time; where
-- these have no name, those it used, by cost.
-- name: weighed
SELECT session_key, name, weight FROM (
    SELECT session_key, name, source, sum(weight) AS weight,
        min(source) OVER (PARTITION BY session_key) AS best_source
    FROM (
        SELECT session_key, model_id, 0 AS source, active_ns::numeric AS weight FROM timed
        UNION ALL
        SELECT session_key, model_id, 1, cost FROM priced
    ) AS x JOIN models AS m USING (model_id)
    WHERE m.name NOT IN ('', 'unknown')
    GROUP BY session_key, name, source
) AS x
WHERE source = best_source

-- The one statement: lines of text, in sections that a line of one control character ends. An Append
-- reads its parts in the order in which they are written.
-- name: report
WITH candidates AS MATERIALIZED (
    SELECT session_key, id, project, agent, is_automated FROM sessions
    WHERE session_key = ANY(%(candidates)s::bigint[])
),
stretches AS MATERIALIZED ({stretches}),
intervals AS NOT MATERIALIZED ({intervals}),
timed AS MATERIALIZED ({timed}),
spent AS ({spent}),
priced AS MATERIALIZED ({priced}),
weighed AS MATERIALIZED ({weighed}),
events AS (
    SELECT end_ns AS at_ns, 0 AS kind, -1 AS change,
        -is_automated::integer AS automated_change FROM intervals
    UNION ALL
    SELECT bucket_start, 1, 0, 0 FROM unnest(%(bucket_starts)s::bigint[]) AS bucket_start
    UNION ALL
    SELECT start_ns, 2, 1, is_automated::integer FROM intervals
), sweep AS (
    SELECT at_ns, kind, sum(change) OVER past AS live,
        sum(automated_change) OVER past AS automated,
        count(*) FILTER (WHERE kind = 1) OVER past AS bucket,
        lead(at_ns, 1, at_ns) OVER past - at_ns AS lasts_ns
    FROM events
    WINDOW past AS (ORDER BY at_ns, kind ROWS UNBOUNDED PRECEDING)
), buckets AS (
    SELECT bucket, sum(live * lasts_ns) AS agent_ns,
        sum(lasts_ns) FILTER (WHERE live > 0) AS active_ns,
        max(ARRAY[live, -at_ns, automated]) FILTER (WHERE kind > 0) AS top
    FROM sweep
    GROUP BY bucket
), shares AS (
    SELECT session_key, model_id, active_ns, 0 AS cost FROM timed
    UNION ALL
    SELECT session_key, model_id, 0, cost FROM priced
), breakdown AS (
    SELECT CASE WHEN grouping(c.project) = 0 THEN 'project'
            WHEN grouping(c.agent) = 0 THEN 'agent' ELSE 'model' END AS kind,
        CASE WHEN grouping(c.project) = 0 THEN c.project
            WHEN grouping(c.agent) = 0 THEN c.agent ELSE m.name END AS name,
        coalesce(sum(x.active_ns) FILTER (WHERE c.is_automated), 0) AS automated_ns,
        sum(x.active_ns) AS active_ns,
        coalesce(sum(x.cost) FILTER (WHERE c.is_automated), 0) AS automated_cost,
        sum(x.cost) AS cost
    FROM shares AS x JOIN candidates AS c USING (session_key) LEFT JOIN models AS m USING (model_id)
    GROUP BY GROUPING SETS ((c.project), (c.agent), (m.name))
)
SELECT json_build_array(kind, name, numbers)::text FROM ({summary}) AS summary
UNION ALL
SELECT %(section_end)s
{rows}

-- What is said of the range as a whole, as rows of a kind, a name and numbers:
--
-- candidates              sessions, automated ones, untimed ones
-- priced   model          1 if priced by rate, 1 if reported
-- named    model          (none): a model that some session lists
-- bucket                  number; agent and active nanoseconds; greatest number of agents, minus
--                         the offset of its first instant, automated ones then
-- spent                   number of the bucket; output tokens, cost
-- project, agent, model   nanoseconds of automated and of all sessions; costs likewise
--
-- Concurrency is one sweep: at an instant first all ends, then the beginnings of buckets, then all
-- starts, each with what it changes. The ends of a bucket's first instant thus belong to the bucket
-- before, and a bucket opens with what is already under way.
-- name: summary
SELECT 'candidates' AS kind, NULL AS name, ARRAY[count(*), count(*) FILTER (WHERE is_automated),
    count(*) - (SELECT count(DISTINCT session_key) FROM timed)]::numeric[] AS numbers
FROM candidates
UNION ALL
SELECT 'priced', m.name, ARRAY[bool_or(p.is_computed)::integer, bool_or(p.is_reported)::integer]
FROM priced AS p JOIN models AS m USING (model_id)
GROUP BY m.name
UNION ALL
SELECT DISTINCT 'named', name, '{{}}'::numeric[] FROM weighed
UNION ALL
SELECT 'bucket', NULL, ARRAY[bucket, agent_ns, coalesce(active_ns, 0)] || top::numeric[]
FROM buckets
UNION ALL
SELECT 'spent', NULL, ARRAY[bucket, sum(output_tokens), sum(cost)] FROM priced GROUP BY bucket
UNION ALL
SELECT kind, name, ARRAY[automated_ns, active_ns, automated_cost, cost] FROM breakdown

-- One line of text per session, the most active first. The parameters hold what goes between the
-- pieces, so that one statement writes both framings.
-- name: sessions
UNION ALL
(SELECT %(open)s || wire_text(
    '"session_id"' || %(is)s || json_text(c.id)
    || %(break)s || '"title"' || %(is)s || json_text(coalesce(nullif(c.project, ''), c.id))
    || %(break)s || '"project"' || %(is)s || json_text(c.project)
    || %(break)s || '"agent"' || %(is)s || json_text(c.agent)
    || %(break)s || '"primary_model"' || %(is)s || json_text(coalesce(l.primary_model, ''))
    || %(break)s || '"models"' || %(is)s
    || coalesce(%(list_open)s || l.models || %(list_close)s, 'null'))
    || %(break)s || '"agent_minutes"' || %(is)s || coalesce(json_number(
        (a.active_ns * 1.00000000000000000000 / 60000000000)::double precision), 'null')
    || %(break)s || '"cost"' || %(is)s || json_number(coalesce(p.cost, 0)::double precision)
    || %(break)s || '"output_tokens"' || %(is)s || coalesce(p.output_tokens, 0)
    || %(break)s || '"first_active"' || %(is)s || coalesce({first}, 'null')
    || %(break)s || '"last_active"' || %(is)s || coalesce({last}, 'null')
    || %(break)s || '"timing_quality"' || %(is)s
    || CASE WHEN a.session_key IS NULL THEN '"untimed"' ELSE '"timed"' END
    || %(break)s || '"is_automated"' || %(is)s || c.is_automated::text || %(close)s
FROM candidates AS c
LEFT JOIN (
    SELECT session_key, sum(active_ns)::bigint AS active_ns, min(first_ns) AS first_ns,
        max(last_ns) AS last_ns
    FROM timed
    GROUP BY session_key
) AS a USING (session_key)
LEFT JOIN (
    SELECT session_key, sum(output_tokens) AS output_tokens, sum(cost) AS cost
    FROM priced
    GROUP BY session_key
) AS p USING (session_key)
LEFT JOIN (
    SELECT session_key, string_agg(json_text(name), %(item_break)s ORDER BY name) AS models,
        (array_agg(name ORDER BY greatest(weight, 0) DESC, name))[1] AS primary_model
    FROM weighed
    GROUP BY session_key
) AS l USING (session_key)
ORDER BY a.active_ns DESC NULLS LAST, c.id
LIMIT %(limit)s::bigint)
UNION ALL
SELECT %(section_end)s

-- JSON text of the instant at an offset, its fraction of a second cut.
-- name: instant
left(to_json((%(start)s::timestamptz + (({offset} + %(start_beyond)s) / 1000)
    * interval '1 microsecond')::timestamp)::text, 20) || 'Z"'

-- The intervals in their order, some hundreds to a row, since each row costs its reader as much.
-- name: interval_lines
UNION ALL
(SELECT string_agg(%(open)s || '"session_id"' || %(is)s || id_text
    || %(break)s || '"start"' || %(is)s || {first}
    || %(break)s || '"end"' || %(is)s || {last} || %(close)s, %(row_break)s ORDER BY number)
FROM (
    SELECT i.start_ns, i.end_ns, t.id_text,
        row_number() OVER (ORDER BY i.start_ns, i.end_ns, t.id) AS number
    FROM intervals AS i JOIN (
        SELECT session_key, id, wire_text(json_text(id)) AS id_text FROM candidates
    ) AS t USING (session_key)
) AS i
GROUP BY number / 500
ORDER BY number / 500)
