-- SPDX-License-Identifier: Apache-2.0
-- What jobs and sub-jobs wait for, from their rows. $2: the client whose jobs may be named; null: any client.

-- Jobs of which no open sub-job makes progress, each with its first open sub-job. A sub-job makes progress when it is
-- at its plugin, or about to be claimed or ended, no call for it has failed since the last success, and the plugin does
-- not report that it is down.
-- name: standing_jobs
select o.job_id, s.sub_job_id
from (
    select s.job_id, min(s.position) as first
    from sub_job s
    where s.job_id = any ($1::uuid[]) and s.stage in ('WAITING', 'ADMITTED', 'STARTING', 'TRACKING', 'COLLECTING')
    group by s.job_id
    having not bool_or(
        s.objects_cause is null and s.failing_since is null
        and (s.cancel_requested or s.plugin_id <> all (array(select plugin_id from dmi_plugin where not healthy)))
        and case s.stage when 'WAITING' then s.cancel_requested
                         when 'ADMITTED' then s.cancel_requested or s.due_at > clock_timestamp() - make_interval(secs => $2)
                         else true end)) o
join sub_job s on s.job_id = o.job_id and s.position = o.first;

-- The facts of each sub-job, with one holder of the slots of its lane, preferably one that may be named.
-- name: sub_jobs
select s.sub_job_id, s.job_id, s.type, s.stage, s.created_at, s.objects_cause, s.objects_since,
       s.failing_since, s.last_error, case when s.circuit_until > clock_timestamp() then s.circuit_until end as circuit_until,
       s.due_at, s.plugin_id, p.url, l.data_producer_id,
       case when not p.healthy and s.stage in ('ADMITTED', 'STARTING', 'TRACKING', 'COLLECTING') and not s.cancel_requested
            then greatest(p.healthy_since, s.created_at) end as plugin_down_since, p.health_cause,
       least(coalesce(s.failing_since, clock_timestamp()) + make_interval(secs => coalesce(p.give_up, $4::float8)),
             case when s.stage in ('TRACKING', 'COLLECTING')
                  then s.started_at + make_interval(secs => coalesce(p.sub_job_timeout, $5::float8)) end) as gives_up_at,
       s.stage = 'WAITING' and s.blocked and not s.cancel_requested as blocked,
       s.stage = 'ADMITTED' and s.lease is null and not s.cancel_requested
           and s.due_at <= clock_timestamp() - make_interval(secs => $3) as unclaimed,
       h.sub_job_id as holder, h.job_id as holder_job, h.stage as holder_stage, h.visible as holder_visible, h.holders,
       h.ended_at as holder_ended_at, h.quarantined_until
from sub_job s join lane l using (lane_id) join dmi_plugin p on p.plugin_id = s.plugin_id
left join lateral (
    select a.sub_job_id, a.job_id, a.stage, $2::text is null or a.client = $2 as visible, a.ended_at, a.quarantined_until,
           count(*) over ()::integer as holders
    from sub_job a
    where s.stage = 'WAITING' and not s.blocked and not s.cancel_requested and a.lane_id = s.lane_id and a.type = s.type
      and a.stage in ('ADMITTED', 'STARTING', 'TRACKING', 'COLLECTING', 'QUARANTINED')
    order by visible desc, a.started_at nulls last, a.sub_job_id limit 1) h on true
where s.sub_job_id = any ($1::uuid[]);

-- The open jobs that each of these waits for, and when the last of its ended after-jobs ended.
-- name: after_jobs
select j.job_id, j.created_at,
       coalesce(array_agg(a.job_id order by a.seq) filter (
           where a.ended_at is null and ($2::text is null or a.client = $2)), '{}') as visible,
       (count(*) filter (where a.ended_at is null and not ($2::text is null or a.client = $2)))::integer as hidden,
       max(a.ended_at) as ended_at
from data_job j join data_job a on a.job_id = any (j.after_jobs)
where j.job_id = any ($1::uuid[])
group by j.job_id;

-- Creates in progress at each plugin, and bytes of their operations: the maximum over the workers.
-- name: creates
select plugin_id, max(creates)::integer as creates, max(bytes)::bigint as bytes
from (select s.plugin_id, s.leased_by, count(*) as creates, sum(coalesce(s.body_bytes, 10 * octet_length(s.body), 0)) as bytes
      from sub_job s where s.lease is not null and s.stage = 'STARTING' group by 1, 2) w
where plugin_id = any ($1::bigint[]) group by plugin_id;

-- Ended jobs whose delivery waits: since when, and until when it is retried. $2, $3: timeout in seconds of a delivery,
-- and of one that a retry cannot cure.
-- name: deliveries
select t.job_id, t.topic, t.last_error as cause, t.first_failed_at as since,
       t.first_failed_at + make_interval(
           secs => case when t.refused then least($2::float8, $3::float8) else $2::float8 end) as until
from delivery_failure t join data_job j using (job_id)
where t.job_id = any ($1::uuid[]) and j.delivery_topic = t.topic and j.delivery_state = 'PENDING';
