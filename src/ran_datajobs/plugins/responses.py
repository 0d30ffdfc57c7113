# SPDX-License-Identifier: Apache-2.0
"""Determine the outcome of each operation in a plugin's list of responses: entry by entry, then all. Pure.

The tables of bodies and entries are in :mod:`ran_datajobs.plugins.answers`. Unknown members are dropped,
among them any echo of private properties, and texts are truncated. Source: ONAP's DataJobEvent (CPS-2154).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.model import ErrorDetail, ObjectState, OperationState, Reason, Response, worst
from ran_datajobs.nrm.json_patch import too_deep
from ran_datajobs.plugins import peer_json
from ran_datajobs.plugins.peer_json import Unreadable
from ran_datajobs.plugins.port import MAX_IMAGE, Entry, Responses, UnreadableBody, UnrecognisedResult

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
_BEFORE_VALUE: Final = b": \t\r\n"
_MOST_DIGITS: Final = 10**9
_STATES: Final = {state.value: state for state in OperationState}
_ENCODER: Final = msgspec.json.Encoder()
_NO_ERRORS: Final = Raw(b"[]")
_NO_REQUEST: Final = Raw(b"{}")


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
            usual = _usual_entries(text, entries)
            return Responses(
                usual or tuple(_usual_entry(raw) or _unusual_entry(raw, is_read) for raw in entries)
            )
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


class KeptRequest(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The members of a request that a result keeps: they identify the operation, without CM handle data."""

    op: str = ""
    path: str = ""
    data_node_selector: str = ""


