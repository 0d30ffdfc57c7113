-- SPDX-License-Identifier: Apache-2.0
-- Each operation ends once: counts add up, the number of open sub-jobs is right, and the result objects of a write hold
-- each operation once. The operations of a job that no sub-job has are those of the object "unmatched".
with job as (
    select j.*, j.status not in ('NOT_STARTED', 'RUNNING', 'CANCELLING') as ended
    from public.data_job j join public.job_request r using (job_id)
    where j.planned
), sub as (
    select s.*, s.stage in ('QUARANTINED', 'SETTLED') as ended, s.succeeded + s.failed + s.not_started + s.unknown as outcomes
    from public.sub_job s join job using (job_id)
), of_job as (
    select job.job_id, count(sub.sub_job_id) as sub_jobs, count(*) filter (where not sub.ended) as open,
           coalesce(sum(sub.operations), 0) as operations, coalesce(sum(sub.succeeded), 0) as succeeded,
           coalesce(sum(sub.failed), 0) as failed, coalesce(sum(sub.not_started), 0) as not_started,
           coalesce(sum(sub.unknown), 0) as unknown, count(*) filter (where sub.status = 'CANCELLED') as cancelled
    from job left join sub on sub.job_id = job.job_id group by job.job_id
), written as (
    select p.job_id, p.sub_job, sum(p.operations) as operations
    from public.result_part p where p.sequence <> -1 group by 1, 2
)
select format('sub-job %s (%s) has %s operations and tells the end of %s', sub_job_id, stage, operations, outcomes) as violation
from sub where outcomes <> case when ended then operations else 0 end
union all
select format('sub-job %s is %s with status %s', sub_job_id, stage, status) from sub
where ended <> (status not in ('NOT_STARTED', 'RUNNING', 'CANCELLING'))
union all
select format('job %s counts %s open sub-jobs of %s, there are %s of %s', job_id, j.sub_jobs_open, j.sub_jobs, o.open, o.sub_jobs)
from job j join of_job o using (job_id) where (j.sub_jobs_open, j.sub_jobs) <> (o.open, o.sub_jobs)
union all
select format('job %s counts %s sub-jobs stopped by a cancel, there are %s', job_id, j.cancelled_sub_jobs, o.cancelled)
from job j join of_job o using (job_id) where j.cancelled_sub_jobs <> o.cancelled
union all
select format('job %s counts %s/%s/%s/%s operations (succeeded, failed, not started, unknown), its sub-jobs tell %s/%s/%s/%s',
              job_id, j.succeeded, j.failed, j.not_started, j.unknown, o.succeeded, o.failed, o.not_started, o.unknown)
from job j join of_job o using (job_id)
where not j.split_reads
  and ((j.succeeded, j.unknown, j.not_started + j.failed + j.unmatched + o.operations)
       <> (o.succeeded, o.unknown, o.not_started + o.failed + j.operations) or j.not_started < o.not_started)
union all
select format('job %s is %s and tells the end of %s of %s operations', job_id, status,
              succeeded + failed + unmatched + not_started + unknown, operations)
from job where ended and succeeded + failed + unmatched + not_started + unknown <> operations
union all
select format('job %s is %s with %s open sub-jobs', job_id, status, sub_jobs_open) from job where ended and sub_jobs_open <> 0
union all
select format('the result objects of write %s hold %s of %s operations', s.sub_job_id, coalesce(w.operations, 0), s.operations)
from sub s left join written w on w.job_id = s.job_id and w.sub_job = s.sub_job_id::text
where s.type = 'WRITE' and coalesce(w.operations, 0) <> case when s.ended then s.operations else 0 end
union all
select format('the object of what no sub-job has holds %s of %s operations of job %s', coalesce(w.operations, 0),
              j.operations - o.operations, j.job_id)
from job j join of_job o using (job_id) left join written w on w.job_id = j.job_id and w.sub_job = 'unmatched'
where not j.split_reads and coalesce(w.operations, 0) <> j.operations - o.operations;
