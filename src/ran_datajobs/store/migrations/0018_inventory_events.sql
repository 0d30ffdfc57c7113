-- SPDX-License-Identifier: Apache-2.0
-- Events of CM handles are published through the outbox. They belong to no job: their job_id is the nil UUID, and their
-- shard is -1, so that an older worker publishes them as messages too.

insert into outbox_shard (shard) values (-1);

-- A failure of these events, like one of a job's messages, parks them; a job's failures end with the job.
alter table delivery_failure
    drop constraint delivery_failure_job_id_fkey,
    add column of_job uuid generated always as (nullif(job_id, '00000000-0000-0000-0000-000000000000')) stored
        references data_job on delete cascade;
create index delivery_failure_of_job on delivery_failure (of_job);
