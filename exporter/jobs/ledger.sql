-- A job is known from its first run on.
-- name: begin_job
INSERT INTO jobs AS j (job, version, state) VALUES (%(job)s, %(version)s, 'running')
ON CONFLICT (job) DO UPDATE SET version = excluded.version, state = 'running', finished_at = NULL

-- name: begin_run
INSERT INTO job_runs (job) VALUES (%(job)s) RETURNING run_id

-- name: end_run
UPDATE job_runs SET state = %(state)s, finished_at = clock_timestamp(), counts = %(counts)s::jsonb
WHERE run_id = %(run_id)s

-- Finished is said by a run that found nothing left, and stands when one that was too late ends
-- after it. Otherwise others may still be at work; of the run's own workers nobody is, and one that
-- was killed still has its lease. A run that had nothing to do does not replace the counts of the
-- one that did it.
-- name: end_job
UPDATE jobs SET state = CASE WHEN %(finished)s THEN 'finished' ELSE 'pending' END,
    finished_at = CASE WHEN %(finished)s THEN clock_timestamp() END,
    counts = CASE WHEN %(finished)s AND (counts IS NULL OR %(counts)s::jsonb <> '{}')
        THEN %(counts)s::jsonb ELSE counts END
WHERE job = %(job)s AND (%(finished)s OR state = 'running' AND NOT EXISTS (
    SELECT FROM job_leases WHERE job = %(job)s AND run_id <> %(run_id)s AND released_at IS NULL
       AND lease_until > clock_timestamp()))

-- Exclusive leases that ran out make room for the next.
-- name: expire_exclusive
UPDATE job_leases SET released_at = clock_timestamp()
WHERE job = %(job)s AND is_exclusive AND released_at IS NULL AND lease_until <= clock_timestamp()

