-- SPDX-License-Identifier: Apache-2.0
-- The steps of a data job: its plan, and its finish once no sub-job is open. A job is due and leased like a sub-job.

-- Lease due steps. Plans of one client are made in the order of submission, except that a job of a higher priority, or
-- a cancelled one, does not wait for earlier jobs, and a job whose plan failed three times does not block later ones.
-- $1, $2: maximum number of small and large plans; $3: minimum bytes of a large stored request; $4: maximum number of
-- finish steps.
-- name: claim_jobs
with recursive line as (
    (select client, priority from data_job
     where not planned and not cancel_requested and step_failures < 3
     order by client, priority limit 1)
    union all
    select n.client, n.priority
    from line l cross join lateral (
        select j.client, j.priority from data_job j
        where not j.planned and not j.cancel_requested and j.step_failures < 3 and (j.client, j.priority) > (l.client, l.priority)
        order by j.client, j.priority limit 1) n
), head as (
    select h.* from line l cross join lateral (
        select j.job_id, j.client, j.priority, j.seq, j.due_at, j.lease, j.leased_until from data_job j
        where not j.planned and not j.cancel_requested and j.step_failures < 3 and j.client = l.client and j.priority = l.priority
        order by j.seq limit 1) h
), ready as (
    select job_id from head h
    where (lease is null and due_at <= now() or leased_until < now())
      and not exists (select 1 from head e where e.client = h.client and e.priority > h.priority and e.seq < h.seq)
    union
    select job_id from data_job
    where (due_at <= now() and lease is null or leased_until < now()) and (planned or cancel_requested or step_failures >= 3)
), numbered as (
    select j.job_id, row_number() over (partition by j.planned, coalesce(octet_length(r.body), 0) >= $3::integer order by j.priority desc, j.seq) as nth,
           case when j.planned then $4::integer when coalesce(octet_length(r.body), 0) >= $3::integer then $2::integer else $1::integer end as room
    from ready join data_job j using (job_id) left join job_request r on r.job_id = j.job_id and not j.planned
), picked as (
    select j.job_id from data_job j join numbered n using (job_id)
    where n.nth <= n.room and (j.lease is null and j.due_at <= now() or j.leased_until < now())
    for update of j skip locked
), lazily as materialized (
    -- A claim that is lost in a crash of the database is made again under another token.
    select set_config('synchronous_commit', 'off', true)
), leased as (
    update data_job j
    set lease = $5, leased_by = $6, leased_until = clock_timestamp() + make_interval(secs => $7)
    from picked where j.job_id = picked.job_id
    returning j.job_id, j.lease, j.planned, j.step_failures, j.results_bucket
)
select l.job_id, l.lease, l.planned, l.step_failures, l.results_bucket, case when not l.planned then r.body end as body
from leased l cross join lazily left join job_request r using (job_id);

-- name: jobs_leased_under
select j.job_id, j.lease, j.planned, j.step_failures, j.results_bucket, case when not j.planned then r.body end as body
from data_job j left join job_request r using (job_id)
where j.leased_until is not null and j.lease = $1;

-- Commit asynchronously. A plan that is lost in a crash of the database is made again with the same result; the start
-- of a sub-job, which depends on it, reaches the disk only after it.
-- name: commit_lazily
set local synchronous_commit = off;

-- Rows that another transaction has locked are skipped until the next renewal.
-- name: renew_jobs
with held as materialized (
    select j.job_id from data_job j join unnest($1::uuid[], $2::uuid[]) as h (job_id, lease) using (job_id, lease)
    for no key update of j skip locked
)
update data_job j set leased_until = clock_timestamp() + make_interval(secs => $3)
where j.job_id = any (array(select job_id from held));

-- name: step_failed
update data_job set due_at = clock_timestamp() + make_interval(secs => $3), step_failures = step_failures + 1,
    objects_cause = $4, objects_since = case when $4::text is not null then coalesce(objects_since, clock_timestamp()) end,
    lease = null, leased_by = null, leased_until = null
where job_id = $1 and lease = $2;

-- name: give_back_jobs
with held as materialized (
    select j.job_id from data_job j join unnest($1::uuid[], $2::uuid[]) as h (job_id, lease) using (job_id, lease)
    order by j.job_id for no key update of j
)
update data_job j set lease = null, leased_by = null, leased_until = null, due_at = clock_timestamp()
where j.job_id = any (array(select job_id from held));

-- name: is_leased
select exists (select 1 from data_job where job_id = $1 and lease = $2);

-- The row is read after the lock is taken: a cancel may have changed it meanwhile.
-- name: lock_job
select planned, cancel_requested, destination, destination_kind, results_bucket, cardinality(after_jobs) > 0 as has_after, lease
from data_job where job_id = $1 for no key update;

-- name: still_blocked
select exists (
    select 1 from data_job j join data_job a on a.job_id = any (j.after_jobs)
    where j.job_id = $1 and a.status in ('NOT_STARTED', 'RUNNING', 'CANCELLING'));

-- name: mark_planned
update data_job
set planned = true, version = version + 1, sub_jobs = $2, sub_jobs_open = $2, unmatched = $3, failed = $4,
    split_reads = $5, blocked = $6, step_failures = 0, objects_cause = null, objects_since = null, lease = null, leased_by = null, leased_until = null,
    due_at = case when $2 = 0 then clock_timestamp() end
where job_id = $1;

-- name: finish_facts
select split_reads, cancelled_sub_jobs > 0 as cancelled, extract(epoch from clock_timestamp() - created_at)::float8 as seconds
from data_job where job_id = $1;

-- name: cancel_arrow
update data_job set status = 'CANCELLING', version = version + 1
where job_id = $1 and status in ('NOT_STARTED', 'RUNNING') returning job_id;

-- name: finish
update data_job
set status = $2::job_status, reason = $3, ended_at = clock_timestamp(), version = version + 1,
    succeeded = $4, failed = $5, unmatched = $6, not_started = $7, unknown = $8,
    due_at = null, step_failures = 0, objects_cause = null, objects_since = null,
    lease = null, leased_by = null, leased_until = null
where job_id = $1 and status in ('NOT_STARTED', 'RUNNING', 'CANCELLING') and planned and sub_jobs_open = 0
returning job_id;

-- name: step_over
update data_job set due_at = null, lease = null, leased_by = null, leased_until = null where job_id = $1 and lease = $2;

-- name: lock_waiting
-- The jobs that wait for one job. Two jobs that end concurrently are serialised here: the second one continues when the
-- first is committed, and its later statements see both.
select job_id from data_job where blocked and after_jobs @> array[$1::uuid] order by job_id for no key update;

-- name: unblock_jobs
update data_job j set blocked = false
where j.job_id = any ($1::uuid[]) and j.blocked
  and not exists (select 1 from data_job a where a.job_id = any (j.after_jobs)
                  and a.status in ('NOT_STARTED', 'RUNNING', 'CANCELLING'))
returning j.job_id;
