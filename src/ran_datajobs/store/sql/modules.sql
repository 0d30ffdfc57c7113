-- SPDX-License-Identifier: Apache-2.0
-- The YANG modules of CM handles, and which of them the plugins are still to be asked for. A transaction locks in this
-- order: modules_position, cm_handle_modules, dmi_plugin.

-- name: newest
select p.inventory_version as noted, h.version as newest
from modules_position p, (select max(version) as version from cm_handle) h
where h.version > p.inventory_version;

-- Null while another worker has it.
-- name: lock_position
select inventory_version from modules_position for update skip locked;

-- Handles that were registered or changed after the version $1, up to $2: their modules are to be asked for, unless they
-- are known. A plugin that is being asked, or that is asked again later, keeps its time.
-- name: note_handles
with come as (
    insert into cm_handle_modules (plugin_id, module_set_tag, cm_handle)
    select distinct plugin_id, module_set_tag, case when module_set_tag = '' then cm_handle else '' end
    from cm_handle where version > $1 and version <= $2 and not removed and plugin_id is not null
    order by 1, 2, 3
    on conflict (plugin_id, module_set_tag, cm_handle) do update set pending = true where cm_handle_modules.module_set_id is null
    returning plugin_id
), moved as (
    update modules_position set inventory_version = $2
)
update dmi_plugin set modules_due_at = coalesce(modules_due_at, clock_timestamp())
where plugin_id in (select plugin_id from come);

-- Remove what no handle has any more. The caller has locked the position: a handle that is registered meanwhile has a
-- newer version, and is noted later.
-- name: forget
delete from cm_handle_modules m
where case -- one subquery for each row: of two anti-joins, the second would compare all untagged handles with each other
    when m.cm_handle = '' then not exists (
        select from cm_handle h
        where h.plugin_id = m.plugin_id and h.module_set_tag = m.module_set_tag and not h.removed)
    else not exists (
        select from cm_handle h
        where h.cm_handle = m.cm_handle collate "C" and not h.removed and h.plugin_id = m.plugin_id
          and h.module_set_tag = '')
end;

-- name: forget_sets
delete from module_set s where not exists (select from cm_handle_modules m where m.module_set_id = s.module_set_id);

-- Plugins that are due, for $1 seconds. url: of the plugin that is asked.
-- name: claim
with due as (
    select plugin_id from dmi_plugin where modules_due_at <= now() order by modules_due_at limit $2 for update skip locked
), claimed as (
    update dmi_plugin p set modules_due_at = clock_timestamp() + make_interval(secs => $1)
    from due where p.plugin_id = due.plugin_id
    returning p.plugin_id, p.url, p.model_plugin_id
)
select c.plugin_id, coalesce(m.url, c.url) as url from claimed c left join dmi_plugin m on m.plugin_id = c.model_plugin_id;

-- name: keep_claim
update dmi_plugin set modules_due_at = clock_timestamp() + make_interval(secs => $2) where plugin_id = $1;

-- What a plugin is to be asked for, with the handle to ask about; after a failure, with the next handle of the same tag.
-- name: pending
select m.module_set_tag, m.cm_handle, coalesce(u.cm_handle, t.cm_handle) as asked,
       coalesce(u.private_properties, t.private_properties) as properties
from (select * from cm_handle_modules where plugin_id = $1 and pending order by attempts limit $2) m
left join lateral ( -- offset 0: found by its id, not among all handles of the plugin
    select h.* from cm_handle h where h.cm_handle = m.cm_handle collate "C" offset 0
) u on u.plugin_id = m.plugin_id and u.module_set_tag = '' and not u.removed
left join lateral (
    select h.cm_handle, h.private_properties from cm_handle h
    where m.cm_handle = '' and h.plugin_id = m.plugin_id and h.module_set_tag = m.module_set_tag and not h.removed
    order by h.cm_handle > coalesce(m.asked, '') collate "C" desc, h.cm_handle collate "C" limit 1) t on true;

-- Whether the set with the digest $2 is stored, or the plugin has fewer than $3 sets. They are counted for a new set only.
-- name: may_be_stored
select case when exists (select from module_set where digest = $2) then true
            else (select count(distinct module_set_id) from cm_handle_modules where plugin_id = $1) < $3 end;

-- A set that exists is locked, so that it is not removed before a row names it.
-- name: save_set
insert into module_set (digest, names, modules) values ($1, $2, $3)
on conflict (digest) do update set digest = excluded.digest
returning module_set_id;

-- name: answered
update cm_handle_modules m set module_set_id = $4, pending = false, attempts = 0, asked = null
from unnest($2::text[], $3::text[]) as q (module_set_tag, cm_handle)
where m.plugin_id = $1 and m.module_set_tag = q.module_set_tag and m.cm_handle = q.cm_handle collate "C";

-- name: failed
update cm_handle_modules set attempts = attempts + 1, asked = $4
where plugin_id = $1 and module_set_tag = $2 and cm_handle = $3
returning attempts;

-- name: not_offered
update cm_handle_modules set pending = false where plugin_id = $1 and pending;

-- name: lock_plugin
select from dmi_plugin where plugin_id = $1 for no key update;

-- $2: seconds until the plugin is asked again, if anything is left to ask for. The caller has locked it.
-- name: release
update dmi_plugin p
set modules_due_at = case when exists (select from cm_handle_modules m where m.plugin_id = p.plugin_id and m.pending)
                          then clock_timestamp() + make_interval(secs => $2) end
where plugin_id = $1;
