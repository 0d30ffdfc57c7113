# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document, with schemas of request bodies written by hand, and its security schemes.

The routes read their bodies themselves, with limits, so that the router cannot derive the schemas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from litestar import Request, Router
from litestar.enums import MediaType
from litestar.exceptions import NotFoundException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    License,
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
    SecurityScheme,
    Server,
    Tag,
)

from ran_datajobs.api import paths
from ran_datajobs.model import ActivationMode, Op, ScopeType
from ran_datajobs.planning.keys import NOT_OFFERED
from ran_datajobs.plugins.wire import ACCEPT_TYPES, CONTENT_TYPES

JSON: Final = "application/json"

_TEXT: Final = Schema(type=OpenAPIType.STRING)
_TEXTS: Final = Schema(type=OpenAPIType.ARRAY, items=_TEXT)
_ANY: Final = Schema()
_FLAG: Final = Schema(type=OpenAPIType.BOOLEAN)
_NUMBER: Final = Schema(type=OpenAPIType.NUMBER, exclusive_minimum=0)
_WORDS: Final = Schema(
    type=OpenAPIType.OBJECT,
    description="Texts; a number or a boolean becomes its JSON text. null is none, and in an update "
    'removes the property, as "~" does.',
    additional_properties=Schema(
        type=[OpenAPIType.STRING, OpenAPIType.NUMBER, OpenAPIType.BOOLEAN, OpenAPIType.NULL]
    ),
)

_OPERATION: Final = Schema(
    title="Operation",
    type=OpenAPIType.OBJECT,
    description="Keys are exact. Other keys, and a read's in a write, are ignored and told in `ignored`; "
    f"{', '.join(NOT_OFFERED.values())} are not offered yet: 422.",
    required=["op", "path"],
    properties={
        "op": Schema(type=OpenAPIType.STRING, enum=[op.value for op in Op]),
        "path": Schema(
            type=OpenAPIType.STRING,
            description="FDN of a managed object, with a fragment for an attribute or an action.",
            examples=["/SubNetwork=Europe/ManagedElement=NR01/GNBDUFunction=1#/attributes/userLabel"],
        ),
        "operationId": Schema(
            one_of=[_TEXT, Schema(type=OpenAPIType.INTEGER)],
            description="Unique as a string; absent: the position from 0.",
        ),
        "value": Schema(description="What is written; an action's {\"input\": ...}. A remove's is ignored."),
        "attributes": Schema(one_of=[_TEXTS, _TEXT], description="Read: names of attributes."),
        "fields": Schema(one_of=[_TEXTS, _TEXT], description="Read: JSON Pointers."),
        "filter": Schema(one_of=[_TEXT, _TEXTS], description="Read: conditions that must all hold."),
        "scope": Schema(
            type=OpenAPIType.OBJECT,
            properties={
                "scopeType": Schema(type=OpenAPIType.STRING, enum=[scope.value for scope in ScopeType]),
                "scopeLevel": Schema(type=OpenAPIType.INTEGER, minimum=0),
            },
        ),
    },
)

_SUBMIT: Final = Schema(
    title="Submit",
    type=OpenAPIType.OBJECT,
    description="Keys count in any case; one that stands twice is a 400. Other keys are ignored and told in "
    "`ignored`, unless one edit away from a key that is missing: 400. "
    f"{', '.join(NOT_OFFERED.values())} are not offered yet: 422.",
    required=["data"],
    properties={
        "dataAcceptType": Schema(type=OpenAPIType.STRING, enum=sorted(ACCEPT_TYPES)),
        "dataContentType": Schema(type=OpenAPIType.STRING, enum=sorted(CONTENT_TYPES)),
        "name": Schema(type=OpenAPIType.STRING, max_length=256),
        "activationMode": Schema(
            type=OpenAPIType.STRING, enum=[mode.value for mode in ActivationMode], default="BEST_EFFORT"
        ),
        "priority": Schema(type=OpenAPIType.INTEGER, minimum=0, maximum=9, default=4),
        "after": Schema(
            type=OpenAPIType.ARRAY,
            items=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.UUID),
            max_items=1000,
        ),
        "data": Schema(type=OpenAPIType.ARRAY, items=_OPERATION, min_items=1),
    },
)

