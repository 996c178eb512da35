-- What the reports read of usage, one number for each row of it. Several rows may hold the sum of
-- one quarter of an hour; their sum is what counts.
-- name: report_sums
SELECT hash_record_extended(s, 0) AS digest
FROM (
    SELECT session_key, at, day_text, model_id, is_reported,
        sum(input_tokens) AS i, sum(output_tokens) AS o, sum(billable_tokens) AS b,
        sum(cache_creation_input_tokens) AS w, sum(cache_read_input_tokens) AS r,
        sum(reported_cost) AS c
    FROM usage_slots
    GROUP BY 1, 2, 3, 4, 5
) AS s

-- name: repeated_rows
SELECT hash_record_extended(u, 0) AS digest FROM repeated_usage AS u

-- name: keep
CREATE TEMP TABLE {kept} ON COMMIT DROP AS {digests}

-- How many are not as they were kept: changed, gone or new.
-- name: count_changed
WITH made AS ({digests}), gone AS (
    SELECT count(*) AS n FROM (SELECT digest FROM {kept} EXCEPT ALL SELECT digest FROM made) AS d
), added AS (
    SELECT count(*) AS n FROM (SELECT digest FROM made EXCEPT ALL SELECT digest FROM {kept}) AS d
)
SELECT greatest(gone.n, added.n) FROM gone, added
