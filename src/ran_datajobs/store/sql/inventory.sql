-- SPDX-License-Identifier: Apache-2.0

-- name: lock_inventory
select nextval('inventory_version') from pg_advisory_xact_lock(7012002);

-- name: plugin_by_url
select * from dmi_plugin where url = $1;

-- name: save_plugin
insert into dmi_plugin (version, url, dialect, idempotent, stop_on_error, give_up, sub_job_timeout, read_slots, bulk_cancel,
                        selectors, operation_properties, guards, before_images)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
on conflict (url) do update
set dialect = excluded.dialect, idempotent = excluded.idempotent, stop_on_error = excluded.stop_on_error,
    give_up = excluded.give_up, sub_job_timeout = excluded.sub_job_timeout, read_slots = excluded.read_slots,
    bulk_cancel = excluded.bulk_cancel, selectors = excluded.selectors,
    operation_properties = excluded.operation_properties, guards = excluded.guards,
    before_images = excluded.before_images, version = excluded.version
returning plugin_id;

-- name: speaks_other
select true from dmi_plugin where plugin_id = $1 and dialect = 'auto' and found_dialect is distinct from $2;

-- name: save_found_dialect
update dmi_plugin set found_dialect = $2, version = $3
where plugin_id = $1 and dialect = 'auto' and found_dialect is distinct from $2
returning true;

-- name: set_model_plugin
update dmi_plugin set model_plugin_id = $2 where plugin_id = $1 and model_plugin_id is distinct from $2;

-- name: handles_by_id
select * from cm_handle where not removed and cm_handle = any ($1::text[]);

-- name: followed_ids
select cm_handle from cm_handle where followed and not removed;

-- name: claim_following
select pg_try_advisory_lock(7263406);

-- name: check_session
select 1;

-- name: holders_of
select alternate_key, cm_handle from cm_handle where not removed and alternate_key = any ($1::text[]);

-- name: release_alternate_keys
update cm_handle set alternate_key = null
where not removed and alternate_key is not null and cm_handle = any ($1::text[]);

-- name: remove_handles
update cm_handle
set removed = true, removed_at = clock_timestamp(), alternate_id = null, alternate_key = null, private_properties = '{}',
    public_properties = '{}', read_plugin_id = null, write_plugin_id = null, version = $2
where cm_handle = any ($1::text[]);

-- name: save_handles
insert into cm_handle (version, cm_handle, plugin_id, alternate_id, alternate_key, data_producer_id, module_set_tag,
                       private_properties, public_properties, trust_level, read_plugin_id, write_plugin_id, followed)
select $1, cm_handle, plugin_id, alternate_id, alternate_key, data_producer_id, module_set_tag, private_properties,
       public_properties, trust_level, read_plugin_id, write_plugin_id, followed
from json_populate_recordset(null::cm_handle, $2::json)
on conflict (cm_handle) do update
set alternate_id = excluded.alternate_id, alternate_key = excluded.alternate_key, plugin_id = excluded.plugin_id,
    data_producer_id = excluded.data_producer_id, module_set_tag = excluded.module_set_tag,
    private_properties = excluded.private_properties, public_properties = excluded.public_properties,
    trust_level = excluded.trust_level, read_plugin_id = excluded.read_plugin_id,
    write_plugin_id = excluded.write_plugin_id, followed = excluded.followed, version = excluded.version,
    removed = false, removed_at = null, updated_at = now();

-- name: versions
select greatest((select max(version) from cm_handle), (select max(version) from dmi_plugin), inventory_version) as newest,
       inventory_version as pruned
from pruned;

-- alternate_key is null in a tombstone. read_plugin_id is null in a handle without a plugin.
-- name: owners_since
select cm_handle, alternate_key, coalesce(read_plugin_id, plugin_id) as read_plugin_id,
       coalesce(write_plugin_id, plugin_id) as write_plugin_id, data_producer_id, module_set_tag,
       convert_to(private_properties::text, 'UTF8') as private_properties
from cm_handle where version > $1;

-- name: plugins_since
select * from dmi_plugin where version > $1;
