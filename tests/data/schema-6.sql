-- SPDX-License-Identifier: Apache-2.0
-- A database of schema 6, kept by tests/data/keep.py.
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE TYPE public.delivery_state AS ENUM (
    'PENDING',
    'DELIVERED',
    'FAILED'
);
CREATE TYPE public.destination_kind AS ENUM (
    'BUCKET',
    'TOPIC'
);
CREATE TYPE public.job_status AS ENUM (
    'NOT_STARTED',
    'RUNNING',
    'FINISHED',
    'FAILED',
    'PARTIALLY_FAILED',
    'CANCELLING',
    'CANCELLED'
);
CREATE TYPE public.job_type AS ENUM (
    'READ',
    'WRITE'
);
CREATE TYPE public.pgqueuer_status AS ENUM (
    'queued',
    'picked',
    'successful',
    'exception',
    'canceled',
    'deleted',
    'failed'
);
CREATE TYPE public.sub_job_stage AS ENUM (
    'READY',
    'STARTING',
    'TRACKING',
    'COLLECTING',
    'SETTLED'
);
CREATE FUNCTION public.fn_pgqueuer_changed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    to_emit BOOLEAN := false;  -- Flag to decide whether to emit a notification
BEGIN
    -- Check operation type and set the emit flag accordingly
    IF TG_OP = 'UPDATE' AND OLD IS DISTINCT FROM NEW THEN
        to_emit := true;
    ELSIF TG_OP = 'DELETE' THEN
        to_emit := true;
    ELSIF TG_OP = 'INSERT' THEN
        to_emit := true;
    ELSIF TG_OP = 'TRUNCATE' THEN
        to_emit := true;
    END IF;
    -- Perform notification if the emit flag is set
    IF to_emit THEN
        PERFORM pg_notify(
            'ch_pgqueuer',
            json_build_object(
                'channel', 'ch_pgqueuer',
                'operation', lower(TG_OP),
                'sent_at', NOW(),
                'table', TG_TABLE_NAME,
                'type', 'table_changed_event'
            )::text
        );
    END IF;
    -- Return appropriate value based on the operation
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        RETURN NEW;
    ELSIF TG_OP = 'DELETE' THEN
        RETURN OLD;
    ELSE
        RETURN NULL; -- For TRUNCATE and other non-row-specific contexts
    END IF;
END;
$$;
CREATE FUNCTION public.keep_no_row() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    return null;
end
$$;
CREATE FUNCTION public.notify_job_changed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    perform pg_notify('datajobs_changed', new.job_id::text);
    return null;
end
$$;
CREATE FUNCTION public.notify_outbox() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    perform pg_notify('datajobs_outbox', new.shard::text);
    return null;
