-- SPDX-License-Identifier: Apache-2.0
-- No write starts in quarantine. A write that ended with unknown operations and without the plugin's id of it has been
-- in quarantine, for nobody knew whether the plugin executed it; while one is, no other write of its lane is under way.
select format('write %s ended with unknown operations and its lane was not in quarantine', s.sub_job_id) as violation
from public.sub_job s
where s.type = 'WRITE' and s.stage in ('QUARANTINED', 'SETTLED') and s.unknown > 0 and s.data_producer_job_id is null
  and s.quarantined_until is null
  and s.ended_at > (select max(v.applied_at) from public.schema_version v)
union all
select format('write %s is %s while %s is in quarantine', s.sub_job_id, s.stage, q.sub_job_id)
from public.sub_job q join public.sub_job s using (lane_id)
where q.stage = 'QUARANTINED' and s.type = 'WRITE' and s.sub_job_id <> q.sub_job_id and s.stage not in ('WAITING', 'SETTLED')
union all
select format('%s %s is in quarantine and %s', lower(q.type::text), q.sub_job_id,
              case when q.quarantined_until is null then 'has no end' else 'has not ended' end)
from public.sub_job q
where q.stage = 'QUARANTINED'
  and (q.quarantined_until is null or q.ended_at is null or q.type <> 'WRITE' or q.status not in ('FAILED', 'PARTIALLY_FAILED', 'CANCELLED'));
