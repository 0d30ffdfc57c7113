-- SPDX-License-Identifier: Apache-2.0
-- Statements of workers of schema 3, as they stood; such a worker may go on while a newer version migrates.

-- name: claim
with wish as (
    select * from unnest($1::bigint[], $2::bigint[]) as w (lane_id, task_id)
), locked as (
    select l.lane_id, wish.task_id, l.held_by, l.task_id as holder_task
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
    returning l.lane_id, l.epoch, l.plugin_id, l.data_producer_id
)
select k.lane_id, k.held_by, k.holder_task, t.epoch, t.data_producer_id,
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

-- name: settle
update sub_job s
set stage = 'SETTLED', status = h.status::job_status, body = null, ended_at = clock_timestamp(),
    succeeded = h.succeeded, failed = h.failed, not_started = h.not_started, unknown = h.unknown,
    last_error = nullif(h.error, ''), cancel_asked = false, trouble_since = null
from unnest($1::uuid[], $2::bigint[], $3::text[], $4::integer[], $5::integer[], $6::integer[], $7::integer[], $8::text[])
     as h (sub_job_id, epoch, status, succeeded, failed, not_started, unknown, error), lane l
where s.sub_job_id = h.sub_job_id and l.lane_id = s.lane_id and l.epoch = h.epoch and s.stage <> 'SETTLED'
returning s.sub_job_id, s.job_id;

-- name: count_settled
update data_job j
set succeeded = j.succeeded + case when j.fanned_out then 0 else c.succeeded end,
    failed = j.failed + case when j.fanned_out then 0 else c.failed end,
    not_started = j.not_started + case when j.fanned_out then 0 else c.not_started end,
    unknown = j.unknown + case when j.fanned_out then 0 else c.unknown end,
    sub_jobs_open = j.sub_jobs_open - c.settled, cancelled_sub_jobs = j.cancelled_sub_jobs + c.cancelled,
    version = j.version + 1
from unnest($1::uuid[], $2::integer[], $3::integer[], $4::integer[], $5::integer[], $6::integer[], $7::integer[])
     as c (job_id, settled, succeeded, failed, not_started, unknown, cancelled)
where j.job_id = c.job_id
returning j.job_id, j.version, j.sub_jobs_open;

-- name: leave
with gone as (delete from worker where worker_id = $1 returning worker_id)
update lane set held_by = null, wanted = true from gone where lane.held_by = gone.worker_id returning lane_id;
