# SPDX-License-Identifier: Apache-2.0
"""Protocol between NCMP and a DMI plugin: paths, headers, media types and bodies of both dialects.

The clients and the reference plugin share this module; no other module defines a part of the dialects.

- **seed**: ONAP CPS-NCMP data-job pages, section "NCMP → DMI".
- **onap**: the DMI OpenAPI of today's CPS (``cmwriteJob``, ``cmreadJob``).

``Idempotency-Key``, ``activationMode``, ``expect``, ``beforeImages``, ``before`` and both kinds of ``DELETE``
are this project's additions to both.
"""

from __future__ import annotations

import enum
import re
from typing import Final
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.model import ActivationMode, ObjectState, Op, Operation, Scope, ScopeType
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
MERGE_PATCH: Final = "application/merge-patch+json"
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

MODULES: Final = "/dmi/v1/ch/{cm_handle:str}/modules"  # POST: the YANG modules of a CM handle
MODULE_RESOURCES: Final = "/dmi/v1/ch/{cm_handle:str}/moduleResources"  # POST: their texts
ACTUATOR_HEALTH: Final = "/actuator/health"  # GET, as in ONAP
HEALTHZ: Final = "/healthz"  # GET: this project's own
UP: Final = "UP"
"""``status`` of a plugin that is up, in the answer to :data:`ACTUATOR_HEALTH`."""

INVENTORY: Final = "/ncmpInventory/v1/ch"
"""Path of NCMP at which handles are registered, and of its look-up of the handle that owns an FDN."""

DISTINGUISHED_NAME: Final = "distinguishedName"  # query parameter of that look-up

DESTINATION: Final = "destination"  # query parameter: where the client wants the results
DATA_PRODUCER_ID: Final = "dataProducerId"  # query parameter of the seed dialect

STATUS_PUSH: Final = "/ncmp/v1/subJobs/{sub_job_id:str}/status"
"""Path at which a plugin may report a changed status to NCMP, below the service's API root."""

TOPIC_MESSAGES: Final = "/ranoam/cm/v1/topics/{topic:str}/messages"
"""Path at which an external plugin publishes on the embedded bus, below the service's API root."""

_PLACEHOLDER: Final = re.compile(r"\{(\w+):\w+\}")


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


def is_usable_id(text: str) -> bool:
    """True for a data-producer-job id: a non-empty printable string without blanks at its ends. False also
    for ``.`` and ``..``, which no path can carry."""
    is_name = text.isprintable() and text == text.strip() and text not in {".", ".."}
    return is_name and 0 < len(text) <= MAX_PEER_ID


# --- operations --------------------------------------------------------------------------------------


class _PeerOperation(Struct, omit_defaults=True, rename="camel", forbid_unknown_fields=True, gc=False):
    """What both dialects have in common. ``value`` keeps its JSON tokens. ``expect``: the guard of a write,
    for plugins that are registered with ``guards``."""

    op: Op
    path: str = ""
    operation_id: str | int | None = None
    value: Raw | UnsetType = UNSET
    attributes: tuple[str, ...] | str | None = None
    fields: tuple[str, ...] | str | None = None
    filter: tuple[str, ...] | str | None = None
    module_set_tag: str | None = None
    data_node_selector: str | None = None
    expect: ObjectState | None = None


class SeedOperation(_PeerOperation):
    """One operation as a client submits it, and as the seed dialect carries it.

    ``operation_id`` keeps its JSON type. The CM handle data is the inventory's, never the client's. A
    client's read by ``data_node_selector`` has an empty ``path``; a plugin gets both.
    """

    scope: Scope | None = None
    private_properties: Raw | UnsetType = UNSET


class OnapOperation(_PeerOperation):
    """One operation as ONAP's DMI interface carries it: string ids, the scope in two flat keys."""

    scope_type: ScopeType | None = None
    scope_level: int | None = None
    cm_handle_properties: Raw | UnsetType = UNSET


class ReceivedSeed(SeedOperation, forbid_unknown_fields=False, kw_only=True):
    """As a plugin reads it: other versions may add members."""

    path: str
    operation_id: str | int


class ReceivedOnap(OnapOperation, forbid_unknown_fields=False, kw_only=True):
    """As a plugin reads it: other versions may add members. The OpenAPI's own example has a number as id, and
    NCMP sends none for an operation without one."""

    path: str


