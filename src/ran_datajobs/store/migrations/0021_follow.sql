-- SPDX-License-Identifier: Apache-2.0
-- The inventory can follow that of an NCMP, which does not tell the plugin of each of its handles.

alter table cm_handle
    add column followed boolean not null default false, -- it is a handle of the NCMP that is followed
    alter column plugin_id drop not null;               -- null: none of the plugins that are followed has it
