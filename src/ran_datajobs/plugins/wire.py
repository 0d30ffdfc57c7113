# SPDX-License-Identifier: Apache-2.0
"""Protocol between NCMP and a DMI plugin: paths, headers, media types and bodies of both dialects.

The clients and the reference plugin share this module; no other module defines a part of the dialects.

- **seed**: ONAP CPS-NCMP data-job pages, section "NCMP → DMI".
- **onap**: the DMI OpenAPI of today's CPS (``cmwriteJob``, ``cmreadJob``).

``Idempotency-Key``, ``activationMode`` and both kinds of ``DELETE`` are this project's additions to both.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.model import ActivationMode, Op, Operation, Scope, ScopeType
from ran_datajobs.plugins.port import CreateCall


class Dialect(enum.StrEnum):
    """Dialect of a DMI plugin; ``dmiDialect`` of its registration."""

    SEED = "seed"  # /dmi/v1/dataJob/…
    ONAP = "onap"  # /dmi/v1/cmwriteJob…, /dmi/v1/cmreadJob…


# --- headers and media types -------------------------------------------------------------------------

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
JSON: Final = "application/json"
JSON_PATCH_3GPP: Final = "application/3gpp-json-patch+json"
JSON_PATCH_VND_3GPP: Final = "application/vnd.3gpp.json-patch+json"
PROBLEM_JSON: Final = "application/problem+json"
TREE_HIERARCHICAL: Final = "application/vnd.3gpp.object-tree-hierarchical+json"
TREE_FLAT: Final = "application/vnd.3gpp.object-tree-flat+json"

ACCEPT_TYPES: Final = frozenset({TREE_HIERARCHICAL, TREE_FLAT})
CONTENT_TYPES: Final = frozenset({JSON_PATCH_3GPP, JSON_PATCH_VND_3GPP})
JOB_ID: Final = {Dialect.SEED: "requestId", Dialect.ONAP: "dataJobId"}
"""Member of a create body with the id of the data job."""

CREATED_ID: Final = {Dialect.SEED: "dataProducerJobId", Dialect.ONAP: "subJobId"}
"""Member of a create answer with the data-producer-job id."""

CREATE_CONTENT_TYPE: Final = {Dialect.SEED: JSON, Dialect.ONAP: JSON_PATCH_3GPP}

# --- paths -------------------------------------------------------------------------------------------
# ``{name:str}`` is the router's placeholder; ``path_of`` fills the same templates for the clients.

SEED_CREATE: Final = "/dmi/v1/dataJob/{request_id:str}"
SEED_WHOLE_JOB: Final = SEED_CREATE  # DELETE: nothing more of this job is started
SEED_JOB: Final = "/dmi/v1/dataJob/{request_id:str}/dataProducerJob/{data_producer_job_id:str}"
SEED_STATUS: Final = SEED_JOB + "/status"
SEED_RESULT: Final = SEED_JOB + "/result"

ONAP_CREATE_WRITE: Final = "/dmi/v1/cmwriteJob"
ONAP_CREATE_READ: Final = "/dmi/v1/cmreadJob"
ONAP_WHOLE_WRITE_JOB: Final = ONAP_CREATE_WRITE + "/dataJob/{request_id:str}"  # DELETE, as above
ONAP_WHOLE_READ_JOB: Final = ONAP_CREATE_READ + "/dataJob/{request_id:str}"
ONAP_JOB: Final = (
    "/dmi/v1/cmwriteJob/dataProducer/{data_producer_id:str}/dataProducerJob/{data_producer_job_id:str}"
)
ONAP_STATUS: Final = ONAP_JOB + "/status"
ONAP_RESULT: Final = ONAP_JOB + "/result"

DESTINATION: Final = "destination"  # query parameter: where the client wants the results
DATA_PRODUCER_ID: Final = "dataProducerId"  # query parameter of the seed dialect

STATUS_PUSH: Final = "/ncmp/v1/subJobs/{sub_job_id:str}/status"
"""Path at which a plugin may report a changed status to NCMP, below the service's API root."""

TOPIC_MESSAGES: Final = "/ranoam/cm/v1/topics/{topic:str}/messages"
"""Path at which an external plugin publishes on the embedded bus, below the service's API root."""

