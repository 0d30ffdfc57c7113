-- SPDX-License-Identifier: Apache-2.0
-- The embedded bus. Offsets are assigned under the topic's row lock, which is held until the commit: a reader that
-- sees an offset has seen, or can see, every smaller one.

-- A topic that was removed and is added again must not assign an offset twice.
-- name: add_topic
insert into bus_topic (topic, next_offset) select $1, bus_head from pruned on conflict do nothing;

-- name: topics
select topic from bus_topic order by topic;

-- Returns no row when the topic is missing.
-- name: append
with taken as (
    update bus_topic set next_offset = next_offset + cardinality($3::text[]) where topic = $1
    returning next_offset - cardinality($3::text[]) as first_offset
), added as (
    insert into bus_message (topic, message_offset, job_id, key, headers, value)
    select $1, taken.first_offset + m.place - 1, m.job_id, m.key, m.headers, m.value
    from taken, unnest($2::uuid[], $3::text[], $4::jsonb[], $5::bytea[]) with ordinality
         as m (job_id, key, headers, value, place)
)
select pg_notify('datajobs_bus', $1) from taken;

-- $5: only the messages of this client's jobs, unless null.
-- name: messages_from
with page as (
    select m.message_offset as "offset", coalesce(m.key, '') as key, m.headers, m.value,
           sum(length(m.value)) over (order by m.message_offset) - length(m.value) as bytes_before
    from (
        select m.* from bus_message m
        where m.topic = $1 and m.message_offset >= $2
          and ($5::text is null or exists (select 1 from data_job j where j.job_id = m.job_id and j.client = $5))
        order by m.message_offset limit $3
    ) m
)
select * from page where bytes_before < $4 order by "offset";

-- name: position_of
select next_offset from bus_position where consumer = $1 and topic = $2;

-- name: set_position
insert into bus_position (consumer, topic, next_offset) values ($1, $2, $3)
on conflict (consumer, topic) do update set next_offset = greatest(bus_position.next_offset, excluded.next_offset);

-- name: claim_receiving
select pg_try_advisory_lock(7263402, hashtext($1 || '/' || $2));

-- name: fence_shard
insert into bus_shard (shard, epoch) values ($1, 1)
on conflict (shard) do update set epoch = bus_shard.epoch + 1
returning epoch, position;

-- Returns no row once a later epoch has begun.
-- name: lock_shard
select position from bus_shard where shard = $1 and epoch = $2 for update;

-- name: move_shard
update bus_shard set position = $2 where shard = $1;
