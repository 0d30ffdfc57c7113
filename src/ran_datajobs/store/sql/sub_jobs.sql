-- SPDX-License-Identifier: Apache-2.0
-- The life of a sub-job, from WAITING to SETTLED. These statements alone write the tables sub_job and lane.
--
-- A row is claimed when it is due and not leased, or when its lease has expired. Every write of a worker names its
-- lease: a row that another worker has claimed since is not changed, and its id is not returned. Locks are taken in
-- one order everywhere: data_job, lane, sub_job, outbox_shard. A transaction that writes several sub-jobs has locked
-- their jobs or their lanes, or locks them in the order of their ids first. A claim and a renewal skip locked rows,
-- and never wait.

-- A lane that another transaction adds at the same time is waited for.
-- name: add_lanes
insert into lane (plugin_id, data_producer_id)
select distinct * from unnest($1::bigint[], $2::text[]) order by 1, 2
on conflict do nothing;

-- $2: position of the first sub-job. $10: they are the reads of a preview; other sub-jobs of a preview cannot be stored.
-- name: insert_sub_jobs
insert into sub_job (sub_job_id, job_id, position, lane_id, plugin_id, type, job_seq, client, priority, blocked, cancel_requested,
                     due_at, dialect, body, body_bytes, operations, version)
select s.sub_job_id, j.job_id, $2::integer + s.place - 1, l.lane_id, s.plugin_id,
       case when j.type = 'PREVIEW' and $10::boolean then 'READ' else j.type end, j.seq, j.client, j.priority, j.blocked,
       j.cancel_requested, case when j.cancel_requested then clock_timestamp() end, s.dialect, s.body, s.size, s.operations,
       j.version
from unnest($3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::bytea[], $8::integer[], $9::bigint[]) with ordinality
     as s (sub_job_id, plugin_id, data_producer_id, dialect, body, operations, size, place)
join lane l using (plugin_id, data_producer_id) cross join data_job j
where j.job_id = $1;

-- name: lock_lanes
select from lane where lane_id = any ($1::bigint[]) order by lane_id for no key update;

-- name: lock_lanes_of
select lane_id from lane
where lane_id in (
    select lane_id from sub_job where job_id = any ($1::uuid[]) and stage not in ('QUARANTINED', 'SETTLED'))
order by lane_id for no key update;

-- name: lock_sub_jobs
select sub_job_id, stage from sub_job where sub_job_id = any ($1::uuid[]) order by sub_job_id for no key update;

-- Admit waiting sub-jobs of these lanes: the next write, if no other one is active or in quarantine, and as many reads
-- as slots are free. Order: sub-jobs that were tried already, then priority, which waiting raises, then the client that
-- was served the longest ago, then submission. The caller has locked the lanes.
-- $2: read slots where a plugin registered none; $3: seconds of waiting that raise the priority by one.
-- name: admit
with here as (
    select l.lane_id, coalesce(p.read_slots, $2::integer) as read_slots
    from lane l join dmi_plugin p using (plugin_id) where l.lane_id = any ($1::bigint[])
), waiting as not materialized (
    select o.*, c.last_started_at, least(9, o.priority + floor(extract(epoch from now() - o.created_at) / $3::float8)) as rank
    from sub_job o left join lane_client c on c.lane_id = o.lane_id and c.client = o.client
    where o.stage = 'WAITING' and not o.blocked and not o.cancel_requested
), next as (
    select n.sub_job_id from here cross join lateral (
        select w.sub_job_id from waiting w
        where w.lane_id = here.lane_id and w.type = 'WRITE' and not exists (
            select 1 from sub_job a
            where a.lane_id = here.lane_id and a.type = 'WRITE' and a.stage not in ('WAITING', 'SETTLED'))
        order by w.attempts > 0 desc, w.rank desc, w.last_started_at nulls first, w.job_seq
        limit 1) n
    union all
    select n.sub_job_id from here cross join lateral (
        select r.sub_job_id
        from (select w.*, row_number() over (partition by w.client, w.rank order by w.job_seq) as nth
              from waiting w where w.lane_id = here.lane_id and w.type = 'READ') r
        order by r.attempts > 0 desc, r.rank desc, r.nth, r.last_started_at nulls first, r.job_seq
        limit greatest(0, here.read_slots - (
            select count(*) from sub_job a
            where a.lane_id = here.lane_id and a.type = 'READ' and a.stage not in ('WAITING', 'SETTLED')))) n
), admitted as (
    -- An array of ids instead of a join: with statistics of an empty queue the planner would compare each row with
    -- each. The rows are still WAITING, since their lanes are locked.
    update sub_job s set stage = 'ADMITTED', due_at = clock_timestamp()
    where s.sub_job_id = any (array(select sub_job_id from next))
    returning s.sub_job_id, s.lane_id, s.client
), served as (
    insert into lane_client (lane_id, client, last_started_at)
    select lane_id, client, clock_timestamp() from admitted group by 1, 2 order by 1, 2
    on conflict (lane_id, client) do update set last_started_at = excluded.last_started_at
)
select sub_job_id from admitted;

