# SPDX-License-Identifier: Apache-2.0
"""The count after kills finds lost and doubled messages, and completed rounds are not run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage

from ran_datajobs.messaging import events
from tests.recovery.round import KINDS, Figures, counted
from tests.recovery.rounds import completed, table

LINES = [
    {"op": "merge", "path": "/SubNetwork=I/ManagedElement=1/Cell=1", "operationId": "0-0"},
    {"op": "merge", "path": "/SubNetwork=N/ManagedElement=1/Cell=1", "operationId": "0-1"},
    {"op": "merge", "path": "/SubNetwork=Y/ManagedElement=1/Cell=1", "operationId": "0-2"},
]
REPORTED = {"0-0": "SUCCEEDED", "0-1": "SUCCEEDED", "0-2": "FAILED"}
COUNTS = {"succeeded": 2, "unmatched": 1, "unknown": 0, "total": 3}
EXECUTED = {"0-0": 1, "0-1": 1}


def message(place: int, states: dict[str, str]) -> KafkaMessage:
    """One message of one sub-job."""
    headers = {
        events.CORRELATION_ID: b"job",
        events.SUB_JOB_ID: b"sub-job",
        events.SEQUENCE: str(place).encode(),
        events.DELIVERY: b"1",
    }
    responses = [{"operationId": name, "state": state} for name, state in states.items()]
    return KafkaMessage(
        headers=headers, key=None, value=msgspec.json.encode({"data": {"responses": responses}})
    )


def count(messages: list[Any], executed: dict[str, int], **counts: int) -> tuple[int, int, int]:
    """Lost, doubled and unknown of one job."""
    jobs = {"job": {"operations": COUNTS | counts}}
    lost, doubled, unknown = counted({"job": LINES}, jobs, messages, executed)
    return len(lost), len(doubled), unknown


def test_a_job_that_was_done_once_has_lost_and_doubled_nothing() -> None:
    """Also if the non-idempotent plugin leaves one operation unknown."""
    assert count([message(0, REPORTED)], EXECUTED) == (0, 0, 0)
    unknown = [message(0, REPORTED | {"0-1": "UNKNOWN"})]
    assert count(unknown, EXECUTED, succeeded=1, unknown=1) == (0, 0, 1)
    assert count(unknown, {"0-0": 1}, succeeded=1, unknown=1) == (0, 0, 1)


@pytest.mark.parametrize(
    ("messages", "executed", "counts", "found"),
    [
        ([message(0, REPORTED)], EXECUTED | {"0-1": 2}, {}, (0, 1, 0)),
        ([message(0, REPORTED), message(1, {"0-0": "SUCCEEDED"})], EXECUTED, {}, (0, 1, 0)),
        ([message(0, REPORTED), message(0, {})], EXECUTED, {}, (0, 1, 0)),
        ([message(0, REPORTED)], {"0-0": 1}, {}, (1, 0, 0)),
        ([message(0, REPORTED)], EXECUTED, {"succeeded": 1}, (1, 0, 0)),
        ([message(0, REPORTED | {"0-0": "UNKNOWN"})], EXECUTED, {"succeeded": 1, "unknown": 1}, (1, 0, 1)),
        ([message(0, {"0-0": "SUCCEEDED", "0-2": "FAILED"})], EXECUTED, {"succeeded": 1}, (1, 0, 0)),
        ([], EXECUTED, {"succeeded": 0, "unmatched": 0}, (3, 0, 0)),
    ],
    ids=[
        "executed twice",
        "reported twice",
        "one message twice",
        "reported and not executed",
        "not counted",
        "unknown at an idempotent plugin",
        "not reported",
        "no message",
    ],
)
def test_what_is_lost_or_doubled_is_found(
    messages: list[Any], executed: dict[str, int], counts: dict[str, int], found: tuple[int, int, int]
) -> None:
    """Each fault is counted under its kind."""
    assert count(messages, executed, **counts) == found


def figures(seed: int) -> Figures:
    """A round without a fault."""
    kills = dict.fromkeys(KINDS, 10)
    return Figures(seed, kills, 7, 84, 70, 0, 0, 1, seconds=float(seed), took=20.0, started_again=0)


def test_a_round_that_has_ended_is_not_run_again(tmp_path: Path) -> None:
    """A round that was cut off is run again, and so is one of other code."""
    kept, ran = tmp_path / "build" / "rounds.jsonl", list[int]()

    def run(seed: int) -> Figures:
        ran.append(seed)
        if ran == [1, 2]:
            raise KeyboardInterrupt
        return figures(seed)

    with pytest.raises(KeyboardInterrupt):
        completed(3, "code", kept, run)
    kept.write_bytes(kept.read_bytes() + b'{"code": "code", "fig')
    assert completed(3, "code", kept, run) == [figures(1), figures(2), figures(3)]
    assert ran == [1, 2, 2, 3]
    assert completed(3, "code", kept, run) == completed(4, "code", kept, run)[:3]
    assert ran == [1, 2, 2, 3, 4]
    completed(1, "other code", kept, run)
    assert ran[5:] == [1]


def test_the_table_sums_all_but_the_seconds() -> None:
    """Of these it has the most."""
    head, *rows, last = (line.split() for line in table([figures(1), figures(2)]).splitlines())
    assert head[1 : 1 + len(KINDS)] == list(KINDS)
    assert [row[0] for row in rows] == ["1", "2"]
    assert last == ["all", *["20"] * len(KINDS), "14", "168", "140", "0", "0", "2", "0", "2.0"]