_PLACEHOLDER: Final = re.compile(r"\{(\w+):str\}")


def segment(name: str) -> str:
    """``name`` as one path segment: everything but unreserved characters percent-encoded.

    In a segment of dots alone the dots are encoded, too, so that no proxy resolves it as a folder.
    """
    encoded = quote(name, safe="")
    return encoded.replace(".", "%2E") if encoded.strip(".") == "" else encoded


def path_of(template: str, query: dict[str, str] | None = None, **names: str) -> str:
    """``template`` with its placeholders filled and ``query`` appended, all percent-encoded."""
    path = _PLACEHOLDER.sub(lambda found: segment(names[found[1]]), template)
    if not query:
        return path
    return path + "?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())


def aiohttp_route(template: str) -> str:
    """``template`` with placeholders in the syntax of aiohttp's router."""
    return _PLACEHOLDER.sub(r"{\1}", template)


MAX_PEER_ID: Final = 512
"""Maximum length, in characters, of a data-producer-job id of a plugin."""


def usable_id(value: object) -> str | None:
    """``value`` as a data-producer-job id: a non-empty printable string without blanks at its ends, or an
    integer; ``None`` for everything else, also for ``.`` and ``..``, which no path can carry."""
    if isinstance(value, bool):
        return None
    text = str(value) if isinstance(value, int) else value
    if not isinstance(text, str) or not 0 < len(text) <= MAX_PEER_ID:
        return None
    if not text.isprintable() or text != text.strip() or text in {".", ".."}:
        return None
    return text


# --- operations --------------------------------------------------------------------------------------


def _base_only() -> ScopeType:
    return ScopeType.BASE_ONLY


