-- SPDX-License-Identifier: Apache-2.0
-- One row per result object. Objects have fixed keys: writing and recording them again changes nothing.

-- name: record_parts
insert into result_part (job_id, sub_job, sequence, key, bytes, sha256, operations, failed)
select $1, * from unnest($2::text[], $3::integer[], $4::text[], $5::bigint[], $6::text[], $7::integer[], $8::integer[])
on conflict (job_id, sub_job, sequence) do update
set key = excluded.key, bytes = excluded.bytes, sha256 = excluded.sha256, operations = excluded.operations,
    failed = excluded.failed, outcomes = null;

-- name: drop_surplus
delete from result_part p
using unnest($2::text[], $3::integer[]) as kept (sub_job, sequences)
where p.job_id = $1 and p.sub_job = kept.sub_job and p.sequence >= kept.sequences;

-- A part's sub-job is joined by its primary key: a join on texts would compare each of thousands of parts with each
-- sub-job.
-- name: parts_of_job
select p.sub_job, p.sequence, p.key, p.bytes, p.sha256, p.operations, p.failed
from result_part p left join sub_job s on s.sub_job_id = nullif(p.sub_job, 'unmatched')::uuid
where p.job_id = $1
order by s.position nulls last, coalesce(p.message, p.sequence), p.fragment;

-- name: parts_by_producer
select p.sub_job, p.sequence, p.key, p.bytes, p.sha256, p.operations, p.failed, l.data_producer_id
from result_part p left join sub_job s on s.sub_job_id = nullif(p.sub_job, 'unmatched')::uuid left join lane l using (lane_id)
where p.job_id = $1
order by s.position nulls last, p.sub_job, coalesce(p.message, p.sequence), p.fragment;

-- name: arrived
select count(distinct p.number)::integer as messages,
       (count(distinct p.number) filter (where $3::integer is null or p.number < $3))::integer as below_total,
       coalesce(max(p.number), -1)::integer as last,
       (count(*) filter (where p.sequence < 0 and ($4::integer - p.sequence) % $5::integer = 0))::integer as unreadable
from (select sequence, coalesce(message, sequence) as number
      from result_part where job_id = $1 and sub_job = $2 and outcomes is not null) p;

-- name: arrived_outcomes
select outcomes from result_part
where job_id = $1 and sub_job = $2 and outcomes is not null;
