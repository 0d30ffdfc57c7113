-- SPDX-License-Identifier: Apache-2.0
-- The whole state of the service. The states and their arrows are in docs/lifecycle.md and in job.py.

create type job_status as enum (
    'NOT_STARTED', 'RUNNING', 'FINISHED', 'FAILED', 'PARTIALLY_FAILED', 'CANCELLING', 'CANCELLED'
);
create type delivery_state as enum ('PENDING', 'DELIVERED', 'FAILED');
create type job_type as enum ('READ', 'WRITE');
create type destination_kind as enum ('BUCKET', 'TOPIC');

-- Where a sub-job stands in its lane.
create type sub_job_stage as enum (
    'READY',       -- waits for its turn
    'STARTING',    -- the POST was about to be sent: after a crash its outcome is unknown
    'TRACKING',    -- the plugin has it; its status is polled
    'COLLECTING',  -- terminal at the plugin; the result is being fetched
    'SETTLED'      -- counted; nothing more happens
);

-- A DMI plugin, by the URL under which it was registered.
create table dmi_plugin (
    plugin_id       bigint generated always as identity primary key,
    url             text not null unique,
    dialect         text not null default 'seed',
    idempotent      boolean not null default false,
    stop_on_error   boolean not null default false,
    give_up         double precision,              -- seconds; null: the service's setting
    sub_job_timeout double precision,              -- seconds; null: the service's setting
    read_slots      integer,                       -- reads beside the one write; null: the service's setting
    version         bigint not null default 0      -- inventory_version at the last change
);
create index dmi_plugin_version on dmi_plugin (version);

-- CM handles. A removed one stays as a tombstone so that lookup indexes can follow by version.
create sequence inventory_version;
create table cm_handle (
    cm_handle          text primary key,
    alternate_id       text,                       -- as registered
    alternate_key      text,                       -- normal form: fdn.key
    plugin_id          bigint not null references dmi_plugin,
    data_producer_id   text not null default '',
    module_set_tag     text not null default '',
    private_properties jsonb not null default '{}',
    public_properties  jsonb not null default '{}',
    trust_level        text not null default '',
    version            bigint not null,
    removed            boolean not null default false
);
create unique index cm_handle_alternate_key on cm_handle (alternate_key) where not removed and alternate_key is not null;
create index cm_handle_version on cm_handle (version);

create table data_job (
    job_id          uuid primary key,
    seq             bigint generated always as identity unique,  -- order of submission
    client          text not null,
    type            job_type not null,
    name            text,
    destination     text,                          -- as the client named it, without kind prefix; null: none
    destination_kind destination_kind not null,
    results_bucket  text not null,                 -- where the objects are
    accept_type     text not null,
    content_type    text not null,
    activation_mode text not null,
    priority        smallint not null,
    after_jobs      uuid[] not null default '{}',
    blocked         boolean not null default false, -- an "after" job is not terminal yet
    retry_of        uuid,
    status          job_status not null default 'NOT_STARTED',
    planned         boolean not null default false,
    fanned_out      boolean not null default false, -- a read with several parts: counted when it ends
    cancel_asked    boolean not null default false,
    operations      integer not null,
    succeeded       integer not null default 0,
    failed          integer not null default 0,
    unmatched       integer not null default 0,
    not_started     integer not null default 0,
    unknown         integer not null default 0,
    sub_jobs        integer not null default 0,
    sub_jobs_open   integer not null default 0,
    cancelled_sub_jobs integer not null default 0, -- sub-jobs that a cancel stopped
    reason          text,
    delivery        integer not null default 1,    -- ce_delivery: raised by a redeliver
    delivery_state  delivery_state not null default 'PENDING',
    created_at      timestamptz not null default now(),
    started_at      timestamptz,
    ended_at        timestamptz,
    version         bigint not null default 1      -- raised by every visible change, under the row's lock
);
create index data_job_client_seq on data_job (client, seq desc);
create index data_job_status_seq on data_job (status, seq desc);
create index data_job_open on data_job (client) where status in ('NOT_STARTED', 'RUNNING', 'CANCELLING');
create index data_job_after on data_job using gin (after_jobs) where blocked;
create index data_job_topic on data_job (destination, client) where destination_kind = 'TOPIC';

-- The bytes of the request, zstd, kept for planning and for retries.
create table job_request (
    job_id uuid primary key references data_job on delete cascade,
    body   bytea not null
);
alter table job_request alter column body set storage external;

create table idempotency_key (
    client     text not null,
    key        text not null,
    digest     bytea not null,                     -- sha256 of query and body
    job_id     uuid not null references data_job on delete cascade,
    created_at timestamptz not null default now(),
    primary key (client, key)
);
create index idempotency_key_job on idempotency_key (job_id);

-- A lane is one (plugin, data producer). Its epoch fences every holder but the newest.
create table lane (
    lane_id          bigint generated always as identity primary key,
    plugin_id        bigint not null references dmi_plugin,
    data_producer_id text not null,
    wanted           boolean not null default false, -- something changed since the holder looked
    epoch            bigint not null default 0,
    held_by          uuid,                         -- worker_id
    task_id          bigint,                       -- the holder's PgQueuer task
    closed_until     timestamptz,                  -- no write is started before: one may still be running
    unique (plugin_id, data_producer_id)
);

-- A worker process holds its lanes as long as it is alive by the database's clock.
create table worker (
    worker_id   uuid primary key,
    alive_until timestamptz not null
);

