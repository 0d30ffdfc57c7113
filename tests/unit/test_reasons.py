# SPDX-License-Identifier: Apache-2.0
"""The list of reasons: complete, the same in the docs, and a reason for every outcome that is no success."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ran_datajobs
from ran_datajobs.api.results import outcome_of
from ran_datajobs.dmi.provmns import error_bodies
from ran_datajobs.model import ErrorDetail, Op, Operation, OperationState, Reason, Response, Status
from ran_datajobs.plugins.port import Entry, NoOutcomes
from ran_datajobs.reasons import (
    CODES,
    OURS,
    REASONS,
    TS_28572,
    TS_28572_TYPES,
    Explanation,
    explanation_of,
    reason_of,
)
from ran_datajobs.results import outcomes
from ran_datajobs.results.responses import documents, read_responses, state_of

SOURCE: Final = Path(ran_datajobs.__file__).parent
DOCS: Final = Path(__file__).parents[2] / "docs/reasons.md"
HEADING: Final = "| reason | title | what happened | what to do |"

WORDS_OF_TS_28572: Final = [
    "NEW_DATA_NODE_NAME_INVALID",
    "NEW_DATA_NODE_VALUE_INVALID",
    "NEW_DATA_NODE_CONTAINMENT_INVALID",
    "FINAL_DATA_NODE_VALUE_INVALID",
    "FINAL_DATA_NODE_UNIQUENESS_INVALID",
    "FINAL_DATA_NODE_MULTIPLICITY_INVALID",
    "FINAL_DATA_NODE_CARDINALITY_INVALID",
    "TARGET_DATA_NODE_NOT_FOUND",
    "TARGET_DATA_NODE_PARENT_NOT_FOUND",
    "TARGET_DATA_NODE_FOUND",
    "TARGET_DATA_NODE_NOT_WRITABLE",
    "TARGET_DATA_NODE_INVARIANT",
    "TARGET_DATA_NODE_CREATION_NOT_ALLOWED",
    "TARGET_DATA_NODE_DELETION_NOT_ALLOWED",
    "ACCESS_DENIED",
    "OTHER",
]
TYPES_OF_TS_28572: Final = [
    "SCHEMA_VALIDATION_ERROR",
    "DATA_NODE_TREE_ERROR",
    "MODIFICATION_NOT_ALLOWED",
    "ACCESS_CONTROL_CONFLICT",
    "APPLICATION_LAYER_ERROR",
    "SERVER_ERROR",
]

NOT_SUCCEEDED: Final = [state for state in OperationState if state is not OperationState.SUCCEEDED]


def names(explanations: tuple[Explanation, ...]) -> list[str]:
    """The reasons of these."""
    return [str(each.reason) for each in explanations]


# --- the list ------------------------------------------------------------------------------------------


def test_every_cause_and_every_standard_reason_is_explained() -> None:
    """The service's own causes, TS 28.572's enums and ONAP's codes, each once and in their order."""
    assert list(OURS) == [reason.value for reason in Reason]
    assert list(TS_28572) == WORDS_OF_TS_28572
    assert list(TS_28572_TYPES) == TYPES_OF_TS_28572
    assert list(CODES) == [f"STATUS_{code}" for code in (100, 102, 103, 107, 108, 112)] + ["STATUS_<code>"]
    assert names(REASONS) == list(dict.fromkeys(names(REASONS)))
    assert names(REASONS)[:-1] == [*OURS, *TS_28572, *TS_28572_TYPES, *CODES]


@pytest.mark.parametrize("each", REASONS, ids=lambda each: str(each.reason))
def test_an_explanation_is_a_title_and_two_sentences(each: Explanation) -> None:
    """A title that fits a line, one sentence on the cause, one on the remedy that mentions a retry."""
    assert 0 < len(each.title) <= 60
    assert not each.title.endswith(".")
    for sentence in (each.meaning, each.advice):
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert ". " not in sentence
        assert len(sentence) <= 240
    assert re.search(r"\bretry\b|\bretries\b", each.advice, re.IGNORECASE)
    assert "|" not in each.title + each.meaning + each.advice, "it stands in a table of the docs"


def test_the_docs_have_the_list_line_by_line() -> None:
    """Each row of the tables of docs/reasons.md is one explanation, in the order of the list."""
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert rows == [
        f"| `{each.reason}` | {each.title} | {each.meaning} | {each.advice} |" for each in REASONS
    ]
    assert lines.count(HEADING) == 5


