-- SPDX-License-Identifier: Apache-2.0
-- Reads and writes of the northbound API on jobs. A new job is due for its plan, and the workers are notified.

-- name: admission
select (select count(*) from (
            select 1 from data_job
            where client = $1 and status in ('NOT_STARTED', 'RUNNING', 'CANCELLING') limit $3) o) as open_jobs,
       k.digest, k.job_id
from (select 1) one
left join idempotency_key k
    on k.client = $1 and k.key = $2 and k.created_at > clock_timestamp() - interval '24 hours';

-- name: visible_jobs
select job_id from data_job where job_id = any ($1::uuid[]) and ($2::text is null or client = $2);

-- The plan decides whether the job is blocked.
-- name: insert_job
with job as (
    insert into data_job (job_id, client, type, name, destination, destination_kind, results_bucket, accept_type,
                          content_type, activation_mode, priority, after_jobs, retry_of, operations, ignored,
                          plugin_destination, validation, blocked, due_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $16, $17, $19, cardinality($12::uuid[]) > 0,
            clock_timestamp())
), request as (
    insert into job_request (job_id, body, verdicts) values ($1, $15, $18)
)
select pg_notify('datajobs_due', 'job');

-- name: take_idempotency_key
insert into idempotency_key as k (client, key, digest, job_id) values ($1, $2, $3, $4)
on conflict (client, key) do update
set digest = excluded.digest, job_id = excluded.job_id, created_at = clock_timestamp()
where k.created_at <= clock_timestamp() - interval '24 hours'
returning true;

-- name: find_job
select * from data_job where job_id = $1 and ($2::text is null or client = $2);

-- name: list_jobs
select * from :jobs d
where ($1::text is null or client = $1)
  and ($2::job_status is null or status = $2)
  and ($3::job_type is null or type = $3)
  and ($4::bigint is null or seq < $4)
order by seq desc limit $5;

-- name: jobs_by_id
-- Few jobs are in a range of ids: "offset 0" makes the planner evaluate the range first.
select * from data_job where job_id between $6 and $7 offset 0

-- name: count_sub_jobs
select job_id, status, count(*) as sub_jobs from sub_job where job_id = any ($1::uuid[]) group by job_id, status;

-- name: list_sub_jobs
select s.*, l.data_producer_id, p.url
from sub_job s join lane l using (lane_id) join dmi_plugin p on p.plugin_id = s.plugin_id
where s.job_id = $1 and s.position > $2
order by s.position limit $3;

-- Whether no create of a job remains to be sent or answered.
-- name: creates_answered
select ended_at is not null or planned and not exists (
    select 1 from sub_job s where s.job_id = j.job_id and s.stage in ('WAITING', 'ADMITTED', 'STARTING')) as answered
from data_job j where job_id = $1;

-- name: creates
select s.data_producer_job_id, p.url, l.data_producer_id
from sub_job s join lane l using (lane_id) join dmi_plugin p on p.plugin_id = s.plugin_id
where s.job_id = $1 order by s.position;

-- name: changed_sub_jobs
select s.*, l.data_producer_id, p.url
from sub_job s join lane l using (lane_id) join dmi_plugin p on p.plugin_id = s.plugin_id
where s.job_id = $1 and s.version >= $2 and (s.version, s.position) > ($2, $3) and s.version <= $4
order by s.version, s.position limit $5;

-- name: has_part
select exists (select 1 from result_part where job_id = $1 and key = $2);

-- name: request_head_of
-- The header of a zstd frame has at most 18 bytes; the rest is not read.
select substring(body from 1 for 18) from job_request where job_id = $1;

-- name: request_of
select body from job_request where job_id = $1;

-- name: lock_job
select * from data_job where job_id = $1 and ($2::text is null or client = $2) for no key update;

-- name: cancel_job
update data_job
set status = 'CANCELLING', cancel_requested = true, version = version + 1, cancelled_at = clock_timestamp(),
    ended_after_cancel = 0
where job_id = $1 returning *;

-- name: pushed_sub_jobs
select s.sub_job_id, s.stage, s.data_producer_job_id, p.url
from sub_job s join dmi_plugin p using (plugin_id)
where s.sub_job_id = any ($1::uuid[]);

-- name: plugins_of_producer_jobs
select s.data_producer_job_id, p.url
from sub_job s join dmi_plugin p using (plugin_id)
where s.data_producer_job_id = any ($1::text[]) and s.stage in ('TRACKING', 'COLLECTING');

