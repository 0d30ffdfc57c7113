-- SPDX-License-Identifier: Apache-2.0

-- name: create_schema_version
create table if not exists schema_version (number integer primary key, name text not null, applied_at timestamptz not null default now());

-- name: schema_version
select coalesce(max(number), 0) from schema_version;

-- name: record_migration
insert into schema_version (number, name) values ($1, $2);

-- name: lock_migrations
select pg_advisory_xact_lock(7263401);

-- name: wait_for_locks_briefly
set local lock_timeout = '2s';

-- name: wait_for_client
select set_config('idle_in_transaction_session_timeout', $1, true);

-- name: end_sessions_of_dead_workers
select pg_terminate_backend(a.pid)
from worker w join pg_stat_activity a on a.application_name = $1 || w.worker_id
where w.alive_until < clock_timestamp() and a.datname = current_database() and a.pid <> pg_backend_pid();

-- name: ready
select 1;
