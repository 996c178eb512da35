-- What a panel is made from; no large or secret column, so that the reader's role may.
-- name: facts
SELECT coalesce(p.run_artifact_layout_version, 0), p.run_generation,
    p.run_activity_overview_json::text
FROM {plans} AS p WHERE p.id = %(plan)s

-- What a stored panel is known by. The generation alone would not do: a plan that starts over is
-- empty first and complete later, both in the same one.
-- name: version
SELECT p.run_generation, p.state::text, p.run_artifact_layout_version,
    md5(p.run_activity_overview_json::text)
FROM {plans} AS p WHERE p.id = %(plan)s

-- name: snapshot
SELECT p.run_zip_snapshot FROM {plans} AS p WHERE p.id = %(plan)s