-- name: buckets_named_by
select distinct destination from data_job
where client = $1 and destination_kind = 'BUCKET' and destination is not null limit $2;

-- name: has_topic
select exists (
    select 1 from data_job
    where destination_kind = 'TOPIC' and destination = $1 and ($2::text is null or client = $2));

-- The steps of a data job: its plan, and its finish once no sub-job is open. A job is due and leased like a sub-job.

-- Lease due steps. Plans of one client are made in the order of submission, except that a job of a higher priority, or
-- a cancelled one, does not wait for earlier jobs, and a job whose plan failed three times does not block later ones.
-- $1, $2, $3: maximum number of small and of large plans, and of finish steps; $4: minimum bytes of a large stored
-- request.
-- name: claim_jobs
with recursive head as (
    (select job_id, client, priority, seq, due_at, lease, leased_until from data_job
     where not planned and not cancel_requested and step_failures < 3
     order by client, priority, seq limit 1)
    union all
    select n.*
    from head h cross join lateral (
        select j.job_id, j.client, j.priority, j.seq, j.due_at, j.lease, j.leased_until from data_job j
        where not j.planned and not j.cancel_requested and j.step_failures < 3 and (j.client, j.priority) > (h.client, h.priority)
        order by j.client, j.priority, j.seq limit 1) n
), ready as (
    select job_id from head h
    where (lease is null and due_at <= now() or leased_until < now())
      and not exists (select 1 from head e where e.client = h.client and e.priority > h.priority and e.seq < h.seq)
    union
    select job_id from data_job
    where (due_at <= now() and lease is null or leased_until < now()) and (planned or cancel_requested or step_failures >= 3)
), numbered as (
    select j.job_id,
           row_number() over (partition by j.planned, coalesce(octet_length(r.body), 0) >= $4::integer
                              order by j.priority desc, j.seq) as nth,
           case when j.planned then $3::integer
                when coalesce(octet_length(r.body), 0) >= $4::integer then $2::integer else $1::integer end as room
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
    returning j.job_id, j.lease, j.planned, j.step_failures, j.results_bucket, j.type, j.cancel_requested, j.validation
)
select l.job_id, l.lease, l.planned, l.step_failures, l.results_bucket, l.type, case when not l.planned then r.body end as body,
       case when not l.planned then r.verdicts end as verdicts, l.cancel_requested, l.validation
from leased l cross join lazily left join job_request r using (job_id);

-- name: jobs_leased_under
select j.job_id, j.lease, j.planned, j.step_failures, j.results_bucket, j.type, case when not j.planned then r.body end as body,
       case when not j.planned then r.verdicts end as verdicts, j.cancel_requested, j.validation
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

-- End the lease. $3: seconds until the step is due again; null: there is no step to do.
-- name: end_lease
update data_job
set due_at = clock_timestamp() + make_interval(secs => $3), lease = null, leased_by = null, leased_until = null
where job_id = $1 and lease = $2;

-- name: is_leased
select 1 from data_job where job_id = $1 and lease = $2;

-- name: mark_planned
update data_job j
set planned = true, version = version + 1, sub_jobs = $2, sub_jobs_open = $2, unmatched = $3, failed = $4,
    split_reads = $5, not_started = $6, warnings = $7, step_failures = 0, objects_cause = null, objects_since = null,
    lease = null, leased_by = null, leased_until = null,
    due_at = case when $2 = 0 then clock_timestamp() end,
    blocked = exists (
        select 1 from data_job a
        where a.job_id = any (j.after_jobs) and a.status in ('NOT_STARTED', 'RUNNING', 'CANCELLING'))
where job_id = $1 returning blocked;

-- name: start_cancelling
update data_job set status = 'CANCELLING', version = version + 1
where job_id = $1 and status in ('NOT_STARTED', 'RUNNING') returning job_id;

-- name: finish
update data_job
set status = $2::job_status, reason = $3, ended_at = clock_timestamp(), version = version + 1,
    succeeded = $4, failed = $5, unmatched = $6, not_started = $7, unknown = $8,
    due_at = null, step_failures = 0, objects_cause = null, objects_since = null,
    lease = null, leased_by = null, leased_until = null
where job_id = $1 and status in ('NOT_STARTED', 'RUNNING', 'CANCELLING') and planned and sub_jobs_open = 0
returning extract(epoch from ended_at - created_at)::float8;

-- name: record_preview
update data_job set preview = $2, reach = $3 where job_id = $1;

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