class SeedScope(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The scope of a read as the seed dialect carries it.

    ``scopeType`` is always sent: the default of a factory is never left out.
    """

    scope_type: ScopeType = msgspec.field(default_factory=_base_only)
    scope_level: int | None = None


class SeedOperation(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One operation as the seed dialect carries it.

    ``value`` and ``private_properties`` keep their JSON tokens, ``operation_id`` keeps its JSON type.
    """

    op: Op
    path: str
    operation_id: str | int
    value: Raw | UnsetType = UNSET
    attributes: tuple[str, ...] | str | UnsetType = UNSET
    fields: tuple[str, ...] | str | UnsetType = UNSET
    filter: str | tuple[str, ...] | UnsetType = UNSET
    scope: SeedScope | UnsetType = UNSET
    module_set_tag: str | None = None
    private_properties: Raw | UnsetType = UNSET


class SeedWrite(Struct, omit_defaults=True, rename="camel", forbid_unknown_fields=True, gc=False):
    """A write as the seed dialect carries it: the short form of :class:`SeedOperation`, with the same JSON.

    It can be decoded directly from a checked request. The last two fields then come from the client and must
    be overwritten with the inventory's values.
    """

    op: Op
    path: str
    operation_id: str | int
    value: Raw | UnsetType = UNSET
    module_set_tag: str | None = None
    private_properties: Raw | UnsetType = UNSET


class OnapOperation(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One operation as ONAP's DMI interface carries it: string ids, the scope in two flat keys."""

    op: Op
    path: str
    operation_id: str
    value: Raw | UnsetType = UNSET
    attributes: tuple[str, ...] | str | UnsetType = UNSET
    fields: tuple[str, ...] | str | UnsetType = UNSET
    filter: str | tuple[str, ...] | UnsetType = UNSET
    scope_type: ScopeType | UnsetType = UNSET
    scope_level: int | None = None
    module_set_tag: str | None = None
    cm_handle_properties: Raw | UnsetType = UNSET


def seed_operation(
    operation: Operation, module_set_tag: str | None = None, private_properties: Raw | UnsetType = UNSET
) -> SeedOperation:
    """``operation`` in the seed dialect, with the CM handle data that the plugin needs."""
    scope = operation.scope
    return SeedOperation(
        operation.op,
        operation.path,
        operation.operation_id,
        operation.value,
        operation.attributes,
        operation.fields,
        operation.filter,
        UNSET if isinstance(scope, UnsetType) else SeedScope(scope.scope_type, scope.scope_level),
        module_set_tag or None,
        private_properties,
    )


def onap_operation(
    operation: Operation, module_set_tag: str | None = None, private_properties: Raw | UnsetType = UNSET
) -> OnapOperation:
    """``operation`` in ONAP's dialect, with the CM handle data that the plugin needs.

    ONAP's ``filter`` is one string: several filters become one conjunction.
    """
    scope = operation.scope
    filters = operation.filter
    if isinstance(filters, tuple):
        filters = filters[0] if len(filters) == 1 else " && ".join(f"({one})" for one in filters)
    return OnapOperation(
        operation.op,
        operation.path,
        operation.id_text,
        operation.value,
        operation.attributes,
        operation.fields,
        filters,
        UNSET if isinstance(scope, UnsetType) else scope.scope_type,
        None if isinstance(scope, UnsetType) else scope.scope_level,
        module_set_tag or None,
        private_properties,
    )


def peer_operation(
    dialect: Dialect,
    operation: Operation,
    module_set_tag: str | None = None,
    private_properties: Raw | UnsetType = UNSET,
) -> SeedOperation | OnapOperation:
    """``operation`` in ``dialect``; encode it with :func:`encode_operations`."""
    if dialect is Dialect.ONAP:
        return onap_operation(operation, module_set_tag, private_properties)
    return seed_operation(operation, module_set_tag, private_properties)


def encode_operations(operations: Sequence[SeedOperation | SeedWrite | OnapOperation]) -> bytes:
    """The JSON array that goes into ``data``."""
    return msgspec.json.encode(operations)


def _names(value: tuple[str, ...] | str | UnsetType) -> tuple[str, ...] | UnsetType:
    """A list of names, also when the peer wrote it as one comma-separated string."""
    if isinstance(value, str):
        return tuple(name for part in value.split(",") if (name := part.strip()))
    return value


def job_operation(operation: SeedOperation | OnapOperation) -> Operation:
    """The operation that the plugin executes: ``operation`` without its CM handle data."""
    if isinstance(operation, OnapOperation):
        kind, level = operation.scope_type, operation.scope_level
    elif isinstance(operation.scope, UnsetType):
        kind, level = UNSET, None
    else:
        kind, level = operation.scope.scope_type, operation.scope.scope_level
    if isinstance(kind, UnsetType) and level is not None:
        kind = ScopeType.BASE_ONLY
    return Operation(
        operation.op,
        operation.path,
        operation.operation_id,
        operation.value,
        _names(operation.attributes),
        _names(operation.fields),
        operation.filter,
        UNSET if isinstance(kind, UnsetType) else Scope(kind, level),
    )


# --- create ------------------------------------------------------------------------------------------


class _Create(Struct, frozen=True, rename="camel", kw_only=True):
    data_accept_type: str
    data_content_type: str
    data_producer_id: str
    activation_mode: ActivationMode = ActivationMode.BEST_EFFORT


class SeedCreate(_Create, frozen=True, rename="camel", kw_only=True):
    """The create body of the seed dialect."""

    request_id: str
    data: tuple[SeedOperation, ...]


class OnapCreate(_Create, frozen=True, rename="camel", kw_only=True):
    """The create body of ONAP's dialect."""

    data_job_id: str
    data: tuple[OnapOperation, ...]


def create_body(dialect: Dialect, call: CreateCall) -> bytes:
    """A create body. The encoded operations are inserted unchanged."""
    return msgspec.json.encode(
        {
            "dataAcceptType": call.accept_type,
            "dataContentType": call.content_type,
            "dataProducerId": call.data_producer_id,
            JOB_ID[dialect]: call.job_id,
            "activationMode": call.activation_mode,
            "data": Raw(call.operations),
        }
    )


def create_headers(dialect: Dialect, sub_job_id: str) -> dict[str, str]:
    """The headers of a create; its key is the sub-job's id."""
    return {"Content-Type": CREATE_CONTENT_TYPE[dialect], "Accept": JSON, IDEMPOTENCY_KEY: sub_job_id}


# --- status ------------------------------------------------------------------------------------------


class StatusBody(Struct, frozen=True):
    """The status answer of both dialects. ``status`` in its wire spelling."""

    status: str
