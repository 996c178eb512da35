-- What a run of pages must know of the archive, from one row.
-- name: archive
SELECT database_id, cursor_secret, revision, revision_token::text FROM archive

-- The token that the archive had at an earlier revision.
-- name: revision_token
SELECT token::text FROM revisions WHERE revision = %(revision)s

-- Fragments of the selection, over one row `s` of sessions or of an earlier image of it.
-- name: listed
s.visible AND s.activity_ms IS NOT NULL

-- name: root
s.relationship_type NOT IN ('subagent', 'fork')

-- name: tree_root
s.relationship_type NOT IN ('subagent', 'fork', 'continuation')

-- name: not_automated
NOT s.is_automated

-- name: not_one_shot
s.user_message_count > 1

-- name: not_one_shot_unless_automated
(s.user_message_count > 1 OR s.is_automated)

-- name: project
s.project = %(project)s

-- name: exclude_project
s.project <> %(exclude_project)s

-- name: machine
s.machine = ANY(%(machine)s)

-- name: agent
s.agent = ANY(%(agent)s)

-- name: git_branch
(s.project, s.git_branch) IN (
    SELECT * FROM unnest(%(branch_projects)s::text[], %(branches)s::text[])
)

-- name: date
s.start_day = %(date)s

-- name: date_from
s.start_day >= %(date_from)s

-- name: date_to
s.start_day <= %(date_to)s

-- name: active_since
s.activity_ms >= %(active_since_ms)s

-- name: min_messages
s.message_count >= %(min_messages)s

-- name: max_messages
s.message_count <= %(max_messages)s

-- name: min_user_messages
s.user_message_count >= %(min_user_messages)s

-- name: outcome
s.outcome = ANY(%(outcome)s)

-- name: health_grade
s.health_grade = ANY(%(health_grade)s)

-- name: min_tool_failures
s.tool_failure_signal_count >= %(min_tool_failures)s

-- name: has_secret
s.secret_leak_count > 0

-- A session is in the tree of a root if it is one, or if a root is found walking up through
-- parents that are all visible. The walk ends on a cycle because a row is visited once.
-- name: in_tree
(({root}) OR (s.parent_session_id IS NOT NULL AND EXISTS (
    WITH RECURSIVE up AS (
        SELECT p.session_key, p.id, {columns} FROM sessions AS p
        WHERE p.id = s.parent_session_id AND p.visible
        UNION
        SELECT p.session_key, p.id, {columns} FROM up JOIN sessions AS p
            ON p.id = up.parent_session_id AND p.visible
    )
    SELECT FROM up AS s WHERE {root}
)))

-- name: page
SELECT s.session_key, s.id, s.activity_ms, s.last_activity_text, s.project
FROM sessions AS s
WHERE {eligible} AND {after}
ORDER BY s.activity_ms DESC, s.id
LIMIT %(rows)s

-- name: from_the_top
true

-- This form of the comparison is one range of the index; the usual (a < x OR a = x AND b > y)
-- is not.
-- name: after_row
s.activity_ms <= %(last_ms)s AND (s.activity_ms < %(last_ms)s OR s.id > %(last_id)s)

-- name: up_to_watermark
s.activity_ms <= %(watermark_ms)s

-- name: of_page
s.session_key = ANY(%(keys)s)

-- name: labels
SELECT DISTINCT s.project FROM sessions AS s WHERE {selected}

-- Each recorded model: whether rows of it were priced by rate or came with their cost, and the
-- rates that are in the stored text.
-- name: models
SELECT m.name, x.model_id, x.computed, x.reported, r.matched_pattern,
    r.input_rate, r.output_rate, r.cache_write_rate, r.cache_read_rate
FROM (
    SELECT x.model_id, bool_or(x.computed_rows > 0) AS computed,
        bool_or(x.reported_rows > 0) AS reported
    FROM session_models AS x JOIN sessions AS s USING (session_key)
    WHERE {selected}
    GROUP BY x.model_id
) AS x
JOIN models AS m USING (model_id) JOIN model_rates AS r USING (model_id)

-- name: lines
SELECT l.head || {usage} || l.tail
FROM sessions AS s JOIN session_lines AS l USING (session_key) {rates}
WHERE {selected}
ORDER BY s.activity_ms DESC, s.id

