-- SPDX-License-Identifier: Apache-2.0
-- Metrics of the database. Each statement finds its rows by an index, except for the count of all lanes.

-- name: open_jobs
select status::text as label, count(*)::float8 as value from data_job
where status in ('NOT_STARTED', 'RUNNING', 'CANCELLING')
group by status;

-- name: lanes
select lanes - occupied - quarantined as free, occupied, quarantined
from (select count(*)::float8 as lanes from lane) l,
     (select count(*) filter (where stage <> 'QUARANTINED')::float8 as occupied,
             count(*) filter (where stage = 'QUARANTINED')::float8 as quarantined
      from sub_job where type = 'WRITE' and stage not in ('WAITING', 'SETTLED')) a;

-- name: plugins
select count(*) filter (where healthy)::float8 as up, count(*) filter (where not healthy)::float8 as down,
       count(*) filter (where healthy is null)::float8 as unknown
from dmi_plugin;

-- A row whose lease has expired waits as well, since the end of the lease.
-- name: due_since
select greatest(0, extract(epoch from clock_timestamp() - least(
           (select min(due_at) from data_job where due_at is not null and lease is null),
           (select min(leased_until) from data_job where leased_until < now()))))::float8 as job,
       greatest(0, extract(epoch from clock_timestamp() - least(
           (select min(d.due_at) from dmi_plugin p cross join unnest(enum_range(null::next_call)) as n (call) cross join lateral (
                select s.due_at from sub_job s
                where next_call(s.stage, s.cancel_requested) = n.call and s.plugin_id = p.plugin_id and s.lease is null
                  and s.due_at is not null
                order by s.due_at limit 1) d),
           (select min(leased_until) from sub_job where lease is not null and leased_until < now()))))::float8 as sub_job;

-- The first row of a shard is its oldest, except for parked and requeued rows: delivery_failure has their time.
-- $1: number of shards of messages; the others are for copies.
-- name: undelivered_since
select greatest(0, extract(epoch from clock_timestamp() - min(since) filter (where shard < $1)))::float8 as topic,
       greatest(0, extract(epoch from clock_timestamp() - min(since) filter (where shard >= $1)))::float8 as bucket
from (
    select s.shard, (h.headers ->> 'ce_time')::timestamptz as since
    from outbox_shard s cross join lateral (
        select o.headers from outbox o where o.shard = s.shard order by o.position limit 1) h
    union all
    select shard, first_failed_at from delivery_failure) w;
