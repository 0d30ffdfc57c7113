-- SPDX-License-Identifier: Apache-2.0
-- Lanes, their holders, and the steps of a sub-job from READY to SETTLED.
-- Every write names the epoch under which its lane is held, and the stage it expects: a holder that was
-- overtaken changes nothing. Locks are taken in one order everywhere: data_job, sub_job, lane, outbox_shard.

-- name: worker_alive
insert into worker (worker_id, alive_until) values ($1, clock_timestamp() + make_interval(secs => $2))
on conflict (worker_id) do update set alive_until = excluded.alive_until;

-- name: worker_gone
with gone as (delete from worker where worker_id = $1 returning worker_id)
update lane set held_by = null, wanted = true from gone where lane.held_by = gone.worker_id returning lane_id;

-- name: dead_workers
delete from worker where alive_until < clock_timestamp() - interval '1 hour';

-- name: orphan_lanes
select lane_id from lane l
where l.held_by is not null
  and not exists (select 1 from worker w where w.worker_id = l.held_by and w.alive_until > clock_timestamp())
limit 1000;

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

-- name: closing_writes
select s.lane_id, s.sub_job_id, s.job_id, s.data_producer_job_id, s.operations,
       coalesce(j.destination, j.results_bucket) as destination,
       greatest(extract(epoch from clock_timestamp() - s.ended_at), 0)::float8 as ended_for
from sub_job s join data_job j using (job_id)
where s.sub_job_id = any ($1::uuid[]) and s.data_producer_job_id is not null;

-- Whose turn it is among those that wait: what was tried already, then by priority, then the client that was
-- served the longest ago, then by submission. One more of each kind than can be started tells that there are more.
-- name: open_sub_jobs
select s.sub_job_id, s.job_id, s.lane_id, s.type, s.stage, s.status, s.operations, s.data_producer_job_id,
       s.cancel_asked, s.attempts, s.polls, s.result_topic, s.result_total, s.due_at,
       greatest(extract(epoch from s.due_at - clock_timestamp()), 0)::float8 as due_in,
       extract(epoch from clock_timestamp() - s.trouble_since)::float8 as in_trouble_for,
       extract(epoch from clock_timestamp() - s.started_at)::float8 as running_for,
       extract(epoch from clock_timestamp() - s.last_part_at)::float8 as idle_for,
       j.accept_type, j.content_type, j.activation_mode, j.destination, j.results_bucket,
       j.destination_kind, j.cancel_asked as job_cancel_asked,
       coalesce(s.body_bytes, 10 * octet_length(s.body), 0)::bigint as body_bytes
from unnest($1::bigint[], $2::integer[]) as h (lane_id, read_slots)
cross join lateral (
    (select o.sub_job_id, 0::bigint as turn from sub_job o
     where o.lane_id = h.lane_id and o.stage in ('STARTING', 'TRACKING', 'COLLECTING'))
    union all
    (select o.sub_job_id, 0 from sub_job o
     where o.lane_id = h.lane_id and o.stage = 'READY' and o.cancel_asked limit 200)
    union all
    (select o.sub_job_id,
            row_number() over (
                order by o.attempts > 0 desc,
                         least(9, o.priority + floor(extract(epoch from now() - o.created_at) / $3)) desc,
                         c.served_at nulls first, o.job_seq)
     from sub_job o left join lane_client c on c.lane_id = o.lane_id and c.client = o.client
     where o.lane_id = h.lane_id and o.type = 'WRITE' and o.stage = 'READY' and not o.blocked and not o.cancel_asked
     order by 2 limit 2)
    union all
    (select r.sub_job_id,
            row_number() over (order by r.tried desc, r.priority desc, r.nth, r.served_at nulls first, r.job_seq)
     from (select o.sub_job_id, o.job_seq, o.attempts > 0 as tried, p.priority, c.served_at,
                  row_number() over (partition by o.client, p.priority order by o.job_seq) as nth
           from sub_job o
           cross join lateral (
               select least(9, o.priority + floor(extract(epoch from now() - o.created_at) / $3)) as priority) p
           left join lane_client c on c.lane_id = o.lane_id and c.client = o.client
           where o.lane_id = h.lane_id and o.type = 'READ' and o.stage = 'READY' and not o.blocked
             and not o.cancel_asked) r
     order by 2 limit h.read_slots + 1)
) t
join sub_job s using (sub_job_id)
join data_job j on j.job_id = s.job_id
order by t.turn, s.job_seq;

-- name: lock_jobs
select from data_job where job_id = any ($1::uuid[]) order by job_id for no key update;

-- When a client was served is remembered where others wait, here or until it is settled: a lane with nobody else in
-- it has no turns to give. The limits make PostgreSQL look into these few lanes, whatever its statistics say.
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

