-- SPDX-License-Identifier: Apache-2.0
-- Undelivered messages and copies. A message goes to a topic, a copy of a result object to a bucket: its topic is
-- 's3:' and the name of the bucket. Positions are assigned under the shard's row lock, which is held until the commit:
-- a reader that sees a position has seen, or can see, every smaller one of the shard. This lock is taken after all
-- others.

-- name: installation
select installation_id from installation;

-- name: given_up
select job_id, delivery_topic as topic from data_job where job_id = any ($1::uuid[]) and delivery_state = 'FAILED';

-- name: take_positions
update outbox_shard set last_position = last_position + $2 where shard = $1 returning last_position - $2;

-- name: add_messages
insert into outbox (shard, position, job_id, topic, key, headers, value, object_key, bucket, bytes, delivery_number,
                    ends_delivery, sha256)
select $1, $2 + m.place, m.job_id, m.topic, m.key, m.headers, m.value, m.object_key, m.bucket, m.bytes, m.delivery_number,
       m.ends_delivery, m.sha256
from unnest($3::uuid[], $4::text[], $5::text[], $6::jsonb[], $7::bytea[], $8::text[], $9::text[], $10::bigint[],
            $11::integer[], $12::boolean[], $13::text[]) with ordinality
     as m (job_id, topic, key, headers, value, bucket, object_key, bytes, delivery_number, ends_delivery, sha256, place);

-- name: claim_shard
select pg_try_advisory_lock(7263403, $1::integer);

-- name: next_messages
with page as (
    select *, sum(size) over (order by position) - size as size_before
    from (
        select o.*, o.bytes as size, o.delivery_number as delivery from outbox o
        where o.shard = $1
          and not exists (select 1 from delivery_failure t
                          where t.parked and t.job_id = o.job_id and t.topic = o.topic)
        order by o.position limit $2
    ) first_ones
)
select * from page where size_before < $3 order by position;

-- name: lock_jobs_of_deliveries
select from data_job
where job_id in (
    select o.job_id from outbox o where o.shard = $1 and o.position = any ($2::bigint[]) and o.ends_delivery
    union
    select t.job_id from delivery_failure t join unnest($3::uuid[], $4::text[]) as d (job_id, topic) using (job_id, topic))
order by job_id for no key update;

-- name: mark_delivered
update data_job j set delivery_state = 'DELIVERED', delivery_detail = null, version = j.version + 1
from unnest($1::uuid[], $2::integer[]) as d (job_id, delivery_number)
where j.job_id = d.job_id and j.delivery_number = d.delivery_number and j.delivery_state = 'PENDING';

-- Returns the deliveries that end.
-- name: remove_published
with removed as (
    delete from outbox where shard = $1 and position = any ($2::bigint[]) returning job_id, topic, delivery_number, ends_delivery
)
select job_id, topic, delivery_number from removed where ends_delivery;

-- name: positions_up_to
select o.position, o.job_id, o.topic from outbox o
where o.shard = $1 and o.position <= $2
  and not exists (select 1 from delivery_failure t where t.parked and t.job_id = o.job_id and t.topic = o.topic);

-- name: end_failures
with ended as (
    delete from delivery_failure t using unnest($1::uuid[], $2::text[]) as d (job_id, topic)
    where t.job_id = d.job_id and t.topic = d.topic
    returning t.job_id
)
update data_job j set delivery_detail = null, version = j.version + 1
where j.job_id in (select job_id from ended) and j.delivery_state = 'PENDING' and j.delivery_detail is not null;

-- name: move_last_position
update outbox_shard set last_position = $2 where shard = $1 and last_position < $2;

-- The time of a refusal that a retry cannot cure counts from the first of consecutive refusals.
-- name: record_delivery_failure
with waiting as (
    select distinct o.job_id, o.topic from outbox o
    where o.shard = $1 and ($2::text is null or o.topic = $2) and ($4::uuid is null or o.job_id = $4)
), locked as materialized (
    select j.job_id from data_job j where j.job_id in (select job_id from waiting) order by j.job_id for no key update
)
insert into delivery_failure (job_id, topic, shard, retry_at, parked, last_error, refused)
select w.job_id, w.topic, $1, clock_timestamp() + make_interval(secs => $6), $2::text is not null, $3, $5::boolean
from waiting w
where w.job_id in (select job_id from locked) or w.job_id = '00000000-0000-0000-0000-000000000000'
order by w.job_id, w.topic
on conflict (job_id, topic) do update
set attempts = delivery_failure.attempts + 1, last_error = excluded.last_error,
    parked = delivery_failure.parked or excluded.parked,
    refused = excluded.refused,
    first_failed_at = case when excluded.refused and not delivery_failure.refused then clock_timestamp()
                           else delivery_failure.first_failed_at end,
    retry_at = clock_timestamp() + make_interval(secs => least($7, $6 * power(2, least(delivery_failure.attempts, 20))));

