-- SPDX-License-Identifier: Apache-2.0
-- What the service finds out about plugins: the dialect that accepted a sub-job, whether a plugin is up, and the YANG
-- modules of its CM handles.

-- The dialect of the operations in body, and, once the plugin has accepted the sub-job, that of every later call for it.
alter table sub_job add column dialect text;
update sub_job s set dialect = p.dialect from dmi_plugin p where p.plugin_id = s.plugin_id and s.stage <> 'SETTLED';

-- The health of a plugin, asked for periodically. The effective trust level of a CM handle h is NONE if its own is, or if
-- one of its plugins is down:
--   case when h.trust_level = 'NONE' or array[h.plugin_id, h.read_plugin_id, h.write_plugin_id]
--             && array(select plugin_id from dmi_plugin where not healthy) then 'NONE' else 'COMPLETE' end
alter table dmi_plugin
    add column healthy boolean,                              -- null: unknown: not asked yet, or the plugin reports none
    add column healthy_since timestamptz,                    -- since when it has been up, down or unknown
    add column health_cause text,                            -- why it is down
    add column health_due_at timestamptz not null default now(), -- when its health is asked for
    add column model_plugin_id bigint references dmi_plugin, -- the plugin that knows the modules of its handles; null: itself
    add column modules_due_at timestamptz;                   -- when it is asked for modules; null: nothing to ask

-- A set of YANG modules. Many handles have the same one, which is stored once.
create table module_set (
    module_set_id bigint generated always as identity primary key,
    digest        bytea not null unique,         -- SHA-256 of modules
    names         text[] not null,               -- of the modules, sorted, each once
    modules       jsonb not null                 -- [{"moduleName", "revision"}], sorted
);

-- The modules of all handles of a plugin that have one module set tag, or of one handle without a tag. Those of handle h:
--   cm_handle_modules m on m.plugin_id = h.plugin_id and m.module_set_tag = h.module_set_tag
--                       and m.cm_handle = case when h.module_set_tag = '' then h.cm_handle else '' end
-- h has all modules of $1::text[] if m joins a module_set with names @> $1.
create table cm_handle_modules (
    plugin_id      bigint not null references dmi_plugin,
    module_set_tag text not null,                -- '': of the one handle cm_handle
    cm_handle      text collate "C" not null,    -- '': of all handles with the tag
    module_set_id  bigint references module_set, -- null: not known
    pending        boolean not null default true, -- the plugin is to be asked
    attempts       integer not null default 0,   -- failed calls
    asked          text collate "C",             -- the handle of the last failed call
    primary key (plugin_id, module_set_tag, cm_handle)
);
create index cm_handle_modules_pending on cm_handle_modules (plugin_id, attempts) where pending;
create index cm_handle_modules_set on cm_handle_modules (module_set_id);

-- cm_handle_modules has the rows of all handles up to this version of the inventory.
create table modules_position (inventory_version bigint not null);
insert into modules_position values (-1);

create index cm_handle_plugin on cm_handle (plugin_id, module_set_tag) where not removed;
create index cm_handle_read_plugin on cm_handle (read_plugin_id) where read_plugin_id is not null and not removed;
create index cm_handle_write_plugin on cm_handle (write_plugin_id) where write_plugin_id is not null and not removed;
