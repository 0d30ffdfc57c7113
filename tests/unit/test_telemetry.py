# SPDX-License-Identifier: Apache-2.0
"""Events and metrics: listed once, used as listed, and never with a secret in them."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

import ran_datajobs
from ran_datajobs import telemetry
from ran_datajobs.telemetry import MOST_SUBJECTS, Digest, Metrics
from tests.operations_page import FIELDS

_SOURCE = Path(next(iter(ran_datajobs.__path__)))


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """JSON log lines of this process. Logging is restored afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    telemetry.configure(level="info", form="json", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_an_event_with_its_fields(lines: io.StringIO) -> None:
    """If the output is no terminal, each line is one JSON object with level and time."""
    telemetry.logger().info("job.ended", job_id="j", status="FINISHED", reason=None, seconds=1.5)
    line = json.loads(lines.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "job.ended",
        "level": "info",
        "job_id": "j",
        "status": "FINISHED",
        "reason": None,
        "seconds": 1.5,
    }


def test_lines_below_the_level_are_not_written(lines: io.StringIO) -> None:
    """Debug lines cost nothing if the level is info."""
    structlog.get_logger().debug("library.detail")
    assert lines.getvalue() == ""


def test_secrets_do_not_reach_a_line(lines: io.StringIO) -> None:
    """Fields with a secret's name, passwords in addresses, bearer tokens and tracebacks are masked."""
    log = telemetry.logger()
    log.warning("database.unavailable", cause="postgresql://jobs:hunter2@db/x said: Bearer abc.def")
    log.warning("task.failed", kind="plan", subject="j", cause="x", plugin_token="tok-1")
    logging.getLogger("some.library").warning("retrying %s", "https://u:hunter3@h/")
    try:
        raise OSError("cannot open postgresql://jobs:hunter4@db/x")
    except OSError:
        log.error("task.failed", kind="plan", subject="j", cause="x", exc_info=True)
    text = lines.getvalue()
    assert "OSError" in text
    assert "some.library" in text or "retrying" in text
    for secret in ("tok-1", "hunter", "abc.def"):
        assert secret not in text


def _calls() -> list[tuple[str, str, frozenset[str]]]:
    """(position, event, names of the fields) of every call in the package that logs an event or adds it to a
    digest."""
    found = []
    for file in sorted(_SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    ast.Attribute(attr="info" | "warning" | "error"), [ast.Constant(str(event)), *rest]
                ):
                    names = frozenset(k.arg or "**" for k in node.keywords)
                    for subject in rest:  # of a digest
                        names |= _keys(subject) | {"since", "others"}
                    found.append((f"{file.name}:{node.lineno}", event, names))
    return found


def _keys(subject: ast.expr) -> frozenset[str]:
    assert isinstance(subject, ast.Dict), ast.unparse(subject)
    return frozenset(str(ast.literal_eval(key)) for key in subject.keys if key is not None)


def test_the_page_for_operators_lists_the_events_and_fields_of_every_call() -> None:
    """Nothing unlisted is logged."""
    wrong = [
        (place, event, sorted(names - FIELDS.get(event, frozenset()) - {"exc_info"}))
        for place, event, names in _calls()
        if event not in FIELDS or not names <= FIELDS[event] | {"exc_info"}
    ]
    assert wrong == []


def test_every_event_and_field_on_the_page_for_operators_is_written_by_some_call() -> None:
    """The page lists nothing else. Names are dotted."""
    assert all("." in event for event in FIELDS)
    used: dict[str, set[str]] = {event: set() for event in FIELDS}
    for _, event, names in _calls():
        used[event] |= names - {"exc_info"}
    assert used == FIELDS


def test_a_digest_sums_up_what_happens_many_times(lines: io.StringIO) -> None:
    """One line for each subject: integers and counts by name are added up, of all other fields the first
    value is kept."""
    digest = Digest(telemetry.logger())
    for reason in ("DMI_UNREACHABLE", "DMI_UNREACHABLE", "DMI_REFUSED"):
        digest.warning(
            "operations.failed", {"job_id": "j"}, sub_jobs=1, reasons={reason: 2}, cause=f"first {reason}"
        )
    assert lines.getvalue() == ""
    digest.write()
    (line,) = map(json.loads, lines.getvalue().splitlines())
    assert line.pop("since") <= line.pop("timestamp")
    assert line == {
        "event": "operations.failed",
        "level": "warning",
        "job_id": "j",
        "sub_jobs": 3,
        "reasons": {"DMI_UNREACHABLE": 4, "DMI_REFUSED": 2},
        "cause": "first DMI_UNREACHABLE",
    }
    digest.write()
    assert len(lines.getvalue().splitlines()) == 1


def test_a_digest_has_a_bounded_number_of_lines(lines: io.StringIO) -> None:
    """Of a thousand subjects ten have a separate line, and one line sums up the others."""
    digest = Digest(telemetry.logger())
    for number in range(1000):
        digest.warning("delivery.waits", {"destination": f"t{number}"}, cause="unavailable")
        digest.warning("lane.quarantined", {"plugin": f"p{number}"}, lanes=3, seconds=300.0)
    digest.write()
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    waits, lanes = ([each for each in found if each["event"] == event] for event in _TWO)
    assert [len(waits), len(lanes)] == [MOST_SUBJECTS + 1] * 2
    assert [each["destination"] for each in waits] == [*(f"t{n}" for n in range(MOST_SUBJECTS)), None]
    assert (waits[-1]["others"], lanes[-1]["others"]) == (1000 - MOST_SUBJECTS,) * 2
    assert (lanes[-1]["lanes"], lanes[-1]["seconds"]) == (3 * (1000 - MOST_SUBJECTS), 300.0)
    assert sum(each["lanes"] for each in lanes) == 3000


_TWO = ("delivery.waits", "lane.quarantined")


async def test_a_digest_that_is_cancelled_tells_what_is_left(lines: io.StringIO) -> None:
    """The digest of a worker's last seconds is written when it stops."""
    digest = Digest(telemetry.logger())
    writing = asyncio.create_task(digest.run())
    await asyncio.sleep(0)
    digest.info("lane.reopened", {"plugin": "p"}, lanes=1, lane_id="7")
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert '"lane.reopened"' in lines.getvalue()


def test_metrics_of_two_registries_do_not_mix() -> None:
    """Metrics belong to their object: two of them in one process count separately."""
    one, other = Metrics(), Metrics()
    one.jobs_accepted.labels(type="WRITE").inc(3)
    assert b'datajobs_jobs_accepted_total{type="WRITE"} 3.0' in one.exposition()
    assert b'datajobs_jobs_accepted_total{type="WRITE"}' not in other.exposition()
