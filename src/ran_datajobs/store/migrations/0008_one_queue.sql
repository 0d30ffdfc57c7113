-- SPDX-License-Identifier: Apache-2.0
-- The rows themselves are the queue. A sub-job, and a data job's own steps (plan and finish), is due at a time and
-- leased by the worker that works on it; the lease is a token that every write of that worker names. The stages and
-- their arrows are in docs/lifecycle.md and in job.py.
--
-- No worker of an older schema may be alive: the caller has checked that.

-- A lane keeps nothing but its name; whether a write may start follows from the stages of its sub-jobs.
create type sub_job_stage_now as enum (
    'WAITING',      -- waits for a place in its lane
    'ADMITTED',     -- has its place; the create is to be sent
    'STARTING',     -- the create is being sent: after a crash its outcome is unknown
    'TRACKING',     -- the plugin has it; its status is polled
    'COLLECTING',   -- terminal at the plugin; the result is being fetched
    'QUARANTINED',  -- counted; its plugin may still be executing it, so its lane starts no other write
    'SETTLED'       -- counted; nothing more happens
);

drop index sub_job_open;
drop index sub_job_producer_job;

alter table sub_job
    add column plugin_id bigint references dmi_plugin,
    add column lease uuid,                              -- token of the current lease; null: nobody works on it
    add column leased_by uuid,                          -- the worker that holds the lease
    add column leased_until timestamptz,                -- the lease is void afterwards
    add column attention boolean not null default false, -- changed by another process while it was leased
    add column told job_status,                         -- the terminal status that the plugin told
    add column messages integer not null default 0,     -- READ: messages taken
    add column quarantined_until timestamptz,           -- QUARANTINED: until then at the latest
    alter column stage drop default,
    alter column stage type sub_job_stage_now using (case stage::text when 'READY' then 'WAITING' else stage::text end)::sub_job_stage_now,
    alter column stage set default 'WAITING';
drop type sub_job_stage;
alter type sub_job_stage_now rename to sub_job_stage;

alter table data_job
    add column due_at timestamptz,                      -- when its plan or its finish step is due; null: neither is
    add column lease uuid,
    add column leased_by uuid,
    add column leased_until timestamptz,
    add column step_failures integer not null default 0; -- of its present step, in a row

-- Two writes that are under way in one lane are not for this version to tell apart: the older one ends them.
do $$
declare
    producer text;
begin
    select l.data_producer_id into producer from sub_job s join lane l using (lane_id)
    where s.type = 'WRITE' and s.stage in ('STARTING', 'TRACKING', 'COLLECTING')
    group by l.lane_id having count(*) > 1 limit 1;
    if found then
        raise exception 'the older version left several writes under way at the data producer %: start it again until they have ended', producer;
    end if;
end
$$;

-- Open sub-jobs of the old schema. Reads that collect their messages wait for them anew: some may have come while
-- nobody took them. PostgreSQL knows nothing of the new stages and may take a table for empty: what looks for other
-- sub-jobs of a lane reads them once for all lanes.
update sub_job s
set plugin_id = l.plugin_id,
    due_at = case when s.stage in ('STARTING', 'TRACKING', 'COLLECTING') or s.stage = 'WAITING' and s.cancel_asked then now() end,
    last_part_at = case when s.stage = 'COLLECTING' then now() else s.last_part_at end
from lane l where l.lane_id = s.lane_id;
alter table sub_job alter column plugin_id set not null;
update sub_job s
set messages = (select count(distinct coalesce(p.message, p.sequence)) from result_part p
                where p.job_id = s.job_id and p.sub_job = s.sub_job_id::text and p.outcomes is not null)
