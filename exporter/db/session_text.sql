-- Everything of a v1 session row before its usage, from one row `s` of sessions.
-- name: head
wire_text('{"id":' || json_text(s.id)
|| ',"project":' || json_text(s.project)
|| ',"machine":' || json_text(s.machine)
|| ',"agent":' || json_text(s.agent)
|| CASE WHEN s.cwd = '' THEN '' ELSE ',"cwd":' || json_text(s.cwd) END
|| CASE WHEN s.git_branch = '' THEN '' ELSE ',"git_branch":' || json_text(s.git_branch) END
|| ',"started_at":' || json_text(s.started_at_text)
|| ',"ended_at":' || json_text(s.ended_at_text)
|| ',"last_activity_at":' || json_text(s.last_activity_text)
|| ',"duration_seconds":' || coalesce(s.duration_seconds::text, 'null')
|| ',"message_count":' || s.message_count::text
|| ',"user_message_count":' || s.user_message_count::text
|| ',"assistant_message_count":' || s.assistant_message_count::text
|| ',"turn_count":' || s.user_message_count::text
|| CASE WHEN s.is_automated
       THEN ',"classification":"automated","is_automated":true,"model_usage":'
       ELSE ',"classification":"interactive","is_automated":false,"model_usage":' END)

-- Everything after the usage, to the closing brace.
-- name: tail
wire_text(',"parent_session_id":' || json_text(s.parent_session_id)
|| ',"relationship_type":' || json_text(nullif(s.relationship_type, ''))
|| ',"worktree":'
|| CASE WHEN s.has_worktree
       THEN '{"name":' || json_text(nullif(s.worktree_name, ''))
           || ',"root_path":' || json_text(nullif(s.worktree_root, '')) || '}'
       ELSE 'null' END
|| ',"total_output_tokens":' || s.total_output_tokens::text
|| ',"peak_context_tokens":' || s.peak_context_tokens::text
|| CASE WHEN s.has_total_output_tokens
       THEN ',"has_total_output_tokens":true' ELSE ',"has_total_output_tokens":false' END
|| CASE WHEN s.has_peak_context_tokens
       THEN ',"has_peak_context_tokens":true}' ELSE ',"has_peak_context_tokens":false}' END)

-- The usage of a session that has none.
-- name: no_usage
'{"models":[],"input_tokens":0,"output_tokens":0,"cache_creation_input_tokens":0,'
|| '"cache_read_input_tokens":0,"reasoning_tokens":0,"cost_usd":0,"has_cost":false,"by_model":{}}'

-- (session_key, usage): the usage text of the sessions given at the rates given. A sum of money
-- is exact until it becomes the nearest double, once for the session and once for each model.
-- name: usage
SELECT session_key, wire_text(
    '{{"models":[' || string_agg(model, ',' ORDER BY name)
    || '],"input_tokens":' || sum(input_tokens)::text
    || ',"output_tokens":' || sum(output_tokens)::text
    || ',"cache_creation_input_tokens":' || sum(cache_creation_input_tokens)::text
    || ',"cache_read_input_tokens":' || sum(cache_read_input_tokens)::text
    || ',"reasoning_tokens":' || sum(reasoning_tokens)::text
    || ',"cost_usd":' || json_number(sum(cost)::double precision)
    || CASE WHEN bool_and(has_cost) THEN ',"has_cost":true' ELSE ',"has_cost":false' END
    || ',"by_model":{{'
    || string_agg(
        model || ':{{"model":' || model
        || ',"input_tokens":' || input_tokens::text
        || ',"output_tokens":' || output_tokens::text
        || ',"cache_creation_input_tokens":' || cache_creation_input_tokens::text
        || ',"cache_read_input_tokens":' || cache_read_input_tokens::text
        || ',"reasoning_tokens":' || reasoning_tokens::text
        || ',"cost_usd":' || json_number(cost::double precision)
        || CASE WHEN has_cost THEN ',"has_cost":true' ELSE ',"has_cost":false' END
        || CASE WHEN computed_rows = 0 THEN ',"cost_source":"reported"}}'
                WHEN reported_rows = 0 THEN ',"cost_source":"computed"}}'
                ELSE ',"cost_source":"mixed"}}' END,
        ',' ORDER BY name)
    || '}}}}') AS usage
FROM (
    SELECT x.*, m.name, json_text(m.name) AS model,
        computed_rows = 0 OR r.matched_pattern IS NOT NULL AS has_cost,
        (x.priced_input * r.input_rate + x.priced_output * r.output_rate
         + x.priced_cache_creation * r.cache_write_rate + x.priced_cache_read * r.cache_read_rate
        ) * 0.000001 + x.reported_cost AS cost
    FROM session_models AS x
    JOIN models AS m USING (model_id)
    JOIN {rates} AS r USING (model_id)
    WHERE x.session_key IN ({keys})
) AS spent
GROUP BY session_key
