-- SPDX-License-Identifier: Apache-2.0
-- What is to be worked on is leased or due, and what waits, waits for something that is. invariants.read_slots: how many
-- reads a lane takes where its plugin registered no number; where it registered none, one read under way may be all of them.
select format('sub-job %s is %s, and neither due nor leased', s.sub_job_id, s.stage) as violation
from public.sub_job s
where s.stage not in ('WAITING', 'SETTLED') and s.due_at is null and s.lease is null
union all
select format('sub-job %s is settled, and due or leased', s.sub_job_id)
from public.sub_job s where s.stage = 'SETTLED' and (s.due_at is not null or s.lease is not null)
union all
select format('waiting sub-job %s was cancelled, and is neither due nor leased', s.sub_job_id)
from public.sub_job s where s.stage = 'WAITING' and s.cancel_requested and s.due_at is null and s.lease is null
union all
select format('waiting %s %s could start', lower(s.type::text), s.sub_job_id)
from public.sub_job s join public.job_request r using (job_id) join public.dmi_plugin p using (plugin_id)
where s.stage = 'WAITING' and not s.blocked and not s.cancel_requested
  and (select count(*) from public.sub_job a where a.lane_id = s.lane_id and a.type = s.type and a.stage not in ('WAITING', 'SETTLED'))
      < case when s.type = 'WRITE' then 1
             else coalesce(p.read_slots, nullif(current_setting('invariants.read_slots', true), '')::integer, 1) end
union all
select format('sub-job %s waits for other jobs, and none of them is open', s.sub_job_id)
from public.sub_job s join public.job_request r using (job_id) join public.data_job j using (job_id)
where s.blocked and s.stage = 'WAITING'
  and not (j.blocked and exists (select 1 from public.data_job a
                                 where a.job_id = any (j.after_jobs) and a.status in ('NOT_STARTED', 'RUNNING', 'CANCELLING')))
union all
select format('job %s is %s, %s, and neither due nor leased', j.job_id, j.status,
              case when j.planned then 'has no open sub-job' else 'has no plan' end)
from public.data_job j join public.job_request r using (job_id)
where j.status in ('NOT_STARTED', 'RUNNING', 'CANCELLING') and (not j.planned or j.sub_jobs_open = 0)
  and j.due_at is null and j.lease is null
union all
select format('job %s is %s, and due or leased', j.job_id, j.status)
from public.data_job j
where j.status not in ('NOT_STARTED', 'RUNNING', 'CANCELLING') and (j.due_at is not null or j.lease is not null);
