-- SPDX-License-Identifier: Apache-2.0
-- What keeps memory and tables bounded: the size of a sub-job's operations is known before they are loaded,
-- retention finds what is old without reading everything, and the task engine keeps no log.

alter table sub_job add column body_bytes bigint;  -- the operations for the plugin, uncompressed; null: not known

create index data_job_ended on data_job (ended_at) where ended_at is not null;
create index idempotency_key_created on idempotency_key (created_at);
create index bus_message_at on bus_message (at);

-- PgQueuer writes a row for every step of every task and removes none. Nobody reads them.
create function keep_no_row() returns trigger language plpgsql as $$
begin
    return null;
end
$$;
create trigger keep_no_task_log before insert on pgqueuer_log for each row execute function keep_no_row();
truncate pgqueuer_log;

-- Rows of these change many times a second: dead ones go before they make the tables grow.
alter table pgqueuer set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
alter table lane set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
alter table outbox set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
alter table sub_job set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
alter table data_job set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
