-- SPDX-License-Identifier: Apache-2.0

-- name: job_to_plan
select j.job_id, j.results_bucket, r.body
from data_job j join job_request r using (job_id) where j.job_id = $1 and not j.planned;

-- One that cannot be planned for so long that something must be wrong with it holds up nobody any more.
-- name: place_in_line
select j.client, j.seq, j.priority, octet_length(r.body) as size, exists (
    select 1 from data_job e
    where e.client = j.client and e.seq < j.seq and not e.planned and e.priority >= j.priority and not e.cancel_asked
      and e.created_at > clock_timestamp() - interval '10 minutes') as behind
from data_job j join job_request r using (job_id) where j.job_id = $1 and not j.planned;

-- name: is_unplanned
select exists (select 1 from data_job where job_id = $1 and not planned);

-- name: commit_lazily
set local synchronous_commit = off;

-- name: lock_job
select planned, cancel_asked, blocked, seq, delivery, destination, destination_kind, results_bucket
from data_job where job_id = $1 for no key update;

-- name: still_blocked
select exists (
    select 1 from data_job j join data_job a on a.job_id = any (j.after_jobs)
    where j.job_id = $1 and a.status in ('NOT_STARTED', 'RUNNING', 'CANCELLING'));

-- name: find_lanes
select l.lane_id, l.plugin_id, l.data_producer_id
from lane l join unnest($1::bigint[], $2::text[]) as n (plugin_id, data_producer_id) using (plugin_id, data_producer_id);

-- name: add_lanes
insert into lane (plugin_id, data_producer_id)
select n.plugin_id, n.data_producer_id from unnest($1::bigint[], $2::text[]) as n (plugin_id, data_producer_id)
order by 1, 2
on conflict do nothing
returning lane_id, plugin_id, data_producer_id;

-- What each lane was like before it was wanted: whether somebody holds it, and whether somebody was told to look.
-- name: want_lanes
with locked as (
    select lane_id, held_by is not null as held, wanted
    from lane where lane_id = any ($1::bigint[]) order by lane_id for no key update
), now as (
    update lane l set wanted = true from locked k where l.lane_id = k.lane_id and not k.wanted
)
select lane_id, held, wanted from locked;

-- name: insert_sub_jobs
insert into sub_job (sub_job_id, job_id, position, lane_id, type, job_seq, client, priority, blocked, cancel_asked,
                     body, body_bytes, operations, version)
select s.sub_job_id, j.job_id, s.position, s.lane_id, j.type, j.seq, j.client, j.priority, j.blocked, j.cancel_asked,
       s.body, s.body_bytes, s.operations, j.version
from unnest($2::uuid[], $3::integer[], $4::bigint[], $5::bytea[], $6::integer[], $7::bigint[])
     as s (sub_job_id, position, lane_id, body, operations, body_bytes), data_job j
where j.job_id = $1;

-- name: mark_planned
update data_job
set planned = true, version = version + 1, sub_jobs = $2, sub_jobs_open = $2, unmatched = $3, failed = $4,
    fanned_out = $5, blocked = $6
where job_id = $1;

-- name: finish_facts
select fanned_out, cancelled_sub_jobs > 0 as cancelled from data_job where job_id = $1;

-- name: cancel_arrow
update data_job set status = 'CANCELLING', version = version + 1
where job_id = $1 and status in ('NOT_STARTED', 'RUNNING') returning job_id;

-- name: finish
update data_job
set status = $2::job_status, reason = $3, ended_at = clock_timestamp(), version = version + 1,
    succeeded = $4, failed = $5, unmatched = $6, not_started = $7, unknown = $8
where job_id = $1 and status in ('NOT_STARTED', 'RUNNING', 'CANCELLING') and planned and sub_jobs_open = 0
returning job_id;

-- name: lock_waiting
-- Those that wait for one job. Two jobs that end at once meet here: the second one goes on when the first is committed,
-- and a statement after this one sees both.
select job_id from data_job where blocked and after_jobs @> array[$1::uuid] order by job_id for no key update;

-- name: lock_waiting_in_vain
select j.job_id from data_job j
where j.blocked and j.status in ('NOT_STARTED', 'RUNNING', 'CANCELLING')
  and not exists (select 1 from data_job a where a.job_id = any (j.after_jobs)
                  and a.status in ('NOT_STARTED', 'RUNNING', 'CANCELLING'))
order by j.job_id limit 1000 for no key update skip locked;

-- name: unblock_jobs
update data_job j set blocked = false
where j.job_id = any ($1::uuid[]) and j.blocked
  and not exists (select 1 from data_job a where a.job_id = any (j.after_jobs)
                  and a.status in ('NOT_STARTED', 'RUNNING', 'CANCELLING'))
returning j.job_id;

-- name: unblock_sub_jobs
with freed as (
    update sub_job set blocked = false where job_id = any ($1::uuid[]) and blocked returning lane_id
)
update lane set wanted = true
where lane_id in (select lane_id from lane where lane_id in (select lane_id from freed) order by lane_id for no key update)
returning lane_id;

-- name: forgotten_jobs
-- The tasks are a list that is hashed once: with thousands of rows that came since the last statistics, a join may
-- compare every one with every other.
select j.job_id, j.planned from data_job j
where j.status in ('NOT_STARTED', 'RUNNING', 'CANCELLING') and (not j.planned or j.sub_jobs_open = 0)
  and j.created_at < clock_timestamp() - interval '5 seconds'
  and convert_to(j.job_id::text, 'UTF8') not in (
      select q.payload from pgqueuer q where q.entrypoint in ('plan', 'finish') and q.payload is not null)
limit 1000;

-- name: forgotten_lanes
select l.lane_id from lane l
where l.held_by is null
  and l.lane_id in (select s.lane_id from sub_job s where s.stage <> 'SETTLED' and (not s.blocked or s.cancel_asked))
  and l.lane_id not in (
      select named.lane_id::bigint
      from pgqueuer q,
           string_to_table(regexp_replace(convert_from(q.payload, 'UTF8'), '^\d+:', ''), ',') as named (lane_id)
      where q.entrypoint = 'lane' and q.payload is not null)
limit 1000;
