# SPDX-License-Identifier: Apache-2.0
"""Serves the metrics of a group of workers without an API on a port of their own."""

from __future__ import annotations

from pathlib import Path

from litestar import Litestar, Response, get
from litestar.types import ASGIApp

from ran_datajobs.api import auth, paths
from ran_datajobs.api.probes import EXPOSITION, TEXT_FORMATS
from ran_datajobs.api.problems import problem_answers
from ran_datajobs.api.security import SecurityMiddleware, known_hosts
from ran_datajobs.api.tokens import TokenTable
from ran_datajobs.config import Settings
from ran_datajobs.telemetry import Logger, Metrics, shared_exposition


def build(settings: Settings, figures: Path, log: Logger) -> ASGIApp:
    """An application whose only route returns the metrics that the group's processes write to ``figures``.

    Allowed hosts, tokens and roles are those of the API.
    """

    @get(paths.METRICS, media_type="text/plain", opt={"produces": TEXT_FORMATS}, sync_to_thread=True)
    def metrics() -> Response[bytes]:
        return Response(shared_exposition(figures), media_type=EXPOSITION)

    app = Litestar(
        route_handlers=[metrics],
        guards=[auth.guard_by(TokenTable(settings.tokens_file) if settings.tokens_file else None)],
        exception_handlers={Exception: problem_answers(log)},
        openapi_config=None,
        logging_config=None,
        debug=False,
        pdb_on_exception=False,
    )
    return SecurityMiddleware(
        app,
        hosts=known_hosts(settings.effective_api_root, settings.allowed_hosts),
        api_root=settings.effective_api_root,
        metrics=Metrics(),
    )