-- The workers listen on this channel; the payload is the kind that is due: 'sub_job', 'job' or 'cancel'.
-- name: notify_due
select pg_notify('datajobs_due', $1);

-- What a worker needs of the leased rows of the statements below. A row that is leased under $1, the first token of a
-- claim, was ADMITTED before. Durations are seconds by the database's clock.
-- name: leased
select s.sub_job_id, s.job_id, s.lane_id, s.lease, s.type, s.stage,
case when s.lease = $1 then 'ADMITTED'::sub_job_stage else s.stage end as was, next_call(s.stage, s.cancel_requested),
s.operations, s.data_producer_job_id,
s.cancel_requested, s.attempts, s.polls, s.result_topic, s.result_total, s.reported_status,
extract(epoch from clock_timestamp() - s.failing_since)::float8 as failing_for,
extract(epoch from clock_timestamp() - s.objects_since)::float8 as no_objects_for,
extract(epoch from clock_timestamp() - s.started_at)::float8 as running_for,
extract(epoch from clock_timestamp() - s.last_message_at)::float8 as idle_for,
extract(epoch from clock_timestamp() - s.ended_at)::float8 as ended_for,
extract(epoch from s.quarantined_until - clock_timestamp())::float8 as quarantined_for,
s.body_bytes,
case when s.stage = 'STARTING' or s.stage in ('WAITING', 'ADMITTED') and s.body_bytes <= 8192 then s.body end as body,
j.status as job_status, j.cancel_requested as job_cancel_requested, j.accept_type, j.content_type,
case when j.type = 'PREVIEW' then 'BEST_EFFORT' else j.activation_mode end as activation_mode,
coalesce(j.plugin_destination, j.destination) as destination, j.results_bucket, l.data_producer_id,
s.plugin_id, p.url, coalesce(s.dialect, nullif(p.dialect, 'auto'), 'seed') as dialect, p.dialect as plugin_dialect,
p.found_dialect, p.idempotent, p.give_up, p.sub_job_timeout, p.before_images
from leased s join lane l using (lane_id) join dmi_plugin p on p.plugin_id = s.plugin_id join data_job j on j.job_id = s.job_id;