def onap_operation(operation: SeedOperation) -> OnapOperation:
    """``operation`` in ONAP's dialect.

    ONAP's ``filter`` is one string: several filters become one conjunction.
    """
    scope, filters = operation.scope, operation.filter
    if isinstance(filters, tuple):
        filters = filters[0] if len(filters) == 1 else " && ".join(f"({one})" for one in filters)
    return OnapOperation(
        operation.op,
        operation.path,
        str(operation.operation_id),
        operation.value,
        operation.attributes,
        operation.fields,
        filters,
        operation.module_set_tag,
        operation.data_node_selector,
        operation.expect,
        None if scope is None else scope.scope_type,
        None if scope is None else scope.scope_level,
        operation.private_properties,
    )


def seed_operation(operation: OnapOperation) -> SeedOperation:
    """``operation`` in the seed dialect. Its id remains a string, and several filters one conjunction."""
    level, kind = operation.scope_level, operation.scope_type
    return SeedOperation(
        operation.op,
        operation.path,
        operation.operation_id,
        operation.value,
        operation.attributes,
        operation.fields,
        operation.filter,
        operation.module_set_tag,
        operation.data_node_selector,
        operation.expect,
        None if kind is None and level is None else Scope(kind or ScopeType.BASE_ONLY, level),
        operation.cm_handle_properties,
    )


def converted(operations: bytes, dialect: Dialect) -> bytes:
    """Encoded operations of the other dialect, encoded in ``dialect``. ``value`` keeps its JSON tokens."""
    if dialect is Dialect.ONAP:
        return msgspec.json.encode(list(map(onap_operation, _SEED_OPERATIONS.decode(operations))))
    return msgspec.json.encode(list(map(seed_operation, _ONAP_OPERATIONS.decode(operations))))


_SEED_OPERATIONS: Final = msgspec.json.Decoder(list[SeedOperation])
_ONAP_OPERATIONS: Final = msgspec.json.Decoder(list[OnapOperation])


def names(written: tuple[str, ...] | str | None) -> tuple[str, ...] | None:
    """A list of names as it is, or split from one comma-separated string."""
    if isinstance(written, str):
        return tuple(name for part in written.split(",") if (name := part.strip()))
    return written


def job_operation(operation: ReceivedSeed | ReceivedOnap, place: int = 0) -> Operation:
    """The operation that the plugin executes: ``operation`` without its CM handle data. Without an id, it has
    its ``place`` as id."""
    if isinstance(operation, ReceivedSeed):
        scope = operation.scope
    elif operation.scope_type is None and operation.scope_level is None:
        scope = None
    else:
        scope = Scope(operation.scope_type or ScopeType.BASE_ONLY, operation.scope_level)
    attributes, fields = names(operation.attributes), names(operation.fields)
    return Operation(
        operation.op,
        operation.path,
        str(place) if operation.operation_id is None else operation.operation_id,
        operation.value,
        UNSET if attributes is None else attributes,
        UNSET if fields is None else fields,
        UNSET if operation.filter is None else operation.filter,
        scope or UNSET,
        UNSET if operation.data_node_selector is None else operation.data_node_selector,
        UNSET if operation.expect is None else operation.expect,
    )


# --- create ------------------------------------------------------------------------------------------


class _Create(Struct, frozen=True, rename="camel", kw_only=True):
    """``before_images``: the responses to its operations are to have ``before``."""

    data_accept_type: str
    data_content_type: str
    data_producer_id: str
    activation_mode: ActivationMode = ActivationMode.BEST_EFFORT
    before_images: bool = False


class SeedCreate(_Create, frozen=True, rename="camel", kw_only=True):
    """The create body of the seed dialect."""

    request_id: str
    data: tuple[ReceivedSeed, ...]


class OnapCreate(_Create, frozen=True, rename="camel", kw_only=True):
    """The create body of ONAP's dialect."""

    data_job_id: str
    data: tuple[ReceivedOnap, ...]


def create_body(dialect: Dialect, call: CreateCall) -> bytes:
    """A create body. The encoded operations are inserted unchanged."""
    return msgspec.json.encode(
        {
            "dataAcceptType": call.accept_type,
            "dataContentType": call.content_type,
            "dataProducerId": call.data_producer_id,
            JOB_ID[dialect]: call.job_id,
            "activationMode": call.activation_mode,
            **({"beforeImages": True} if call.before_images else {}),
            "data": Raw(call.operations),
        }
    )


def create_headers(sub_job_id: str, content_type: str) -> dict[str, str]:
    """The headers of a create; its key is the sub-job's id."""
    return {"Content-Type": content_type, "Accept": JSON, IDEMPOTENCY_KEY: sub_job_id}


# --- status ------------------------------------------------------------------------------------------


class StatusBody(Struct, frozen=True):
    """The status answer of both dialects. ``status`` in its wire spelling."""

    status: str
