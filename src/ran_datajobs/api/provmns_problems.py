# SPDX-License-Identifier: Apache-2.0
"""Error answers of ProvMnS: one body for 3GPP, O-RAN R1 and RFC 9457. Pure.

The body is a problem (RFC 9457, formerly RFC 7807: R1's ProblemDetails) with the members of the error
responses of TS 28.623 (ComDefs 19): the status decides ``type``, as in ONAP's NCMP, and ``badOp`` is a JSON
pointer to an operation of the patch document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

from litestar import Response
from msgspec import UNSET, Struct, UnsetType, structs

from ran_datajobs.http.problem import MAX_LISTED, PROBLEM_JSON, Problem, respond
from ran_datajobs.model import OperationState, Reason
from ran_datajobs.model import Response as Outcome
from ran_datajobs.reasons import explanation_of, reason_of
from ran_datajobs.results.responses import state_of

VERSION: Final = "1.0.0-alpha.1"
"""Version of R1's configuration management API (O-RAN WG2 R1AP)."""

HEADERS: Final = {"Version": VERSION}

_TYPES: Final = {
    400: "VALIDATION_ERROR",
    404: "IE_NOT_FOUND",
    413: "SERVER_LIMITATION",
    422: "SERVER_LIMITATION",
}
_OTHER_TYPE: Final = "APPLICATION_LAYER_ERROR"
_OPERATION: Final = re.compile(r"#(/[0-9]+)(?:/.*)?", re.DOTALL)

STATUSES: Final = {
    Reason.UNMATCHED: 404,
    Reason.NO_DATA_PRODUCER: 422,
    Reason.MODE_NOT_SUPPORTED: 422,
    Reason.DMI_UNREACHABLE: 503,
    Reason.DMI_REFUSED: 502,
    Reason.DMI_LOST_JOB: 502,
    Reason.RESULT_INCOMPLETE: 502,
    Reason.RESULT_UNREADABLE: 502,
    "SERVER_ERROR": 502,
    "STATUS_100": 404,
    "STATUS_102": 504,
    "STATUS_107": 503,
    "STATUS_112": 413,
    "TARGET_DATA_NODE_NOT_FOUND": 404,
    "TARGET_DATA_NODE_PARENT_NOT_FOUND": 404,
    "ACCESS_DENIED": 403,
    "ACCESS_CONTROL_CONFLICT": 403,
    "SCHEMA_VALIDATION_ERROR": 422,
    "NEW_DATA_NODE_NAME_INVALID": 422,
    "NEW_DATA_NODE_VALUE_INVALID": 422,
    "NEW_DATA_NODE_CONTAINMENT_INVALID": 422,
    "FINAL_DATA_NODE_VALUE_INVALID": 422,
    "FINAL_DATA_NODE_UNIQUENESS_INVALID": 422,
    "FINAL_DATA_NODE_MULTIPLICITY_INVALID": 422,
    "FINAL_DATA_NODE_CARDINALITY_INVALID": 422,
}
"""Statuses by the reason of the service, of TS 28.572 or of ONAP's codes; 409 for every other."""


class OtherProblem(Struct, frozen=True, rename="camel", kw_only=True):
    """What happened to another operation of a patch document, or to another part of a read."""

    type: str = _OTHER_TYPE
    reason: str | UnsetType = UNSET
    title: str
    bad_op: str | UnsetType = UNSET


class ProvMnsProblem(Problem, frozen=True, rename="camel", kw_only=True):
    """An error answer of ProvMnS. ``bad_op``: the operation of the patch document, as ``/1``."""

    reason: str | UnsetType = UNSET
    bad_op: str | UnsetType = UNSET
    bad_objects: tuple[str, ...] | UnsetType = UNSET
    bad_attributes: tuple[str, ...] | UnsetType = UNSET
    bad_query_params: tuple[str, ...] | UnsetType = UNSET
    other_problems: tuple[OtherProblem, ...] | UnsetType = UNSET


def refusal(
    path: str,
    method: str,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    faults: tuple[tuple[str, str], ...] = (),
    count: int = 0,
) -> Response[ProvMnsProblem]:
    """The answer to a request that is refused. ``faults``: (JSON pointer or parameter, detail) pairs."""
    problem = respond(path, status, detail, headers, faults, count)
    places = [(found[1], words) for at, words in faults if (found := _OPERATION.fullmatch(at))]
    names = tuple(dict.fromkeys(at for at, _ in faults if not at.startswith("#"))) if method == "GET" else ()
    others = tuple(
        OtherProblem(type=type_of(status), title=words, bad_op=place)
        for place, words in places[1:MAX_LISTED]
        if place != places[0][0]
    )
    return _answer(
        problem,
        bad_op=places[0][0] if places else UNSET,
        bad_query_params=names[:MAX_LISTED] or UNSET,
        other_problems=others or UNSET,
    )