-- Lease due sub-jobs within limits: creates, other steps, bytes of operations and DELETEs per plugin ($14 to $17 for the
-- plugins $13, $9 to $12 for the others), $6 rows and $7 bytes in total. $5: expired leases, too, and first. Sub-jobs to
-- cancel precede the remaining ones and have limits of their own: DELETEs per plugin, and $8 sub-jobs in total that were
-- not sent and end without a call.
-- $1: token of ADMITTED sub-jobs, $2: token of all others, $3: worker, $4: seconds.
-- name: claim
with room as materialized (
    select p.plugin_id, coalesce(r.bytes, $11::bigint) as bytes, c.*
    from dmi_plugin p
    left join unnest($13::bigint[], $14::integer[], $15::integer[], $16::bigint[], $17::integer[])
        as r (plugin_id, creates, calls, bytes, deletes) using (plugin_id)
    cross join lateral (values ('CREATE'::next_call, least(coalesce(r.creates, $9::integer), $6)),
                               ('OTHER', least(coalesce(r.calls, $10::integer), $6)),
                               ('DELETE', coalesce(r.deletes, $12::integer))) as c (next_call, rows)
), unsent as materialized (
    select sub_job_id from sub_job
    where next_call(stage, cancel_requested) = 'END_UNSENT' and lease is null and due_at <= now() limit $8 for update skip locked
), due as materialized (
    select d.*, room.plugin_id, room.next_call, room.bytes from room cross join lateral (
        select s.sub_job_id, s.due_at, case when room.next_call = 'CREATE' then s.body_bytes end as size
        from sub_job s
        where next_call(s.stage, s.cancel_requested) = room.next_call and s.plugin_id = room.plugin_id and s.lease is null
          and s.due_at <= now()
        order by s.due_at limit room.rows for update skip locked) d
), fitting as (
    select sub_job_id, next_call, row_number() over (partition by next_call = 'DELETE' order by due_at, sub_job_id) as nth
    from (select *, sum(size) over (partition by plugin_id order by due_at, sub_job_id) - size as before_of_plugin,
                 sum(size) over (order by due_at, sub_job_id) - size as before
          from due) d
    where size is null or before_of_plugin < bytes and before < $7
), expired as materialized (
    select s.sub_job_id from sub_job s
    where $5 and s.lease is not null and s.leased_until < now() limit $6 for update skip locked
), picked as (
    select sub_job_id from expired
    union all
    select sub_job_id from unsent
    union all
    select sub_job_id from fitting where next_call = 'DELETE' or nth <= $6 - (select count(*) from expired)
), leased as (
    -- An array of ids instead of a join: the planner reads only these rows, whatever it estimates.
    update sub_job s
    set lease = case when s.stage = 'ADMITTED' then $1::uuid else $2::uuid end, leased_by = $3,
        leased_until = clock_timestamp() + make_interval(secs => $4), attention = false,
        stage = case when s.stage = 'ADMITTED' and not s.cancel_requested then 'STARTING' else s.stage end,
        attempts = s.attempts + case when s.stage = 'ADMITTED' and not s.cancel_requested then 1
                                     when s.stage = 'STARTING' and (s.type = 'READ' or (
                                         select p.idempotent from dmi_plugin p where p.plugin_id = s.plugin_id)) then 1
                                     else 0 end,
        started_at = case when s.stage = 'ADMITTED' and not s.cancel_requested then coalesce(s.started_at, clock_timestamp())
                          else s.started_at end
    where s.sub_job_id = any (array(select sub_job_id from picked))
    returning s.*
)

-- The sub-jobs of a committed claim whose answer was lost; nothing was sent for them since. $1, $2: its two tokens. A
-- sub-job that is STARTING under the second one was STARTING before the claim: its create may have been sent.
-- name: leased_under
with leased as (
    select * from sub_job where lease is not null and lease in ($1, $2)
)

-- Rows that another transaction has locked are skipped until the next renewal: it may wait for a lock of this one. No
-- index contains leased_until, so that the updates are heap-only.
-- name: renew
with held as materialized (
    select s.sub_job_id from sub_job s join unnest($1::uuid[], $2::uuid[]) as h (sub_job_id, lease) using (sub_job_id, lease)
    for no key update of s skip locked
)
update sub_job s set leased_until = clock_timestamp() + make_interval(secs => $3)
where s.sub_job_id = any (array(select sub_job_id from held))
returning s.sub_job_id;

