# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: its configuration and security schemes, the answers and bodies of routes.

The routes read their bodies themselves, with limits, so that the router cannot derive the bodies' schemas.
"""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import msgspec
from litestar import Request, Router
from litestar.enums import MediaType
from litestar.exceptions import NotFoundException
from litestar.openapi import spec
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin

from ran_datajobs.api import auth, paths
from ran_datajobs.http.problem import PROBLEM_JSON, NcmpError, Problem

_COMMON: Final = (400, 401, 403, 406, 503)


def documented(
    *statuses: int, common: tuple[int, ...] = _COMMON, ncmp: bool = False, body: type = Problem
) -> dict[int, ResponseSpec]:
    """The problems that a route can answer with, for the OpenAPI document. ``ncmp``: its path is NCMP's;
    ``body``: the type of the problems of another path."""
    body, media_type = (NcmpError, MediaType.JSON) if ncmp else (body, PROBLEM_JSON)
    return {
        status: success(body, HTTPStatus(status).phrase, media_type)
        for status in sorted((*statuses, *common))
    }


def success(body: Any, description: str, media_type: str = "application/json") -> ResponseSpec:
    """Another answer of a route, for the OpenAPI document. ``body``: its type."""
    return ResponseSpec(body, generate_examples=False, description=description, media_type=media_type)


def with_body(body: Any, *media_types: str) -> Any:
    """The ``operation_class`` of a route whose request body is JSON of the type ``body``."""
    (schema,), shapes = msgspec.json.schema_components((body,), ref_template="{name}")

    def inlined(node: Any) -> Any:
        match node:
            case {"$ref": name}:
                return inlined(shapes[name] | {key: value for key, value in node.items() if key != "$ref"})
            case dict():
                return {key: inlined(value) for key, value in node.items()}
            case list():
                return [inlined(each) for each in node]
        return node

    content = {each: spec.OpenAPIMediaType(inlined(schema)) for each in media_types or ("application/json",)}
    described = spec.RequestBody(content, required=True)
    return lambda **fields: spec.Operation(**fields | {"request_body": described})


def _refuse_other_documents(request: Request[Any, Any, Any]) -> None:
    """Answer with a problem for an unknown document, in place of the router's own page."""
    if request.scope["path"].rstrip("/") not in (paths.SCHEMA, paths.SCHEMA_FILE):
        raise NotFoundException(f"the only document is {paths.SCHEMA}")


def openapi_config(api_root: str) -> OpenAPIConfig:
    """The configuration of the document and of its route."""
    return OpenAPIConfig(
        title="ran-datajobs",
        version=version("ran-datajobs"),
        description="Data jobs for radio networks (ONAP CPS-NCMP). Errors are problems of RFC 9457. Names of "
        "query parameters count in any case; an unknown one is a 400.",
        license=spec.License(name="Apache-2.0", identifier="Apache-2.0"),
        servers=[spec.Server(url=api_root)],
        tags=[
            spec.Tag("data jobs", "Submit, ask, cancel, retry."),
            spec.Tag("ProvMnS", "Reads, writes and actions of managed objects (TS 28.532, O-RAN R1)."),
            spec.Tag("results", "Result objects, and topics of the embedded bus."),
            spec.Tag("inventory", "CM handles and DMI plugins (ONAP's registration)."),
            spec.Tag("plugins", "What DMI plugins call."),
            spec.Tag("operations", "Probes and metrics."),
        ],
        components=spec.Components(
            security_schemes={
                "bearer": spec.SecurityScheme(
                    type="http", scheme="bearer", description="A token; none is needed on loopback."
                )
            }
        ),
        security=[{}, {"bearer": []}],
        use_handler_docstrings=True,
        openapi_router=Router(
            paths.SCHEMA,
            route_handlers=[],
            include_in_schema=False,
            before_request=_refuse_other_documents,
            opt={auth.ROLES: auth.PUBLIC},
        ),
        render_plugins=[JsonRenderPlugin(path="/", media_type=MediaType.JSON)],
    )
