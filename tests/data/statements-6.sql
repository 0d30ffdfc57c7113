-- SPDX-License-Identifier: Apache-2.0
-- Statements of workers of schema 6, as they stood: such a worker may live, or have been frozen, when a newer version
-- comes. Its lanes' epochs fence nothing any more.

-- name: worker_alive
insert into worker (worker_id, alive_until) values ($1, clock_timestamp() + make_interval(secs => $2))
on conflict (worker_id) do update set alive_until = excluded.alive_until;

-- name: worker_gone
with gone as (delete from worker where worker_id = $1 returning worker_id)
update lane set held_by = null, wanted = true from gone where lane.held_by = gone.worker_id returning lane_id;

-- name: claim
with wish as (
    select * from unnest($1::bigint[], $2::bigint[]) as w (lane_id, task_id)
), locked as (
    select l.lane_id, wish.task_id, l.held_by, l.task_id as holder_task, l.wanted
    from lane l join wish using (lane_id)
    order by l.lane_id for update of l
), taken as (
    update lane l set held_by = $3, task_id = k.task_id, epoch = l.epoch + 1, wanted = false
    from locked k
    where l.lane_id = k.lane_id
      and (k.held_by is null
           or k.lane_id <> all ($4::bigint[])
              and (k.held_by = $3 or not exists (
                  select 1 from worker w where w.worker_id = k.held_by and w.alive_until > clock_timestamp())))
    returning l.lane_id, l.epoch, l.plugin_id, l.data_producer_id, l.closed_until, l.closed_by
)
select k.lane_id, k.held_by, k.holder_task, k.wanted, t.epoch, t.data_producer_id, t.closed_by,
       greatest(extract(epoch from t.closed_until - clock_timestamp()), 0)::float8 as closed_for,
       p.plugin_id, p.url, p.dialect, p.idempotent, p.stop_on_error, p.give_up, p.sub_job_timeout, p.read_slots
from locked k
left join taken t using (lane_id)
left join dmi_plugin p on p.plugin_id = t.plugin_id;

-- name: look
with woken as (
    update lane l set wanted = false
    from unnest($1::bigint[], $2::bigint[]) as h (lane_id, epoch)
    where l.lane_id = h.lane_id and l.epoch = h.epoch and l.wanted
    returning l.lane_id
)
select l.lane_id, w.lane_id is not null as wanted, l.closed_by,
       greatest(extract(epoch from l.closed_until - clock_timestamp()), 0)::float8 as closed_for
from unnest($1::bigint[], $2::bigint[]) as h (lane_id, epoch)
join lane l on l.lane_id = h.lane_id and l.epoch = h.epoch
left join woken w on w.lane_id = l.lane_id;

-- name: mark_starting
with starting as (
    update sub_job s
    set stage = 'STARTING', attempts = s.attempts + 1, started_at = coalesce(s.started_at, clock_timestamp())
    from unnest($1::uuid[], $2::bigint[]) as h (sub_job_id, epoch), lane l
    where s.sub_job_id = h.sub_job_id and l.lane_id = s.lane_id and l.epoch = h.epoch
      and s.stage in ('READY', 'STARTING') and not (s.stage = 'READY' and s.cancel_asked)
    returning s.sub_job_id, s.lane_id, s.client, s.attempts, s.body
), served as (
    insert into lane_client (lane_id, client, served_at)
    select s.lane_id, s.client, clock_timestamp()
    from starting s cross join lateral (
        select from sub_job o where o.lane_id = s.lane_id and o.stage = 'READY' and o.sub_job_id <> s.sub_job_id limit 1) other
    where s.attempts = 1
    group by 1, 2 order by 1, 2
    on conflict (lane_id, client) do update set served_at = excluded.served_at
)
select sub_job_id, body from starting;

-- name: mark_not_arrived
update sub_job s
set stage = 'READY', due_at = clock_timestamp() + make_interval(secs => h.delay), last_error = h.error,
    trouble_since = coalesce(s.trouble_since, clock_timestamp())
from unnest($1::uuid[], $2::bigint[], $3::float8[], $4::text[]) as h (sub_job_id, epoch, delay, error), lane l
where s.sub_job_id = h.sub_job_id and l.lane_id = s.lane_id and l.epoch = h.epoch and s.stage in ('READY', 'STARTING')
returning s.sub_job_id;

-- name: mark_started
update sub_job s
set stage = 'TRACKING', status = case when s.status = 'NOT_STARTED' then 'RUNNING'::job_status else s.status end,
    data_producer_job_id = h.producer_job, trouble_since = null, due_at = null, last_error = null, polls = 0,
    version = v.version
