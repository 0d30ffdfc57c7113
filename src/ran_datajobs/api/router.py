# SPDX-License-Identifier: Apache-2.0
"""The northbound API as an ASGI application. It opens and closes only its own LISTEN connection."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from litestar import Litestar, Response, get
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Receive, Send

from ran_datajobs.api import (
    auth,
    cm_handles,
    inventory,
    jobs,
    module_sets,
    onap_test,
    page_and_probes,
    paths,
    plugins,
    provmns,
    results,
    submit,
)
from ran_datajobs.api.dependencies import ApiDependencies
from ran_datajobs.api.openapi import openapi_config
from ran_datajobs.api.problems import check_parameters, problem_answers
from ran_datajobs.api.security import SecurityMiddleware
from ran_datajobs.api.tokens import Role
from ran_datajobs.config import Settings
from ran_datajobs.telemetry import Logger, Metrics, shared_exposition


def _for(roles: frozenset[Role], tag: str, *routes: HTTPRouteHandler) -> tuple[HTTPRouteHandler, ...]:
    """Let ``roles`` call the routes, which have ``tag`` in the OpenAPI document."""
    for route in routes:
        route.opt = route.opt | {auth.ROLES: roles}
        route.tags = [tag]
    return routes


_ENCODED_SLASH: Final = re.compile(rb"%2[Ff]")

_ROUTES: Final = (
    *_for(auth.SUBMITTERS, "data jobs", submit.submit, submit.retry, jobs.cancel_job, jobs.redeliver),
    *_for(auth.READERS, "data jobs", jobs.list_jobs, jobs.get_job, jobs.list_sub_jobs, jobs.job_events),
    *_for(auth.READERS, "data jobs", results.list_failures, results.list_outcomes, results.get_request),
    *_for(auth.READERS, "data jobs", page_and_probes.list_reasons),
    *_for(auth.READERS, "ProvMnS", provmns.read_objects, provmns.read_by_selector),
    *_for(auth.SUBMITTERS, "ProvMnS", provmns.change_objects, provmns.replace_object, provmns.delete_object),
    *_for(auth.SUBMITTERS, "ProvMnS", provmns.call_action),
    *_for(auth.READERS, "results", results.get_manifest, results.get_object, plugins.read_topic),
    *_for(auth.PLUGINS, "plugins", plugins.publish, plugins.push_status),
    *_for(auth.ADMINS, "inventory", plugins.register),
    *_for(auth.ADMINS, "inventory", module_sets.put_module_set, module_sets.delete_module_set),
    *_for(auth.READERS, "inventory", module_sets.get_module_set),
    *_for(
        auth.READERS,
        "inventory",
        inventory.search_ids,
        inventory.search_handles,
        inventory.search_lightweight,
    ),
    *_for(auth.READERS, "inventory", inventory.get_handle, inventory.get_handle_lightweight),
    *_for(auth.READERS, "inventory", inventory.get_handle_properties, inventory.get_handle_state),
    *_for(auth.READERS, "inventory", inventory.list_modules),
    *_for(auth.PLUGINS, "inventory", inventory.search_inventory_ids, inventory.search_inventory),
    *_for(auth.PLUGINS, "inventory", inventory.search_inventory_lightweight),
    *_for(auth.PLUGINS, "inventory", inventory.list_plugin_handles, inventory.get_handle_by_name),
    *_for(
        auth.READERS, "inventory", cm_handles.list_cm_handles, cm_handles.get_owner, cm_handles.list_children
    ),
    *_for(auth.READERS, "operations", page_and_probes.metrics),
    *_for(auth.PUBLIC, "operations", page_and_probes.healthz, page_and_probes.readyz),
    *_for(auth.PUBLIC, "page", page_and_probes.get_page),
)

_ONAP_TEST: Final = (
    *_for(auth.SUBMITTERS, "ONAP's test interface", onap_test.write),
    *_for(auth.READERS, "ONAP's test interface", onap_test.classify),
)
"""Routes that are there if ``onap_test_api`` is set."""


def build(api: ApiDependencies) -> Litestar:
    """The application."""
    return _application(
        (*_ROUTES, *(_ONAP_TEST if api.settings.onap_test_api else ())),
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


def build_metrics(settings: Settings, figures: Path, log: Logger) -> Litestar:
    """An application whose only route returns the metrics that a group of processes without an API writes to
    ``figures``. Allowed hosts, tokens and roles are those of the API."""

    @get(paths.METRICS, opt={auth.ROLES: auth.READERS} | page_and_probes.TEXT, sync_to_thread=True)
    def metrics() -> Response[bytes]:
        return Response(shared_exposition(figures), media_type=page_and_probes.EXPOSITION)

    return _application([metrics], settings, log, Metrics(), openapi_config=None)


def _application(
    routes: Sequence[Any], settings: Settings, log: Logger, metrics: Metrics, **options: Any
) -> Litestar:
    app = Litestar(
        routes,
        guards=[auth.guard_by(settings.tokens_file, keep_header=settings.asks_policy_as_caller)],
        exception_handlers={Exception: problem_answers(log)},
        logging_config=None,
        debug=False,
        pdb_on_exception=False,
        **options,
    )
    app.asgi_handler = SecurityMiddleware(_with_encoded_slashes(app.asgi_handler), settings, metrics)
    return app


def _with_encoded_slashes(app: ASGIApp) -> ASGIApp:
    """``app``, whose routes see ``%2F`` in place of each encoded slash of a path below :data:`paths.ENCODED`.

    Such a slash belongs to a segment and separates none (RFC 3986 §2.2).
    """

    async def call(scope: Any, receive: Receive, send: Send) -> None:
        raw: bytes = scope.get("raw_path") or b""
        if raw.startswith(paths.ENCODED) and _ENCODED_SLASH.search(raw):
            scope["path"] = unquote(_ENCODED_SLASH.sub(b"%252F", raw).decode("latin-1"))
        await app(scope, receive, send)

    return call


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