-- Record that result objects of these sub-jobs cannot be written. $2: their lease, if the caller has leased them; null:
-- messages of reads arrived that cannot be stored, and the idle time of the reads restarts.
-- name: wait_for_objects
update sub_job
set objects_cause = $3, objects_since = coalesce(objects_since, clock_timestamp()),
    last_message_at = case when $2::uuid is null then clock_timestamp() else last_message_at end
where sub_job_id = any ($1::uuid[]) and stage not in ('QUARANTINED', 'SETTLED')
  and ($2::uuid is null or lease = $2 and objects_cause is distinct from $3);

-- name: with_attention
select sub_job_id from sub_job where sub_job_id = any ($1::uuid[]) and attention;

-- name: is_leased
select 1 from sub_job where sub_job_id = $1 and lease = $2;

-- name: body_of
select body from sub_job where sub_job_id = $1;

-- $3: sub-jobs whose create was not sent.
-- name: give_back
update sub_job s
set lease = null, leased_by = null, leased_until = null, due_at = clock_timestamp(), attention = false,
    stage = case when s.stage = 'STARTING' and s.sub_job_id = any ($3::uuid[]) then 'ADMITTED' else s.stage end
from unnest($1::uuid[], $2::uuid[]) as h (sub_job_id, lease)
where s.sub_job_id = h.sub_job_id and s.lease = h.lease;

-- name: bump_jobs
with locked as (
    select job_id from data_job where job_id = any ($1::uuid[]) order by job_id for no key update
)
update data_job j set version = j.version + 1 from locked where j.job_id = locked.job_id;

-- name: jobs_running
update data_job
set status = 'RUNNING', started_at = coalesce(started_at, clock_timestamp())
where job_id = any ($1::uuid[]) and status = 'NOT_STARTED'
returning job_id;

-- name: mark_started
update sub_job s
set stage = 'TRACKING', data_producer_job_id = h.producer_job, dialect = coalesce(h.dialect, s.dialect),
    polls = 0, failing_since = null, last_error = null,
    version = (select j.version from data_job j where j.job_id = s.job_id),
    status = case when s.status = 'NOT_STARTED' then 'RUNNING'::job_status else s.status end,
    -- No DELETE of its own if the plugin gets, or got, one for the whole job.
    cancel_requested = s.cancel_requested and not exists (
        select from bulk_cancel b where b.job_id = s.job_id and b.plugin_id = s.plugin_id and not b.refused)
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) as h (sub_job_id, lease, producer_job, dialect)
where s.sub_job_id = h.sub_job_id and s.lease = h.lease
  and (s.stage = 'STARTING' or s.stage = 'TRACKING' and s.data_producer_job_id = h.producer_job)
returning s.sub_job_id, s.attention;

-- A row that another process changed meanwhile is due at once. An empty error: nothing is wrong.
-- unsent: the create provably did not arrive. reported_status: the terminal status that the plugin reported, if any.
-- trial: seconds in which the plugin is not called.
-- name: postpone
update sub_job s
set due_at = case when s.attention then clock_timestamp() else clock_timestamp() + make_interval(secs => h.delay) end,
    lease = null, leased_by = null, leased_until = null, attention = false,
    polls = case when s.attention then s.polls else h.polls end,
    last_error = case when s.stage = 'QUARANTINED' then s.last_error else nullif(h.error, '') end,
    stage = case when h.unsent and s.stage = 'STARTING' then 'ADMITTED'
                 when h.reported_status is not null and s.stage = 'TRACKING' then 'COLLECTING' else s.stage end,
    reported_status = coalesce(h.reported_status::job_status, s.reported_status),
    failing_since = case when h.error = '' then null
                         when h.reported_status is not null and s.reported_status is null then clock_timestamp()
                         else coalesce(s.failing_since, clock_timestamp()) end,
    circuit_until = clock_timestamp() + make_interval(secs => h.trial),
    objects_cause = case when h.error = '' then s.objects_cause end,
    objects_since = case when h.error = '' then s.objects_since end