-- name: take_lease
INSERT INTO job_leases (job, run_id, holder, is_exclusive, lease_until)
VALUES (%(job)s, %(run_id)s, %(holder)s, %(is_exclusive)s,
    clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (job) WHERE is_exclusive AND released_at IS NULL DO NOTHING
RETURNING lease_id

-- name: holder
SELECT holder, lease_id, lease_until FROM job_leases
WHERE job = %(job)s AND is_exclusive AND released_at IS NULL

-- The server's clock was set back: a lease that would last for hours lasts as long as any other.
-- Its worker, if it lives, renews it before that.
-- name: trim_leases
UPDATE job_leases SET lease_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE job = %(job)s AND released_at IS NULL
  AND lease_until > clock_timestamp() + make_interval(secs => %(seconds)s)

-- The server's clock counts, never the worker's.
-- name: renew_lease
UPDATE job_leases SET lease_until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE lease_id = %(lease)s AND released_at IS NULL
RETURNING lease_id

-- name: release_items
UPDATE job_items SET status = 'pending', lease_id = NULL, attempts = greatest(0, attempts - 1),
    changed_at = clock_timestamp()
WHERE job = %(job)s AND status = 'leased' AND lease_id = %(lease)s

-- name: release_lease
UPDATE job_leases SET released_at = clock_timestamp()
WHERE lease_id = %(lease)s AND released_at IS NULL

-- Guards a write of an exclusive job: the row stays locked until the transaction ends.
-- name: hold_lease
SELECT lease_id FROM job_leases WHERE lease_id = %(lease)s AND released_at IS NULL FOR SHARE

-- Items that wait, those whose worker went silent, and those that the worker itself has without
-- knowing it.
-- name: claim
WITH chosen AS (
    SELECT i.item, i.generation FROM job_items AS i
    WHERE i.job = %(job)s AND i.attempts < %(tries)s AND (i.status = 'pending'
      OR (i.status = 'leased' AND (i.lease_id = %(lease)s OR NOT EXISTS (
        SELECT FROM job_leases AS l WHERE l.lease_id = i.lease_id
           AND l.released_at IS NULL AND l.lease_until > clock_timestamp()))))
    ORDER BY i.item LIMIT %(count)s
    FOR UPDATE OF i SKIP LOCKED
)
UPDATE job_items AS i SET status = 'leased', lease_id = %(lease)s, run_id = %(run_id)s,
    attempts = i.attempts + 1, changed_at = clock_timestamp()
FROM chosen AS c
WHERE i.job = %(job)s AND i.item = c.item AND i.generation = c.generation
RETURNING i.item, i.generation, i.attempts

-- name: is_leased_elsewhere
SELECT EXISTS (SELECT FROM job_items
    WHERE job = %(job)s AND status = 'leased' AND lease_id <> %(lease)s)

-- Says what became of an item and, by finding it still ours, that we may. That a packed log stands
-- in a plan's row stays on record, whatever comes of the plan next.
-- name: settle
UPDATE job_items SET status = %(status)s, outcome = %(outcome)s, reason = %(reason)s,
    notes = %(notes)s, facts = CASE WHEN facts ? 'log_stood'
        THEN jsonb_build_object('log_stood', facts->'log_stood') ELSE '{}' END || %(facts)s::jsonb,
    source_bytes = %(source_bytes)s,
    source_sha256 = %(source_sha256)s, result_bytes = %(result_bytes)s,
    result_sha256 = %(result_sha256)s, seconds = %(seconds)s, changed_at = clock_timestamp()
WHERE job = %(job)s AND item = %(item)s AND generation = %(generation)s
  AND status = 'leased' AND lease_id = %(lease)s

-- name: read_item
SELECT status, lease_id, outcome, coalesce(source_bytes, 0), coalesce(result_bytes, 0)
FROM job_items WHERE job = %(job)s AND item = %(item)s AND generation = %(generation)s

-- A find of a job without items of its own, such as one row that may hold a secret.
-- name: report
INSERT INTO job_items AS i (job, item, status, outcome, reason, facts, run_id)
VALUES (%(job)s, %(item)s, 'quarantined', 'QUARANTINED', %(reason)s, %(facts)s::jsonb, %(run_id)s)
ON CONFLICT (job, item, generation) DO UPDATE SET status = 'quarantined',
    outcome = 'QUARANTINED', reason = excluded.reason, facts = excluded.facts,
    run_id = excluded.run_id, changed_at = clock_timestamp()

-- name: jobs
SELECT j.job, j.state, j.finished_at, j.counts,
    (SELECT max(run_id) FROM job_runs AS r WHERE r.job = j.job),
    (SELECT count(*) FROM job_leases AS l WHERE l.job = j.job AND l.released_at IS NULL
        AND l.lease_until > clock_timestamp())
FROM jobs AS j ORDER BY j.job

-- name: item_counts
SELECT job, status, coalesce(outcome, ''), count(*) FROM job_items
GROUP BY job, status, coalesce(outcome, '') ORDER BY 1, 2, 3

-- name: reasons
SELECT job, reason, count(*) FROM job_items WHERE status = 'quarantined'
GROUP BY job, reason ORDER BY job, reason

-- name: quarantined
SELECT job, item, generation, reason, facts, changed_at FROM job_items
WHERE status = 'quarantined' AND (%(reason)s::text IS NULL OR reason = %(reason)s::text)
  AND (%(job)s::text IS NULL OR job = %(job)s::text)
ORDER BY job, item, generation LIMIT %(limit)s

-- Plans that are as their last split left them, as far as sizes tell.
-- name: split_plans
SELECT p.id FROM job_items AS i
JOIN {plans} AS p ON p.id = i.item::uuid AND p.run_generation = i.generation
WHERE i.job = 'snapshots' AND i.status = 'done' AND i.outcome = 'MIGRATED'
  AND i.item > %(after)s AND p.run_artifact_layout_version >= 2
  AND octet_length(p.run_zip_snapshot) = i.result_bytes
ORDER BY i.item LIMIT %(count)s

-- Back to waiting. A plan is claimed by the next run; a remote is looked at in each run anyway, which
-- reports it again or forgets it.
-- name: requeue
UPDATE job_items SET status = 'pending', reason = NULL, outcome = NULL, attempts = 0,
    lease_id = NULL, changed_at = clock_timestamp()
WHERE status = 'quarantined' AND reason = %(reason)s