-- name: show_failures
update data_job j set delivery_detail = t.last_error, version = j.version + 1
from delivery_failure t
where t.shard = $1 and j.job_id = t.job_id and j.delivery_topic = t.topic and j.delivery_state = 'PENDING'
  and j.delivery_detail is distinct from t.last_error;

-- name: expired_failures
select job_id, topic, last_error as cause from delivery_failure
where shard = $1 and first_failed_at < clock_timestamp() - make_interval(
    secs => case when refused then least($2::float8, $3::float8) else $2::float8 end)
order by job_id;

-- name: lock_jobs
select from data_job where job_id = any ($1::uuid[]) order by job_id for no key update;

-- name: mark_failed
update data_job j set delivery_state = 'FAILED', delivery_detail = d.cause, version = j.version + 1
from unnest($1::uuid[], $2::text[], $3::text[]) as d (job_id, topic, cause)
where j.job_id = d.job_id and j.delivery_topic = d.topic and j.delivery_state = 'PENDING';

-- name: drop_messages
delete from outbox o using unnest($2::uuid[], $3::text[]) as d (job_id, topic)
where o.shard = $1 and o.job_id = d.job_id and o.topic = d.topic;

-- name: unpark
update delivery_failure set parked = false where shard = $1 and parked and retry_at <= clock_timestamp()
returning job_id, topic;

-- $2: the last position of the shard, whose row the caller has locked.
-- name: reposition
with waiting as (
    select o.position, row_number() over (order by o.position) as place
    from outbox o join unnest($3::uuid[], $4::text[]) as d (job_id, topic) using (job_id, topic)
    where o.shard = $1
), moved as (
    update outbox o set position = $2::bigint + w.place from waiting w where o.shard = $1 and o.position = w.position
)
select count(*) from waiting;

-- name: due_shards
select o.shard from outbox_shard o
where exists (
        select 1 from outbox m
        where m.shard = o.shard
          and not exists (select 1 from delivery_failure t where t.job_id = m.job_id and t.topic = m.topic
                          and t.retry_at > clock_timestamp()))
order by o.shard;

-- name: parts_to_deliver
select p.job_id, p.sub_job, p.key as object_key, p.bytes as size, p.sha256,
       row_number() over (partition by p.job_id, p.sub_job
                          order by coalesce(p.message, p.sequence), p.fragment)::integer - 1 as sequence,
       count(*) over (partition by p.job_id, p.sub_job) as total,
       j.delivery_topic as topic, j.results_bucket as bucket, j.delivery_number as delivery,
       coalesce(l.data_producer_id, '') as data_producer_id,
       coalesce(s.data_producer_job_id, '') as data_producer_job_id
from result_part p
join data_job j on j.job_id = p.job_id
left join sub_job s on s.sub_job_id = nullif(p.sub_job, 'unmatched')::uuid
left join lane l on l.lane_id = s.lane_id
where p.job_id = any ($1::uuid[]) and j.delivery_topic is not null
  and (j.destination_kind = 'BUCKET' or p.sequence >= 0 or ($3::integer - p.sequence) % $4::integer <> 0)  -- no body of a plugin
  and ($2::text[] is null or p.sub_job = any ($2::text[]))
  and (j.type <> 'PREVIEW' or p.sub_job = 'unmatched')  -- not what the reads of a preview have found
order by p.job_id, s.position nulls first, coalesce(p.message, p.sequence), p.fragment;

-- The lock is refused while the job is being removed.
-- name: deliver_again
update data_job
set delivery_number = delivery_number + 1, delivery_state = 'PENDING', delivery_detail = null, version = version + 1
where job_id = $1 and delivery_state in ('FAILED', 'DELIVERED')
  and pg_try_advisory_xact_lock_shared(7263405, hashtext($1::uuid::text))
returning delivery_number;
