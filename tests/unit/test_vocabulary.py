# SPDX-License-Identifier: Apache-2.0
"""The closed sets: statuses with their transitions, and the rule of a job's final status."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from enum import StrEnum
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ran_datajobs
from ran_datajobs.model import (
    ALLOWED,
    DELIVERIES,
    STAGES,
    WAITS,
    DeliveryState,
    JobType,
    LaneState,
    NextCall,
    OperationCounts,
    OperationState,
    Stage,
    Status,
    WaitCode,
    read_status,
    wire_status,
    worst,
)
from ran_datajobs.results.outcomes import count, verdict, why
from ran_datajobs.store.database import Database

PAGE_WORDS: Final = Path(ran_datajobs.__file__).parent / "web/static/waits.js"
LIFECYCLE: Final = Path(__file__).parents[2] / "docs/lifecycle.md"


def test_terminal_states_have_no_arrow_out() -> None:
    """FINISHED, FAILED, PARTIALLY_FAILED and CANCELLED never change. The others have transitions."""
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
    """FINSHED is the literal of TS 28.623. FINISHED is read as well. A setting selects the one that is
    written."""
    assert read_status(spelling) is Status.FINISHED
    assert wire_status(Status.FINISHED) == "FINSHED"
    assert wire_status(Status.FINISHED, spelling) == spelling


@pytest.mark.parametrize("word", ["finished", "", "DONE", None, 7, ["FINSHED"]])
def test_an_unknown_status_is_no_answer(word: object) -> None:
    """Any text other than the seven words reads as no status."""
    assert read_status(word) is None


ENUMS: Final = {
    "job_status": Status,
    "sub_job_stage": Stage,
    "delivery_state": DeliveryState,
    "job_type": JobType,
    "next_call": NextCall,
}
"""Enums of the database with the code's own: same words in the same order."""


