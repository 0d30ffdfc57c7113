# SPDX-License-Identifier: Apache-2.0
"""The northbound API as an ASGI application. It opens and closes only its own LISTEN connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar, Request
from litestar.di import Provide

from ran_datajobs.api import (
    auth,
    events,
    jobs,
    outcomes,
    page,
    plugins,
    probes,
    reasons,
    registration,
    results,
    retry,
    submit,
    topics,
)
from ran_datajobs.api.dependencies import ApiDependencies, ApiState
from ran_datajobs.api.openapi import openapi_config
from ran_datajobs.api.parameters import check_names
from ran_datajobs.api.problems import problem_answers
from ran_datajobs.api.security import SecurityMiddleware, known_hosts
from ran_datajobs.api.tokens import Client

ROUTES = (
    submit.submit,
    jobs.list_jobs,
    jobs.get_job,
    jobs.list_sub_jobs,
    jobs.cancel_job,
    jobs.redeliver,
    outcomes.list_failures,
    outcomes.list_outcomes,
    outcomes.get_request,
    reasons.list_reasons,
    events.job_events,
    retry.retry,
    results.get_manifest,
    results.get_object,
    topics.read_topic,
    plugins.publish,
    plugins.push_status,
    registration.register,
    probes.healthz,
    probes.readyz,
    probes.metrics,
    page.get_page,
    page.get_page_file,
)


def build(parts: ApiDependencies) -> Litestar:
    """The application. Raises LookupError if a route is missing in the table of routes and roles."""
    api = ApiState.of(parts)
    app = Litestar(
        route_handlers=list(ROUTES),
        dependencies={
            "api": Provide(lambda: api, sync_to_thread=False, use_cache=True),
            "caller": Provide(_caller, sync_to_thread=False),
        },
        guards=[auth.guard_by(parts.tokens)],
        before_request=check_names,
        exception_handlers={Exception: problem_answers(parts.log)},
        openapi_config=openapi_config(api.addresses.api_root, parts.version),
        lifespan=[lambda _app: _watching(api)],
        request_max_body_size=None,
        logging_config=None,
        debug=False,
        pdb_on_exception=False,
    )
    if missing := auth.uncovered(app):
        raise LookupError(f"routes without roles: {missing}")
    hosts = known_hosts(parts.api_root, parts.allowed_hosts)
    app.asgi_handler = SecurityMiddleware(
        app.asgi_handler, hosts=hosts, api_root=api.addresses.api_root, metrics=parts.metrics
    )
    return app


def _caller(request: Request[Any, Any, Any]) -> Client:
    return auth.caller_of(request)


@contextlib.asynccontextmanager
async def _watching(api: ApiState) -> AsyncIterator[None]:
    """Listen for changes of jobs while the application runs."""
    following = asyncio.create_task(api.changes.run())
    try:
        yield
    finally:
        api.parts.stopping.set()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
