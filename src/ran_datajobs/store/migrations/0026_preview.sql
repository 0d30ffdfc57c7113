-- SPDX-License-Identifier: Apache-2.0
-- A preview is a job of its own type. Its sub-jobs are reads: a sub-job of a preview as such, in which a worker that does
-- not know previews would send the writes, cannot be stored.

alter type job_type add value 'PREVIEW';

alter table sub_job add constraint sub_job_reads_or_writes check (type in ('READ', 'WRITE'));

alter table data_job
    add column preview jsonb, -- PREVIEW: number of operations by kind of effect, once it has ended
    add column reach jsonb;   -- PREVIEW: what the operations would change