@pytest.mark.parametrize(
    ("reason", "explained_by"),
    [
        ("OTHER", "OTHER"),
        ("STATUS_103", "STATUS_103"),
        ("STATUS_0", "STATUS_<code>"),
        ("STATUS_-1", "STATUS_<code>"),
        ("STATUS_999", "STATUS_<code>"),
        ("STATUS_", "<word of the plugin>"),
        ("NO_STATUS_103", "<word of the plugin>"),
        ("STATUS_<code>", "<word of the plugin>"),
        ("EMS-4711", "<word of the plugin>"),
    ],
)
def test_a_word_that_is_not_in_the_list_is_explained_by_its_pattern(reason: str, explained_by: str) -> None:
    """Codes beyond ONAP's list share one explanation, all other words another one."""
    assert explanation_of(reason).reason == explained_by


# --- produced reasons ----------------------------------------------------------------------------------

_REASON_ARGUMENTS: Final[dict[str, tuple[int | str, ...]]] = {
    "ErrorDetail": (0, 2, "type", "reason"),
    "Fault": (0, "reason"),
    "Response": (6, "reason"),
    "Step": ("reason",),
    "all_the_same": (2, "reason"),
    "error_body": ("reason",),
    "make_responses": (2, "reason"),
}
"""The calls of the code that take a reason or a type, and their positions."""


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(SOURCE.rglob("*.py")):
        path = file.relative_to(SOURCE.parent).with_suffix("")
        yield ".".join(path.parts), ast.parse(file.read_text(encoding="utf-8"))


def _arguments(call: ast.Call, places: tuple[int | str, ...]) -> Iterator[ast.expr]:
    yield from (call.args[place] for place in places if isinstance(place, int) and place < len(call.args))
    yield from (each.value for each in call.keywords if each.arg in places)


def _constants(module: str, expression: ast.expr) -> Iterator[str]:
    """The texts that an expression can evaluate to, as far as the source shows. Variables are omitted."""
    if isinstance(expression, ast.IfExp):
        yield from _constants(module, expression.body)
        yield from _constants(module, expression.orelse)
        return
    value: Any = None
    if isinstance(expression, ast.Constant):
        value = expression.value
    elif isinstance(expression, ast.Name) and expression.id.strip("_").isupper():
        value = getattr(importlib.import_module(module), expression.id, None)
    if isinstance(value, str) and value:
        yield value


def test_the_code_writes_no_reason_that_is_not_in_the_list() -> None:
    """Every literal reason or type in a call of the package has its own entry in the list."""
    written = {
        (text, module)
        for module, tree in _trees()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in _REASON_ARGUMENTS
        for argument in _arguments(call, _REASON_ARGUMENTS[call.func.id])
        for text in _constants(module, argument)
    }
    written |= {(text, "provmns_errors") for pair in error_bodies._BY_STATUS.values() for text in pair}
    assert len({text for text, _ in written}) >= 15, "the scan finds what it looks for"
    assert {each for each in written if each[0] not in names(REASONS)} == set()


def test_every_cause_of_the_service_is_produced_by_its_code() -> None:
    """Each member of Reason is used where outcomes are made, not only where it is declared and described."""
    used = {
        node.attr
        for module, tree in _trees()
        if module not in ("ran_datajobs.model", "ran_datajobs.reasons", "ran_datajobs.results.responses")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }
    assert {reason.name for reason in Reason} - used == set()


PLUGIN: Final = [
    *((f'"reason": "{word}"', word) for word in WORDS_OF_TS_28572),
    *((f'"errors": [{{"type": "OTHER", "badDataNode": "", "reason": "{w}"}}]', w) for w in WORDS_OF_TS_28572),
    *((f'"errors": [{{"type": "{word}", "badDataNode": ""}}]', word) for word in TYPES_OF_TS_28572),
    *((f'"statusCode": {code}', f"STATUS_{code}") for code in (100, 102, 103, 107, 108, 112, 500, -1)),
    *(('"reason": "EMS-4711"', "EMS-4711"), ('"reason": " \\t "', "STATUS_108")),
]


@pytest.mark.parametrize(("member", "reason"), PLUGIN)
def test_the_word_of_a_plugin_is_the_reason_of_its_write(member: str, reason: str) -> None:
    """From the plugin's response over the result object to /failures, the reason is unchanged."""
    code = "" if "statusCode" in member else '"statusCode": 108, '
    body = f'[{{"operationId": "1", {code}"statusMessage": "no", "state": "FAILED", {member}}}]'
    responses = msgspec.json.decode(body, type=list[Response])
    operation = Operation(Op.REPLACE, "/A=1#/attributes/b", "1")
    entries = [Entry(response.operation_id, response) for response in responses]
    outcome = outcomes.from_responses([operation], entries, Status.FAILED, is_read=False)
    assert shown(outcome.responses) == [reason]


