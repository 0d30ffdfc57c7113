-- SPDX-License-Identifier: Apache-2.0
-- A trigger: what is admitted is the first of what waits in its lane and may start (contract of the lane's order).
--
-- Whatever the settings are: of two sub-jobs of one client, the one that was submitted first and has waited as long,
-- at a priority as high, is the first. Where invariants.aging tells the seconds of waiting that raise the priority by
-- one, the whole order is held for writes: priority, the client that was served the longest ago, submission.

create function invariants.refuse_turn() returns trigger language plpgsql as $turn$
declare
    aging constant float8 := nullif(current_setting('invariants.aging', true), '')::float8;
    earlier uuid;
begin
    select o.sub_job_id into earlier
    from public.sub_job o
    left join public.lane_client oc on oc.lane_id = o.lane_id and oc.client = o.client
    left join public.lane_client nc on nc.lane_id = new.lane_id and nc.client = new.client
    where o.lane_id = new.lane_id and o.type = new.type and o.stage = 'WAITING' and not o.blocked and not o.cancel_requested
      and o.sub_job_id <> new.sub_job_id
      and (o.client = new.client and o.priority >= new.priority and o.created_at <= new.created_at
               and o.job_seq < new.job_seq
           or aging is not null and new.type = 'WRITE'
               and (-least(9, o.priority + floor(extract(epoch from now() - o.created_at) / aging)),
                    coalesce(oc.last_started_at, '-infinity'), o.job_seq)
                 < (-least(9, new.priority + floor(extract(epoch from now() - new.created_at) / aging)),
                    coalesce(nc.last_started_at, '-infinity'), new.job_seq))
    limit 1;
    if found then
        perform nextval('invariants.refused');
        raise exception 'sub-job % was admitted before %', new.sub_job_id, earlier using errcode = 'check_violation';
    end if;
    return new;
end
$turn$;

create trigger refuse_write_turn before update on public.sub_job for each row
    when (old.stage = 'WAITING' and new.stage = 'ADMITTED' and new.type = 'WRITE') execute function invariants.refuse_turn();
create trigger refuse_read_turn after update on public.sub_job for each row
    when (old.stage = 'WAITING' and new.stage = 'ADMITTED' and new.type = 'READ') execute function invariants.refuse_turn();