class _Usual(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """An entry as most peers write it."""

    operation_id: str | int
    status_code: int
    state: OperationState | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    status_message: str = ""
    reason: str = ""
    request: KeptRequest | None = None
    errors: Raw = _NO_ERRORS
    before: Raw | UnsetType = UNSET


class _Image(ObjectState, frozen=True, forbid_unknown_fields=False):
    """A before-image as a peer writes it: unknown members are dropped."""


_USUAL: Final = msgspec.json.Decoder(_Usual)
_KEPT: Final = msgspec.json.Decoder(KeptRequest)
_IMAGE: Final = msgspec.json.Decoder(_Image)
_REQUEST_NAMES: Final = KeptRequest.__struct_encode_fields__
_KNOWN: Final = frozenset(field.encode_name for field in msgspec.structs.fields(_Usual))


def _usual_entries(text: bytes, entries: Sequence[Raw]) -> tuple[Entry, ...] | None:
    """The outcomes of all entries of the document ``text``; ``None`` if one of them is not usual or has a
    result, or if a name may occur twice in one: :func:`_usual_entry` for many at once."""
    if b"\\u" in text or b'"result"' in text:
        return None
    try:
        given = list(map(_USUAL.decode, entries))
    except (msgspec.DecodeError, RecursionError):
        return None
    states = sum(one.state is not UNSET for one in given)
    images = sum(one.before is not UNSET for one in given)
    expected = {
        b'"operationId"': len(given),
        b'"statusCode"': len(given),
        b'"state"': states,
        b'"before"': images,
    }
    if any(text.count(name) != number for name, number in expected.items()):
        return None
    return tuple(_entry(one, UNSET) for one in given)


def _usual_entry(raw: Raw) -> Entry | None:
    """The outcome of an entry in the usual spelling; ``None`` for every other entry.

    The decoder keeps the last of two members with one name. Therefore no name may occur twice in the text
    outside the ``result``, and none may contain an escape.
    """
    try:
        given = _USUAL.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    result, text = given.result, bytes(raw)
    if not isinstance(result, UnsetType):
        before, _, after = text.partition(b'"result"')
        text = before + after.lstrip(_BEFORE_VALUE).removeprefix(result)
        # A copy: the slice of a Raw keeps the whole body in memory.
        result = result.copy()
    if (
        b"\\u" in text
        or b'"result"' in text
        or text.count(b'"operationId"') > 1
        or text.count(b'"statusCode"') > 1
        or text.count(b'"state"') > 1
        or text.count(b'"before"') > 1
        or (result is not UNSET and not _is_usable(result))
    ):
        return None
    return _entry(given, result)


def _entry(given: _Usual, result: Raw | UnsetType) -> Entry:
    code, state = given.status_code, given.state
    if state is UNSET:
        state = OperationState.SUCCEEDED
    if code not in _SUCCESS_CODES or state is not OperationState.SUCCEEDED:
        state, code = _worst([code], [state])
    response = Response(
        given.operation_id,
        code,
        given.status_message[:MAX_TEXT],
        _NO_REQUEST if given.request is None else Raw(_ENCODER.encode(given.request)),
        result,
        state,
        given.reason[:MAX_TEXT],
        () if given.errors is _NO_ERRORS else _errors(given.errors),
        _image(given.before),
    )
    return Entry(given.operation_id, response)


def _unusual_entry(raw: Raw, is_read: bool) -> Entry:
    """The outcome of any entry. An invalid member is dropped, unless it concerns the outcome."""
    members = peer_json.members(raw)
    given: defaultdict[str, list[Raw]] = defaultdict(list)
    for name, value in members:
        given[name].append(value)
    ids = (peer_json.name_of(peer_json.value_of(value)) for value in given["operationId"])
    operations = {str(each): each for each in ids if each is not None}
    operation = next(iter(operations.values())) if len(operations) == 1 else None
    codes = {_code(value): value for value in given["statusCode"]}
    states = {_state(value): value for value in given["state"] if value != peer_json.NULL}
    listed_codes = [code for code in codes if code is not None]
    listed_states = [state for state in states if state is not None]
    if not listed_codes and not listed_states:
        return Entry(operation)
    state, code = _worst(listed_codes, listed_states)
    last = dict(members)
    message, reason = _words(last.get("statusMessage")), _words(last.get("reason"))
    results = [each for each in given["result"] if each != peer_json.NULL]
    usable = list(filter(_is_usable, results))
    if state is OperationState.SUCCEEDED:
        doubts = _doubts(members, operations, codes, states)
        lost = _lost_data(members, results, usable) if is_read else ""
        if lost or doubts:
            message = f"the plugin's response cannot be relied on: {lost or doubts[0]}"
            reason = Reason.RESULT_UNREADABLE.value
            state = OperationState.FAILED if lost else OperationState.UNKNOWN
            code = CANNOT_READ if lost else UNKNOWN_ERROR
    response = Response(
        "" if operation is None else operation,
        code,
        message[:MAX_TEXT],
        _request(last["request"]) if "request" in last else _NO_REQUEST,
        usable[0].copy() if usable else UNSET,
        state,
        reason[:MAX_TEXT],
        _errors(last["errors"]) if "errors" in last else (),
        _image(given["before"][0]) if len(given["before"]) == 1 else UNSET,
    )
    return Entry(operation, response)


def _doubts(
    members: Sequence[tuple[str, Raw]],
    operations: Collection[str],
    codes: Mapping[int | None, Raw],
    states: Mapping[OperationState | None, Raw],
) -> list[str]:
    """Reasons not to accept the success that an entry reports."""
    doubts: list[str] = []
    if None in codes:
        doubts.append(f"its statusCode is {peer_json.shown(codes[None])}")
    if None in states:
        doubts.append(f"its state is {peer_json.shown(states[None])}")
    for name, value in members:
        misspelt = "" if name in _KNOWN else peer_json.folded(name)
        if (
            (misspelt == "operationid" and len(operations) != 1)
            or (misspelt == "statuscode" and _code(value) not in _SUCCESS_CODES)
            or (misspelt == "state" and _state(value) is not OperationState.SUCCEEDED)
        ):
            doubts.append(f"it has a member {peer_json.shown(Raw(name.encode()))}")
    if len(operations) > 1:
        doubts.append("it names several operations")
    return doubts


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


def _lost_data(members: Sequence[tuple[str, Raw]], results: Sequence[Raw], usable: Sequence[Raw]) -> str:
    """Why the data of a read is not known; empty when it is. ``results`` are those that are not null."""
    named = [
        name for name, value in members if value != peer_json.NULL and peer_json.folded(name) == "result"
    ]
    if len(named) > 1:
        return "it has several results"
    if len(usable) < len(results):
        return f"its result is {peer_json.shown(results[0])}"
    if named in ([], ["result"]):
        return ""
    return f"its data is in a member {peer_json.shown(Raw(named[0].encode()))}"


def _is_usable(result: Raw) -> bool:
    """Whether ``result`` is an object or a list."""
    return memoryview(result)[0] in b"{["


def _image(value: Raw | UnsetType) -> Raw | UnsetType:
    """The before-image in the members of the contract; UNSET if it is none, or has more than MAX_IMAGE
    bytes."""
    if isinstance(value, UnsetType) or len(value) > MAX_IMAGE:
        return UNSET
    try:
        given = _IMAGE.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return UNSET
    return Raw(_ENCODER.encode(given)) if given.is_one and not too_deep(given.attributes) else UNSET


def _code(value: Raw) -> int | None:
    return peer_json.whole_number(peer_json.value_of(value))


def _state(value: Raw) -> OperationState | None:
    given = peer_json.value_of(value)
    return _STATES.get(given.strip().upper()) if isinstance(given, str) and given.isascii() else None


def _words(value: Raw | None) -> str:
    return "" if value is None else peer_json.words_of(peer_json.value_of(value))


def _request(value: Raw) -> Raw:
    given = peer_json.value_of(value)
    if not isinstance(given, dict):
        given = {}
    return Raw(_ENCODER.encode(KeptRequest(*map(peer_json.words_of, map(given.get, _REQUEST_NAMES)))))


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


def tell_apart(
    operations: Sequence[str], paths: Sequence[str], entries: Sequence[Entry]
) -> tuple[Sequence[str], Sequence[Entry]]:
    """The same operations (ids in the order of the request, and their paths) and entries under ids that
    differ, where several operations have the same id: ONAP's NCMP takes such requests.

    If there are as many entries as operations, and each with an id, or with the path of its request, is at
    the position of its operation, it belongs to this one. Otherwise the entries of a shared id count only if
    there is one for each of its operations and all have the same state: no operation succeeds by the entry of
    another.
    """
    if len(set(operations)) == len(operations):
        return operations, entries
    names = [str(position) for position in range(len(operations))]
    are_in_order = len(entries) == len(operations) and all(map(_is_in_place, operations, entries))
    if are_in_order and all(map(_can_be_of, paths, entries)):
        return names, [Entry(name, entry.response) for name, entry in zip(names, entries, strict=True)]
    own: defaultdict[str, list[str]] = defaultdict(list)
    for operation, name in zip(operations, names, strict=True):
        own[operation].append(name)
    states: defaultdict[str, list[object]] = defaultdict(list)
    for entry in entries:
        if entry.operation_id is not None:
            states[str(entry.operation_id)].append(entry.response and entry.response.state)
    turns: dict[str, Iterator[str]] = {}
    for operation, some in own.items():
        listed = states[operation]
        is_clear = len(listed) == len(some) and len(set(listed)) == 1
        turns[operation] = repeat(some[0]) if len(some) == 1 else iter(some if is_clear else ())
    found = []
    for entry in entries:
        if entry.operation_id is not None:
            turn = next(turns.get(str(entry.operation_id), iter(())), None)
            found.append(Entry("") if turn is None else Entry(turn, entry.response))
        else:
            found.append(entry)
    return names, found


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


def _can_be_of(path: str, entry: Entry) -> bool:
    """False if an entry has the request of another path."""
    request = _NO_REQUEST if entry.response is None else entry.response.request
    return _KEPT.decode(request).path in ("", path)


def _is_in_place(operation: str, entry: Entry) -> bool:
    if entry.operation_id is None:
        return entry.response is not None
    return str(entry.operation_id) == operation
