# SPDX-License-Identifier: Apache-2.0
"""Composition root: builds the stages from the settings. The only module that names adapters; no logic.

``run_api`` and ``run_worker`` are the main functions of the two kinds of service processes. Both end cleanly
when ``stopping`` is set, and need a database whose schema is up to date.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from ran_datajobs.api.dependencies import ApiDependencies
from ran_datajobs.api.router import build
from ran_datajobs.config import Settings
from ran_datajobs.dispatch.executor import Executor
from ran_datajobs.dispatch.news import DispatchNews
from ran_datajobs.dispatch.worker import Worker
from ran_datajobs.errors import DataJobsError, StorageUnavailable, StoreUnavailable, UsageError
from ran_datajobs.http.server import serving
from ran_datajobs.inventory.follow import followed_by
from ran_datajobs.inventory.follower import Follower
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.inventory.module_sets import StoredModuleSets
from ran_datajobs.inventory.ncmp import Ncmp
from ran_datajobs.inventory.ncmp import bounds as ncmp_bounds
from ran_datajobs.messaging.bus import Bus, Received
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.planning.model_validation import ModelSource
from ran_datajobs.plugins import health, modules, policy
from ran_datajobs.plugins.client import HttpBounds, PeerHttp, most_questions
from ran_datajobs.plugins.credentials import Credentials
from ran_datajobs.plugins.dialects import plugins_over
from ran_datajobs.plugins.policy import PolicyExecutor
from ran_datajobs.results.delivery import JobEventWriter
from ran_datajobs.results.job_view import JobView
from ran_datajobs.results.objects import ObjectStore, open_folder, open_s3, start_runtime
from ran_datajobs.results.pruner import Pruner
from ran_datajobs.results.publisher import DeliveryNews, Publisher, relay_outbox
from ran_datajobs.results.read_results import Dropped, ReadResultConsumer
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Database
from ran_datajobs.store.dispatch import DispatchStore
from ran_datajobs.telemetry import Digest, Logger, Metrics, logger
from ran_datajobs.web import STATIC

API_POOL = 12
WORKER_POOL = 20
_MAX_BUCKETS_LOGGED = 1000


@contextlib.asynccontextmanager
async def shared_parts(
    settings: Settings, pool_size: int, worker_id: UUID | None = None
) -> AsyncIterator[tuple[Database, ObjectStore, Bus]]:
    """Open the store, the objects and the bus, which both kinds of processes use; close them at the end."""
    if settings.database_url is None:
        raise UsageError(
            "no database: set DATAJOBS_DATABASE_URL, or let `datajobs serve` run the embedded one"
        )
    await start_runtime()
    database = await Database.open(settings.database_url, size=pool_size, worker_id=worker_id)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        if settings.s3_endpoint is None:
            objects = open_folder(settings.objects_dir or settings.data_dir / "objects")
        else:
            objects = open_s3(settings.s3_endpoint)
        bus: Bus = PostgresBus(database)
        if settings.kafka_bootstrap is not None:
            from ran_datajobs.messaging.kafka import KafkaBus  # librdkafka is loaded only where it is used

            async with database.connection() as connection:
                installation = str(await outbox.installation(connection))
            kafka = KafkaBus(settings.kafka_bootstrap, settings.kafka_properties, installation=installation)
            bus = await stack.enter_async_context(contextlib.aclosing(kafka))
        yield database, objects, bus


@contextlib.asynccontextmanager
async def _policy_executor(
    settings: Settings, log: Logger, metrics: Metrics
) -> AsyncIterator[PolicyExecutor | None]:
    """The client of the policy executor, if the settings name one."""
    if settings.policy_url is None:
        yield None
        return
    credentials = Credentials(settings.dmi_credentials_file)
    async with PeerHttp(policy.bounds()) as http:
        yield PolicyExecutor(settings.policy_url, http, credentials, log, metrics)


async def run_api(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve the northbound API and the page until ``stopping``.

    Once ``stopping`` is set, ``/readyz`` reports it for an eighth of the grace before the listening socket is
    closed, so that a load balancer sends the next requests to other machines.
    """
    log, metrics = logger(), Metrics()
    async with (
        shared_parts(settings, API_POOL) as (database, objects, bus),
        _policy_executor(settings, log, metrics) as executor,
    ):
        parts = ApiDependencies(
            settings=settings,
            database=database,
            owners=OwnerIndex(database),
            objects=objects,
            bus=bus,
            metrics=metrics,
            log=log,
            stopping=stopping,
            view=JobView(settings),
            static=STATIC,
            policy=executor,
            models=ModelSource(StoredModuleSets(database)),
        )
        async with serving(
            build(parts), settings.host, settings.port, tls_cert=settings.tls_cert, tls_key=settings.tls_key
        ) as address:
            log.info("service.started", role="api", address=address)
            await stopping.wait()
            await asyncio.sleep(settings.shutdown_grace / 8)
    log.info("service.stopped", role="api")