_HANDLE: Final = Schema(
    title="CmHandle",
    type=OpenAPIType.OBJECT,
    required=["cmHandle"],
    properties={
        "cmHandle": _TEXT,
        "cmHandleProperties": _WORDS,
        "publicCmHandleProperties": _WORDS,
        "moduleSetTag": _TEXT,
        "alternateId": _TEXT,
        "dataProducerIdentifier": _TEXT,
        "trustLevel": Schema(type=OpenAPIType.STRING, enum=["COMPLETE", "NONE", ""]),
    },
)
_HANDLES: Final = Schema(type=OpenAPIType.ARRAY, items=_HANDLE)

_REGISTRATION: Final = Schema(
    title="Registration",
    type=OpenAPIType.OBJECT,
    properties={
        "dmiPlugin": _TEXT,
        "dmiDataPlugin": _TEXT,
        "dmiModelPlugin": _TEXT,
        "createdCmHandles": _HANDLES,
        "updatedCmHandles": _HANDLES,
        "removedCmHandles": _TEXTS,
        "dmiDialect": Schema(type=OpenAPIType.STRING, enum=["seed", "onap"]),
        "idempotent": _FLAG,
        "stopOnError": _FLAG,
        "bulkCancel": _FLAG,
        "dmiGiveUp": _NUMBER,
        "subJobTimeout": _NUMBER,
    },
)

_PUBLISH: Final = Schema(
    title="Publish",
    type=OpenAPIType.OBJECT,
    required=["messages"],
    properties={
        "messages": Schema(
            type=OpenAPIType.ARRAY,
            items=Schema(
                type=OpenAPIType.OBJECT,
                required=["headers", "value"],
                properties={
                    "headers": Schema(type=OpenAPIType.OBJECT, additional_properties=_TEXT),
                    "key": Schema(type=[OpenAPIType.STRING, OpenAPIType.NULL]),
                    "value": _ANY,
                },
            ),
        )
    },
)

_STATUS_PUSH: Final = Schema(
    title="StatusPush",
    type=OpenAPIType.OBJECT,
    required=["dataProducerJobId", "status"],
    properties={"dataProducerJobId": _TEXT, "status": _TEXT},
)


def _body(schema: Schema) -> RequestBody:
    return RequestBody(content={JSON: OpenAPIMediaType(schema=schema)}, required=True)


@dataclass
class SubmitOperation(Operation):
    """A submit with its body."""

    def __post_init__(self) -> None:
        """Describe the body."""
        self.request_body = _body(_SUBMIT)


@dataclass
class RegistrationOperation(Operation):
    """A registration with its body (ONAP's shape)."""

    def __post_init__(self) -> None:
        """Describe the body."""
        self.request_body = _body(_REGISTRATION)


@dataclass
class PublishOperation(Operation):
    """A publish to the internal topic with its body."""

    def __post_init__(self) -> None:
        """Describe the body."""
        self.request_body = _body(_PUBLISH)


@dataclass
class StatusPushOperation(Operation):
    """A status push with its body."""

    def __post_init__(self) -> None:
        """Describe the body."""
        self.request_body = _body(_STATUS_PUSH)


def _refuse_other_documents(request: Request[Any, Any, Any]) -> None:
    """Answer with a problem for an unknown document, in place of the router's own page."""
    if request.scope["path_template"] == paths.template(paths.SCHEMA_OTHER):
        raise NotFoundException(detail=f"the only document is {paths.SCHEMA}")


def openapi_config(api_root: str, version: str) -> OpenAPIConfig:
    """The configuration of the document and of its route."""
    return OpenAPIConfig(
        title="ran-datajobs",
        version=version,
        description="Data jobs for radio networks (ONAP CPS-NCMP). Errors are problems of RFC 9457. Names of "
        "query parameters count in any case; an unknown one is a 400.",
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        servers=[Server(url=api_root)],
        tags=[
            Tag("data jobs", "Submit, ask, cancel, retry."),
            Tag("results", "Result objects, and topics of the embedded bus."),
            Tag("inventory", "CM handles and DMI plugins (ONAP's registration)."),
            Tag("plugins", "What DMI plugins call."),
            Tag("operations", "Probes and metrics."),
        ],
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(
                    type="http", scheme="bearer", description="A token; none is needed on loopback."
                )
            }
        ),
        security=[{}, {"bearer": []}],
        use_handler_docstrings=True,
        openapi_router=Router(
            paths.SCHEMA, route_handlers=[], include_in_schema=False, before_request=_refuse_other_documents
        ),
        render_plugins=[JsonRenderPlugin(path="/", media_type=MediaType.JSON)],
    )