-- name: stored_usage
l.usage

-- name: fresh_usage
coalesce(u.usage, {no_usage})

-- name: fresh_rates
LEFT JOIN LATERAL ({usage}) AS u ON true

-- name: given_rates
(SELECT * FROM unnest(%(rate_models)s::integer[], %(rate_patterns)s::text[],
    %(rate_input)s::numeric[], %(rate_output)s::numeric[], %(rate_write)s::numeric[],
    %(rate_read)s::numeric[])
 AS given (model_id, matched_pattern, input_rate, output_rate, cache_write_rate, cache_read_rate))

-- Whether anything at all was inserted, or changed its place, after a revision.
-- name: any_change
SELECT EXISTS (SELECT FROM session_changes WHERE revision > %(revision)s)
    OR EXISTS (SELECT FROM sessions WHERE inserted_revision > %(revision)s)

-- Whether the set of a run differs from what it was at a revision: the earliest logged image of
-- each session since then against its row now. Rows are told apart by id: another source's copy may
-- take over without any difference.
-- name: set_changed
WITH earlier AS (
    SELECT DISTINCT ON (c.session_key) c.*, n.id
    FROM session_changes AS c JOIN sessions AS n USING (session_key)
    WHERE c.revision > %(revision)s AND n.inserted_revision <= %(revision)s
    ORDER BY c.session_key, c.revision
), then_set AS (
    SELECT s.id, s.activity_ms, s.last_activity_text FROM earlier AS s
    WHERE {eligible} AND s.activity_ms <= %(watermark_ms)s
), now_set AS (
    SELECT s.id, s.activity_ms, s.last_activity_text
    FROM earlier AS e JOIN sessions AS s USING (session_key)
    WHERE {eligible} AND s.activity_ms <= %(watermark_ms)s
    UNION ALL
    SELECT s.id, s.activity_ms, s.last_activity_text FROM sessions AS s
    WHERE s.inserted_revision > %(revision)s AND {eligible}
      AND s.activity_ms <= %(watermark_ms)s
)
SELECT EXISTS (SELECT * FROM then_set EXCEPT SELECT * FROM now_set)
    OR EXISTS (SELECT * FROM now_set EXCEPT SELECT * FROM then_set)

-- The same for trees, where one change can move all that hangs below it: both whole sets, each
-- grown downwards from its roots.
-- name: tree_changed
WITH RECURSIVE earlier AS (
    SELECT DISTINCT ON (c.session_key) c.*, n.id
    FROM session_changes AS c JOIN sessions AS n USING (session_key)
    WHERE c.revision > %(revision)s AND n.inserted_revision <= %(revision)s
    ORDER BY c.session_key, c.revision
), then_sessions AS (
    SELECT p.session_key, p.id, {columns} FROM earlier AS p
    UNION ALL
    SELECT p.session_key, p.id, {columns} FROM sessions AS p
    WHERE p.inserted_revision <= %(revision)s
      AND NOT EXISTS (SELECT FROM earlier AS e WHERE e.session_key = p.session_key)
), then_tree AS (
    SELECT s.id, s.activity_ms, s.last_activity_text FROM then_sessions AS s
    WHERE s.visible AND {root}
    UNION
    SELECT s.id, s.activity_ms, s.last_activity_text
    FROM then_tree AS t JOIN then_sessions AS s ON s.parent_session_id = t.id AND s.visible
), now_tree AS (
    SELECT s.id, s.activity_ms, s.last_activity_text FROM sessions AS s
    WHERE s.visible AND {root}
    UNION
    SELECT s.id, s.activity_ms, s.last_activity_text
    FROM now_tree AS t JOIN sessions AS s ON s.parent_session_id = t.id AND s.visible
), then_set AS (SELECT * FROM then_tree WHERE activity_ms <= %(watermark_ms)s),
now_set AS (SELECT * FROM now_tree WHERE activity_ms <= %(watermark_ms)s)
SELECT EXISTS (SELECT * FROM then_set EXCEPT SELECT * FROM now_set)
    OR EXISTS (SELECT * FROM now_set EXCEPT SELECT * FROM then_set)
