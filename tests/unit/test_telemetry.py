# SPDX-License-Identifier: Apache-2.0
"""Events and metrics: listed once, used as listed, and never with a secret in them."""

from __future__ import annotations

import ast
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

import ran_datajobs
from ran_datajobs import telemetry
from ran_datajobs.telemetry import FIELDS, Event, Metrics

_SOURCE = Path(next(iter(ran_datajobs.__path__)))


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """JSON log lines of this process; logging is as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    telemetry.configure(level="info", form="json", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_an_event_with_its_fields(lines: io.StringIO) -> None:
    """Machines get one JSON object a line, with level and time."""
    telemetry.logger().info(Event.JOB_ENDED, job_id="j", status="FINISHED", reason=None, seconds=1.5)
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
    """Debug lines cost nothing when the level is info."""
    telemetry.logger().debug(Event.SUB_JOB_STARTED, job_id="j", sub_job_id="s")
    assert lines.getvalue() == ""


def test_secrets_do_not_reach_a_line(lines: io.StringIO) -> None:
    """Fields with a secret's name, passwords in addresses, bearer tokens and tracebacks are masked."""
    log = telemetry.logger().bind(plugin_token="tok-1")
    log.warning(Event.DATABASE_AWAY, cause="postgresql://jobs:hunter2@db/x said: Bearer abc.def", pause=1)
    logging.getLogger("some.library").warning("retrying %s", "https://u:hunter3@h/")
    try:
        raise OSError("cannot open postgresql://jobs:hunter4@db/x")
    except OSError:
        log.error(Event.TASK_FAILED, kind="plan", subject="j", cause="x", exc_info=True)
    text = lines.getvalue()
    assert "OSError" in text
    assert "some.library" in text or "retrying" in text
    for secret in ("tok-1", "hunter", "abc.def"):
        assert secret not in text


def _calls() -> list[tuple[str, str, frozenset[str]]]:
    """(place, event, keyword names) of every call in the package that logs an event."""
    found = []
    for file in sorted(_SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Attribute):
                first = node.args[0]
                if ast.unparse(first.value) in ("Event", "telemetry.Event"):
                    names = frozenset(k.arg or "**" for k in node.keywords)
                    found.append((f"{file.name}:{node.lineno}", first.attr, names))
    return found


def test_every_call_uses_the_fields_that_its_event_lists() -> None:
    """What stands in the list is what stands in the lines: nothing unlisted is logged."""
    wrong = [
        (place, name, sorted(names - FIELDS[Event[name]] - {"exc_info"}))
        for place, name, names in _calls()
        if not names <= FIELDS[Event[name]] | {"exc_info"}
    ]
    assert wrong == []


def test_every_event_lists_its_fields() -> None:
    """The list is complete, and names are dotted."""
    assert set(FIELDS) == set(Event)
    assert all("." in event for event in Event)


def test_metrics_of_two_registries_do_not_mix() -> None:
    """Metrics belong to their object: two of them in one process count apart."""
    one, other = Metrics(), Metrics()
    one.jobs_accepted.labels(type="WRITE").inc(3)
    assert b'datajobs_jobs_accepted_total{type="WRITE"} 3.0' in one.exposition()
    assert b'datajobs_jobs_accepted_total{type="WRITE"}' not in other.exposition()