where s.type = 'READ' and s.stage <> 'SETTLED' and s.attempts > 0;
-- A write that closed its lane holds it in quarantine.
update sub_job s
set stage = 'QUARANTINED', quarantined_until = closed.closed_until, due_at = now()
from (
    select distinct on (l.lane_id) c.sub_job_id, l.closed_until
    from lane l join sub_job c using (lane_id)
    where l.closed_until > now() and c.type = 'WRITE' and c.stage = 'SETTLED'
      and (c.sub_job_id = l.closed_by or l.closed_by is null and c.unknown > 0)
      and l.lane_id not in (select lane_id from sub_job where type = 'WRITE' and stage in ('STARTING', 'TRACKING', 'COLLECTING'))
    order by l.lane_id, c.ended_at desc
) closed
where s.sub_job_id = closed.sub_job_id;
-- Who waits for jobs that have ended waits no longer: an older version looked for such jobs now and then.
update data_job j set blocked = false
where j.blocked and not exists (
    select 1 from data_job a where a.job_id = any (j.after_jobs) and a.status in ('NOT_STARTED', 'RUNNING', 'CANCELLING'));
update sub_job s set blocked = false from data_job j where j.job_id = s.job_id and s.blocked and not j.blocked;
-- What may start in each lane is admitted once here; afterwards whoever makes room admits the next. The service's
-- setting of read slots is not known here: where a plugin registered none, one read is admitted.
update sub_job s set stage = 'ADMITTED', due_at = now()
from (
    select distinct on (w.lane_id) w.sub_job_id
    from sub_job w
    where w.type = 'WRITE' and w.stage = 'WAITING' and not w.blocked and not w.cancel_asked
      and w.lane_id not in (select lane_id from sub_job where type = 'WRITE' and stage not in ('WAITING', 'SETTLED'))
    order by w.lane_id, w.attempts > 0 desc, w.priority desc, w.job_seq
) next
where s.sub_job_id = next.sub_job_id;
update sub_job s set stage = 'ADMITTED', due_at = now()
from (
    select w.sub_job_id, coalesce(a.active, 0) as active, coalesce(p.read_slots, 1) as slots,
           row_number() over (partition by w.lane_id order by w.attempts > 0 desc, w.priority desc, w.job_seq) as nth
    from sub_job w
    join dmi_plugin p using (plugin_id)
    left join (
        select lane_id, count(*) as active from sub_job
        where type = 'READ' and stage not in ('WAITING', 'SETTLED') group by lane_id) a using (lane_id)
    where w.type = 'READ' and w.stage = 'WAITING' and not w.blocked and not w.cancel_asked
) next
where s.sub_job_id = next.sub_job_id and next.nth + next.active <= next.slots;
update data_job set due_at = now()
where status in ('NOT_STARTED', 'RUNNING', 'CANCELLING') and (not planned or sub_jobs_open = 0);

alter table sub_job add constraint sub_job_lease check ((lease is null) = (leased_until is null));
alter table data_job add constraint data_job_lease check ((lease is null) = (leased_until is null));

-- One write at a time in a lane: admission that would break this is an error of the database.
create unique index one_write_per_lane on sub_job (lane_id) where type = 'WRITE' and stage not in ('WAITING', 'SETTLED');
create index sub_job_lane on sub_job (lane_id, type, stage) where stage <> 'SETTLED';
create index sub_job_producer_job on sub_job (data_producer_job_id) where stage in ('TRACKING', 'COLLECTING');
create index sub_job_due_create on sub_job (plugin_id, due_at) where stage = 'ADMITTED' and lease is null;
create index sub_job_due_call on sub_job (plugin_id, due_at) where stage <> 'ADMITTED' and lease is null and due_at is not null;
create index sub_job_leased on sub_job (lease) where lease is not null; -- no leased_until: renewals stay on their pages
alter table sub_job set (fillfactor = 70);

-- Plans of one client are made in the order of their submission: the first of each priority is looked up.
drop index data_job_unplanned;
create index data_job_plan_order on data_job (client, priority, seq) where not planned and not cancel_asked and step_failures < 3;
create index data_job_due on data_job (due_at) where due_at is not null;
create index data_job_leased on data_job (leased_until) where leased_until is not null;

alter table lane
    drop column wanted, drop column epoch, drop column held_by, drop column task_id, drop column closed_until, drop column closed_by;
drop table worker;

drop table pgqueuer, pgqueuer_log;
drop table if exists pgqueuer_statistics, pgqueuer_schedules;
drop function if exists fn_pgqueuer_changed(), keep_no_row();
drop type if exists pgqueuer_status;
