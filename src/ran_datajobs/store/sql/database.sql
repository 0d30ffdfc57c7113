-- SPDX-License-Identifier: Apache-2.0

-- name: create_schema_version
create table if not exists schema_version (
    number integer primary key, name text not null, applied_at timestamptz not null default now());

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

-- Until schema 8 the library of a task engine created tables of its own. A new database needs them until the
-- migrations that change and remove them have run.
-- name: create_retired_tables
create table if not exists pgqueuer (id bigint);
create table if not exists pgqueuer_log (id bigint);

-- Heartbeats of workers of a schema before 8. The lock blocks further heartbeats.
-- name: lock_old_workers
lock table worker in exclusive mode;

-- name: old_workers
select w.worker_id::text as worker_id, min(host(a.client_addr)) as address
from worker w left join pg_stat_activity a on a.application_name = $1 || w.worker_id
where w.alive_until > clock_timestamp()
group by w.worker_id order by w.worker_id;

-- Live workers of later schemas, by their sessions: a worker polls for due rows every second.
-- name: workers_with_sessions
select substr(application_name, length($1) + 1) as worker_id, min(host(client_addr)) as address
from pg_stat_activity
where datname = current_database() and starts_with(application_name, $1)
  and application_name not in ($1 || 'api', current_setting('application_name'))
group by 1
having max(state_change) > clock_timestamp() - interval '12 seconds'
order by 1;

-- A worker polls for due rows every second. One that sent no statement for 12 s is frozen or cut off.
-- name: end_sessions_of_silent_workers
select pg_terminate_backend(a.pid)
from pg_stat_activity a
where a.datname = current_database() and a.usename = current_user and a.application_name in (
    select w.application_name from pg_stat_activity w
    where w.datname = current_database() and w.usename = current_user
      and starts_with(w.application_name, $1) and w.application_name not in ($1 || 'api', current_setting('application_name'))
    group by w.application_name
    having max(w.state_change) < clock_timestamp() - interval '12 seconds');

-- name: ready
select 1;
