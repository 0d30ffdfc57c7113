# SPDX-License-Identifier: Apache-2.0
"""The northbound API as an ASGI application. It opens and closes only its own LISTEN connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Final

from litestar import Litestar, Response, get
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler

from ran_datajobs.api import auth, jobs, paths, plugins, results, service, submit
from ran_datajobs.api.dependencies import ApiDependencies
from ran_datajobs.api.openapi import openapi_config
from ran_datajobs.api.problems import check_parameters, problem_answers
from ran_datajobs.api.security import SecurityMiddleware
from ran_datajobs.api.tokens import Role
from ran_datajobs.config import Settings
from ran_datajobs.telemetry import Logger, Metrics, shared_exposition

_ROUTES: Final[tuple[tuple[frozenset[Role], str, tuple[HTTPRouteHandler, ...]], ...]] = (
    (auth.SUBMITTERS, "data jobs", (submit.submit, submit.retry, jobs.cancel_job, jobs.redeliver)),
    (
        auth.READERS,
        "data jobs",
        (
            jobs.list_jobs,
            jobs.get_job,
            jobs.list_sub_jobs,
            results.list_failures,
            results.list_outcomes,
            results.get_request,
            jobs.job_events,
            service.list_reasons,
        ),
    ),
    (auth.READERS, "results", (results.get_manifest, results.get_object, plugins.read_topic)),
    (auth.PLUGINS, "plugins", (plugins.publish, plugins.push_status)),
    (auth.ADMINS, "inventory", (plugins.register,)),
    (auth.READERS, "operations", (service.metrics,)),
    (auth.PUBLIC, "operations", (service.healthz, service.readyz)),
    (auth.PUBLIC, "page", (service.get_page,)),
)
"""The roles that may call the routes, the tag of the routes in the OpenAPI document, and the routes."""


def build(api: ApiDependencies) -> Litestar:
    """The application."""
    return _application(
        list(_routes()),
        api.settings,
        api.log,
        api.metrics,
        dependencies={
            "api": Provide(lambda: api, sync_to_thread=False, use_cache=True),
            "caller": Provide(auth.caller_of, sync_to_thread=False),
            "job": Provide(jobs.visible_job),
        },
        before_request=check_parameters,
        openapi_config=openapi_config(api.settings.effective_api_root),
        lifespan=[lambda _app: _watching(api)],
        request_max_body_size=None,
    )


def _routes() -> Iterator[HTTPRouteHandler]:
    for roles, tag, routes in _ROUTES:
        for route in map(copy, routes):
            route.opt = route.opt | {auth.ROLES: roles}
            route.tags = [tag]
            yield route


def build_metrics(settings: Settings, figures: Path, log: Logger) -> Litestar:
    """An application whose only route returns the metrics that a group of processes without an API writes to
    ``figures``. Allowed hosts, tokens and roles are those of the API."""

    @get(paths.METRICS, opt={auth.ROLES: auth.READERS} | service.TEXT, sync_to_thread=True)
    def metrics() -> Response[bytes]:
        return Response(shared_exposition(figures), media_type=service.EXPOSITION)

    return _application([metrics], settings, log, Metrics(), openapi_config=None)


def _application(
    routes: Sequence[Any], settings: Settings, log: Logger, metrics: Metrics, **options: Any
) -> Litestar:
    app = Litestar(
        routes,
        guards=[auth.guard_by(settings.tokens_file)],
        exception_handlers={Exception: problem_answers(log)},
        logging_config=None,
        debug=False,
        pdb_on_exception=False,
        **options,
    )
    app.asgi_handler = SecurityMiddleware(app.asgi_handler, settings, metrics)
    return app


@contextlib.asynccontextmanager
async def _watching(api: ApiDependencies) -> AsyncIterator[None]:
    """Listen for changes of jobs while the application runs; wake all event streams when it stops."""
    following = asyncio.create_task(api.changes.run())
    stopping = asyncio.create_task(api.stopping.wait())
    stopping.add_done_callback(lambda _task: api.changes.wake_all())
    try:
        yield
    finally:
        api.stopping.set()
        following.cancel()
        await asyncio.gather(following, stopping, return_exceptions=True)