from unnest($1::uuid[], $2::uuid[], $3::float8[], $4::integer[], $5::text[], $6::boolean[], $7::text[], $8::float8[])
     as h (sub_job_id, lease, delay, polls, error, unsent, reported_status, trial)
where s.sub_job_id = h.sub_job_id and s.lease = h.lease
returning s.sub_job_id, s.attention;

-- A read whose messages have all arrived is due at once. The idle time counts from the terminal status that the plugin
-- reported: earlier messages do not show when the last one arrives.
-- name: mark_collecting
update sub_job s
set stage = 'COLLECTING', result_topic = h.topic, failing_since = null, last_error = null,
    reported_status = coalesce(s.reported_status, h.reported_status::job_status),
    last_message_at = case when s.stage = 'TRACKING' then clock_timestamp()
                           else coalesce(s.last_message_at, clock_timestamp()) end,
    due_at = case when s.attention or s.messages >= s.result_total then clock_timestamp()
                  else clock_timestamp() + make_interval(secs => h.delay) end,
    lease = null, leased_by = null, leased_until = null, attention = false
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::float8[]) as h (sub_job_id, lease, topic, reported_status, delay)
where s.sub_job_id = h.sub_job_id and s.lease = h.lease and s.stage in ('TRACKING', 'COLLECTING')
returning s.sub_job_id, s.attention;

-- name: mark_cancelling
update sub_job s
set cancel_requested = false, failing_since = null, last_error = null,
    version = (select j.version from data_job j where j.job_id = s.job_id),
    status = case when s.status in ('NOT_STARTED', 'RUNNING') then 'CANCELLING'::job_status else s.status end
from unnest($1::uuid[], $2::uuid[]) as h (sub_job_id, lease)
where s.sub_job_id = h.sub_job_id and s.lease = h.lease
returning s.sub_job_id, s.attention;

-- A RUNNING sub-job that its plugin cancelled without a request passes through CANCELLING.
-- name: through_cancelling
update sub_job s set status = 'CANCELLING'
from unnest($1::uuid[], $2::uuid[]) as h (sub_job_id, lease)
where s.sub_job_id = h.sub_job_id and s.lease = h.lease and s.status = 'RUNNING';

-- A write that its plugin may still be executing is counted, and remains in quarantine.
-- name: settle
with settled as (
    update sub_job s
    set stage = case when h.quarantine > 0 then 'QUARANTINED' else 'SETTLED' end::sub_job_stage,
        quarantined_until = case when h.quarantine > 0 then clock_timestamp() + make_interval(secs => h.quarantine) end,
        due_at = case when h.quarantine > 0 then clock_timestamp() + make_interval(secs =>
            case when s.data_producer_job_id is null then h.quarantine else least(h.quarantine, $11::float8) end) end,
        lease = null, leased_by = null, leased_until = null, attention = false,
        status = h.status::job_status, body = null, ended_at = clock_timestamp(),
        succeeded = h.succeeded, failed = h.failed, not_started = h.not_started, unknown = h.unknown,
        last_error = nullif(h.error, ''), cancel_requested = false, failing_since = null,
        version = (select j.version from data_job j where j.job_id = s.job_id),
        objects_cause = null, objects_since = null
    from unnest($1::uuid[], $2::uuid[], $3::text[], $4::integer[], $5::integer[], $6::integer[], $7::integer[], $8::text[],
                $9::float8[], $10::integer[])
         as h (sub_job_id, lease, status, succeeded, failed, not_started, unknown, error, quarantine, executed)
    where s.sub_job_id = h.sub_job_id and s.lease = h.lease and s.stage not in ('QUARANTINED', 'SETTLED')
    returning s.*, h.executed
), counted as (
    update data_job j
    set succeeded = j.succeeded + case when j.split_reads then 0 else c.succeeded end,
        failed = j.failed + case when j.split_reads then 0 else c.failed end,
        not_started = j.not_started + case when j.split_reads then 0 else c.not_started end,
        unknown = j.unknown + case when j.split_reads then 0 else c.unknown end,
        ended_after_cancel = least(j.ended_after_cancel + c.executed, j.operations),
        sub_jobs_open = j.sub_jobs_open - c.settled, cancelled_sub_jobs = j.cancelled_sub_jobs + c.cancelled,
        due_at = case when j.sub_jobs_open = c.settled then clock_timestamp() else j.due_at end
    from (
        select job_id, count(*) as settled, sum(succeeded) as succeeded, sum(failed) as failed, sum(not_started) as not_started,
               sum(unknown) as unknown, count(*) filter (where status = 'CANCELLED') as cancelled, sum(executed) as executed
        from settled group by job_id) c
    where j.job_id = c.job_id
    returning j.job_id, j.sub_jobs_open
)
select sub_job_id, sub_jobs_open from settled join counted using (job_id);

