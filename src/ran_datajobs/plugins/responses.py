# SPDX-License-Identifier: Apache-2.0
"""Determine the outcome of each operation in a plugin's list of responses: entry by entry, then all. Pure.

The tables of bodies and entries are in :mod:`ran_datajobs.plugins.answers`. Unknown members are dropped,
among them any echo of private properties, and texts are truncated. Source: ONAP's DataJobEvent (CPS-2154).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.model import ErrorDetail, OperationState, Reason, Response, worst
from ran_datajobs.plugins import peer_json
from ran_datajobs.plugins.peer_json import Unreadable
from ran_datajobs.plugins.port import Entry, Responses, UnreadableBody, UnrecognisedResult

MAX_TEXT: Final = 2_000
"""Maximum length, in characters, at which a plugin's message, reason or error is truncated."""

MAX_ERRORS: Final = 20
"""Maximum number of errors that are kept of one response."""

APPLIED: Final = 0
CANNOT_READ: Final = 103
UNKNOWN_ERROR: Final = 108
"""Codes of ONAP's NcmpResponseStatus; the last is for a failure without a failing code."""

_ENTRY_NAMES: Final = frozenset({"operationid", "statuscode", "state"})
_OUTCOME_NAMES: Final = _ENTRY_NAMES | {"responses", "response", "error", "errors"}
"""Folded names of members that an unrecognised result does not have at any depth."""

_PROBLEM_NAMES: Final = frozenset({"type", "title", "status", "detail", "instance"})
_PROBLEM_JSON: Final = "application/problem+json"
_RESPONSES: Final = "responses"
_SUCCESS_CODES: Final = range(100)
_MOST_DIGITS: Final = 10**9
_STATES: Final = {state.value: state for state in OperationState}
_ENCODER: Final = msgspec.json.Encoder()
_NO_ERRORS: Final = Raw(b"[]")


# --- bodies ------------------------------------------------------------------------------------------


def read_outcomes(
    body: bytes, content_type: str = "", *, is_read: bool
) -> Responses | UnrecognisedResult | UnreadableBody:
    """The outcomes in a plugin's result, or in a message of the internal topic, in their order.

    ``is_read``: a success with an unreadable ``result`` does not count: the data is lost.
    """
    try:
        text = peer_json.text_of(body)
        entries = _listed(text)
        if entries is not None:
            return Responses(tuple(_entry(raw, is_read) for raw in entries))
        _check_unrecognised(text, content_type)
    except Unreadable as error:
        return UnreadableBody(body, str(error))
    return UnrecognisedResult(body)


def _listed(text: bytes) -> list[Raw] | None:
    """The entries of every list of responses in the document; ``None`` when it has none."""
    if peer_json.is_list(text):
        entries = peer_json.items(text)
        if entries and not any(map(_looks_like_an_entry, entries)):
            raise Unreadable("it is a list, but none of responses")
        return entries
    listed = [
        value
        for outer, document in peer_json.members(text)
        for name, value in (peer_json.members(document) if outer == "data" else [(outer, document)])
        if name == _RESPONSES
    ]
    if not listed:
        return None
    entries = []
    for value in listed:
        if peer_json.is_list(value):
            entries += peer_json.items(value)
        elif _looks_like_an_entry(value):
            entries.append(value)
        else:
            raise Unreadable("its responses are no list")
    return entries


def _looks_like_an_entry(value: Raw) -> bool:
    return any(peer_json.folded(name) in _ENTRY_NAMES for name, _ in peer_json.members(value))


def _check_unrecognised(text: bytes, content_type: str) -> None:
    """Raise Unreadable unless a document without responses is an unrecognised result."""
    if not peer_json.is_object(text):
        peer_json.items(b"[%b]" % text)  # raises if it is not JSON
        raise Unreadable("it is neither an object nor a list")
    members = peer_json.members(text)
    if not members:
        raise Unreadable("it is an empty object")
    for name in peer_json.names_in(text):
        if peer_json.folded(name) in _OUTCOME_NAMES:
            raise Unreadable(
                f"it has no list of responses, but a member {peer_json.shown(Raw(name.encode()))}"
            )
    if _is_problem(members, content_type):
        raise Unreadable("it is an error and no result")


def _is_problem(members: Sequence[tuple[str, Raw]], content_type: str) -> bool:
    """Whether an object is an error of RFC 9457: it has two of its members, or an HTTP error code."""
    statuses = [peer_json.value_of(value) for name, value in members if name.lower() == "status"]
    return (
        content_type.partition(";")[0].strip().lower() == _PROBLEM_JSON
        or any((peer_json.whole_number(status) or 0) >= 400 for status in statuses)
        or len(_PROBLEM_NAMES & {name.lower() for name, _ in members}) >= 2
    )


