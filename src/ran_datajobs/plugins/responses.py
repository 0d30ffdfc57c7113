# SPDX-License-Identifier: Apache-2.0
"""Determine the outcome of each operation in a plugin's list of responses: entry by entry, then all. Pure.

The tables of bodies and entries are in :mod:`ran_datajobs.plugins.answers`. Unknown members are dropped,
among them any echo of private properties, and texts are truncated. Source: ONAP's DataJobEvent (CPS-2154).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.model import ErrorDetail, OperationState, Reason, Response, worst
from ran_datajobs.plugins import peer_json
from ran_datajobs.plugins.peer_json import NOT_JSON, Defect
from ran_datajobs.plugins.port import Entry, Nameless, Responses, UnreadableBody, UnrecognisedResult, Untold

MAX_TEXT: Final = 2_000
"""Maximum length, in characters, at which a plugin's message, reason or error is truncated."""

MAX_ERRORS: Final = 20
"""Maximum number of errors that are kept of one response."""

APPLIED: Final = 0
CANNOT_READ: Final = 103
UNKNOWN_ERROR: Final = 108
"""Codes of ONAP's NcmpResponseStatus; the last is for a failure without a failing code."""

OUTCOME_NAMES: Final = frozenset(
    {"responses", "response", "operationid", "statuscode", "state", "error", "errors"}
)
"""Folded names of members that an unrecognised result does not have at any depth."""

_HINTS: Final = (b"respons", b"operation", b"status", b"state", b"error", b"\\")
_PROBLEM_NAMES: Final = frozenset({"type", "title", "status", "detail", "instance"})
_PROBLEM_JSON: Final = "application/problem+json"
_RESPONSES: Final = "responses"
_SUCCESS_CODES: Final = range(100)
_MOST_DIGITS: Final = 10**9


class _Request(Struct, frozen=True, omit_defaults=True):
    """The kept part of an echoed request: it identifies the operation, without CM handle data."""

    op: str = ""
    path: str = ""


class _Error(Struct, frozen=True, rename="camel"):
    """An ErrorDetail of TS 28.572 as most peers write it: every member may be missing."""

    type: str | None = None
    bad_data_node: str | None = None
    reason: str | None = None
    title: str | None = None
    detail: str | None = None


