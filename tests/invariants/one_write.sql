-- SPDX-License-Identifier: Apache-2.0
-- At most one write is at work at a data producer, a write in quarantine included.
select format('lane %s has %s writes at work: %s', s.lane_id, count(*), string_agg(s.sub_job_id || ' ' || s.stage, ', ')) as violation
from public.sub_job s
where s.type = 'WRITE' and s.stage in ('ADMITTED', 'STARTING', 'TRACKING', 'COLLECTING', 'QUARANTINED')
group by s.lane_id
having count(*) > 1;
