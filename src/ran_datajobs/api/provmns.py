# SPDX-License-Identifier: Apache-2.0
"""ProvMnS for the whole network at one address (3GPP TS 28.532), and ONAP's actions.

The same calls are the configuration management API of O-RAN R1 (WG2 R1AP). Each request is an ordinary data
job: a read job, or a write job of which all operations have one owner and which stops at its first failure.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from litestar import Response, delete, get, patch, post, put
from litestar.datastructures import ResponseHeader
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.params import FromPath, QueryParameter
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ran_datajobs.api import paths
from ran_datajobs.api.auth import choose
from ran_datajobs.api.dependencies import AnyRequest
from ran_datajobs.api.openapi import documented, success, with_body
from ran_datajobs.api.problems import error_answer
from ran_datajobs.api.provmns_jobs import Call, ProvMnsCall, call_of
from ran_datajobs.api.provmns_problems import VERSION, ProvMnsProblem
from ran_datajobs.api.provmns_reads import UnreadableResult, document_of
from ran_datajobs.api.request_body import off_loop, too_large
from ran_datajobs.api.schemas import SubmitAnswer
from ran_datajobs.errors import InvalidFdn, InvalidRequest, TooManyOperations, Unavailable, UnsupportedRequest
from ran_datajobs.http.json_body import decoded
from ran_datajobs.model import Op, Scope, ScopeType
from ran_datajobs.nrm import fdn
from ran_datajobs.planning.provmns import (
    PATCHES,
    Place,
    ProvMnsOperation,
    in_document,
    items_of,
    read_items,
    written,
)
from ran_datajobs.planning.validation import MAX_SCOPE_LEVEL
from ran_datajobs.plugins.wire import TREE_FLAT, TREE_HIERARCHICAL

MAX_BODY: Final = 16 * 1024 * 1024
"""Maximum size of the body of a request, in bytes."""

MAX_RESULT: Final = 32 * 1024 * 1024
"""Maximum size of the result objects from which an answer is made, in bytes."""

JSON: Final = "application/json"
_TREES: Final = (JSON, TREE_HIERARCHICAL)
_FORMS: Final = (*_TREES, TREE_FLAT)
_CONDITIONS: Final = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")


def _documented(answers: dict[int, Any], *statuses: int, **more: Any) -> dict[str, Any]:
    """What the calls have in common. ``answers``: to a success; ``statuses``: of more errors."""
    answers[202] = success(SubmitAnswer, "Accepted and durable, for `Prefer: respond-async`.")
    errors = documented(404, 409, 413, 422, 429, 502, 504, *statuses, body=ProvMnsProblem)
    return {
        "status_code": 200,
        "responses": errors | answers,
        "response_headers": [ResponseHeader(name="Version", value=VERSION)],
        "dependencies": {"call": Provide(call_of, sync_to_thread=False)},
        **more,
    }


# --- reads -------------------------------------------------------------------------------------------

_READ: Final = {
    200: success(dict[str, object], "The selected objects.", JSON),
    204: success(None, "No object is selected."),
}
_Selector: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="dataNodeSelector",
        description="Jex basic (TS 32.161) with `//` and `contains(id,...)`, in place of the others.",
    ),
]
_Names: TypeAlias = list[str] | None


class _Read(Struct, frozen=True):
    """What a read asks for. ``target``: the FDN in its address, empty for the NRM root."""

    target: str
    scope: Scope | None = None
    attributes: list[str] | None = None
    fields: list[str] | None = None
    filter: str | None = None
    selector: str | None = None

    @property
    def operation(self) -> ProvMnsOperation:
        """The operation of its job. Raises InvalidRequest if a selector stands beside another parameter."""
        if self.selector is None:
            asked = {name: getattr(self, name) for name in _BESIDE}
            return ProvMnsOperation(Op.READ, self.target, **asked)
        for name in _BESIDE:
            if getattr(self, name) is not None:
                words = "cannot stand beside dataNodeSelector, which names objects and attributes itself"
                raise InvalidRequest.at(name, words)
        return ProvMnsOperation(Op.READ, data_node_selector=self.selector)

    @property
    def named(self) -> tuple[str, ...]:
        """The parameters that name attributes, without which an object is not selected."""
        return tuple(name for name in ("attributes", "fields") if getattr(self, name))


_BESIDE: Final = ("scope", "attributes", "fields", "filter")


@get(paths.PROVMNS, **_documented({**_READ}, opt={"produces": _FORMS}))
async def read_objects(
    dn: FromPath[str],
    call: Call,
    scope_type: Annotated[ScopeType | None, QueryParameter(name="scopeType")] = None,
    scope_level: Annotated[int | None, QueryParameter(name="scopeLevel", ge=0, le=MAX_SCOPE_LEVEL)] = None,
    scope_as_json: Annotated[
        str | None,
        QueryParameter(name="scope", description="The scope as a JSON object, in place of the two others."),
    ] = None,
    attributes: Annotated[_Names, QueryParameter(description="Names, separated by commas.")] = None,
    fields: Annotated[_Names, QueryParameter(description="JSON Pointers, separated by commas.")] = None,
    filter: Annotated[str | None, QueryParameter(description="A condition, as in a read job.")] = None,
    selector: _Selector = None,
) -> Response[Any]:
    """Read managed objects."""
    asked = _Read(
        _target(call.request, paths.PROVMNS_ROOT),
        _scope(scope_type, scope_level, scope_as_json),
        _listed(attributes),
        _listed(fields),
        filter,
        selector,
    )
    return await _read(call, asked)


@get(paths.PROVMNS_ROOT, **_documented({**_READ}, opt={"produces": _FORMS}))
async def read_by_selector(call: Call, selector: _Selector = None) -> Response[Any]:
    """Read the managed objects of the whole network that are selected."""
    if selector is None:
        raise InvalidRequest.at("dataNodeSelector", "is missing: name an object in the path, or select some")
    return await _read(call, _Read("", selector=selector))


async def _read(call: ProvMnsCall, asked: _Read) -> Response[Any]:
    media_type = _media_type(call.request, _FORMS)
    accept_type = TREE_FLAT if media_type == TREE_FLAT else TREE_HIERARCHICAL
    row = await call.executed([asked.operation], accept_type=accept_type, place=_parameter)
    if isinstance(row, Response):
        return row
    outcomes, size = await call.outcomes(row, MAX_RESULT)
    if size > MAX_RESULT:
        uri = call.api.view.results_uri(row.bucket_named, row.job_id)
        raise too_large(f"the result has {size} bytes, more than {MAX_RESULT}: it is at {uri}")
    base = fdn.key(asked.target) if asked.target else ""
    with call.api.bodies.held(size):
        try:
            body = await off_loop(size, document_of, outcomes, base, accept_type, asked.selector is not None)
        except UnreadableResult as error:
            return error_answer(call.request, 502, str(error))
    if body:
        return Response(body, media_type=media_type)
    if asked.named and asked.filter is None:
        detail = "no object in scope has any of the attributes"
        return error_answer(call.request, 404, detail, faults=tuple((name, detail) for name in asked.named))
    return Response(None, status_code=204)


def _parameter(_position: str, field: str) -> str:
    return field.removeprefix("scope/")


def _scope(kind: ScopeType | None, level: int | None, text: str | None) -> Scope | None:
    """The scope in either spelling: exploded (TS 28.532 up to 19.1), or one JSON object (from 19.2)."""
    if text is None:
        return None if kind is None and level is None else Scope(kind or ScopeType.BASE_ONLY, level)
    if kind is not None or level is not None:
        raise InvalidRequest.at("scope", "stands beside scopeType or scopeLevel: give the scope once")
    try:
        return decoded(text.encode("utf-8", "replace"), _scope_decoder)
    except InvalidRequest as error:
        raise InvalidRequest.at("scope", f"must be a JSON object with scopeType: {error.detail}") from None


def _listed(values: list[str] | None) -> list[str] | None:
    """Names that are separated by commas; an empty value is an empty list."""
    if values is None:
        return None
    return [name for value in values for part in value.split(",") if (name := part.strip())]


# --- writes ------------------------------------------------------------------------------------------

_WRITTEN: Final = success(dict[str, object], "What was written.", JSON)


class PatchOperation(Struct, frozen=True):
    """One operation of a patch document, for the OpenAPI document."""

    op: Literal["add", "merge", "remove", "replace", "test"]
    path: Annotated[
        str,
        Meta(
            description="A JSON Pointer into the object, or steps below it with a fragment.",
            examples=["/attributes/userLabel", "/GNBDUFunction=1/NRCellDU=1#/attributes/nRPCI"],
        ),
    ] = ""
    value: Any = None


class Resource(Struct, frozen=True, rename="camel"):
    """A managed object, for the OpenAPI document; the attributes alone are taken, too."""

    id: str | UnsetType = UNSET
    object_class: str | UnsetType = UNSET
    object_instance: str | UnsetType = UNSET
    attributes: dict[str, Any] | UnsetType = UNSET


@patch(
    paths.PROVMNS,
    **_documented(
        {200: _WRITTEN},
        408,
        415,
        opt={"produces": _TREES},
        operation_class=with_body(list[PatchOperation], *PATCHES),
    ),
)
async def change_objects(dn: FromPath[str], call: Call) -> Response[Any]:
    """Change managed objects of one owner, in order, up to the first failure: what was executed stays."""
    target = _target(call.request, paths.PROVMNS_ROOT)
    kind = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in PATCHES:
        detail = f"Content-Type must be one of {', '.join(PATCHES)}; it is {kind[:100] or 'missing'}"
        raise HTTPException(detail, status_code=415, headers={"Accept-Patch": ", ".join(PATCHES)})
    _check_conditions(call.request)
    async with call.api.bodies.json(call.request, limit=MAX_BODY) as document:
        operations = await off_loop(len(document), _operations_of, document, call, kind, target)
        return await _write(call, operations, document, target, in_document)


def _operations_of(document: bytes, call: ProvMnsCall, kind: str, target: str) -> list[ProvMnsOperation]:
    most = call.api.settings.provmns_max_operations
    try:
        return read_items(items_of(document, most), kind, target)
    except TooManyOperations:
        raise too_large(f"a patch has at most {most} operations: split it") from None


@put(
    paths.PROVMNS,
    **_documented({200: _WRITTEN}, 408, 415, opt={"produces": _TREES}, operation_class=with_body(Resource)),
)
async def replace_object(dn: FromPath[str], call: Call) -> Response[Any]:
    """Create a managed object, or replace all its attributes."""
    target = _target(call.request, paths.PROVMNS_ROOT)
    _check_conditions(call.request)
    async with call.api.bodies.json(call.request, limit=MAX_BODY) as document:
        operation = ProvMnsOperation(Op.ADD, target, decoded(document, _raw_decoder))
        return await _write(call, [operation], document, target, _in_resource)


@delete(paths.PROVMNS, **_documented({204: success(None, "Deleted.")}))
async def delete_object(dn: FromPath[str], call: Call) -> Response[Any]:
    """Delete a managed object that has no children."""
    _check_conditions(call.request)
    row = await call.executed([ProvMnsOperation(Op.REMOVE, _target(call.request, paths.PROVMNS_ROOT))])
    return row if isinstance(row, Response) else Response(None, status_code=204)


async def _write(
    call: ProvMnsCall, operations: list[ProvMnsOperation], document: bytes, target: str, place: Place
) -> Response[Any]:
    row = await call.executed(operations, document, place=place)
    if isinstance(row, Response):
        return row
    tree = await off_loop(len(document), written, operations, target)
    return Response(tree, media_type=_media_type(call.request, _TREES))


def _in_resource(_position: str, field: str) -> str:
    return "#" if field == "value" else field


def _check_conditions(request: AnyRequest) -> None:
    """Refuse a conditional write: a condition that is ignored would not protect anything."""
    for name in _CONDITIONS:
        if name in request.headers:
            raise UnsupportedRequest(f"{name} is not offered: a test operation of a patch is a condition")


# --- actions -----------------------------------------------------------------------------------------


class ActionValue(Struct, frozen=True):
    """The input of an action; its JSON tokens are kept."""

    input: Raw | UnsetType = UNSET


class ActionRequest(Struct, frozen=True, rename="camel"):
    """The body of an action (ONAP's extensions of ProvMnS)."""

    value: ActionValue | None = None
    custom_properties: Raw | UnsetType = UNSET


class ActionResult(Struct, frozen=True):
    """The input and the output of an action."""

    input: Raw
    output: Raw


class ActionAnswer(Struct, frozen=True, rename="camel"):
    """The answer to an action."""

    value: ActionResult
    custom_properties: Raw | UnsetType = UNSET


@post(
    paths.ACTION,
    **_documented(
        {200: success(ActionAnswer, "The output."), 204: success(None, "Executed, without an output.")},
        408,
        415,
        operation_class=with_body(ActionRequest),
    ),
)
async def call_action(dn_and_action: FromPath[str], call: Call) -> Response[Any]:
    """Execute an action of a managed object. The path is its DN, a slash and the name of the action."""
    name, _, action = _below(call.request, paths.ACTIONS).rpartition("/")
    target = _fdn(name)
    async with call.api.bodies.json(call.request, limit=MAX_BODY) as document:
        asked = decoded(document, _action_decoder)
        value = {"input": _given((asked.value or ActionValue()).input) or Raw(b"{}")}
        if custom := _given(asked.custom_properties):
            value["customProperties"] = custom
        operation = ProvMnsOperation(Op.ACTION, f"{target}#{action}", Raw(msgspec.json.encode(value)))
        row = await call.executed([operation], document, place=_in_action)
        if isinstance(row, Response):
            return row
        try:
            outcomes, _ = await call.outcomes(row)
        except Unavailable as error:
            return call.pending(
                row.job_id, f"the action was executed, and its output cannot be read: {error}"
            )
        output = next((each.result for each in outcomes if not isinstance(each.result, UnsetType)), None)
        if output is None:
            return Response(None, status_code=204)
        result = ActionResult(value["input"], _output(output))
        return Response(ActionAnswer(result, value.get("customProperties", UNSET)))


def _given(member: Raw | UnsetType) -> Raw | None:
    """The value of a member that is there and not ``null``."""
    return None if isinstance(member, UnsetType) or bytes(member) == b"null" else member


def _in_action(_position: str, field: str) -> str:
    return "#/value" if field == "value" else "actionName"


def _output(result: Raw) -> Raw:
    """The output in the result of an action: its member of this name, else the result itself."""
    members = _members_decoder.decode(result) if bytes(result)[:1] == b"{" else {}
    return members.get("output", result)


# --- addresses ---------------------------------------------------------------------------------------


def _below(request: AnyRequest, root: str) -> str:
    """The part of the address below ``root``, as it came: percent-encoded."""
    raw: bytes = request.scope["raw_path"]
    try:
        return raw.decode().partition(root)[2].strip("/")
    except UnicodeDecodeError:
        raise InvalidRequest("the address is not UTF-8") from None


def _target(request: AnyRequest, root: str) -> str:
    """The FDN of the object that a request names, in slash form."""
    return _fdn(_below(request, root))


def _fdn(name: str) -> str:
    try:
        return fdn.render(fdn.parse("/" + name))
    except InvalidFdn as error:
        raise InvalidRequest(f"the address does not name a managed object: {error}") from None


def _media_type(request: AnyRequest, offered: tuple[str, ...]) -> str:
    return choose(request.headers.get("accept", "*/*"), offered) or offered[0]


_scope_decoder: Final = msgspec.json.Decoder(Scope)
_raw_decoder: Final = msgspec.json.Decoder(Raw)
_action_decoder: Final = msgspec.json.Decoder(ActionRequest)
_members_decoder: Final = msgspec.json.Decoder(dict[str, Raw])