class _Entry(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A response as most peers write it. Everything else is read member by member."""

    operation_id: str | int
    status_code: int | UnsetType = UNSET
    status_message: str | None = None
    request: _Request | None = None
    result: Raw | UnsetType = UNSET
    state: OperationState | UnsetType = UNSET
    reason: str | None = None
    errors: tuple[_Error, ...] | None = None


class _Inner(Struct, frozen=True):
    responses: tuple[_Entry, ...]


class _Document(Struct, frozen=True):
    responses: tuple[_Entry, ...] | UnsetType = UNSET
    data: _Inner | UnsetType = UNSET


_DOCUMENT: Final = msgspec.json.Decoder(_Document)
_LIST: Final = msgspec.json.Decoder(tuple[_Entry, ...])
_ENCODER: Final = msgspec.json.Encoder()
_STATES: Final = {state.value: state for state in OperationState}
_NO_REQUEST: Final = Raw(b"{}")
_RESULT_NAME: Final = re.compile(rb'"result"[ \t\r\n]*+:[ \t\r\n]*+')


def encode_responses(responses: Sequence[Response]) -> bytes:
    """``{"responses": […]}``, the shape of results and of result objects."""
    return _ENCODER.encode({"responses": responses})


# --- bodies ------------------------------------------------------------------------------------------


def read_outcomes(
    body: bytes, content_type: str = "", *, is_read: bool
) -> Responses | UnrecognisedResult | UnreadableBody:
    """The outcomes in a plugin's result, or in a message of the internal topic, in their order.

    ``is_read``: a success with an unreadable ``result`` does not count: the data is lost.
    """
    text = peer_json.text_of(body)
    if isinstance(text, Defect):
        return UnreadableBody(body, content_type, text.cause)
    usual = _usual_entries(text, is_read)
    if usual is not None:
        return Responses(usual)
    try:
        listed = _listed(text)
        if isinstance(listed, Defect):
            return UnreadableBody(body, content_type, listed.cause)
        if listed is not None:
            return Responses(tuple(_entry(raw, is_read) for raw in listed))
        fault = _why_not_foreign(text, content_type)
    except NOT_JSON as error:
        fault = peer_json.defect_of(error)
    return (
        UnrecognisedResult(body, content_type)
        if fault is None
        else UnreadableBody(body, content_type, fault.cause)
    )


def _listed(text: bytes) -> list[Raw] | Defect | None:
    """The entries of every list of responses in the document; ``None`` when it has none."""
    if peer_json.is_list(text):
        alone = peer_json.items(text)
        if alone and not any(map(_looks_like_an_entry, alone)):
            return Defect("it is a list, but none of responses")
        return alone
    if not peer_json.is_object(text):
        msgspec.json.decode(text, type=Raw)  # raises if it is not JSON
        return Defect("it is neither an object nor a list")
    found: list[Raw] = []
    for name, value in peer_json.members(text):
        if name == _RESPONSES:
            found.append(value)
        elif name == "data" and peer_json.is_object(value):
            found += [inner for name, inner in peer_json.members(value) if name == _RESPONSES]
    if not found:
        return None
    entries: list[Raw] = []
    for value in found:
        if peer_json.is_list(value):
            entries += peer_json.items(value)
        elif _looks_like_an_entry(value):
            entries.append(value)
        else:
            return Defect("its responses are no list")
    return entries


def _looks_like_an_entry(value: Raw) -> bool:
    return peer_json.is_object(value) and any(
        peer_json.folded(name) in {"operationid", "statuscode", "state"}
        for name, _ in peer_json.members(value)
    )


def _why_not_foreign(text: bytes, content_type: str) -> Defect | None:
    """Why an object without responses is not an unrecognised result; ``None`` when it is one."""
    given = peer_json.members(text)
    if not given:
        return Defect("it is an empty object")
    lower = text.lower()
    if any(hint in lower for hint in _HINTS):
        for name in peer_json.names_in(text):
            if peer_json.folded(name) in OUTCOME_NAMES:
                return Defect(f"it has no list of responses, but a member {peer_json.shown(name.encode())}")
    if _is_problem(given, content_type):
        return Defect("it is an error and no result")
    return None


def _is_problem(given: Sequence[tuple[str, Raw]], content_type: str) -> bool:
    """Whether an object is an error of RFC 9457: it has two of its members, or an HTTP error code."""
    statuses = [value for name, value in given if name.lower() == "status"]
    return (
        content_type.partition(";")[0].strip().lower() == _PROBLEM_JSON
        or any((peer_json.whole_number(peer_json.value_of(each)) or 0) >= 400 for each in statuses)
        or len(_PROBLEM_NAMES & {name.lower() for name, _ in given}) >= 2
    )


# --- entries -----------------------------------------------------------------------------------------


def _usual_entries(text: bytes, is_read: bool) -> tuple[Entry, ...] | None:
    """Fast path: the entries of a document in the usual spelling; ``None`` for every other document.

    The decoder keeps the last of two members with one name. Therefore every name must occur in the text,
    outside the values of ``result``, as often as a member was decoded, and none may contain an escape.
    """
    try:
        if peer_json.is_list(text):
            given, documents = _LIST.decode(text), 0
        else:
            document = _DOCUMENT.decode(text)
            if isinstance(document.data, UnsetType) and not isinstance(document.responses, UnsetType):
                given = document.responses
            elif isinstance(document.responses, UnsetType) and not isinstance(document.data, UnsetType):
                given = document.data.responses
            else:
                return None
            documents = 1
    except NOT_JSON:
        return None
    results = [one.result for one in given if not isinstance(one.result, UnsetType)]
    rest = _without_results(text, results)
    if rest is None or b"\\u" in rest:
        return None
    counts = {
        b'"responses"': documents,
        b'"operationId"': len(given),
        b'"statusCode"': sum(one.status_code is not UNSET for one in given),
        b'"state"': sum(one.state is not UNSET for one in given),
        b'"result"': len(results),
    }
    if any(rest.count(name) != times for name, times in counts.items()):
        return None
    return tuple(_usual(one, is_read) for one in given)


def _without_results(text: bytes, results: Sequence[Raw]) -> bytes | None:
    """``text`` without the values of its ``result`` members, given in order; ``None`` when a value does not
    follow the name."""
    pieces: list[bytes] = []
    at = 0
    for value in results:
        named = _RESULT_NAME.search(text, at)
        if named is None or not text.startswith(value, named.end()):
            return None
        pieces.append(text[at : named.end()])
        at = named.end() + len(memoryview(value))
    pieces.append(text[at:])
    return b"".join(pieces)


def _usual(given: _Entry, is_read: bool) -> Entry:
    code, state = given.status_code, given.state
    if state is not OperationState.SUCCEEDED or not isinstance(code, int) or code not in _SUCCESS_CODES:
        verdict = _verdict(
            () if isinstance(code, UnsetType) else (code,), () if isinstance(state, UnsetType) else (state,)
        )
        if verdict is None:
            return Untold(given.operation_id)
        state, code = verdict
    response = Response(
        given.operation_id,
        code,
        (given.status_message or "")[:MAX_TEXT],
        _NO_REQUEST if given.request is None else Raw(_ENCODER.encode(given.request)),
        UNSET,
        state,
        (given.reason or "")[:MAX_TEXT],
        tuple(map(_usual_error, given.errors[:MAX_ERRORS])) if given.errors else (),
    )
    return (
        response if isinstance(given.result, UnsetType) else _with_result(response, (given.result,), is_read)
    )


def _usual_error(given: _Error) -> ErrorDetail:
    return ErrorDetail(
        type=(given.type or "")[:MAX_TEXT] or "OTHER",
        bad_data_node=(given.bad_data_node or "")[:MAX_TEXT],
        reason=(given.reason or "")[:MAX_TEXT],
        title=(given.title or "")[:MAX_TEXT],
        detail=(given.detail or "")[:MAX_TEXT],
    )


class _Evidence:
    """The members of one entry. ``doubts``: human-readable reasons not to accept a success."""

    def __init__(self) -> None:
        self.names: dict[str, str | int] = {}
        self.codes: list[int] = []
        self.states: list[OperationState] = []
        self.results: list[Raw] = []
        self.doubts: list[str] = []
        self.alike: list[tuple[str, Raw]] = []  # members whose names are misspelt
        self.message = self.reason = ""
        self.request = _NO_REQUEST
        self.errors: tuple[ErrorDetail, ...] = ()
        self.misspelt_result = ""

    def take(self, name: str, value: Raw) -> None:
        """Add one member."""
        match name:
            case "operationId":
                if (usable := peer_json.name_of(peer_json.value_of(value))) is not None:
                    self.names[str(usable)] = usable
            case "statusCode":
                if (code := peer_json.whole_number(peer_json.value_of(value))) is not None:
                    self.codes.append(code)
                else:
                    self.doubts.append(f"its statusCode is {peer_json.shown(value)}")
            case "state":
                if (state := _state(value)) is not None:
                    self.states.append(state)
                elif not peer_json.is_null(value):
                    self.doubts.append(f"its state is {peer_json.shown(value)}")
            case "result":
                self.results.append(value)
            case "statusMessage":
                self.message = _words(value)
            case "reason":
                self.reason = _words(value)
            case "request":
                self.request = _request(value)
            case "errors":
                self.errors = _errors(value)
            case _ if peer_json.folded(name) in {"operationid", "statuscode", "state"}:
                self.alike.append((name, value))
            case _ if peer_json.folded(name) == "result" and not peer_json.is_null(value):
                self.misspelt_result = name

    def settle(self) -> None:
        """Add doubts for misspelt members that may contradict a success, and for several operation ids."""
        for name, value in self.alike:
            match peer_json.folded(name):
                case "operationid":
                    agrees = len(self.names) == 1
                case "statuscode":
                    agrees = peer_json.whole_number(peer_json.value_of(value)) in _SUCCESS_CODES
                case _:
                    agrees = _state(value) is OperationState.SUCCEEDED
            if not agrees:
                self.doubts.append(f"it has a member {peer_json.shown(name.encode())}")
        if len(self.names) > 1:
            self.doubts.append("it names several operations")
            self.names.clear()


def _entry(raw: Raw, is_read: bool) -> Entry:
    """Read one entry member by member. An invalid member is dropped, unless it concerns the outcome."""
    if not peer_json.is_object(raw):
        return Untold()
    said = _Evidence()
    for name, value in peer_json.members(raw):
        said.take(name, value)
    said.settle()
    named = next(iter(said.names.values()), None)
    verdict = _verdict(said.codes, said.states)
    if verdict is None:
        return Untold(named)
    state, code = verdict
    response = Response(
        operation_id="" if named is None else named,
        status_code=code,
        status_message=said.message,
        request=said.request,
        state=state,
        reason=said.reason,
        errors=said.errors,
    )
    response = _with_result(response, said.results, is_read)
    if is_read and said.misspelt_result and not said.results and response.state is OperationState.SUCCEEDED:
        why = f"its data stands in a member {peer_json.shown(said.misspelt_result.encode())}"
        response = _unreadable(response, OperationState.FAILED, why)
    if said.doubts and response.state is OperationState.SUCCEEDED:
        response = _unreadable(response, OperationState.UNKNOWN, said.doubts[0])
    return Nameless(response) if named is None else response


def _verdict(codes: Sequence[int], states: Sequence[OperationState]) -> tuple[OperationState, int] | None:
    """The worst state of an entry, and a code that agrees with it; ``None`` when it has neither.

    A failing code agrees with each of FAILED, NOT_STARTED and UNKNOWN.
    """
    if not codes and not states:
        return None
    state = states[0] if len(states) == 1 else worst(states)
    failing = next((code for code in codes if code not in _SUCCESS_CODES), None)
    if failing is not None:
        if state is OperationState.SUCCEEDED:
            state = OperationState.FAILED
        return state, failing if abs(failing) < _MOST_DIGITS else UNKNOWN_ERROR
    if state is not OperationState.SUCCEEDED:
        return state, UNKNOWN_ERROR
    return state, codes[0] if codes else APPLIED


def _state(value: Raw) -> OperationState | None:
    given = peer_json.value_of(value)
    return _STATES.get(given.strip().upper()) if isinstance(given, str) and given.isascii() else None


def _with_result(response: Response, results: Sequence[Raw], is_read: bool) -> Response:
    """``response`` with its result, an object or a list. In a write, a result of another type is dropped; a
    read without its data does not succeed."""
    there = [each for each in results if not peer_json.is_null(each)]
    usable = [each for each in there if peer_json.is_object(each) or peer_json.is_list(each)]
    if usable:
        # A copy: the slice of a Raw keeps the whole body in memory.
        response = msgspec.structs.replace(response, result=usable[0].copy())
    if (
        is_read
        and response.state is OperationState.SUCCEEDED
        and (len(there) > 1 or len(usable) < len(there))
    ):
        why = "it has several results" if len(there) > 1 else f"its result is {peer_json.shown(there[0])}"
        return _unreadable(response, OperationState.FAILED, why)
    return response


def _unreadable(response: Response, state: OperationState, why: str) -> Response:
    return msgspec.structs.replace(
        response,
        status_code=CANNOT_READ if state is OperationState.FAILED else UNKNOWN_ERROR,
        status_message=f"the plugin's response cannot be relied on: {why}",
        state=state,
        reason=Reason.RESULT_UNREADABLE.value,
    )


def _words(value: Raw) -> str:
    return peer_json.words_of(peer_json.value_of(value))[:MAX_TEXT]


def _request(value: Raw) -> Raw:
    if not peer_json.is_object(value):
        return _NO_REQUEST
    given = dict(peer_json.members(value))
    texts = {name: _words(given[name]) for name in ("op", "path") if name in given}
    return Raw(_ENCODER.encode(_Request(**texts)))


def _errors(value: Raw) -> tuple[ErrorDetail, ...]:
    given = peer_json.items(value) if peer_json.is_list(value) else [value]
    return tuple(_error(each) for each in given if peer_json.is_object(each))[:MAX_ERRORS]


def _error(value: Raw) -> ErrorDetail:
    texts = {name: _words(each) for name, each in peer_json.members(value)}
    return ErrorDetail(
        type=texts.get("type", "") or "OTHER",
        bad_data_node=texts.get("badDataNode", ""),
        reason=texts.get("reason", ""),
        title=texts.get("title", ""),
        detail=texts.get("detail", ""),
    )


# --- operations --------------------------------------------------------------------------------------


class Told(Struct, frozen=True):
    """The responses of a list by operation id, as a string.

    ``doubts``: why an operation cannot have succeeded despite its responses. ``doubt``: the same for all.
    """

    responses: Mapping[str, Sequence[Response]]
    doubts: Mapping[str, str]
    doubt: str = ""

    def why_not(self, operation: str) -> str:
        """Why this operation cannot have succeeded; empty when it can."""
        return self.doubt or self.doubts.get(operation, "")


def told_of(operations: Sequence[str], entries: Sequence[Entry]) -> Told:
    """Assign ``entries`` to ``operations`` (ids as strings, in the order of the request).

    Entries of other operations have no effect. An outcome without an operation id belongs to the operation at
    its position if there are as many entries as operations, each entry with an id is at the position of its
    operation, and all others have an outcome: otherwise the list is not in the order of the request. An
    unassigned failure may belong to any operation: if there are more of these than operations without an
    entry, an operation that seems to have succeeded has failed, and ``doubt`` applies to all.
    """
    responses: dict[str, list[Response]] = {}
    doubts: dict[str, str] = {}
    nameless: list[tuple[int, Response]] = []
    for place, entry in enumerate(entries):
        match entry:
            case Response():
                name = str(entry.operation_id)
                if name in responses:
                    responses[name].append(entry)
                else:
                    responses[name] = [entry]
            case Nameless(response):
                nameless.append((place, response))
            case Untold(operation_id) if operation_id is not None:
                doubts[str(operation_id)] = "an entry of it tells no outcome"
            case Untold():
                pass
    if not nameless:
        return Told(responses, doubts)
    left = nameless
    if len(entries) == len(operations) and _keep_their_places(operations, entries):
        left = []
        for place, response in nameless:
            responses[operations[place]] = [response]
    astray = sum(response.state is not OperationState.SUCCEEDED for _, response in left)
    unnamed = sum(id_text not in responses and id_text not in doubts for id_text in operations)
    doubt = (
        "more entries that name no operation tell a failure than operations are left"
        if astray > unnamed
        else ""
    )
    return Told(responses, doubts, doubt)


def _keep_their_places(operations: Sequence[str], entries: Iterable[Entry]) -> bool:
    for operation, entry in zip(operations, entries, strict=True):
        match entry:
            case Response(operation_id=name) | Untold(operation_id=name):
                if name is None or str(name) != operation:
                    return False
            case Nameless():
                pass
    return True
