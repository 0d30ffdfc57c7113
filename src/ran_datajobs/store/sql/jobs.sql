-- SPDX-License-Identifier: Apache-2.0
-- Reads and writes of the northbound API on jobs. A new job is due for its plan, and the workers are notified.

-- name: admission
select (select count(*) from (
            select 1 from data_job
            where client = $1 and status in ('NOT_STARTED', 'RUNNING', 'CANCELLING') limit $3) o) as open_jobs,
       k.digest, k.job_id, j.destination_kind, j.destination, j.results_bucket, j.ignored
from (select 1) one
left join idempotency_key k
    on k.client = $1 and k.key = $2 and k.created_at > clock_timestamp() - interval '24 hours'
left join data_job j on j.job_id = k.job_id;

-- name: lock_after
select job_id, status in ('NOT_STARTED', 'RUNNING', 'CANCELLING') as open
from data_job
where job_id = any ($1::uuid[]) and ($2::text is null or client = $2)
order by job_id for share;

-- name: insert_job
with job as (
    insert into data_job (job_id, client, type, name, destination, destination_kind, results_bucket, accept_type,
                          content_type, activation_mode, priority, after_jobs, blocked, retry_of, operations,
                          ignored, due_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $17, clock_timestamp())
), request as (
    insert into job_request (job_id, body) values ($1, $16)
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
set status = 'CANCELLING', cancel_requested = true, version = version + 1, cancelled_at = clock_timestamp(), ended_after_cancel = 0
where job_id = $1 returning *;

-- name: pushed_sub_job
select s.stage, s.data_producer_job_id, p.url
from sub_job s join lane l using (lane_id) join dmi_plugin p on p.plugin_id = s.plugin_id
where s.sub_job_id = $1;

-- name: plugins_of_sub_jobs
select s.sub_job_id, p.url
from sub_job s join lane l using (lane_id) join dmi_plugin p on p.plugin_id = s.plugin_id
where s.sub_job_id = any ($1::uuid[]);

-- name: plugins_of_producer_jobs
select s.data_producer_job_id, p.url
from sub_job s join lane l using (lane_id) join dmi_plugin p on p.plugin_id = s.plugin_id
where s.data_producer_job_id = any ($1::text[]) and s.stage in ('TRACKING', 'COLLECTING');

-- name: buckets_named_by
select distinct destination from data_job
where client = $1 and destination_kind = 'BUCKET' and destination is not null limit $2;

-- name: has_topic
select exists (
    select 1 from data_job
    where destination_kind = 'TOPIC' and destination = $1 and ($2::text is null or client = $2));