# --- entries -----------------------------------------------------------------------------------------


class _Request(Struct, frozen=True, omit_defaults=True):
    """The kept part of an echoed request: it identifies the operation, without CM handle data."""

    op: str = ""
    path: str = ""


class _Usual(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """An entry as most peers write it."""

    operation_id: str | int
    status_code: int | UnsetType = UNSET
    state: OperationState | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    status_message: str = ""
    reason: str = ""
    request: _Request | None = None
    errors: Raw = _NO_ERRORS


class _Members(Struct):
    """What an entry says, with every double. ``doubts``: reasons not to accept a success; ``lost_data``: why
    the data of a read cannot be read, apart from the type and number of ``results``."""

    operations: list[str | int]
    codes: list[int]
    states: list[OperationState]
    results: list[Raw]
    message: str
    reason: str
    request: _Request | None
    errors: Raw
    doubts: Sequence[str] = ()
    lost_data: str = ""


_USUAL: Final = msgspec.json.Decoder(_Usual)
_KNOWN: Final = frozenset(field.encode_name for field in msgspec.structs.fields(_Usual))


def _entry(raw: Raw, is_read: bool) -> Entry:
    """Determine the outcome of one entry."""
    said = _usual_members(raw) or _all_members(raw)
    operation = said.operations[0] if len(said.operations) == 1 else None
    if not said.codes and not said.states:
        return Entry(operation)
    state, code = _worst(said.codes, said.states)
    message, reason, doubt = said.message, said.reason, ""
    results = [each for each in said.results if each != peer_json.NULL]
    usable = [each for each in results if peer_json.is_object(each) or peer_json.is_list(each)]
    if state is OperationState.SUCCEEDED:
        if is_read and (doubt := _why_lost(results, usable) or said.lost_data):
            state, code = OperationState.FAILED, CANNOT_READ
        elif said.doubts:
            state, code, doubt = OperationState.UNKNOWN, UNKNOWN_ERROR, said.doubts[0]
    if doubt:
        message = f"the plugin's response cannot be relied on: {doubt}"
        reason = Reason.RESULT_UNREADABLE.value
    response = Response(
        "" if operation is None else operation,
        code,
        message[:MAX_TEXT],
        Raw(b"{}") if said.request is None else Raw(_ENCODER.encode(said.request)),
        # A copy: the slice of a Raw keeps the whole body in memory.
        usable[0].copy() if usable else UNSET,
        state,
        reason[:MAX_TEXT],
        () if said.errors is _NO_ERRORS else _errors(said.errors),
    )
    return Entry(operation, response)


def _usual_members(raw: Raw) -> _Members | None:
    """The members of an entry in the usual spelling; ``None`` for every other entry.

    The decoder keeps the last of two members with one name. Therefore no name may occur twice in the text,
    and none may contain an escape.
    """
    try:
        given = _USUAL.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    text = bytes(raw)
    if (
        b"\\u" in text
        or text.count(b'"operationId"') > 1
        or text.count(b'"statusCode"') > 1
        or text.count(b'"state"') > 1
        or text.count(b'"result"') > 1
    ):
        return None
    return _Members(
        [given.operation_id],
        [] if isinstance(given.status_code, UnsetType) else [given.status_code],
        [] if isinstance(given.state, UnsetType) else [given.state],
        [] if isinstance(given.result, UnsetType) else [given.result],
        given.status_message,
        given.reason,
        given.request,
        given.errors,
    )


def _all_members(raw: Raw) -> _Members:
    """The members of any entry. An invalid member is dropped, unless it concerns the outcome."""
    given: defaultdict[str, list[Raw]] = defaultdict(list)
    for name, value in peer_json.members(raw):
        given[name].append(value)
    ids = (peer_json.name_of(peer_json.value_of(value)) for value in given["operationId"])
    operations = {str(each): each for each in ids if each is not None}
    codes = {_code(value): value for value in given["statusCode"]}
    states = {_state(value): value for value in given["state"] if value != peer_json.NULL}
    doubts: list[str] = []
    if None in codes:
        doubts.append(f"its statusCode is {peer_json.shown(codes[None])}")
    if None in states:
        doubts.append(f"its state is {peer_json.shown(states[None])}")
    lost_data = ""
    for name, value in peer_json.members(raw):
        misspelt = "" if name in _KNOWN else peer_json.folded(name)
        member = peer_json.shown(Raw(name.encode()))
        if (
            (misspelt == "operationid" and len(operations) != 1)
            or (misspelt == "statuscode" and _code(value) not in _SUCCESS_CODES)
            or (misspelt == "state" and _state(value) is not OperationState.SUCCEEDED)
        ):
            doubts.append(f"it has a member {member}")
        if misspelt == "result" and not given["result"] and value != peer_json.NULL:
            lost_data = f"its data is in a member {member}"
    if len(operations) > 1:
        doubts.append("it names several operations")
    return _Members(
        list(operations.values()),
        [code for code in codes if code is not None],
        [state for state in states if state is not None],
        given["result"],
        _words([peer_json.NULL, *given["statusMessage"]][-1]),
        _words([peer_json.NULL, *given["reason"]][-1]),
        _request([peer_json.NULL, *given["request"]][-1]),
        [_NO_ERRORS, *given["errors"]][-1],
        doubts,
        lost_data,
    )


def _worst(codes: Sequence[int], states: Sequence[OperationState]) -> tuple[OperationState, int]:
    """The worst state of an entry, and a code that agrees with it.

    A failing code agrees with each of FAILED, NOT_STARTED and UNKNOWN.
    """
    state = states[0] if len(states) == 1 else worst(states)
    failing = next((code for code in codes if code not in _SUCCESS_CODES), None)
    if failing is None:
        success = codes[0] if codes else APPLIED
        return state, success if state is OperationState.SUCCEEDED else UNKNOWN_ERROR
    if state is OperationState.SUCCEEDED:
        state = OperationState.FAILED
    return state, failing if abs(failing) < _MOST_DIGITS else UNKNOWN_ERROR


def _why_lost(results: Sequence[Raw], usable: Sequence[Raw]) -> str:
    """Why the data of a read cannot be told from its ``results``; empty when it can."""
    if len(results) > 1:
        return "it has several results"
    return "" if len(usable) == len(results) else f"its result is {peer_json.shown(results[0])}"


def _code(value: Raw) -> int | None:
    return peer_json.whole_number(peer_json.value_of(value))


def _state(value: Raw) -> OperationState | None:
    given = peer_json.value_of(value)
    return _STATES.get(given.strip().upper()) if isinstance(given, str) and given.isascii() else None


def _words(value: Raw) -> str:
    return peer_json.words_of(peer_json.value_of(value))


def _request(value: Raw) -> _Request | None:
    given = peer_json.value_of(value)
    if not isinstance(given, dict):
        return None
    return _Request(peer_json.words_of(given.get("op")), peer_json.words_of(given.get("path")))


def _errors(value: Raw) -> tuple[ErrorDetail, ...]:
    given = peer_json.value_of(value)
    listed = given if isinstance(given, list) else [given]
    return tuple(_error(each) for each in listed if isinstance(each, dict))[:MAX_ERRORS]


def _error(given: dict[str, object]) -> ErrorDetail:
    texts = {name: peer_json.words_of(each)[:MAX_TEXT] for name, each in given.items()}
    return ErrorDetail(
        type=texts.get("type") or "OTHER",
        bad_data_node=texts.get("badDataNode", ""),
        reason=texts.get("reason", ""),
        title=texts.get("title", ""),
        detail=texts.get("detail", ""),
    )


# --- operations --------------------------------------------------------------------------------------


def match_entries(
    operations: Sequence[str], entries: Sequence[Entry]
) -> tuple[Mapping[str, Sequence[Response]], Mapping[str, str]]:
    """The responses of each operation (ids as strings, in the order of the request), and why an operation
    cannot have succeeded despite its responses.

    Entries of other operations have no effect. An outcome without an operation id belongs to the operation at
    its position if there are as many entries as operations, each entry with an id is at the position of its
    operation, and all others have an outcome: otherwise the list is not in the order of the request. An
    unassigned failure may belong to any operation: if there are more of these than operations without an
    entry, an operation that seems to have succeeded has failed, and no success counts.
    """
    responses: defaultdict[str, list[Response]] = defaultdict(list)
    doubts: dict[str, str] = {}
    unnamed: list[tuple[int, Response]] = []
    for position, entry in enumerate(entries):
        if entry.operation_id is None:
            if entry.response is not None:
                unnamed.append((position, entry.response))
        elif entry.response is None:
            doubts[str(entry.operation_id)] = "an entry of it has no outcome"
        else:
            responses[str(entry.operation_id)].append(entry.response)
    if unnamed and len(entries) == len(operations) and all(map(_is_in_place, operations, entries)):
        for position, response in unnamed:
            responses[operations[position]] = [response]
        unnamed = []
    failures = sum(response.state is not OperationState.SUCCEEDED for _, response in unnamed)
    if failures > sum(name not in responses and name not in doubts for name in operations):
        doubt = "more entries that name no operation are failures than operations are left"
        doubts = dict.fromkeys(operations, doubt)
    return responses, doubts


def _is_in_place(operation: str, entry: Entry) -> bool:
    if entry.operation_id is None:
        return entry.response is not None
    return str(entry.operation_id) == operation
