-- SPDX-License-Identifier: Apache-2.0
-- Result objects are in the service's own bucket, and a bucket that a job named gets copies through the outbox.
--
-- No worker of an older schema may be alive: it would take the copies for messages. The caller has checked that.

alter table outbox add column sha256 text;                      -- of the object that is copied
alter table delivery_trouble add column refused boolean not null default false; -- a repeat cannot cure it
alter table data_job
    add column delivery_detail text,                            -- why its delivery waits or has failed
    add column objects_cause text,                              -- why its plan or finish cannot write objects
    add column objects_since timestamptz;
alter table sub_job
    add column objects_cause text,                              -- why its result objects cannot be written
    add column objects_since timestamptz;
create index sub_job_waits_for_objects on sub_job (job_id) where objects_cause is not null;

-- Copies have shards of their own: a bucket that hangs delays no topic.
insert into outbox_shard (shard) select generate_series(8, 15);

-- What an older version kept in the own bucket while a named one could not be written is copied like all else. One mark
-- stood for all objects of an ended job; of an open job those of its ended sub-jobs are due.
update delivery_trouble set shard = 8 where starts_with(topic, 's3:');
with marks as (
    delete from outbox where bucket is not null and object_key is null and value is null
    returning job_id, delivery
), ended as (
    select m.job_id, m.delivery, p.key, p.bytes, p.sha256, false as is_manifest
    from marks m join result_part p using (job_id)
    union all
    select m.job_id, m.delivery, m.job_id || '/manifest.json', 0, null, true from marks m
), open as (
    select j.job_id, j.delivery, p.key, p.bytes, p.sha256, false as is_manifest
    from data_job j
    join result_part p using (job_id)
    join sub_job s on s.sub_job_id = nullif(p.sub_job, 'unmatched')::uuid
    where j.status in ('NOT_STARTED', 'RUNNING', 'CANCELLING') and j.destination_kind = 'BUCKET'
      and j.destination is not null and j.results_bucket <> j.destination and s.stage in ('QUARANTINED', 'SETTLED')
), due as (
    select d.*, j.destination, j.results_bucket, row_number() over (order by d.job_id, d.is_manifest, d.key) - 1 as place
    from (select * from ended union all select * from open) d join data_job j using (job_id)
), added as (
    insert into outbox (shard, position, job_id, topic, key, headers, object_key, bucket, bytes, sha256, delivery, ends_delivery)
    select 8, d.place, d.job_id, 's3:' || d.destination, '', '{}', d.key, d.results_bucket, d.bytes, d.sha256, d.delivery, d.is_manifest
    from due d
    returning 1
)
update outbox_shard set head = (select count(*) from added) where shard = 8;
-- Why a delivery failed was not kept.
update data_job j set delivery_detail = t.cause
from delivery_trouble t
where t.job_id = j.job_id and j.delivery_state = 'PENDING'
  and t.topic = case j.destination_kind when 'TOPIC' then j.destination else 's3:' || j.destination end;
