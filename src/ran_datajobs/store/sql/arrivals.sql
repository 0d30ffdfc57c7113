-- SPDX-License-Identifier: Apache-2.0
-- Messages of plugins for active reads. A read is active from its first create until it is settled: a plugin may
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
insert into result_part (job_id, sub_job, sequence, key, bytes, sha256, operations, failed, outcomes, message, fragment, message_sha256)
select a.* from unnest($1::uuid[], $2::text[], $3::integer[], $4::text[], $5::bigint[], $6::text[], $7::integer[],
                       $8::integer[], $9::bytea[], $10::integer[], $11::integer[], $12::text[])
    as a (job_id, sub_job, sequence, key, bytes, sha256, operations, failed, outcomes, message, fragment, message_sha256)
where not exists (
    select 1 from result_part p where p.job_id = a.job_id and p.sub_job = a.sub_job and p.sequence = a.message)
on conflict do nothing
returning sub_job, message;
