-- SPDX-License-Identifier: Apache-2.0
-- Columns and a table get the names that are used elsewhere for what they hold. No row changes.
--
-- No process of an older version may be running: it would read and write the old names. The caller has checked that.

alter table data_job rename column cancel_asked to cancel_requested;
alter table data_job rename column fanned_out to split_reads;
alter table data_job rename column delivery to delivery_number;

alter table sub_job rename column cancel_asked to cancel_requested;
alter table sub_job rename column trouble_since to failing_since;
alter table sub_job rename column last_part_at to last_message_at;
alter table sub_job rename column told to reported_status;

alter table bulk_cancel rename column trouble_since to failing_since;
alter table lane_client rename column served_at to last_started_at;
alter table result_part rename column piece to fragment;

alter table outbox rename column delivery to delivery_number;
alter table outbox_shard rename column head to last_position;
alter table bus_topic rename column head to next_offset;

alter table delivery_trouble rename to delivery_failure;
alter table delivery_failure rename column since to first_failed_at;
alter table delivery_failure rename column tries to attempts;
alter table delivery_failure rename column cause to last_error;
alter table delivery_failure rename constraint delivery_trouble_pkey to delivery_failure_pkey;
alter index delivery_trouble_shard rename to delivery_failure_shard;
alter table delivery_failure rename constraint delivery_trouble_job_id_fkey to delivery_failure_job_id_fkey;