-- name: holds
select exists (
    select 1 from sub_job s join lane l using (lane_id)
    where s.sub_job_id = $1 and l.epoch = $2 and s.stage <> 'SETTLED');

-- name: body_of
select body from sub_job where sub_job_id = $1;

-- name: lock_jobs_not_started
select job_id from data_job where job_id = any ($1::uuid[]) and status = 'NOT_STARTED' order by job_id for no key update;

-- name: jobs_running
update data_job set status = 'RUNNING', started_at = clock_timestamp(), version = version + 1
where job_id = any ($1::uuid[]) and status = 'NOT_STARTED'
returning job_id;

-- name: bump_jobs
update data_job set version = version + 1 where job_id = any ($1::uuid[]) returning job_id, version;

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

-- A time that somebody else wrote since the holder looked is a push: it stays. Polls below 0 say that the plugin has
-- told its end: the trouble is that of the result, whatever trouble its polls were in before.
-- name: mark_waiting
update sub_job s
set due_at = case when s.due_at is distinct from h.seen_due then s.due_at
                  else clock_timestamp() + make_interval(secs => h.delay) end,
    polls = h.polls, last_error = nullif(h.error, ''),
    trouble_since = case when h.error = '' then null
                         when h.polls < 0 and s.polls >= 0 then clock_timestamp()
                         else coalesce(s.trouble_since, clock_timestamp()) end
from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::float8[], $5::integer[], $6::text[])
     as h (sub_job_id, epoch, seen_due, delay, polls, error), lane l
where s.sub_job_id = h.sub_job_id and l.lane_id = s.lane_id and l.epoch = h.epoch and s.stage <> 'SETTLED'
returning s.sub_job_id;

-- How long no message came counts from the end that the plugin told: messages before it say nothing of the last one.
-- name: mark_collecting
update sub_job s
set stage = 'COLLECTING', result_topic = h.topic,
    last_part_at = case when s.stage = 'TRACKING' then clock_timestamp() else coalesce(s.last_part_at, clock_timestamp()) end
from unnest($1::uuid[], $2::bigint[], $3::text[]) as h (sub_job_id, epoch, topic), lane l
where s.sub_job_id = h.sub_job_id and l.lane_id = s.lane_id and l.epoch = h.epoch and s.stage in ('TRACKING', 'COLLECTING')
returning s.sub_job_id;

-- name: mark_cancelling
update sub_job s
set cancel_asked = false, version = v.version,
    status = case when s.status in ('NOT_STARTED', 'RUNNING') then 'CANCELLING'::job_status else s.status end
from unnest($1::uuid[], $2::bigint[]) as h (sub_job_id, epoch), lane l,
     unnest($3::uuid[], $4::bigint[]) as v (job_id, version)
where s.sub_job_id = h.sub_job_id and l.lane_id = s.lane_id and l.epoch = h.epoch and s.stage <> 'SETTLED'
  and v.job_id = s.job_id
returning s.sub_job_id;

-- A running sub-job that its plugin cancelled unasked goes through CANCELLING.
-- name: through_cancelling
update sub_job s set status = 'CANCELLING'
from unnest($1::uuid[], $2::bigint[]) as h (sub_job_id, epoch), lane l
where s.sub_job_id = h.sub_job_id and l.lane_id = s.lane_id and l.epoch = h.epoch and s.stage <> 'SETTLED'
  and s.status = 'RUNNING';

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

-- name: close_lanes
update lane l set closed_until = clock_timestamp() + make_interval(secs => h.seconds), closed_by = h.sub_job_id
from unnest($1::bigint[], $2::bigint[], $3::float8[], $4::uuid[]) as h (lane_id, epoch, seconds, sub_job_id)
where l.lane_id = h.lane_id and l.epoch = h.epoch;

-- name: reopen_lanes
update lane l set closed_until = null, closed_by = null
from unnest($1::bigint[], $2::bigint[], $3::uuid[]) as h (lane_id, epoch, sub_job_id)
where l.lane_id = h.lane_id and l.epoch = h.epoch and l.closed_by = h.sub_job_id
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

-- name: release
update lane l set held_by = null, task_id = null
from unnest($1::bigint[], $2::bigint[]) as h (lane_id, epoch)
where l.lane_id = h.lane_id and l.epoch = h.epoch and not l.wanted
returning l.lane_id;

-- name: poke_holders
select pg_notify('datajobs_lane', lane_id::text) from unnest($1::bigint[]) as p (lane_id);

-- name: plugins_of
select lane_id, plugin_id from lane where lane_id = any ($1::bigint[]);

-- name: want_lanes
update lane set wanted = true where lane_id = any ($1::bigint[]);