@pytest.mark.parametrize(("member", "reason"), PLUGIN)
def test_the_word_of_a_plugin_is_the_reason_of_its_read(member: str, reason: str) -> None:
    """The same for a response in a message."""
    code = "" if "statusCode" in member else '"statusCode": 108, '
    body = (
        f'{{"responses": [{{"operationId": "1", {code}"statusMessage": "no", {member}, "state": "FAILED"}}]}}'
    )
    assert shown(read_responses(body.encode())) == [reason]


def shown(responses: Any) -> list[str]:
    """The reasons in the result objects of these, which are those that /failures shows."""
    found: list[str] = []
    for document in documents(responses):
        written = [each.get("reason") for each in msgspec.json.decode(document.body)["responses"]]
        read = [outcome_of(each, None, {}).reason for each in read_responses(document.body)]
        assert written == read
        found += read
    return found


# --- the rule ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", NOT_SUCCEEDED)
@pytest.mark.parametrize("status", Status)
def test_no_status_alone_leaves_an_operation_without_a_reason(status: Status, state: OperationState) -> None:
    """Outcomes derived from a status, and operations all in one state without a reason, have one in the
    result."""
    operations = [Operation(Op.REMOVE, "/A=1", 1), Operation(Op.REMOVE, "/A=2", 2)]
    for outcome in (
        outcomes.of_result(operations, NoOutcomes(), status, is_read=False),
        outcomes.all_the_same(operations, state, "", "for no reason"),
    ):
        for document in documents(outcome.responses):
            for entry in msgspec.json.decode(document.body)["responses"]:
                assert (entry["state"] == "SUCCEEDED") != bool(entry.get("reason"))


@pytest.mark.parametrize(
    ("state", "response", "reason"),
    [
        ("FAILED", Response(1, 108, "", reason="MINE", errors=(ErrorDetail("T", "n", "R"),)), "MINE"),
        (
            "FAILED",
            Response(1, 108, "", errors=(ErrorDetail("T", "n", "R"), ErrorDetail("U", "n", "S"))),
            "R",
        ),
        ("FAILED", Response(1, 108, "", errors=(ErrorDetail("T", "n"),)), "T"),
        ("FAILED", Response(1, 108, "", errors=(ErrorDetail("", "n"),)), "STATUS_108"),
        ("FAILED", Response(1, 0, ""), "STATUS_0"),
        ("NOT_STARTED", Response(1, 108, ""), "NOT_STARTED"),
        ("UNKNOWN", Response(1, 108, ""), "OUTCOME_UNKNOWN"),
        ("UNKNOWN", Response(1, 108, "", reason="  X "), "X"),
    ],
)
def test_the_first_cause_that_is_told_is_the_reason(state: str, response: Response, reason: str) -> None:
    """The response's reason, the first error's reason, its type, the state, the code. Blank values do not
    count."""
    assert reason_of(response, OperationState(state)) == reason


_texts = st.text(max_size=20)
_responses = st.builds(
    Response,
    operation_id=st.integers(0, 9),
    status_code=st.integers(-(2**31), 2**31),
    status_message=_texts,
    state=st.sampled_from(NOT_SUCCEEDED),
    reason=st.one_of(st.just(""), st.text(" \t\n\u00a0", max_size=3), _texts),
    errors=st.lists(st.builds(ErrorDetail, type=_texts, bad_data_node=_texts, reason=_texts), max_size=2).map(
        tuple
    ),
)


@given(_responses)
def test_a_reason_is_never_empty_and_always_explained(response: Response) -> None:
    """Whatever a plugin returns, the result object and /failures have the same non-empty reason."""
    (reason,) = shown([response])
    assert reason.strip() == reason != ""
    assert explanation_of(reason).title


@given(_responses)
def test_a_result_without_a_reason_is_shown_with_the_one_that_follows(response: Response) -> None:
    """An object that an earlier version wrote without the derived reason is read like a current one."""
    bare = msgspec.structs.replace(response, reason="")
    body = msgspec.json.encode({"responses": [bare]})
    (read,) = read_responses(body)
    assert read.reason == outcome_of(bare, None, {}).reason == reason_of(bare, state_of(bare)) != ""
