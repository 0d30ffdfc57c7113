-- SPDX-License-Identifier: Apache-2.0
-- A cancel goes before all else: one DELETE for a whole job at each plugin that can take it, and an index of its own
-- for the sub-jobs that are to be cancelled one by one.

alter table dmi_plugin add column bulk_cancel boolean not null default false; -- takes the DELETE of a whole job

-- What a plugin is to be told, or was told, of a cancelled job: it starts nothing more of that job. The row is due and
-- leased like a sub-job. It stays with its job: a create that is answered later needs no DELETE of its own.
create table bulk_cancel (
    job_id        uuid not null references data_job on delete cascade,
    plugin_id     bigint not null references dmi_plugin,
    due_at        timestamptz default clock_timestamp(),        -- null: answered, or given up
    refused       boolean not null default false,               -- the sub-jobs are cancelled one by one instead
    trouble_since timestamptz,                                  -- the first of the failed calls
    lease         uuid,
    leased_by     uuid,
    leased_until  timestamptz,
    primary key (job_id, plugin_id),
    constraint bulk_cancel_lease check ((lease is null) = (leased_until is null))
);
create index bulk_cancel_due on bulk_cancel (due_at) where due_at is not null;

drop index sub_job_due_create;
drop index sub_job_due_call;
create index sub_job_due_create on sub_job (plugin_id, due_at) where stage = 'ADMITTED' and lease is null and not cancel_asked;
create index sub_job_due_call on sub_job (plugin_id, due_at)
    where stage <> 'ADMITTED' and lease is null and due_at is not null and not cancel_asked;
create index sub_job_due_cancel on sub_job (plugin_id, due_at) where cancel_asked and lease is null and due_at is not null;