create table sub_job (
    sub_job_id   uuid primary key,
    job_id       uuid not null references data_job on delete cascade,
    position     integer not null,                 -- order within the job
    lane_id      bigint not null references lane,
    type         job_type not null,
    job_seq      bigint not null,
    client       text not null,
    priority     smallint not null,
    blocked      boolean not null default false,
    stage        sub_job_stage not null default 'READY',
    status       job_status not null default 'NOT_STARTED',
    body         bytea,                            -- the operations for the plugin, zstd; null once settled
    operations   integer not null,
    succeeded    integer not null default 0,
    failed       integer not null default 0,
    not_started  integer not null default 0,
    unknown      integer not null default 0,
    data_producer_job_id text,
    cancel_asked boolean not null default false,   -- still to be told to the plugin, or to be settled unsent
    attempts     integer not null default 0,       -- creates sent
    last_error   text,
    result_topic text,                             -- READ: where its messages come
    result_total integer,                          -- READ: ce_total, once known
    created_at   timestamptz not null default now(),
    started_at   timestamptz,
    due_at       timestamptz,                      -- next poll
    polls        integer not null default 0,
    trouble_since timestamptz,                     -- first of a run of failed calls
    last_part_at timestamptz,                      -- READ: last message taken
    ended_at     timestamptz,
    version      bigint not null default 1,        -- data_job.version at the last visible change
    unique (job_id, position)
);
alter table sub_job alter column body set storage external;
create index sub_job_open on sub_job (lane_id, type, priority desc, job_seq) where stage <> 'SETTLED';
create index sub_job_version on sub_job (job_id, version);
create index sub_job_producer_job on sub_job (data_producer_job_id) where stage in ('TRACKING', 'COLLECTING');

-- One row per result object. sub_job is a sub-job id, or 'unmatched'.
create table result_part (
    job_id     uuid not null references data_job on delete cascade,
    sub_job    text not null,
    sequence   integer not null,
    key        text not null,
    bytes      bigint not null,
    sha256     text not null,
    operations integer not null,
    failed     integer not null,                   -- operations in it that did not succeed
    outcomes   bytea,                              -- READ, from the bus: {operation id: state}, JSON, zstd
    primary key (job_id, sub_job, sequence)
);

-- Names this store for good: what others keep for it (positions, transactions) is of no use to a new one.
create table installation (
    installation_id uuid primary key default gen_random_uuid()
);
insert into installation default values;

-- What is still to be published, in one total order per shard of jobs.
create table outbox_shard (
    shard smallint primary key,
    head  bigint not null default 0,               -- last position given out; its row lock orders commits
    published bigint not null default 0            -- last position known to be published
);
insert into outbox_shard (shard) select generate_series(0, 7);
create table outbox (
    shard      smallint not null references outbox_shard,
    position   bigint not null,
    job_id     uuid not null,
    topic      text not null,
    key        text not null,
    headers    jsonb not null,
    value      bytea,                              -- the message, or
    object_key text,                               -- the result object that is the message; neither: no message
    bucket     text,
    bytes      bigint not null default 0,          -- of the value or of the object
    delivery   integer not null default 1,         -- which delivery of the job this belongs to
    ends_delivery boolean not null default false,  -- the job's deliveryState is DELIVERED once this is out
    primary key (shard, position)
);
create index outbox_job on outbox (shard, job_id, topic);

-- A topic that does not take a job's messages. While parked, they are passed over by their shard; at retry_at
-- they join its end again, in their order.
create table delivery_trouble (
    job_id   uuid not null references data_job on delete cascade,
    topic    text not null,
    shard    smallint not null,
    since    timestamptz not null default clock_timestamp(),
    retry_at timestamptz not null,
    tries    integer not null default 1,
    parked   boolean not null default false,
    cause    text not null,
    primary key (job_id, topic)
);
create index delivery_trouble_shard on delivery_trouble (shard, retry_at);

-- The embedded bus: topics as rows.
create table bus_topic (
    topic text primary key,
    head  bigint not null default 0                -- next offset; its row lock orders commits
);
create table bus_message (
    topic        text not null references bus_topic,
    message_offset bigint not null,
    job_id       uuid,
    key          text,
    headers      jsonb not null,
    value        bytea not null,
    at           timestamptz not null default now(),
    primary key (topic, message_offset)
);
create index bus_message_job on bus_message (topic, job_id, message_offset);
create table bus_shard (
    shard    smallint primary key,
    epoch    bigint not null,                      -- fences every publisher of the shard but the newest
    position bigint not null default -1            -- last outbox position that readers can see
);
create table bus_position (
    consumer text not null,
    topic    text not null,
    next_offset bigint not null,
    primary key (consumer, topic)
);

-- Whoever shows a job to somebody listens here; the payload is the job id.
create function notify_job_changed() returns trigger language plpgsql as $$
begin
    perform pg_notify('datajobs_changed', new.job_id::text);
    return null;
end
$$;
create trigger data_job_changed after insert or update of version on data_job
    for each row execute function notify_job_changed();

-- The publishers listen here; the payload is the shard.
create function notify_outbox() returns trigger language plpgsql as $$
begin
    perform pg_notify('datajobs_outbox', new.shard::text);
    return null;
end
$$;
create trigger outbox_added after update of head on outbox_shard for each row execute function notify_outbox();
