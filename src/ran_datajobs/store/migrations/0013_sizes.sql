-- SPDX-License-Identifier: Apache-2.0
-- The size of the operations of every sub-job is known, and nobody needs the last published position.

update sub_job set body_bytes = coalesce(10 * octet_length(body), 0) where body_bytes is null;
alter table sub_job alter column body_bytes set default 0, alter column body_bytes set not null;
alter table outbox_shard drop column published;
