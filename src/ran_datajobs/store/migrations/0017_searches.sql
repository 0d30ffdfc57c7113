-- SPDX-License-Identifier: Apache-2.0
-- CM handles are searched and listed. Ids and normal forms of FDNs compare by their bytes: one index serves equality,
-- order and prefixes.

alter table cm_handle
    add column updated_at timestamptz not null default now(),   -- of the last registration that changed it
    alter column cm_handle type text collate "C",
    alter column alternate_key type text collate "C";
