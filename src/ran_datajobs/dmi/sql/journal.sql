-- SPDX-License-Identifier: Apache-2.0
-- Journal of the reference plugin (SQLite). Only the plugin reads and writes these tables.

-- name: create_job
create table if not exists job (
    number           integer primary key,  -- order of arrival
    job_id           text not null unique, -- data-producer-job id
    idempotency_key  text unique,          -- null when none was given
    fingerprint      blob not null,        -- SHA-256 of the whole request
    data_producer_id text not null,
    accepted         blob not null,        -- AcceptedJob as JSON
    operations       blob,                 -- zstd of the JSON array; null once terminal
    status           text not null,
    cancel_asked     integer not null default 0,
    started          integer not null default 0, -- operations whose execution may have begun
    done             integer not null default 0, -- operations with an outcome; done <= started
    succeeded        integer not null default 0,
    stopped          integer not null default 0, -- a failure under STOP_ON_ERROR: nothing more is executed
    messages         integer,              -- a read's messages, once all are here
    published        integer not null default 0, -- how many of them the bus has
    ended_at         real                  -- seconds since 1970, once terminal
) strict;

-- name: create_outcome
create table if not exists outcome (
    job_id    text not null references job (job_id) on delete cascade,
    first     integer not null,            -- 0-based place of the first operation
    responses blob not null,               -- zstd of the responses, comma-separated JSON
    primary key (job_id, first)
) strict, without rowid;

-- name: create_message
create table if not exists message (
    job_id   text not null references job (job_id) on delete cascade,
    sequence integer not null,
    value    blob not null,                -- zstd
    primary key (job_id, sequence)
) strict;

-- name: create_execution
create table if not exists execution (
    number        integer primary key,     -- order of execution
    job_id        text not null references job (job_id) on delete cascade,
    first         integer not null,
    operation_ids blob not null            -- JSON array
) strict;

-- name: create_execution_index
create index if not exists execution_job on execution (job_id);

-- name: create_cancelled
create table if not exists cancelled (
    request_id text primary key,           -- nothing more of this data job is started
    at         real not null               -- seconds since 1970
) strict, without rowid;

-- name: insert_cancelled
insert into cancelled (request_id, at) values (?, ?) on conflict do update set at = excluded.at;

-- name: all_cancelled
select request_id from cancelled;

-- name: forget_cancelled
delete from cancelled where at < ? returning request_id;

-- name: job_by_key
select job_id, fingerprint from job where idempotency_key = ?;

-- name: insert_job
insert into job (job_id, idempotency_key, fingerprint, data_producer_id, accepted, operations, status)
values (?, ?, ?, ?, ?, ?, ?);

-- name: all_jobs
select accepted, status, cancel_asked, started, done, succeeded, stopped, messages, published
from job order by number;

-- name: operations
select operations from job where job_id = ?;

-- name: insert_execution
insert into execution (job_id, first, operation_ids) values (?, ?, ?);

-- name: delete_execution
delete from execution where job_id = ? and first = ?;

-- name: insert_outcome
insert into outcome (job_id, first, responses) values (?, ?, ?);

-- name: update_job
update job set status = ?, cancel_asked = ?, started = ?, done = ?, succeeded = ?, stopped = ?,
               messages = ?, published = ?
where job_id = ?;

-- name: end_job
update job set operations = null, ended_at = ? where job_id = ?;

-- name: outcomes
select responses from outcome where job_id = ? and first >= ? order by first limit ?;

-- name: outcome_places
select first from outcome where job_id = ? order by first;

-- name: insert_message
insert into message (job_id, sequence, value) values (?, ?, ?);

-- name: messages
select value from message where job_id = ? and sequence >= ? order by sequence limit ?;

-- name: delete_messages
delete from message where job_id = ?;

-- name: history
select execution.number, job.accepted, execution.operation_ids
from execution join job using (job_id)
where job.data_producer_id = ? and execution.number > ?
order by execution.number limit ?;

-- name: ended_before
select job_id from job where ended_at < ? order by ended_at limit ?;

-- name: delete_job
delete from job where job_id = ?;
