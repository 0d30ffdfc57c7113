# SPDX-License-Identifier: Apache-2.0
"""The closed sets: statuses with their arrows, the verdict rule, and the package's public names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ran_datajobs
from ran_datajobs.job import ALLOWED, Counts, OperationState, Status, read_status, wire_status, worst
from ran_datajobs.results.verdict import count, verdict, why
from ran_datajobs.store.queries import migrations

LIFECYCLE: Final = Path(__file__).parents[2] / "docs/lifecycle.md"


def test_public_names_are_few_and_pinned() -> None:
    """The package offers at most twelve names, and exactly these."""
    assert ran_datajobs.__all__ == [
        "ActivationMode",
        "DataJobsError",
        "JobType",
        "Op",
        "Operation",
        "OperationState",
        "Response",
        "Status",
        "ancestors",
        "key",
        "parse",
    ]
    assert all(hasattr(ran_datajobs, name) for name in ran_datajobs.__all__)


def test_terminal_states_have_no_arrow_out() -> None:
    """FINISHED, FAILED, PARTIALLY_FAILED and CANCELLED never change; the others lead on."""
    assert {s for s in Status if s.terminal} == {
        Status.FINISHED,
        Status.FAILED,
        Status.PARTIALLY_FAILED,
        Status.CANCELLED,
    }
    assert set(ALLOWED) == set(Status)


def test_running_cannot_be_cancelled_in_one_step() -> None:
    """A running job passes through CANCELLING, one that never ran need not."""
    assert Status.CANCELLED not in ALLOWED[Status.RUNNING]
    assert Status.CANCELLED in ALLOWED[Status.NOT_STARTED]


@pytest.mark.parametrize("spelling", ["FINSHED", "FINISHED"])
def test_both_spellings_are_read_and_the_standards_literal_is_written(spelling: str) -> None:
    """FINSHED is the literal of TS 28.623; FINISHED is read as well; a setting chooses what is written."""
    assert read_status(spelling) is Status.FINISHED
    assert wire_status(Status.FINISHED) == "FINSHED"
    assert wire_status(Status.FINISHED, spelling) == spelling


@pytest.mark.parametrize("word", ["finished", "", "DONE", None, 7, ["FINSHED"]])
def test_an_unknown_status_is_no_answer(word: object) -> None:
    """What is none of the seven words reads as nothing."""
    assert read_status(word) is None


def test_enum_of_the_database_is_the_enum_of_the_code() -> None:
    """job_status in the schema lists exactly the members of Status."""
    schema = migrations()[0][2]
    listed = schema.split("create type job_status as enum (", 1)[1].split(")", 1)[0]
    assert [word.strip().strip("'") for word in listed.split(",")] == [s.value for s in Status]


ARROWS: Final = {
    "NOT_STARTED": {"RUNNING", "FAILED", "CANCELLING", "CANCELLED"},
    "RUNNING": {"FINISHED", "FAILED", "PARTIALLY_FAILED", "CANCELLING"},
    "CANCELLING": {"CANCELLED", "FINISHED", "PARTIALLY_FAILED", "FAILED"},
    "FINISHED": set(),
    "FAILED": set(),
    "PARTIALLY_FAILED": set(),
    "CANCELLED": set(),
}


def test_the_arrows_are_exactly_these() -> None:
    """The code allows the twelve arrows written out here, and no other."""
    assert {state.value: {to.value for to in allowed} for state, allowed in ALLOWED.items()} == ARROWS


def test_the_lifecycle_page_has_the_states_and_arrows_of_the_code() -> None:
    """Both tables about statuses list each one once; the second one lists its arrows."""
    meanings = table_below("| status | means |")
    arrows = table_below("| from | allowed arrows |")
    assert [state for state, _ in meanings] == [[s.value] for s in Status]
    assert {state: set(allowed) for [state], allowed in arrows} == ARROWS
    assert len(arrows) == len(ARROWS)
    assert sum(len(allowed) for _, allowed in arrows) == sum(map(len, ARROWS.values()))


def test_the_lifecycle_page_has_the_other_sets_of_the_code() -> None:
    """The states of an operation, and the stages of a sub-job in the database's enum."""
    stages = migrations()[0][2].partition("create type sub_job_stage as enum (")[2].partition(");")[0]
    for heading, words in (
        ("| state | means |", [state.value for state in OperationState]),
        ("| stage | means | left by |", re.findall("'([A-Z]+)'", stages)),
    ):
        assert [first for first, *_ in table_below(heading)] == [[word] for word in words]


def table_below(heading: str) -> list[list[list[str]]]:
    """The rows of a table of the lifecycle page: of each cell the words in code spelling."""
    _, _, below = LIFECYCLE.read_text(encoding="utf-8").partition(f"\n{heading}\n")
    assert below, f"the page has no table {heading}"
    rows = [line.strip("|").split("|") for line in below.partition("\n\n")[0].splitlines()[1:]]
    return [[re.findall("`([^`]+)`", cell) for cell in row] for row in rows]


@given(st.lists(st.sampled_from(OperationState), min_size=1), st.booleans())
def test_verdict_takes_the_first_rule_that_holds(states: list[OperationState], cancelled: bool) -> None:
    """All succeeded: finished, also after a cancel; then cancelled; none succeeded: failed; else partial."""
    counts = count(states)
    assert counts.total == len(states)
    assert counts.succeeded + counts.failed + counts.not_started + counts.unknown == counts.total
    good = [s is OperationState.SUCCEEDED for s in states]
    expected = (
        Status.FINISHED
        if all(good)
        else Status.CANCELLED
        if cancelled
        else Status.PARTIALLY_FAILED
        if any(good)
        else Status.FAILED
    )
    assert verdict(counts, cancelled=cancelled) is expected


@given(st.permutations(OperationState), st.integers(0, 4))
def test_the_worst_of_several_states_stands(states: list[OperationState], count: int) -> None:
    """SUCCEEDED, NOT_STARTED, FAILED, UNKNOWN: each is worse than the ones before it, in whatever order they
    are told."""
    order = ["SUCCEEDED", "NOT_STARTED", "FAILED", "UNKNOWN"]
    told = states[:count]
    assert worst(told) == max(told, key=lambda state: order.index(state.value), default="SUCCEEDED")


def test_an_unmatched_operation_never_fails_the_job_alone() -> None:
    """One unmatched FDN beside a success makes a job PARTIALLY_FAILED, and the reason counts it."""
    counts = Counts(total=2, succeeded=1, unmatched=1)
    assert verdict(counts, cancelled=False) is Status.PARTIALLY_FAILED
    assert why(counts, Status.PARTIALLY_FAILED) == "of 2 operations: 1 matched no CM handle"
    assert why(Counts(total=1, succeeded=1), Status.FINISHED) is None