from unnest($1::uuid[], $2::bigint[], $3::text[]) as h (sub_job_id, epoch, producer_job), lane l,
     unnest($4::uuid[], $5::bigint[]) as v (job_id, version)
where s.sub_job_id = h.sub_job_id and l.lane_id = s.lane_id and l.epoch = h.epoch and s.stage = 'STARTING'
  and v.job_id = s.job_id
returning s.sub_job_id;

-- name: mark_waiting
update sub_job s
set due_at = case when s.due_at is distinct from h.seen_due then s.due_at
                  else clock_timestamp() + make_interval(secs => h.delay) end,
    polls = h.polls, last_error = nullif(h.error, ''),
    trouble_since = case when h.error = '' then null else coalesce(s.trouble_since, clock_timestamp()) end
from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::float8[], $5::integer[], $6::text[])
     as h (sub_job_id, epoch, seen_due, delay, polls, error), lane l
where s.sub_job_id = h.sub_job_id and l.lane_id = s.lane_id and l.epoch = h.epoch and s.stage <> 'SETTLED'
returning s.sub_job_id;

-- name: mark_collecting
update sub_job s
set stage = 'COLLECTING', result_topic = h.topic, last_part_at = coalesce(s.last_part_at, clock_timestamp())
from unnest($1::uuid[], $2::bigint[], $3::text[]) as h (sub_job_id, epoch, topic), lane l
where s.sub_job_id = h.sub_job_id and l.lane_id = s.lane_id and l.epoch = h.epoch and s.stage in ('TRACKING', 'COLLECTING')
returning s.sub_job_id;

-- name: settle
with settled as (
    update sub_job s
    set stage = 'SETTLED', status = h.status::job_status, body = null, ended_at = clock_timestamp(),
        succeeded = h.succeeded, failed = h.failed, not_started = h.not_started, unknown = h.unknown,
        last_error = nullif(h.error, ''), cancel_asked = false, trouble_since = null, version = v.version
    from unnest($1::uuid[], $2::bigint[], $3::text[], $4::integer[], $5::integer[], $6::integer[], $7::integer[], $8::text[])
         as h (sub_job_id, epoch, status, succeeded, failed, not_started, unknown, error), lane l,
         unnest($9::uuid[], $10::bigint[]) as v (job_id, version)
    where s.sub_job_id = h.sub_job_id and l.lane_id = s.lane_id and l.epoch = h.epoch and s.stage <> 'SETTLED'
      and v.job_id = s.job_id
    returning s.sub_job_id, s.job_id, s.lane_id, s.client, s.started_at
), served as (
    insert into lane_client (lane_id, client, served_at)
    select s.lane_id, s.client, max(s.started_at)
    from settled s cross join lateral (
        select from sub_job o where o.lane_id = s.lane_id and o.stage = 'READY' and o.sub_job_id <> s.sub_job_id limit 1) other
    where s.started_at is not null
    group by 1, 2 order by 1, 2
    on conflict (lane_id, client) do update set served_at = greatest(lane_client.served_at, excluded.served_at)
)
select sub_job_id from settled;

-- name: release
update lane l set held_by = null, task_id = null
from unnest($1::bigint[], $2::bigint[]) as h (lane_id, epoch)
where l.lane_id = h.lane_id and l.epoch = h.epoch and not l.wanted
returning l.lane_id;

-- name: count_settled
update data_job j
set succeeded = j.succeeded + case when j.fanned_out then 0 else c.succeeded end,
    failed = j.failed + case when j.fanned_out then 0 else c.failed end,
    not_started = j.not_started + case when j.fanned_out then 0 else c.not_started end,
    unknown = j.unknown + case when j.fanned_out then 0 else c.unknown end,
    sub_jobs_open = j.sub_jobs_open - c.settled, cancelled_sub_jobs = j.cancelled_sub_jobs + c.cancelled
from unnest($1::uuid[], $2::integer[], $3::integer[], $4::integer[], $5::integer[], $6::integer[], $7::integer[])
     as c (job_id, settled, succeeded, failed, not_started, unknown, cancelled)
where j.job_id = c.job_id
returning j.job_id, j.sub_jobs_open;

-- name: finish
update data_job
set status = $2::job_status, reason = $3, ended_at = clock_timestamp(), version = version + 1,
    succeeded = $4, failed = $5, unmatched = $6, not_started = $7, unknown = $8
where job_id = $1 and status in ('NOT_STARTED', 'RUNNING', 'CANCELLING') and planned and sub_jobs_open = 0
returning job_id;