-- name: end_quarantine
update sub_job s
set stage = 'SETTLED', due_at = null, lease = null, leased_by = null, leased_until = null, attention = false
from unnest($1::uuid[], $2::uuid[]) as h (sub_job_id, lease)
where s.sub_job_id = h.sub_job_id and s.lease = h.lease and s.stage = 'QUARANTINED'
returning s.sub_job_id, s.attention;

-- $2: only the sub-jobs of this plugin, unless null.
-- name: lock_open
select from sub_job
where job_id = $1 and ($2::bigint is null or plugin_id = $2) and stage not in ('QUARANTINED', 'SETTLED')
order by sub_job_id for no key update;

-- A sub-job to cancel is due at once if it is not leased; otherwise its worker is notified. The poll interval of a
-- tracked one restarts. $3: the plugins that get one DELETE for the whole job: sub-jobs that they have are not
-- cancelled one by one. One that is STARTING there is, until its create is answered: a create that was not sent yet is
-- not sent. The caller has locked the rows.
-- name: cancel_job
with asked as (
    update sub_job s
    set version = (select j.version from data_job j where j.job_id = $1),
        status = case when s.status in ('NOT_STARTED', 'RUNNING') then 'CANCELLING'::job_status else s.status end,
        cancel_requested = s.stage in ('WAITING', 'ADMITTED', 'STARTING') or s.plugin_id <> all ($3::bigint[]),
        attention = s.attention or s.lease is not null and (s.stage = 'STARTING' or s.plugin_id <> all ($3)),
        due_at = case when s.lease is null and (s.stage in ('WAITING', 'ADMITTED', 'STARTING') or s.plugin_id <> all ($3))
                      then clock_timestamp() else s.due_at end,
        polls = case when s.stage = 'TRACKING' and s.plugin_id <> all ($3) then 0 else s.polls end
    where s.job_id = $1 and ($2::bigint is null or s.plugin_id = $2) and s.stage not in ('QUARANTINED', 'SETTLED')
    returning s.sub_job_id, s.lease, s.attention
)
select pg_notify('datajobs_sub_job', sub_job_id::text) from asked where lease is not null and attention;

-- The plugin ends its sub-jobs of a cancelled job: those that are tracked and not leased are polled at once.
-- name: poll_job_now
update sub_job set due_at = clock_timestamp(), polls = 0
where job_id = $1 and plugin_id = $2 and stage = 'TRACKING' and lease is null;

-- name: poll_now
with pushed as (
    update sub_job
    set attention = lease is not null, due_at = case when lease is null then clock_timestamp() else due_at end
    where sub_job_id = $1 and stage = 'TRACKING' and data_producer_job_id = $2
    returning sub_job_id, lease
)
select sub_job_id, case when lease is not null then pg_notify('datajobs_sub_job', sub_job_id::text) end from pushed;

-- name: unblock
update sub_job set blocked = false where job_id = any ($1::uuid[]) and blocked;

