-- SPDX-License-Identifier: Apache-2.0
-- What a sub-job does next, and where the results of a job are delivered, have names of their own.

create type next_call as enum (
    'CREATE',      -- its create is to be sent, or may have been sent
    'DELETE',      -- its plugin is to cancel it
    'END_UNSENT',  -- it was cancelled before its start and ends without a call
    'OTHER'        -- a poll or a fetch
);
create function next_call(stage sub_job_stage, cancel_requested boolean) returns next_call language sql immutable parallel safe
return case when stage = 'STARTING' or stage = 'ADMITTED' and not cancel_requested then 'CREATE'::next_call
            when not cancel_requested then 'OTHER'
            when stage in ('WAITING', 'ADMITTED') then 'END_UNSENT'
            else 'DELETE' end;

drop index sub_job_due_create;
drop index sub_job_due_call;
drop index sub_job_due_cancel;
create index sub_job_due on sub_job (next_call(stage, cancel_requested), plugin_id, due_at) where lease is null and due_at is not null;

-- A topic, or 's3:' and a bucket; null: the results stay in the service's own bucket.
alter table data_job add column delivery_topic text generated always as (
    case destination_kind when 'TOPIC' then destination else 's3:' || nullif(destination, results_bucket) end) stored;

-- A tombstone of a version without this time counts from now.
update cm_handle set removed_at = now() where removed and removed_at is null;

-- Rows that the retention of an older version has left.
delete from outbox o where not exists (select 1 from data_job j where j.job_id = o.job_id);
