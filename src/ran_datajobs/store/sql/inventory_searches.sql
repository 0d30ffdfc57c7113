-- SPDX-License-Identifier: Apache-2.0
-- Searches and look-ups of CM handles. A parameter that is null restricts nothing. A query with a colon before a name has
-- that fragment there: comments of fragments stand below their names.

-- name: plan_for_the_values
-- A restriction that is not used costs nothing, and one that is can use its index.
set local plan_cache_mode = force_custom_plan;

-- name: conditions
-- What a handle h must have.
not h.removed
  and ($3::text[] is null or h.cm_handle = any ($3::text[]))
  and ($4::text[] is null or h.alternate_key = any ($4::text[]))
  and ($5::text[] is null or h.module_set_tag = any ($5::text[]))
  and ($6::text[] is null or h.data_producer_id = any ($6::text[]))
  and ($7::text[] is null or :trust_level = any ($7::text[]))
  and ($8::text[] is null or h.cm_handle like all ($8::text[]))
  and ($9::text[] is null or h.alternate_id like all ($9::text[]))
  and ($10::text[] is null or h.public_properties ?& $10::text[])
  and ($11::jsonb is null or h.public_properties @> $11::jsonb)
  and ($12::jsonb is null or h.private_properties @> $12::jsonb)
  and ($13::text[] is null or (
        select array_agg(plugin_id) from dmi_plugin where url = any ($13::text[]) having count(*) = cardinality($13::text[]))
      <@ array[h.plugin_id, h.read_plugin_id, h.write_plugin_id])
  and ($14::text[] is null or (h.plugin_id, h.module_set_tag, case h.module_set_tag when '' then h.cm_handle else '' end) in (
        select m.plugin_id, m.module_set_tag, m.cm_handle from cm_handle_modules m join module_set s using (module_set_id)
        where s.names @> $14::text[]))

-- name: trust_level
-- The worse of the registered level of a handle h and the health of its plugins.
case when h.trust_level = 'NONE'
          or array[h.plugin_id, h.read_plugin_id, h.write_plugin_id] && array(select plugin_id from dmi_plugin where not healthy)
     then 'NONE' else 'COMPLETE' end