end
$$;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.bus_message (
    topic text NOT NULL,
    message_offset bigint NOT NULL,
    job_id uuid,
    key text,
    headers jsonb NOT NULL,
    value bytea NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.bus_position (
    consumer text NOT NULL,
    topic text NOT NULL,
    next_offset bigint NOT NULL
);
CREATE TABLE public.bus_shard (
    shard smallint NOT NULL,
    epoch bigint NOT NULL,
    "position" bigint DEFAULT '-1'::integer NOT NULL
);
CREATE TABLE public.bus_topic (
    topic text NOT NULL,
    head bigint DEFAULT 0 NOT NULL
);
CREATE TABLE public.cm_handle (
    cm_handle text NOT NULL,
    alternate_id text,
    alternate_key text,
    plugin_id bigint NOT NULL,
    data_producer_id text DEFAULT ''::text NOT NULL,
    module_set_tag text DEFAULT ''::text NOT NULL,
    private_properties jsonb DEFAULT '{}'::jsonb NOT NULL,
    public_properties jsonb DEFAULT '{}'::jsonb NOT NULL,
    trust_level text DEFAULT ''::text NOT NULL,
    version bigint NOT NULL,
    removed boolean DEFAULT false NOT NULL,
    removed_at timestamp with time zone
);
CREATE TABLE public.data_job (
    job_id uuid NOT NULL,
    seq bigint NOT NULL,
    client text NOT NULL,
    type public.job_type NOT NULL,
    name text,
    destination text,
    destination_kind public.destination_kind NOT NULL,
    results_bucket text NOT NULL,
    accept_type text NOT NULL,
    content_type text NOT NULL,
    activation_mode text NOT NULL,
    priority smallint NOT NULL,
    after_jobs uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    blocked boolean DEFAULT false NOT NULL,
    retry_of uuid,
    status public.job_status DEFAULT 'NOT_STARTED'::public.job_status NOT NULL,
    planned boolean DEFAULT false NOT NULL,
    fanned_out boolean DEFAULT false NOT NULL,
    cancel_asked boolean DEFAULT false NOT NULL,
    operations integer NOT NULL,
    succeeded integer DEFAULT 0 NOT NULL,
    failed integer DEFAULT 0 NOT NULL,
    unmatched integer DEFAULT 0 NOT NULL,
    not_started integer DEFAULT 0 NOT NULL,
    unknown integer DEFAULT 0 NOT NULL,
    sub_jobs integer DEFAULT 0 NOT NULL,
    sub_jobs_open integer DEFAULT 0 NOT NULL,
    cancelled_sub_jobs integer DEFAULT 0 NOT NULL,
    reason text,
    delivery integer DEFAULT 1 NOT NULL,
    delivery_state public.delivery_state DEFAULT 'PENDING'::public.delivery_state NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    version bigint DEFAULT 1 NOT NULL
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_cost_delay='0');
ALTER TABLE public.data_job ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.data_job_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.delivery_trouble (
    job_id uuid NOT NULL,
    topic text NOT NULL,
    shard smallint NOT NULL,
    since timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    retry_at timestamp with time zone NOT NULL,
    tries integer DEFAULT 1 NOT NULL,
    parked boolean DEFAULT false NOT NULL,
    cause text NOT NULL
);
CREATE TABLE public.dmi_plugin (
    plugin_id bigint NOT NULL,
    url text NOT NULL,
    dialect text DEFAULT 'seed'::text NOT NULL,
    idempotent boolean DEFAULT false NOT NULL,
    stop_on_error boolean DEFAULT false NOT NULL,
    give_up double precision,
    sub_job_timeout double precision,
    read_slots integer,
    version bigint DEFAULT 0 NOT NULL
);
ALTER TABLE public.dmi_plugin ALTER COLUMN plugin_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.dmi_plugin_plugin_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.idempotency_key (
    client text NOT NULL,
    key text NOT NULL,
    digest bytea NOT NULL,
    job_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.installation (
    installation_id uuid DEFAULT gen_random_uuid() NOT NULL
);
CREATE SEQUENCE public.inventory_version
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
CREATE TABLE public.job_request (
    job_id uuid NOT NULL,
    body bytea NOT NULL
);
ALTER TABLE ONLY public.job_request ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE public.lane (
    lane_id bigint NOT NULL,
    plugin_id bigint NOT NULL,
    data_producer_id text NOT NULL,
    wanted boolean DEFAULT false NOT NULL,
    epoch bigint DEFAULT 0 NOT NULL,
    held_by uuid,
    task_id bigint,
    closed_until timestamp with time zone,
    closed_by uuid
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_cost_delay='0');
CREATE TABLE public.lane_client (
    lane_id bigint NOT NULL,
    client text NOT NULL,
    served_at timestamp with time zone NOT NULL
)
WITH (fillfactor='70');
ALTER TABLE public.lane ALTER COLUMN lane_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.lane_lane_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.outbox (
    shard smallint NOT NULL,
    "position" bigint NOT NULL,
    job_id uuid NOT NULL,
    topic text NOT NULL,
    key text NOT NULL,
    headers jsonb NOT NULL,
    value bytea,
    object_key text,
    bucket text,
    bytes bigint DEFAULT 0 NOT NULL,
    delivery integer DEFAULT 1 NOT NULL,
    ends_delivery boolean DEFAULT false NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0');
CREATE TABLE public.outbox_shard (
    shard smallint NOT NULL,
    head bigint DEFAULT 0 NOT NULL,
    published bigint DEFAULT 0 NOT NULL
);
CREATE TABLE public.pgqueuer (
    id bigint NOT NULL,
    priority integer NOT NULL,
    queue_manager_id uuid,
    created timestamp with time zone DEFAULT now() NOT NULL,
    updated timestamp with time zone DEFAULT now() NOT NULL,
    heartbeat timestamp with time zone DEFAULT now() NOT NULL,
    execute_after timestamp with time zone DEFAULT now() NOT NULL,
    status public.pgqueuer_status NOT NULL,
    entrypoint text NOT NULL,
    dedupe_key text,
    payload bytea,
    headers jsonb,
    attempts integer DEFAULT 0 NOT NULL,
    slot bigint
)
WITH (autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0');
CREATE SEQUENCE public.pgqueuer_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.pgqueuer_id_seq OWNED BY public.pgqueuer.id;
CREATE TABLE public.pgqueuer_log (
    id bigint NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    job_id bigint NOT NULL,
    status public.pgqueuer_status NOT NULL,
    priority integer NOT NULL,
    entrypoint text NOT NULL,
    traceback jsonb,
    aggregated boolean DEFAULT false
);
ALTER TABLE public.pgqueuer_log ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.pgqueuer_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.pgqueuer_schedules (
    id bigint NOT NULL,
    expression text NOT NULL,
    entrypoint text NOT NULL,
    heartbeat timestamp with time zone DEFAULT now() NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    updated timestamp with time zone DEFAULT now() NOT NULL,
    next_run timestamp with time zone DEFAULT now() NOT NULL,
    last_run timestamp with time zone,
    status public.pgqueuer_status DEFAULT 'queued'::public.pgqueuer_status
);
CREATE SEQUENCE public.pgqueuer_schedules_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.pgqueuer_schedules_id_seq OWNED BY public.pgqueuer_schedules.id;
CREATE TABLE public.pgqueuer_statistics (
    id bigint NOT NULL,
    created timestamp with time zone DEFAULT date_trunc('sec'::text, now()) NOT NULL,
    count bigint NOT NULL,
    priority integer NOT NULL,
    status public.pgqueuer_status NOT NULL,
    entrypoint text NOT NULL
);
CREATE SEQUENCE public.pgqueuer_statistics_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.pgqueuer_statistics_id_seq OWNED BY public.pgqueuer_statistics.id;
CREATE TABLE public.pruned (
    only_one boolean DEFAULT true NOT NULL,
    bus_head bigint DEFAULT 0 NOT NULL,
    inventory_version bigint DEFAULT 0 NOT NULL,
    CONSTRAINT pruned_only_one_check CHECK (only_one)
);
CREATE TABLE public.result_part (
    job_id uuid NOT NULL,
    sub_job text NOT NULL,
    sequence integer NOT NULL,
    key text NOT NULL,
    bytes bigint NOT NULL,
    sha256 text NOT NULL,
    operations integer NOT NULL,
    failed integer NOT NULL,
    outcomes bytea,
    message integer,
    piece integer DEFAULT 0 NOT NULL,
    message_sha256 text
);
CREATE TABLE public.schema_version (
    number integer NOT NULL,
    name text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.sub_job (
    sub_job_id uuid NOT NULL,
    job_id uuid NOT NULL,
    "position" integer NOT NULL,
    lane_id bigint NOT NULL,
    type public.job_type NOT NULL,
    job_seq bigint NOT NULL,
    client text NOT NULL,
    priority smallint NOT NULL,
    blocked boolean DEFAULT false NOT NULL,
    stage public.sub_job_stage DEFAULT 'READY'::public.sub_job_stage NOT NULL,
    status public.job_status DEFAULT 'NOT_STARTED'::public.job_status NOT NULL,
    body bytea,
    operations integer NOT NULL,
    succeeded integer DEFAULT 0 NOT NULL,
    failed integer DEFAULT 0 NOT NULL,
    not_started integer DEFAULT 0 NOT NULL,
    unknown integer DEFAULT 0 NOT NULL,
    data_producer_job_id text,
    cancel_asked boolean DEFAULT false NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    last_error text,
    result_topic text,
    result_total integer,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    started_at timestamp with time zone,
    due_at timestamp with time zone,
    polls integer DEFAULT 0 NOT NULL,
    trouble_since timestamp with time zone,
    last_part_at timestamp with time zone,
    ended_at timestamp with time zone,
    version bigint DEFAULT 1 NOT NULL,
    body_bytes bigint
)
WITH (autovacuum_vacuum_scale_factor='0.05', autovacuum_vacuum_cost_delay='0');
ALTER TABLE ONLY public.sub_job ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE public.worker (
    worker_id uuid NOT NULL,
    alive_until timestamp with time zone NOT NULL
);
ALTER TABLE ONLY public.pgqueuer ALTER COLUMN id SET DEFAULT nextval('public.pgqueuer_id_seq'::regclass);
ALTER TABLE ONLY public.pgqueuer_schedules ALTER COLUMN id SET DEFAULT nextval('public.pgqueuer_schedules_id_seq'::regclass);
ALTER TABLE ONLY public.pgqueuer_statistics ALTER COLUMN id SET DEFAULT nextval('public.pgqueuer_statistics_id_seq'::regclass);
INSERT INTO public.bus_message VALUES ('ncmp-data-job-status', 0, '00df186f-6bbe-4a11-865b-50ff2276306c', '00df186f-6bbe-4a11-865b-50ff2276306c', '{"ce_id": "8d0a7297-5836-55d7-87a4-4e2f1115990a", "ce_time": "2026-11-26T14:57:47.938Z", "ce_type": "org.onap.cps.ncmp.events.async1_0_0.DataJobStatusEvent", "ce_source": "ncmp.00df186f-6bbe-4a11-865b-50ff2276306c", "content-type": "application/json", "ce_dataschema": "urn:cps:org.onap.cps.ncmp.events.async1_0_0.DataJobStatusEvent:1.0.0", "ce_destination": "", "ce_specversion": "1.0", "ce_correlationid": "00df186f-6bbe-4a11-865b-50ff2276306c"}', '\x7b2264617461223a7b226a6f624964223a2230306466313836662d366262652d346131312d383635622d353066663232373633303663222c22737461747573223a2252554e4e494e47222c22737461747573757269223a22687474703a2f2f3132372e302e302e313a33353530392f72616e6f616d2f636d2f76312f646174614a6f622f30306466313836662d366262652d346131312d383635622d353066663232373633303663222c22726573756c7473757269223a22687474703a2f2f3132372e302e302e313a33353530392f73332d6275636b65742f646174616a6f62732d726573756c74733f6a6f6249643d30306466313836662d366262652d346131312d383635622d353066663232373633303663222c2274797065223a225752495445222c226e616d65223a22747261636b6564222c2264657374696e6174696f6e223a6e756c6c2c227072696f72697479223a342c2272657472794f66223a6e756c6c2c22637265617465644174223a22323032362d31312d32365431343a35373a34362e3536313036345a222c22737461727465644174223a22323032362d31312d32365431343a35373a34372e3933343432375a222c22656e6465644174223a6e756c6c2c2270726f677265737350657263656e74616765223a382c226f7065726174696f6e73223a7b22746f74616c223a31322c22737563636565646564223a302c226661696c6564223a302c22756e6d617463686564223a312c226e6f7453746172746564223a302c22756e6b6e6f776e223a302c2270656e64696e67223a31317d2c227375624a6f6273223a7b224e4f545f53544152544544223a327d2c2264656c69766572795374617465223a2250454e44494e47227d7d', '2026-11-26 14:57:47.958661+00');
INSERT INTO public.bus_shard VALUES (4, 1, 1);
INSERT INTO public.bus_topic VALUES ('ncmp-data-job-status', 1);
INSERT INTO public.cm_handle VALUES ('_SubNetwork-X_ManagedElement-0', '/SubNetwork=X/ManagedElement=0', 'SubNetwork=X/ManagedElement=0', 1, 'ems-0', '', '{}', '{}', '', 1, false, NULL);
INSERT INTO public.cm_handle VALUES ('_SubNetwork-X_ManagedElement-1', '/SubNetwork=X/ManagedElement=1', 'SubNetwork=X/ManagedElement=1', 1, 'ems-1', '', '{}', '{}', '', 1, false, NULL);
INSERT INTO public.cm_handle VALUES ('_SubNetwork-X_ManagedElement-2', '/SubNetwork=X/ManagedElement=2', 'SubNetwork=X/ManagedElement=2', 1, 'ems-0', '', '{}', '{}', '', 1, false, NULL);
INSERT INTO public.cm_handle VALUES ('_SubNetwork-X_ManagedElement-3', '/SubNetwork=X/ManagedElement=3', 'SubNetwork=X/ManagedElement=3', 1, 'ems-1', '', '{}', '{}', '', 1, false, NULL);
INSERT INTO public.data_job OVERRIDING SYSTEM VALUE VALUES ('e500d7e5-c15b-4f41-a60e-ecfc824cefca', 2, 'local', 'WRITE', 'waiting', NULL, 'BUCKET', 'datajobs-results', 'application/vnd.3gpp.object-tree-hierarchical+json', 'application/3gpp-json-patch+json', 'BEST_EFFORT', 4, '{}', false, NULL, 'NOT_STARTED', true, false, false, 12, 0, 0, 1, 0, 0, 2, 2, 0, NULL, 1, 'PENDING', '2026-11-26 14:57:46.580573+00', NULL, NULL, 2);
INSERT INTO public.data_job OVERRIDING SYSTEM VALUE VALUES ('00df186f-6bbe-4a11-865b-50ff2276306c', 1, 'local', 'WRITE', 'tracked', NULL, 'BUCKET', 'datajobs-results', 'application/vnd.3gpp.object-tree-hierarchical+json', 'application/3gpp-json-patch+json', 'BEST_EFFORT', 4, '{}', false, NULL, 'RUNNING', true, false, false, 12, 0, 0, 1, 0, 0, 2, 2, 0, NULL, 1, 'PENDING', '2026-11-26 14:57:46.561064+00', '2026-11-26 14:57:47.934427+00', NULL, 5);
INSERT INTO public.data_job OVERRIDING SYSTEM VALUE VALUES ('cab2d8c8-a536-45d4-95ad-e6e026671f93', 3, 'local', 'WRITE', 'not planned', NULL, 'BUCKET', 'datajobs-results', 'application/vnd.3gpp.object-tree-hierarchical+json', 'application/3gpp-json-patch+json', 'BEST_EFFORT', 4, '{}', false, NULL, 'NOT_STARTED', false, false, false, 12, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 1, 'PENDING', '2026-11-26 14:57:49.018391+00', NULL, NULL, 1);
INSERT INTO public.dmi_plugin OVERRIDING SYSTEM VALUE VALUES (1, 'http://127.0.0.1:45641', 'seed', true, false, NULL, NULL, NULL, 1);
INSERT INTO public.installation VALUES ('e8d94f79-5ae7-429e-87bd-b2d597e23da0');
INSERT INTO public.job_request VALUES ('00df186f-6bbe-4a11-865b-50ff2276306c', '\x28b52ffd60f7034d0700420a2322404bac03c6833761e59fd6c8624589c2968fc0fa00ee3ff04f28b558132cc3b07301d15d2b1258ce6b7b3b0cafe920da5db6bb18669745290a4b928540902d380ec5185b6bedae0b807161b2ec275e53a4b41d1ed2f65e3c66b8a6abe6bd3e18aa99b09d7e00ae130c59c040340a191b660f202c088c6bbbc2e4e79ade09d9ceb5fd89870cb49d27bb43013920e0a5610e89a43319af95c76e0bb1404a4e81c406d9c10abcf36c901dace09d6783ecc10ade7936c80e56e09d678320e72300ef3c3308723e02f0ceb341e66005ef3c1b64072b78c7b34176b082779ed541a6ca03aab9db0c');
INSERT INTO public.job_request VALUES ('e500d7e5-c15b-4f41-a60e-ecfc824cefca', '\x28b52ffd60f703350700424a222050499d030045ede3b9a8dfbf1e9e14b4550a61ebde7cdf7eaffac3273233339cd59df8cc870fd7f786385ed741b5bb6eb729ca26094310771c8d318c2d280ae69c6baded6e1310e53359ea485e57c5f43d9ed2f79e202f5cd7d902611b08b6ccd8504380a61d8e2c40308b82240fb307102602e2fa9e3039baaeb72335747d8fe429037de7c9cda93920e0a5610e89a43319af95c76e0bb1404a4e81c406d9c10abcf36c901dace09d6783ecc10ade7936c80e56e09d678320e72300ef3c3308723e02f0ceb341e66005ef3c1b64072b78c7b34176b082779ed541a6ca03aab9db0c');
INSERT INTO public.job_request VALUES ('cab2d8c8-a536-45d4-95ad-e6e026671f93', '\x28b52ffd60fb03550700824a2322406bab03da4cfb4848dc9608a850a260f231a807ce0911cd9e50ae7549e2288ac005cf1b77af83195f3fd999d97ea283475597aa4a2414814887c35214b548122d4090b4d6524aa96a0be8a710b761f89ee849c9de77929d1b6e199ee869718e15475a6233c30ea031637b058ec5b2d0bc86c803080d82e3c99e10173ed199d130f36487ef8e41b26fdc76273920e0a5610e89a43319af95c76e0bb1404a4e81c406d9c10abcf36c901dace09d6783ecc10ade7936c80e56e09d678320e72300ef3c3308723e02f0ceb341e66005ef3c1b64072b78c7b34176b082779ed541a6ca03aab9db0c');
INSERT INTO public.lane OVERRIDING SYSTEM VALUE VALUES (1, 1, 'ems-0', false, 1, 'a44b6208-04dd-4a0a-8043-b95b3a0419e9', 0, NULL, NULL);
INSERT INTO public.lane OVERRIDING SYSTEM VALUE VALUES (2, 1, 'ems-1', false, 1, 'a44b6208-04dd-4a0a-8043-b95b3a0419e9', 0, NULL, NULL);
INSERT INTO public.outbox_shard VALUES (0, 0, 0);
INSERT INTO public.outbox_shard VALUES (1, 0, 0);
INSERT INTO public.outbox_shard VALUES (2, 0, 0);
INSERT INTO public.outbox_shard VALUES (3, 0, 0);
INSERT INTO public.outbox_shard VALUES (5, 0, 0);
INSERT INTO public.outbox_shard VALUES (6, 0, 0);
INSERT INTO public.outbox_shard VALUES (7, 0, 0);
INSERT INTO public.outbox_shard VALUES (4, 1, 1);
INSERT INTO public.pgqueuer VALUES (4, 0, '27dff30e-1007-4649-aedc-0d41dd9a795e', '2026-11-26 14:57:47.895127+00', '2026-11-26 14:57:47.918092+00', '2026-11-26 14:57:47.918092+00', '2026-11-26 14:57:47.895127+00', 'picked', 'lane', NULL, '\x313a32', 'null', 0, NULL);
INSERT INTO public.pgqueuer VALUES (3, 0, '27dff30e-1007-4649-aedc-0d41dd9a795e', '2026-11-26 14:57:47.895127+00', '2026-11-26 14:57:47.918092+00', '2026-11-26 14:57:47.918092+00', '2026-11-26 14:57:47.895127+00', 'picked', 'lane', NULL, '\x313a31', 'null', 0, NULL);
INSERT INTO public.pgqueuer VALUES (5, 0, NULL, '2026-11-26 14:57:49.018391+00', '2026-11-26 14:57:49.018391+00', '2026-11-26 14:57:49.018391+00', '2026-11-26 14:57:49.018391+00', 'queued', 'plan', NULL, '\x63616232643863382d613533362d343564342d393561642d653665303236363731663933', 'null', 0, NULL);
INSERT INTO public.pruned VALUES (true, 0, 0);
INSERT INTO public.result_part VALUES ('00df186f-6bbe-4a11-865b-50ff2276306c', 'unmatched', 0, '00df186f-6bbe-4a11-865b-50ff2276306c/unmatched/0.json', 233, '98f157b5ed3b025d6f599f7ec8d90f2a500028c0eaee3a2a43ee1c52bfe3e372', 1, 1, NULL, NULL, 0, NULL);
INSERT INTO public.result_part VALUES ('e500d7e5-c15b-4f41-a60e-ecfc824cefca', 'unmatched', 0, 'e500d7e5-c15b-4f41-a60e-ecfc824cefca/unmatched/0.json', 233, '98f157b5ed3b025d6f599f7ec8d90f2a500028c0eaee3a2a43ee1c52bfe3e372', 1, 1, NULL, NULL, 0, NULL);
INSERT INTO public.schema_version VALUES (1, '0001_initial.sql', '2026-11-26 14:57:45.11676+00');
INSERT INTO public.schema_version VALUES (2, '0002_bounds.sql', '2026-11-26 14:57:45.11676+00');
INSERT INTO public.schema_version VALUES (3, '0003_lanes.sql', '2026-11-26 14:57:45.11676+00');
INSERT INTO public.schema_version VALUES (4, '0004_message_parts.sql', '2026-11-26 14:57:45.11676+00');
INSERT INTO public.schema_version VALUES (5, '0005_pruned.sql', '2026-11-26 14:57:45.11676+00');
INSERT INTO public.schema_version VALUES (6, '0006_plan_order.sql', '2026-11-26 14:57:45.11676+00');
INSERT INTO public.sub_job VALUES ('3e0f7273-a0cf-5158-94c0-5d673075bc84', '00df186f-6bbe-4a11-865b-50ff2276306c', 0, 1, 'WRITE', 1, 'local', 4, false, 'TRACKING', 'RUNNING', '\x28b52ffd60c801550500c2881d1d608b73a533efade57ab0bfeb1338597cade9c8d63794d506140100280f8a24499661185d96651545d1dddd555514b3e3d0948f501a3edb04c9e8552980f99962bee4dae4a5cccee0416836f908bdac8d730f20daccf7e84ee0fc69af111044d390f0315f584807c4cc8cd9a297ffc847668ed05422150054842d53047252c464001305e8818e012460380528039d007460600a5001dd01c4c0200ad0031d034860b81bf919ce', 6, 0, 0, 0, 0, 'scripted-1', false, 1, NULL, NULL, NULL, '2026-11-26 14:57:47.895127+00', '2026-11-26 14:57:47.933808+00', NULL, 0, NULL, NULL, NULL, 4, 712);
INSERT INTO public.sub_job VALUES ('086fd65b-695a-5d45-8923-be21d9728e15', '00df186f-6bbe-4a11-865b-50ff2276306c', 1, 2, 'WRITE', 1, 'local', 4, false, 'TRACKING', 'RUNNING', '\x28b52ffd605201cd040052c81b1c608b73a533efade57ab0bfebb57132c85ad351f923116bc34810a4f08a5c8aa26492246bada5a649523bee44f8e7a0e17123073eab2901ea66497d886d64956a66d09c1317fe392be7c2d803482eb1fd3913306fb62d01412c0de81ef185057440ac66c47d567e03ff58fd9ca5441000de6b43f7cec0bdfc8181294005740710038328400f740c2012603ad031800486bb919fe10c', 5, 0, 0, 0, 0, 'scripted-2', false, 1, NULL, NULL, NULL, '2026-11-26 14:57:47.895127+00', '2026-11-26 14:57:47.933858+00', NULL, 0, NULL, NULL, NULL, 5, 594);
INSERT INTO public.sub_job VALUES ('152f4343-ab1a-586c-89e0-6739568748ab', 'e500d7e5-c15b-4f41-a60e-ecfc824cefca', 0, 1, 'WRITE', 2, 'local', 4, false, 'READY', 'NOT_STARTED', '\x28b52ffd60c801550500c2881d1d608b73a533efade57ab0bfeb1338597cade9c8d63794d506140100280f8a24499661185d96651545d1dddd555514b3e3d0948f501a3edb04c9e8552980f99962bee4dae4a5cccee0416836f908bdac8d730f20daccf7e84ee0fc69af111044d390f0315f584807c4cc8cd9a297ffc847668ed05422150054842d53047252c464001305e8818e012460380528039d007460600a5001dd01c4c0200ad0031d034860b81bf919ce', 6, 0, 0, 0, 0, NULL, false, 0, NULL, NULL, NULL, '2026-11-26 14:57:47.951438+00', NULL, NULL, 0, NULL, NULL, NULL, 2, 712);
INSERT INTO public.sub_job VALUES ('4c982227-e6f0-5df9-9c9a-508f0adea858', 'e500d7e5-c15b-4f41-a60e-ecfc824cefca', 1, 2, 'WRITE', 2, 'local', 4, false, 'READY', 'NOT_STARTED', '\x28b52ffd605201cd040052c81b1c608b73a533efade57ab0bfebb57132c85ad351f923116bc34810a4f08a5c8aa26492246bada5a649523bee44f8e7a0e17123073eab2901ea66497d886d64956a66d09c1317fe392be7c2d803482eb1fd3913306fb62d01412c0de81ef185057440ac66c47d567e03ff58fd9ca5441000de6b43f7cec0bdfc8181294005740710038328400f740c2012603ad031800486bb919fe10c', 5, 0, 0, 0, 0, NULL, false, 0, NULL, NULL, NULL, '2026-11-26 14:57:47.951438+00', NULL, NULL, 0, NULL, NULL, NULL, 2, 594);
INSERT INTO public.worker VALUES ('a44b6208-04dd-4a0a-8043-b95b3a0419e9', '2026-11-26 14:57:52.805916+00');
SELECT pg_catalog.setval('public.data_job_seq_seq', 3, true);
SELECT pg_catalog.setval('public.dmi_plugin_plugin_id_seq', 1, true);
SELECT pg_catalog.setval('public.inventory_version', 1, true);
SELECT pg_catalog.setval('public.lane_lane_id_seq', 2, true);
SELECT pg_catalog.setval('public.pgqueuer_id_seq', 5, true);
SELECT pg_catalog.setval('public.pgqueuer_log_id_seq', 11, true);
SELECT pg_catalog.setval('public.pgqueuer_schedules_id_seq', 1, false);
SELECT pg_catalog.setval('public.pgqueuer_statistics_id_seq', 1, false);
ALTER TABLE ONLY public.bus_message
    ADD CONSTRAINT bus_message_pkey PRIMARY KEY (topic, message_offset);
ALTER TABLE ONLY public.bus_position
    ADD CONSTRAINT bus_position_pkey PRIMARY KEY (consumer, topic);
ALTER TABLE ONLY public.bus_shard
    ADD CONSTRAINT bus_shard_pkey PRIMARY KEY (shard);
ALTER TABLE ONLY public.bus_topic
    ADD CONSTRAINT bus_topic_pkey PRIMARY KEY (topic);
ALTER TABLE ONLY public.cm_handle
    ADD CONSTRAINT cm_handle_pkey PRIMARY KEY (cm_handle);
ALTER TABLE ONLY public.data_job
    ADD CONSTRAINT data_job_pkey PRIMARY KEY (job_id);
ALTER TABLE ONLY public.data_job
    ADD CONSTRAINT data_job_seq_key UNIQUE (seq);
ALTER TABLE ONLY public.delivery_trouble
    ADD CONSTRAINT delivery_trouble_pkey PRIMARY KEY (job_id, topic);
ALTER TABLE ONLY public.dmi_plugin
    ADD CONSTRAINT dmi_plugin_pkey PRIMARY KEY (plugin_id);
ALTER TABLE ONLY public.dmi_plugin
    ADD CONSTRAINT dmi_plugin_url_key UNIQUE (url);
ALTER TABLE ONLY public.idempotency_key
    ADD CONSTRAINT idempotency_key_pkey PRIMARY KEY (client, key);
ALTER TABLE ONLY public.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (installation_id);
ALTER TABLE ONLY public.job_request
    ADD CONSTRAINT job_request_pkey PRIMARY KEY (job_id);
ALTER TABLE ONLY public.lane_client
    ADD CONSTRAINT lane_client_pkey PRIMARY KEY (lane_id, client);
ALTER TABLE ONLY public.lane
    ADD CONSTRAINT lane_pkey PRIMARY KEY (lane_id);
ALTER TABLE ONLY public.lane
    ADD CONSTRAINT lane_plugin_id_data_producer_id_key UNIQUE (plugin_id, data_producer_id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (shard, "position");
ALTER TABLE ONLY public.outbox_shard
    ADD CONSTRAINT outbox_shard_pkey PRIMARY KEY (shard);
ALTER TABLE ONLY public.pgqueuer_log
    ADD CONSTRAINT pgqueuer_log_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.pgqueuer
    ADD CONSTRAINT pgqueuer_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.pgqueuer_schedules
    ADD CONSTRAINT pgqueuer_schedules_expression_entrypoint_key UNIQUE (expression, entrypoint);
ALTER TABLE ONLY public.pgqueuer_schedules
    ADD CONSTRAINT pgqueuer_schedules_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.pgqueuer_statistics
    ADD CONSTRAINT pgqueuer_statistics_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.pruned
    ADD CONSTRAINT pruned_pkey PRIMARY KEY (only_one);
ALTER TABLE ONLY public.result_part
    ADD CONSTRAINT result_part_pkey PRIMARY KEY (job_id, sub_job, sequence);
ALTER TABLE ONLY public.schema_version
    ADD CONSTRAINT schema_version_pkey PRIMARY KEY (number);
ALTER TABLE ONLY public.sub_job
    ADD CONSTRAINT sub_job_job_id_position_key UNIQUE (job_id, "position");
ALTER TABLE ONLY public.sub_job
    ADD CONSTRAINT sub_job_pkey PRIMARY KEY (sub_job_id);
ALTER TABLE ONLY public.worker
    ADD CONSTRAINT worker_pkey PRIMARY KEY (worker_id);
CREATE INDEX bus_message_at ON public.bus_message USING btree (at);
CREATE INDEX bus_message_job ON public.bus_message USING btree (topic, job_id, message_offset);
CREATE UNIQUE INDEX cm_handle_alternate_key ON public.cm_handle USING btree (alternate_key) WHERE ((NOT removed) AND (alternate_key IS NOT NULL));
CREATE INDEX cm_handle_removed ON public.cm_handle USING btree (removed_at) WHERE removed;
CREATE INDEX cm_handle_version ON public.cm_handle USING btree (version);
CREATE INDEX data_job_after ON public.data_job USING gin (after_jobs) WHERE blocked;
CREATE INDEX data_job_client_seq ON public.data_job USING btree (client, seq DESC);
CREATE INDEX data_job_ended ON public.data_job USING btree (ended_at) WHERE (ended_at IS NOT NULL);
CREATE INDEX data_job_open ON public.data_job USING btree (client) WHERE (status = ANY (ARRAY['NOT_STARTED'::public.job_status, 'RUNNING'::public.job_status, 'CANCELLING'::public.job_status]));
CREATE INDEX data_job_status_seq ON public.data_job USING btree (status, seq DESC);
CREATE INDEX data_job_topic ON public.data_job USING btree (destination, client) WHERE (destination_kind = 'TOPIC'::public.destination_kind);
CREATE INDEX data_job_unplanned ON public.data_job USING btree (client, seq) WHERE (NOT planned);
CREATE INDEX delivery_trouble_shard ON public.delivery_trouble USING btree (shard, retry_at);
CREATE INDEX dmi_plugin_version ON public.dmi_plugin USING btree (version);
CREATE INDEX idempotency_key_created ON public.idempotency_key USING btree (created_at);
CREATE INDEX idempotency_key_job ON public.idempotency_key USING btree (job_id);
CREATE INDEX outbox_job ON public.outbox USING btree (shard, job_id, topic);
CREATE INDEX pgqueuer_ep_ea_idx ON public.pgqueuer USING btree (entrypoint, execute_after) WHERE (status = 'queued'::public.pgqueuer_status);
CREATE INDEX pgqueuer_ep_prio_id_idx ON public.pgqueuer USING btree (entrypoint, priority DESC, id) WHERE (status = 'queued'::public.pgqueuer_status);
CREATE INDEX pgqueuer_log_created ON public.pgqueuer_log USING btree (created);
CREATE INDEX pgqueuer_log_job_id_status ON public.pgqueuer_log USING btree (job_id, created DESC);
CREATE INDEX pgqueuer_log_not_aggregated ON public.pgqueuer_log USING btree ((1)) WHERE (NOT aggregated);
CREATE INDEX pgqueuer_log_status ON public.pgqueuer_log USING btree (status);
CREATE INDEX pgqueuer_picked_heartbeat_idx ON public.pgqueuer USING btree (heartbeat) WHERE (status = 'picked'::public.pgqueuer_status);
CREATE UNIQUE INDEX pgqueuer_picked_slot_idx ON public.pgqueuer USING btree (entrypoint, slot) WHERE ((status = 'picked'::public.pgqueuer_status) AND (slot IS NOT NULL));
CREATE INDEX pgqueuer_priority_id_id1_idx ON public.pgqueuer USING btree (priority, id DESC) INCLUDE (id) WHERE (status = 'queued'::public.pgqueuer_status);
CREATE INDEX pgqueuer_queue_manager_id_idx ON public.pgqueuer USING btree (queue_manager_id) WHERE (queue_manager_id IS NOT NULL);
CREATE UNIQUE INDEX pgqueuer_statistics_unique_count ON public.pgqueuer_statistics USING btree (priority, date_trunc('sec'::text, timezone('UTC'::text, created)), status, entrypoint);
CREATE UNIQUE INDEX pgqueuer_unique_dedupe_key ON public.pgqueuer USING btree (dedupe_key) WHERE ((status = ANY (ARRAY['queued'::public.pgqueuer_status, 'picked'::public.pgqueuer_status])) AND (dedupe_key IS NOT NULL));
CREATE INDEX pgqueuer_updated_id_id1_idx ON public.pgqueuer USING btree (updated, id DESC) INCLUDE (id) WHERE (status = 'picked'::public.pgqueuer_status);
CREATE INDEX sub_job_open ON public.sub_job USING btree (lane_id, type, priority DESC, job_seq) WHERE (stage <> 'SETTLED'::public.sub_job_stage);
CREATE INDEX sub_job_producer_job ON public.sub_job USING btree (data_producer_job_id) WHERE (stage = ANY (ARRAY['TRACKING'::public.sub_job_stage, 'COLLECTING'::public.sub_job_stage]));
CREATE INDEX sub_job_version ON public.sub_job USING btree (job_id, version);
CREATE TRIGGER data_job_changed AFTER INSERT OR UPDATE OF version ON public.data_job FOR EACH ROW EXECUTE FUNCTION public.notify_job_changed();
CREATE TRIGGER keep_no_task_log BEFORE INSERT ON public.pgqueuer_log FOR EACH ROW EXECUTE FUNCTION public.keep_no_row();
CREATE TRIGGER outbox_added AFTER UPDATE OF head ON public.outbox_shard FOR EACH ROW EXECUTE FUNCTION public.notify_outbox();
CREATE TRIGGER tg_pgqueuer_changed AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.pgqueuer FOR EACH STATEMENT EXECUTE FUNCTION public.fn_pgqueuer_changed();
ALTER TABLE ONLY public.bus_message
    ADD CONSTRAINT bus_message_topic_fkey FOREIGN KEY (topic) REFERENCES public.bus_topic(topic);
ALTER TABLE ONLY public.cm_handle
    ADD CONSTRAINT cm_handle_plugin_id_fkey FOREIGN KEY (plugin_id) REFERENCES public.dmi_plugin(plugin_id);
ALTER TABLE ONLY public.delivery_trouble
    ADD CONSTRAINT delivery_trouble_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.data_job(job_id) ON DELETE CASCADE;
ALTER TABLE ONLY public.idempotency_key
    ADD CONSTRAINT idempotency_key_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.data_job(job_id) ON DELETE CASCADE;
ALTER TABLE ONLY public.job_request
    ADD CONSTRAINT job_request_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.data_job(job_id) ON DELETE CASCADE;
ALTER TABLE ONLY public.lane_client
    ADD CONSTRAINT lane_client_lane_id_fkey FOREIGN KEY (lane_id) REFERENCES public.lane(lane_id) ON DELETE CASCADE;
ALTER TABLE ONLY public.lane
    ADD CONSTRAINT lane_plugin_id_fkey FOREIGN KEY (plugin_id) REFERENCES public.dmi_plugin(plugin_id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_shard_fkey FOREIGN KEY (shard) REFERENCES public.outbox_shard(shard);
ALTER TABLE ONLY public.result_part
    ADD CONSTRAINT result_part_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.data_job(job_id) ON DELETE CASCADE;
ALTER TABLE ONLY public.sub_job
    ADD CONSTRAINT sub_job_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.data_job(job_id) ON DELETE CASCADE;
ALTER TABLE ONLY public.sub_job
    ADD CONSTRAINT sub_job_lane_id_fkey FOREIGN KEY (lane_id) REFERENCES public.lane(lane_id);
