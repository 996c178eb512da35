-- The price of each pattern that the sources bring: custom before all, then the newest, then the
-- source that was seen first.
-- name: stored
SELECT DISTINCT ON (model_pattern) model_pattern, input_per_mtok, output_per_mtok,
    cache_creation_per_mtok, cache_read_per_mtok, updated_at_text
FROM source_prices
WHERE NOT is_custom AND NOT starts_with(model_pattern, '_')
ORDER BY model_pattern, updated_at DESC NULLS LAST, source_id

-- name: custom
SELECT DISTINCT ON (model_pattern) model_pattern, input_per_mtok, output_per_mtok,
    cache_creation_per_mtok, cache_read_per_mtok
FROM source_prices
WHERE is_custom
ORDER BY model_pattern, source_id