-- name: state
-- The state of a handle h in ONAP's model: READY when it is registered.
'{"cmHandleState":"READY","dataSyncEnabled":false,"dataSyncState":{"operational":{"syncState":"NONE_REQUESTED"}},'
    || '"lastUpdateTime":"' || to_char(h.updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS') || '+0000"}'

-- name: leaves
-- What all objects of ONAP's model show of a handle h.
'"cmHandle":' || to_json(h.cm_handle)::text || ',"alternateId":' || to_json(coalesce(h.alternate_id, ''))::text
    || ',"moduleSetTag":' || to_json(h.module_set_tag)::text
    || ',"dataProducerIdentifier":' || to_json(h.data_producer_id)::text || ',"trustLevel":"' || :trust_level || '"'

-- name: search
-- The JSON text of each handle. $1: what it shows. $2: the private properties too.
select convert_to(case $1::text
    when 'ID' then '"' || h.cm_handle || '"' -- an id has letters, digits, '-' and '_' only
    when 'ALTERNATE_ID' then to_json(h.alternate_id)::text
    when 'LIGHTWEIGHT' then '{' || :leaves
        || case when $2::boolean then ',"dmiProperties":' || to_json(h.private_properties::text) else '' end || '}'
    when 'DETAILS' then '{' || :leaves || ',"publicCmHandleProperties":[' || h.public_properties::text || '],"state":' || :state
        || case when $2::boolean then ',"cmHandleProperties":' || h.private_properties::text else '' end || '}'
    when 'PROPERTIES' then '{"publicCmHandleProperties":[' || h.public_properties::text || ']}'
    when 'STATE' then '{"state":' || :state || '}'
    when 'MODULES' then coalesce((
        select s.modules::text from cm_handle_modules m join module_set s using (module_set_id)
        where m.plugin_id = h.plugin_id and m.module_set_tag = h.module_set_tag
          and m.cm_handle = case h.module_set_tag when '' then h.cm_handle else '' end), '[]')
    end, 'UTF8')
from cm_handle h
where :conditions
  and ($1::text <> 'ALTERNATE_ID' or h.alternate_id is not null);

-- name: owner_of
-- The handle of the longest of the keys, which are an FDN and its ancestors.
select cm_handle from cm_handle
where not removed and alternate_key = any ($1::text[])
order by length(alternate_key) desc limit 1;

-- name: owner
select h.cm_handle, h.alternate_id, h.data_producer_id, r.plugin_id as read_plugin_id, w.plugin_id as write_plugin_id,
       coalesce(r.url, '') as read_plugin, coalesce(w.url, '') as write_plugin
from cm_handle h
left join dmi_plugin r on r.plugin_id = coalesce(h.read_plugin_id, h.plugin_id)
left join dmi_plugin w on w.plugin_id = coalesce(h.write_plugin_id, h.plugin_id)
where not h.removed and h.alternate_key = any ($1::text[])
order by length(h.alternate_key) desc limit 1;

-- name: neighbours
-- The handles on both sides of a key in their order, and the first one below it: one of them has the longest prefix in
-- common with the key.
(select cm_handle, alternate_id, alternate_key from cm_handle
 where not removed and alternate_key >= $1::text || '/' and alternate_key < $1::text || '0' order by alternate_key limit 1)
union all
(select cm_handle, alternate_id, alternate_key from cm_handle
 where not removed and alternate_key > $1::text order by alternate_key limit 1)
union all
(select cm_handle, alternate_id, alternate_key from cm_handle
 where not removed and alternate_key < $1::text order by alternate_key desc limit 1);

-- name: open_jobs_of_owner
-- Open jobs with an open sub-job in a lane: a read of the first plugin or a write of the second one.
with lanes as materialized (
    select lane_id, plugin_id from lane where data_producer_id = $1 and plugin_id in ($2, $3)
), open as materialized (
    select distinct s.job_id
    from lanes l join sub_job s using (lane_id)
    where s.stage not in ('QUARANTINED', 'SETTLED')
      and (s.type = 'READ' and l.plugin_id = $2 or s.type = 'WRITE' and l.plugin_id = $3)
)
select j.job_id, j.name, j.type, j.status, count(*) over () as open_jobs
from open join data_job j using (job_id)
where j.status in ('NOT_STARTED', 'RUNNING', 'CANCELLING') and ($4::text is null or j.client = $4)
order by j.seq desc limit $5;

-- name: list_handles
-- $8: the private properties too. The plugins are joined to one page: the rows of joins on coalesce are estimated too low,
-- and the whole table would be sorted for each page.
-- $3: the address of a plugin; '': only handles without a plugin.
select h.cm_handle, h.alternate_id, h.data_producer_id, h.module_set_tag, coalesce(p.url, '') as dmi_plugin,
       coalesce(r.url, '') as read_plugin, coalesce(w.url, '') as write_plugin, :trust_level as trust_level,
       h.trust_level as registered_trust_level, h.public_properties,
       case when $8::boolean then h.private_properties end as private_properties, h.followed
from (
    select h.* from cm_handle h
    where not h.removed
      and ($1::text is null or h.alternate_key = $1 or h.alternate_key >= $1 || '/' and h.alternate_key < $1 || '0')
      and ($2::text is null or h.data_producer_id = $2)
      and ($3::text is null or $3 = '' and h.plugin_id is null
           or (select plugin_id from dmi_plugin where url = $3) in (h.plugin_id, h.read_plugin_id, h.write_plugin_id))
      and ($4::text is null or h.module_set_tag = $4)
      and ($5::text is null or h.alternate_id like $5 or h.cm_handle like $5)
      and ($6::text is null or h.cm_handle > $6)
      and ($9::text[] is null or h.cm_handle = any ($9))
    order by h.cm_handle limit $7) h
left join dmi_plugin p on p.plugin_id = h.plugin_id
left join dmi_plugin r on r.plugin_id = coalesce(h.read_plugin_id, h.plugin_id)
left join dmi_plugin w on w.plugin_id = coalesce(h.write_plugin_id, h.plugin_id)
order by h.cm_handle;

-- name: children
-- The RDNs directly below $1, a normal form with a slash behind it or '', from the key $3 on; $2: the first key behind
-- all that are below, or null. Each step skips the keys below the RDN that it has found. An RDN that is a handle is found
-- as such before the keys below it, with keys of other RDNs between them: it is new only then.
with recursive step as (
    select null::text collate "C" as rdn, null::text collate "C" as cm_handle, $3::text collate "C" as next,
           false as is_new, 0 as number
    union all
    select k.rdn, case when k.is_handle then k.cm_handle end,
           case when k.is_handle then k.alternate_key || E'\x01' else $1::text || k.rdn || '0' end,
           n.is_new, s.number + n.is_new::integer
    from step s
    cross join lateral (
        select h.cm_handle, h.alternate_key, split_part(substr(h.alternate_key, length($1::text) + 1), '/', 1) as rdn,
               strpos(substr(h.alternate_key, length($1::text) + 1), '/') = 0 as is_handle
        from cm_handle h
        where not h.removed and h.alternate_key >= s.next and ($2::text is null or h.alternate_key < $2)
        order by h.alternate_key limit 1) k
    cross join lateral (
        select k.is_handle or not exists (
            select 1 from cm_handle a where not a.removed and a.alternate_key = $1::text || k.rdn) as is_new) n
    where s.number <= $4::integer
)
select c.rdn, c.cm_handle, c.next, (c.cm_handle is not null)::integer + b.handles as handles
from step c cross join lateral (
    select count(*) as handles from cm_handle h
    where not h.removed and h.alternate_key >= $1::text || c.rdn || '/' and h.alternate_key < $1::text || c.rdn || '0'
      and c.number <= $4) b
where c.is_new;
