-- SPDX-License-Identifier: Apache-2.0
-- A CM handle can have one plugin for reads and another for writes, and a plugin declares what its operations carry.

alter table cm_handle
    add column read_plugin_id bigint references dmi_plugin,     -- null: plugin_id
    add column write_plugin_id bigint references dmi_plugin;    -- null: plugin_id

-- The dialect can be 'auto' from now on.
alter table dmi_plugin
    add column found_dialect text,                              -- what a plugin of the dialect 'auto' was found to speak
    add column selectors boolean not null default false,        -- takes reads by data node selector
    add column operation_properties boolean not null default true; -- wants the properties of the CM handle in operations
