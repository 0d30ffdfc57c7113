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
select p.sub_job, p.sequence, p.key, p.bytes as size, p.sha256, p.operations, p.failed, l.data_producer_id
from result_part p left join sub_job s on s.sub_job_id = nullif(p.sub_job, 'unmatched')::uuid left join lane l using (lane_id)
where p.job_id = $1
order by s.position nulls last, coalesce(p.message, p.sequence), p.fragment;

-- name: arrived
select coalesce(message, sequence) as number, sequence, outcomes from result_part
where job_id = $1 and sub_job = $2 and outcomes is not null;

-- The active read of each message of a plugin. A read is active from its first create until it is settled: a plugin may
-- publish before its answer to the create is recorded.
-- name: find_reads
select m.place::integer as place, s.sub_job_id, s.job_id, j.results_bucket, coalesce(s.maybe_soon, false) as maybe_soon
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[]) with ordinality
     as m (job_id, sub_job_id, producer_job, producer, topic, place)
left join lateral (
    (select r.sub_job_id, r.job_id, 1 as rule, 1::bigint as candidates, false as maybe_soon
     from sub_job r
     where m.sub_job_id is not null and r.sub_job_id = m.sub_job_id and (m.job_id is null or r.job_id = m.job_id)
       and r.type = 'READ' and r.stage <> 'SETTLED' and r.attempts > 0)
    union all
    (select r.sub_job_id, r.job_id, 2, count(*) over (), false
     from sub_job r join lane l using (lane_id)
     where m.sub_job_id is null and m.producer_job <> '' and r.data_producer_job_id = m.producer_job
       and r.stage in ('TRACKING', 'COLLECTING') and r.type = 'READ'
       and (m.job_id is null or r.job_id = m.job_id) and (m.producer = '' or l.data_producer_id = m.producer)
     limit 2)
    union all
    (select null, null, 3, 1, true
     from sub_job r
     where m.sub_job_id is null and m.producer_job <> '' and m.job_id is not null and r.job_id = m.job_id
       and r.type = 'READ' and r.stage = 'STARTING'
     limit 1)
    union all
    (select r.sub_job_id, r.job_id, 4, count(*) over (), false
     from sub_job r
     where m.sub_job_id is null and m.producer_job = '' and r.type = 'READ' and r.stage <> 'SETTLED' and r.attempts > 0
       and coalesce(r.result_topic, m.topic) = m.topic and (m.job_id is null or r.job_id = m.job_id)
     limit 2)
    order by rule limit 1
) s on s.candidates = 1
left join data_job j on j.job_id = s.job_id;

-- name: known_digests
select coalesce(message, sequence) as sequence, coalesce(message_sha256, sha256) as digest from result_part
where job_id = $1 and sub_job = $2 and fragment = 0 and sequence <> -1;

-- name: record_arrivals
insert into result_part (job_id, message, message_sha256, fragment, sub_job, sequence, key, bytes, sha256, operations, failed,
                         outcomes)
select a.* from unnest($1::uuid[], $2::integer[], $3::text[], $4::integer[], $5::text[], $6::integer[], $7::text[],
                       $8::bigint[], $9::text[], $10::integer[], $11::integer[], $12::bytea[])
    as a (job_id, message, message_sha256, fragment, sub_job, sequence, key, bytes, sha256, operations, failed, outcomes)
where not exists (
    select 1 from result_part p where p.job_id = a.job_id and p.sub_job = a.sub_job and p.sequence = a.message)
on conflict do nothing
returning sub_job, message;
