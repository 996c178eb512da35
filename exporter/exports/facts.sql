-- Identities of project labels. The smallest and the largest key of a label say all there is to
-- know: none, one, or several.
-- name: projects
SELECT asked.label, seen.low, seen.high, ran.low, ran.high,
    o.key_source, o.normalized_remote, o.normalized_root, o.is_redacted, p.path_root
FROM unnest(%(labels)s::text[]) AS asked (label)
CROSS JOIN LATERAL (
    SELECT min(key) AS low, max(key) AS high FROM project_observations
    WHERE project = asked.label AND key IS NOT NULL
) AS seen
LEFT JOIN LATERAL (
    SELECT min(path_key) AS low, max(path_key) AS high FROM sessions
    WHERE seen.low IS NULL AND project = asked.label AND path_key IS NOT NULL
      AND deleted_at_text IS NULL AND presence = 'present'
) AS ran ON true
LEFT JOIN LATERAL (
    SELECT min(key_source) AS key_source, min(normalized_remote) AS normalized_remote,
        min(normalized_root) AS normalized_root, bool_or(is_redacted) AS is_redacted
    FROM project_observations
    WHERE project = asked.label AND key = seen.low AND seen.low = seen.high
) AS o ON true
LEFT JOIN LATERAL (
    SELECT path_root FROM sessions
    WHERE project = asked.label AND path_key = ran.low AND ran.low = ran.high
      AND deleted_at_text IS NULL AND presence = 'present'
    LIMIT 1
) AS p ON true

-- How many sightings of each label are stored, usable or not.
-- name: observation_counts
SELECT project, count(*) FROM project_observations
WHERE project = ANY(%(labels)s)
GROUP BY project

-- Each key that the observations of a label give. One withheld remote withholds the text of all:
-- equal keys have equal texts.
-- name: observed_keys
SELECT project, key, min(key_source),
    CASE WHEN NOT bool_or(is_redacted) THEN min(normalized_remote) END,
    min(normalized_root), bool_or(is_redacted), count(*)
FROM project_observations
WHERE project = ANY(%(labels)s) AND key IS NOT NULL
GROUP BY project, key
ORDER BY project, key

-- Each key that the places of a label's sessions give.
-- name: places_keys
SELECT project, path_key, 'root_path', NULL, min(path_root), false, count(*)
FROM sessions
WHERE project = ANY(%(labels)s) AND path_key IS NOT NULL
  AND deleted_at_text IS NULL AND presence = 'present'
GROUP BY project, path_key
ORDER BY project, path_key

-- The source whose row is in force for each pattern; the order is that of the rows in force.
-- name: price_origins
SELECT DISTINCT ON (p.model_pattern) p.model_pattern, s.kind, s.location, p.updated_at_text
FROM source_prices AS p JOIN sources AS s USING (source_id)
WHERE p.is_custom OR NOT starts_with(p.model_pattern, '_')
ORDER BY p.model_pattern, p.is_custom DESC,
    CASE WHEN NOT p.is_custom THEN p.updated_at END DESC NULLS LAST, p.source_id

-- Prices that one source brought, by pattern.
-- name: prices_of_source
SELECT p.model_pattern, p.input_per_mtok, p.output_per_mtok, p.cache_creation_per_mtok,
    p.cache_read_per_mtok
FROM source_prices AS p JOIN sources AS s USING (source_id)
WHERE s.kind = %(kind)s AND s.archive_id = %(archive_id)s AND NOT p.is_custom

-- Nobody else changes prices until the transaction ends; reading goes on.
-- name: hold_prices
LOCK TABLE source_prices IN SHARE ROW EXCLUSIVE MODE
