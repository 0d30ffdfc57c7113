-- SPDX-License-Identifier: Apache-2.0
-- Rows older than the retention, a bounded number at a time. A job that is open, or whose delivery is PENDING, is never
-- removed, and neither are its messages. A job with a write in quarantine remains until the quarantine ends: the write
-- blocks its lane.

-- name: claim_pruning
select pg_try_advisory_lock(7263404);

-- name: lock_expired_jobs
select job_id from (
    select job_id from data_job
    where ended_at < clock_timestamp() - make_interval(secs => $1) and delivery_state <> 'PENDING'
      and not exists (select 1 from sub_job s where s.job_id = data_job.job_id and s.stage = 'QUARANTINED')
    order by ended_at limit $2) e
where pg_try_advisory_lock(7263405, hashtext(job_id::text));

-- name: expired_jobs
select job_id, results_bucket as bucket, case destination_kind when 'BUCKET' then destination end as named
from data_job where job_id = any ($1::uuid[]) and delivery_state <> 'PENDING';

-- name: unlock_jobs
select pg_advisory_unlock(7263405, hashtext(job_id::text)) from unnest($1::uuid[]) as j (job_id);

-- name: objects_of
select key from result_part where job_id = $1 and key > $2 order by key limit $3;

-- name: delete_sub_jobs
delete from sub_job where sub_job_id in (select sub_job_id from sub_job where job_id = $1 limit $2)
returning 1;

-- name: delete_parts
delete from result_part where (job_id, sub_job, sequence) in (
    select job_id, sub_job, sequence from result_part where job_id = $1 limit $2)
returning 1;

-- name: delete_outbox
delete from outbox where shard in (select shard from outbox_shard) and job_id = $1
  and exists (select 1 from data_job j where j.job_id = $1 and j.delivery_state <> 'PENDING');

-- name: delete_job
delete from data_job
where job_id = $1 and delivery_state <> 'PENDING' and ended_at is not null;

-- Old rows of other tables: at most $2 of those that are older than $1 seconds.

-- name: delete_keys
delete from idempotency_key where (client, key) in (
    select client, key from idempotency_key
    where created_at < clock_timestamp() - make_interval(secs => $1)
    order by created_at limit $2 for update skip locked)
returning 1;

-- Messages of open or undelivered jobs stay.
-- name: delete_messages
delete from bus_message where (topic, message_offset) in (
    select m.topic, m.message_offset from bus_message m
    where m.at < clock_timestamp() - make_interval(secs => $1)
      and not exists (select 1 from data_job j
                      where j.job_id = m.job_id and (j.ended_at is null or j.delivery_state = 'PENDING'))
    order by m.at limit $2)
returning 1;

-- Clients that were served in a lane longer ago.
-- name: delete_lane_clients
delete from lane_client where (lane_id, client) in (
    select lane_id, client from lane_client
    where last_started_at < clock_timestamp() - make_interval(secs => $1) limit $2 for update skip locked)
returning 1;

-- Tombstones of CM handles. A lookup index that was not updated for so long reloads all handles.
-- name: delete_tombstones
with gone as (
    delete from cm_handle where cm_handle in (
        select cm_handle from cm_handle
        where removed and removed_at < clock_timestamp() - make_interval(secs => $1)
        order by removed_at limit $2 for update skip locked)
    returning version
), newest as (
    update pruned set inventory_version = greatest(inventory_version, (select max(version) from gone))
)
select 1 from gone;

-- Topics other than $1 that have no messages, consumer positions or jobs. A topic that is added again continues behind
-- its earlier offsets. If a message of one is committed meanwhile, the foreign key of the messages refuses the removal.
-- name: delete_topics
with gone as (
    delete from bus_topic where topic in (
        select t.topic from bus_topic t
        where t.topic <> all ($1::text[])
          and not exists (select 1 from bus_message m where m.topic = t.topic)
          and not exists (select 1 from bus_position p where p.topic = t.topic)
          and not exists (select 1 from data_job j where j.destination_kind = 'TOPIC' and j.destination = t.topic)
        order by t.topic limit $2 for update skip locked)
    returning next_offset
), floor as (
    update pruned set bus_head = greatest(bus_head, (select max(next_offset) from gone))
)
select 1 from gone;
