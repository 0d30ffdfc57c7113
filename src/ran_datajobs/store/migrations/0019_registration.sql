-- SPDX-License-Identifier: Apache-2.0
-- A plugin is never deleted, and a registration stores it before its handles: checking each inserted handle for it takes
-- a twentieth of the time of a registration.

alter table cm_handle
    drop constraint cm_handle_plugin_id_fkey,
    drop constraint cm_handle_read_plugin_id_fkey,
    drop constraint cm_handle_write_plugin_id_fkey;