async def run_worker(settings: Settings, stopping: asyncio.Event) -> None:
    """Plan, dispatch, collect and deliver until ``stopping``."""
    log, metrics = logger(), Metrics()
    digest = Digest(log)
    worker_id = uuid4()
    credentials = Credentials(settings.dmi_credentials_file, log)
    followed = followed_by(settings.follow_ncmp, settings.follow_plugins, settings.dmi_allow)
    bounds = HttpBounds(
        connect=settings.dmi_connect_timeout,
        total=settings.dmi_timeout,
        result_total=settings.dmi_result_timeout,
    )
    async with contextlib.AsyncExitStack() as stack:
        database, objects, bus = await stack.enter_async_context(
            shared_parts(settings, WORKER_POOL, worker_id)
        )
        http = await stack.enter_async_context(PeerHttp(bounds))
        asking = HttpBounds(
            connect=settings.dmi_connect_timeout,
            total=modules.ANSWER_WITHIN,
            connections=most_questions(),
        )
        questions = await stack.enter_async_context(PeerHttp(asking))  # they delay no call of dispatch
        view = JobView(settings)
        objects.written = partial(_log_put, log, set())
        with contextlib.suppress(StorageUnavailable):  # it is logged; everything else works
            await objects.ready(settings.results_bucket)
        worker = Worker(
            DispatchStore(database, worker_id, JobEventWriter(view), settings, log),
            objects,
            OwnerIndex(database),
            plugins_over(http, credentials),
            settings,
            DispatchNews(log, digest, metrics),
            stopping,
            policy=await stack.enter_async_context(_policy_executor(settings, log, metrics)),
            models=ModelSource(StoredModuleSets(database)),
        )
        arrivals = ReadResultConsumer(
            database,
            bus,
            objects,
            dropped=partial(_log_dropped, digest, metrics),
            troubled=partial(_log_arrival_error, log, digest, worker.executor),
        )
        publisher = Publisher(
            database,
            bus,
            objects,
            view.object_uri,
            DeliveryNews(log, digest, metrics),
            give_up=settings.delivery_retry_timeout,
            give_up_events=settings.retention,
        )
        pruner = Pruner(database, objects, log, settings.retention)
        checks = health.HealthChecks(
            database, questions, credentials, log, digest, settings.dmi_health_interval
        )
        sync = modules.ModuleSync(database, questions, credentials, log, digest)
        following: list[Coroutine[Any, Any, None]] = []
        if followed is not None:
            http_to_ncmp = await stack.enter_async_context(
                PeerHttp(ncmp_bounds(settings.dmi_connect_timeout))
            )
            ncmp = Ncmp(http_to_ncmp, credentials, followed)
            following.append(Follower(database, bus, ncmp, settings, log, digest, metrics).run())
        log.info("service.started", role="worker")
        await worker.run(
            arrivals.run(),
            relay_outbox(database, publisher.publish, log),
            pruner.run(),
            checks.run(),
            sync.run(),
            digest.run(),
            *following,
        )
    log.info("service.stopped", role="worker")


def _log_dropped(digest: Digest, metrics: Metrics, why: Dropped, received: Received) -> None:
    metrics.messages_dropped.labels(why.value).inc()
    digest.warning(
        "message.dropped",
        {"topic": received.topic, "why": why.value},
        messages=1,
        offset=str(received.offset),
    )


def _log_arrival_error(log: Logger, digest: Digest, executor: Executor, error: Exception) -> None:
    executor.listens_anew()
    if isinstance(error, StorageUnavailable | StoreUnavailable):
        return  # it is logged elsewhere
    if isinstance(error, DataJobsError):
        digest.warning("bus.unavailable", {"cause": str(error)}, tries=1)
    else:
        log.error("task.failed", kind="arrivals", subject=INTERNAL_TOPIC, cause=repr(error), exc_info=True)


def _log_put(log: Logger, unavailable: set[str], bucket: str, failure: StorageUnavailable | None) -> None:
    """Log once that a bucket takes no objects, and once that it takes them again."""
    if failure is None:
        if bucket in unavailable:
            unavailable.discard(bucket)
            log.info("storage.available", bucket=bucket)
    elif bucket not in unavailable and len(unavailable) < _MAX_BUCKETS_LOGGED:
        unavailable.add(bucket)
        log.error("storage.unavailable", bucket=bucket, cause=str(failure))
