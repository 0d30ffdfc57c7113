-- SPDX-License-Identifier: Apache-2.0
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
select l.job_id, l.lease, l.plugin_id, p.url, p.dialect, p.give_up, j.type = 'READ' as is_read,
       coalesce(extract(epoch from clock_timestamp() - l.failing_since), 0)::float8 as failing_for
from leased l join data_job j using (job_id) join dmi_plugin p using (plugin_id);

-- name: renew_bulk_cancels
with held as materialized (
    select b.job_id, b.plugin_id
    from bulk_cancel b join unnest($1::uuid[], $2::bigint[], $3::uuid[]) as h (job_id, plugin_id, lease) using (job_id, plugin_id, lease)
    for no key update of b skip locked
)
update bulk_cancel b set leased_until = clock_timestamp() + make_interval(secs => $4)
from held h where b.job_id = h.job_id and b.plugin_id = h.plugin_id;

-- name: postpone_bulk_cancel
update bulk_cancel
set due_at = clock_timestamp() + make_interval(secs => $4),
    failing_since = case when $5 then coalesce(failing_since, clock_timestamp()) else failing_since end,
    lease = null, leased_by = null, leased_until = null
where job_id = $1 and plugin_id = $2 and lease = $3;

-- name: end_bulk_cancel
update bulk_cancel set due_at = null, refused = $4, lease = null, leased_by = null, leased_until = null
where job_id = $1 and plugin_id = $2 and lease = $3
returning 1;