async def test_enums_of_the_database_are_the_enums_of_the_code(database: Database) -> None:
    """A database of the newest schema has exactly the members of the code's enums, in their order."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "select t.typname, array_agg(e.enumlabel::text order by e.enumsortorder) as words"
            " from pg_enum e join pg_type t on t.oid = e.enumtypid group by t.typname"
        )
    found = {row["typname"]: row["words"] for row in rows}
    assert {name: found.get(name) for name in ENUMS} == {
        name: [member.value for member in words] for name, words in ENUMS.items()
    }


ARROWS: Final = {
    "NOT_STARTED": {"RUNNING", "FAILED", "CANCELLING", "CANCELLED"},
    "RUNNING": {"FINISHED", "FAILED", "PARTIALLY_FAILED", "CANCELLING"},
    "CANCELLING": {"CANCELLED", "FINISHED", "PARTIALLY_FAILED", "FAILED"},
    "FINISHED": set(),
    "FAILED": set(),
    "PARTIALLY_FAILED": set(),
    "CANCELLED": set(),
}


def test_the_arrows_of_a_status_are_exactly_these() -> None:
    """The code allows the twelve transitions of the contract, written out here, and no other."""
    assert {state.value: {to.value for to in allowed} for state, allowed in ALLOWED.items()} == ARROWS


def arrows_of_lanes() -> dict[LaneState, set[LaneState]]:
    """The state of a lane is that of its one active write. Each transition of a stage moves it, and one that
    settles the write may admit the next one in the same transaction. Nothing else moves it."""

    def state_at(stage: Stage) -> LaneState:
        if stage in (Stage.WAITING, Stage.SETTLED):
            return LaneState.FREE
        return LaneState.QUARANTINED if stage is Stage.QUARANTINED else LaneState.OCCUPIED

    moves = {(state_at(stage), state_at(to)) for stage, followers in STAGES.items() for to in followers}
    moves |= {(state, LaneState.OCCUPIED) for state, to in moves if to is LaneState.FREE}
    return {state: {to for start, to in moves if start is state is not to} for state in LaneState}


TABLES: Final[Mapping[str, tuple[str, str, Mapping[StrEnum, Set[StrEnum]]]]] = {
    "status": ("| status | means | left by |", "| from | allowed arrows |", dict(ALLOWED)),
    "stage": ("| stage | means | left by |", "| from stage | allowed arrows |", dict(STAGES)),
    "lane": ("| lane | means | left by |", "| from lane | allowed arrows |", arrows_of_lanes()),
    "operation": (
        "| state | means |",
        "| from operation | allowed arrows |",
        {state: set() for state in OperationState},
    ),
    "delivery": ("| delivery | means | left by |", "| from delivery | allowed arrows |", dict(DELIVERIES)),
}
"""For each kind of state: the heads of its two tables on the lifecycle page, and its transitions in the
code."""


@pytest.mark.parametrize("kind", TABLES)
def test_the_lifecycle_page_has_the_states_and_arrows_of_the_code(kind: str) -> None:
    """One table lists each state once, in the order of the code, and names who moves it on, if anyone does.
    The other one lists its transitions, each once."""
    states, arrows, table = TABLES[kind]
    members = type(next(iter(table)))
    assert set(table) == set(members)
    meanings = table_below(states)
    assert [row[0] for row in words_of(meanings)] == [[state.value] for state in members]
    if "left by" in states:
        left = {row[0].strip(" `"): row[2].strip() != "–" for row in meanings}
        assert left == {state.value: bool(allowed) for state, allowed in table.items()}
    listed = words_of(table_below(arrows))
    assert [state for state, _ in listed] == [[state.value] for state in table]
    for [state], allowed in listed:
        assert len(allowed) == len(set(allowed))
        assert set(allowed) == {to.value for to in table[members(state)]}


def test_the_lifecycle_page_says_what_is_waited_for() -> None:
    """Each code occurs once, in the order in which they are checked, and has an end if one is shown."""
    rows = table_below("| code | waits for | `until` |")
    assert [row[0].strip(" `") for row in rows] == [code.value for code in WaitCode]
    assert set(WAITS) == set(WaitCode)
    assert [row[2].strip() != "–" for row in rows] == [bool(WAITS[code][1]) for code in WaitCode]


def test_the_page_has_the_words_of_the_command_line_for_what_is_waited_for() -> None:
    """The same codes with the same words, in the same order."""
    lines = re.findall(
        r'^  (\w+): \["(.*)", "(.*)"\],$', PAGE_WORDS.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert lines == [(code.value, *words) for code, words in WAITS.items()]


def test_every_stage_can_be_reached_and_left() -> None:
    """From WAITING every stage is reached, and from every stage SETTLED is. SETTLED has no transition."""
    reached = {Stage.WAITING}
    while more := {to for stage in reached for to in STAGES[stage]} - reached:
        reached |= more
    assert reached == set(Stage)
    assert [stage for stage, followers in STAGES.items() if Stage.SETTLED not in followers] == [Stage.SETTLED]
    assert STAGES[Stage.SETTLED] == frozenset()


def table_below(heading: str) -> list[list[str]]:
    """The rows of a table of the lifecycle page, cell by cell."""
    _, _, below = LIFECYCLE.read_text(encoding="utf-8").partition(f"\n{heading}\n")
    assert below, f"the page has no table {heading}"
    return [line.strip("|").split("|") for line in below.partition("\n\n")[0].splitlines()[1:]]


def words_of(rows: list[list[str]]) -> list[list[list[str]]]:
    """For each cell the words in code spelling."""
    return [[re.findall("`([^`]+)`", cell) for cell in row] for row in rows]


@given(st.lists(st.sampled_from(OperationState), min_size=1), st.booleans())
def test_verdict_takes_the_first_rule_that_holds(states: list[OperationState], cancelled: bool) -> None:
    """All succeeded: finished, also after a cancel. Then cancelled. None succeeded: failed. Otherwise
    partial."""
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
    are reported."""
    order = ["SUCCEEDED", "NOT_STARTED", "FAILED", "UNKNOWN"]
    some = states[:count]
    assert worst(some) == max(some, key=lambda state: order.index(state.value), default="SUCCEEDED")


def test_an_unmatched_operation_never_fails_the_job_alone() -> None:
    """One unmatched FDN and a success make a job PARTIALLY_FAILED, and the reason counts it."""
    counts = OperationCounts(2, 1, 0, 1, 0, 0, 0)
    assert verdict(counts, cancelled=False) is Status.PARTIALLY_FAILED
    assert why(counts, Status.PARTIALLY_FAILED) == "of 2 operations: 1 matched no CM handle"
    assert why(OperationCounts(1, 1, 0, 0, 0, 0, 0), Status.FINISHED) is None