-- Count new messages of reads; a read that has all of them is due at once. Of several totals the greatest counts: a
-- read is not complete while one of its messages announces more.
-- name: count_messages
with counted as (
    update sub_job s
    set last_message_at = clock_timestamp(), result_total = greatest(t.total, s.result_total), messages = s.messages + t.messages,
        objects_cause = null, objects_since = null,
        attention = s.attention or s.lease is not null
                    and coalesce(s.messages + t.messages >= greatest(t.total, s.result_total), false),
        due_at = case when s.lease is null and s.stage = 'COLLECTING'
                           and s.messages + t.messages >= greatest(t.total, s.result_total)
                      then clock_timestamp() else s.due_at end
    from (select sub_job_id, max(total) as total, count(*) filter (where is_new) as messages
          from unnest($1::uuid[], $2::integer[], $3::boolean[]) as m (sub_job_id, total, is_new) group by sub_job_id) t
    where s.sub_job_id = t.sub_job_id
    returning s.sub_job_id, s.lease, s.attention, s.lease is null and s.due_at <= clock_timestamp() as due
)
select sub_job_id, due, case when lease is not null and attention then pg_notify('datajobs_sub_job', sub_job_id::text) end
from counted;

-- The DELETE of a whole job at one plugin: one row of bulk_cancel, due and leased like a sub-job. Locks: data_job,
-- bulk_cancel, then as in sub_jobs.sql.

-- The plugins that get one DELETE for a whole cancelled job. A sub-job that was not sent needs no call. The caller has
-- locked the job and its open sub-jobs.
-- name: add_bulk_cancels
insert into bulk_cancel (job_id, plugin_id)
select distinct s.job_id, s.plugin_id
from sub_job s join dmi_plugin p using (plugin_id)
where s.job_id = $1 and p.bulk_cancel and s.stage in ('STARTING', 'TRACKING', 'COLLECTING')
on conflict do nothing
returning plugin_id;

-- The dialect is that in which the plugin accepted a sub-job of the job, if it has accepted one.
-- $1 token, $2 worker, $3 seconds, $4 rows.
-- name: claim_bulk_cancels
with picked as (
    select job_id, plugin_id from bulk_cancel
    where due_at is not null and (due_at <= now() and lease is null or leased_until < now())
    order by due_at limit $4 for update skip locked
), leased as (
    update bulk_cancel b
    set lease = $1, leased_by = $2, leased_until = clock_timestamp() + make_interval(secs => $3)
    from picked where b.job_id = picked.job_id and b.plugin_id = picked.plugin_id
    returning b.job_id, b.plugin_id, b.lease, b.failing_since
)
select l.job_id, l.lease, l.plugin_id, p.url, p.give_up, j.type <> 'WRITE' as is_read,
       coalesce((select min(s.dialect) from sub_job s
                 where s.job_id = l.job_id and s.plugin_id = l.plugin_id and s.data_producer_job_id is not null),
                nullif(p.dialect, 'auto'), p.found_dialect, 'seed') as dialect,
       coalesce(extract(epoch from clock_timestamp() - l.failing_since), 0)::float8 as failing_for
from leased l join data_job j using (job_id) join dmi_plugin p using (plugin_id);

-- name: renew_bulk_cancels
with held as materialized (
    select b.job_id, b.plugin_id
    from bulk_cancel b join unnest($1::uuid[], $2::bigint[], $3::uuid[]) as h (job_id, plugin_id, lease)
         using (job_id, plugin_id, lease)
    for no key update of b skip locked
)
update bulk_cancel b set leased_until = clock_timestamp() + make_interval(secs => $4)
from held h where b.job_id = h.job_id and b.plugin_id = h.plugin_id;

-- $4: seconds until it is due again; null: it is answered.
-- name: release_bulk_cancel
update bulk_cancel
set due_at = clock_timestamp() + make_interval(secs => $4), refused = $5,
    failing_since = coalesce(failing_since, case when $6 then clock_timestamp() end),
    lease = null, leased_by = null, leased_until = null
where job_id = $1 and plugin_id = $2 and lease = $3
returning 1;
