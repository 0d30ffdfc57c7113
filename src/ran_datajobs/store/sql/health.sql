-- SPDX-License-Identifier: Apache-2.0
-- The health of DMI plugins. None of these statements changes the version of a plugin: lookup indexes need no health.

-- Plugins that are due, and when they are due again: $1 seconds later, whether or not the caller then records an answer.
-- The health of a plugin without CM handles is not asked for.
-- name: claim
with due as (
    select plugin_id from dmi_plugin where health_due_at <= now() order by health_due_at limit $2 for update skip locked
), claimed as (
    update dmi_plugin p
    set health_due_at = clock_timestamp() + make_interval(secs => $1)
    from due where p.plugin_id = due.plugin_id
    returning p.plugin_id, p.url
)
select plugin_id, url,
       exists (select from cm_handle h where h.plugin_id = c.plugin_id and not h.removed)
       or exists (select from cm_handle h where h.read_plugin_id = c.plugin_id and not h.removed)
       or exists (select from cm_handle h where h.write_plugin_id = c.plugin_id and not h.removed) as in_use
from claimed c;

-- Returns the health before, and whether it has changed.
-- name: record
with before as (
    select plugin_id, healthy, healthy_since from dmi_plugin where plugin_id = $1 for no key update
), changed as (
    update dmi_plugin p
    set healthy = $2, health_cause = $3,
        healthy_since = case when b.healthy_since is null or b.healthy is distinct from $2 then clock_timestamp()
                             else b.healthy_since end
    from before b
    where p.plugin_id = b.plugin_id
      and (b.healthy_since is null or b.healthy is distinct from $2 or p.health_cause is distinct from $3)
)
select healthy from before;