def type_of(status: int) -> str:
    """The ``type`` of an error answer with this status."""
    return _TYPES.get(status, _OTHER_TYPE)


def failure(
    path: str, job_uri: str, outcomes: Sequence[Outcome], *, is_patch: bool
) -> Response[ProvMnsProblem] | None:
    """The answer to a request whose job did not succeed; ``None`` if all ``outcomes``, which are in the order
    of the operations, did. The id of an operation is its position.

    An unknown outcome decides before a failure, because a failure would say that the rest has changed
    nothing; a failure decides before an operation that was not started. Of a patch, the other operations that
    may have changed something are in ``otherProblems``.
    """
    states = list(map(state_of, outcomes))
    state = next((state for state in _DECIDING if state in states), None)
    if state is None:
        return None
    bad = states.index(state)
    outcome = outcomes[bad]
    status, reason = status_of(outcome, state), reason_of(outcome, state)
    error = outcome.errors[0] if outcome.errors else None
    node = error.bad_data_node if error else ""
    detail = _words(outcome)
    if state is OperationState.UNKNOWN:
        detail += "; it may have been executed"
    if is_patch and (done := states.count(OperationState.SUCCEEDED)):
        detail += f"; {done} of {len(outcomes)} operations were executed, and stay"
    listed = set(_DECIDING[:2]) | ({OperationState.SUCCEEDED} if is_patch else set())
    others = tuple(
        _other(each, states[place], f"/{each.operation_id}" if is_patch else UNSET)
        for place, each in enumerate(outcomes)
        if place != bad and states[place] in listed
    )
    return _answer(
        respond(path, status, detail, {"Location": job_uri} if state is OperationState.UNKNOWN else {}),
        title=(error.title if error else "") or explanation_of(reason).title,
        instance=job_uri,
        reason=reason,
        bad_op=f"/{outcome.operation_id}" if is_patch else UNSET,
        bad_attributes=(node,) if "#" in node else UNSET,
        bad_objects=(node,) if node and "#" not in node else UNSET,
        other_problems=others[: None if is_patch else MAX_LISTED] or UNSET,
    )


_DECIDING: Final = (OperationState.UNKNOWN, OperationState.FAILED, OperationState.NOT_STARTED)
"""States other than success, the one that decides the answer first."""


def pending(path: str, job_uri: str, detail: str, headers: Mapping[str, str]) -> Response[ProvMnsProblem]:
    """The 504 for a job whose outcome is not known yet; its address is in ``Location``."""
    problem = respond(path, HTTPStatus.GATEWAY_TIMEOUT, detail, {"Location": job_uri, **headers})
    return _answer(problem, instance=job_uri)


def status_of(outcome: Outcome, state: OperationState) -> int:
    """The status for an operation that did not succeed."""
    if state is OperationState.UNKNOWN:
        return HTTPStatus.GATEWAY_TIMEOUT
    if state is OperationState.NOT_STARTED:
        return HTTPStatus.CONFLICT
    reason = reason_of(outcome, state)
    error = outcome.errors[0] if outcome.errors else None
    of_reason = STATUSES.get(reason) or (STATUSES.get(error.type) if error is not None else None)
    if of_reason is None and reason.startswith("STATUS_"):
        return HTTPStatus.BAD_GATEWAY  # the plugin gave no cause
    return of_reason or HTTPStatus.CONFLICT


def _words(outcome: Outcome) -> str:
    error = outcome.errors[0] if outcome.errors else None
    return (error.detail or error.title if error else "") or outcome.status_message or "no cause was given"


def _other(outcome: Outcome, state: OperationState, place: str | UnsetType) -> OtherProblem:
    if state is OperationState.SUCCEEDED:
        return OtherProblem(title="was executed, and stays", bad_op=place)
    return OtherProblem(
        type=type_of(status_of(outcome, state)),
        reason=reason_of(outcome, state),
        title=_words(outcome),
        bad_op=place,
    )


def _answer(problem: Response[Problem], **members: object) -> Response[ProvMnsProblem]:
    """The problem with the members of ProvMnS, and with its version."""
    of_status = structs.asdict(problem.content) | {"type": type_of(problem.content.status)}
    return Response(
        ProvMnsProblem(**of_status | members),
        status_code=problem.status_code,
        headers=dict(HEADERS) | dict(problem.headers),
        media_type=PROBLEM_JSON,
    )
