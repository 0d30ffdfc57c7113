# SPDX-License-Identifier: Apache-2.0
"""Comparison of the log and the metrics of a service with the declared events and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.kit.commands import Started, started
from tests.kit.whole_service import JOBS, Service
from tests.metrics import Metric, declared
from tests.operations_page import FIELDS

DECLARED = {metric.name: metric for metric in declared()}
"""Every declared metric by name."""

_OF_SERIES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}

SHOWN: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
"""Events and metrics that each test causes, by the name of the test."""


def shows(*events: str, metrics: Iterable[str] = ()) -> Callable[[Any], Any]:
    """Declare the events and metrics that a test causes. The test calls :func:`check` with its name."""

    def note(test: Any) -> Any:
        SHOWN[test.__name__] = frozenset(events), frozenset(metrics)
        return test

    return note


def events_in(text: str) -> list[dict[str, Any]]:
    """The log lines that are events. Fails if a line has a field that is not declared."""
    found = []
    for line in text.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            fields = json.loads(line)
            if fields.get("event") in FIELDS:
                found.append(fields)
                names = fields.keys() - {"event", "level", "timestamp", "exception"}
                assert names <= FIELDS[fields["event"]], fields
    return found


def lines_of(text: str, event: str) -> list[dict[str, Any]]:
    """The lines of one event."""
    return [line for line in events_in(text) if line["event"] == event]


def figures(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples of each metric by label values; for a histogram its counts. Fails if one is not declared."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        metric = _declared(family.name, family.type)
        for sample in family.samples:
            assert sample.name.removeprefix(metric.name) in _OF_SERIES[metric.kind], sample
            assert set(sample.labels) - {"le"} == set(metric.labels), sample
            if sample.name in (metric.name, f"{metric.name}_count"):
                labels = tuple(sample.labels[label] for label in metric.labels)
                found.setdefault(metric.name, {})[labels] = sample.value
    return found


def _declared(family: str, kind: str) -> Metric:
    metric = DECLARED[f"{family}_total" if kind == "counter" else family]
    assert metric.kind == kind
    return metric


def scraped(url: str) -> dict[str, dict[tuple[str, ...], float]]:
    """The metrics that ``/metrics`` of an address shows."""
    with urlopen(f"{url}/metrics", timeout=10) as answer:
        return figures(answer.read().decode())


def check(test: str, text: str, *metrics: Iterable[str]) -> None:
    """Assert that a test's log and scraped metrics contain what the test declares with :func:`shows`."""
    events, named = SHOWN[test]
    assert events - {line["event"] for line in events_in(text)} == set()
    assert named - {name for some in metrics for name in some} == set()


@dataclass
class Watched:
    """A running service, observed through its log, its metrics and its API."""

    running: Started
    url: str
    client: Service

    @property
    def text(self) -> str:
        """The log."""
        return self.running.text()

    async def submit(self, *operations: dict[str, Any], to: str | None = None) -> str:
        """Submit a job whose results go to a destination and return its id."""
        path = JOBS if to is None else f"{JOBS}?destination={to}"
        answer = await self.client.call("POST", path, {"data": operations}, expect=202)
        job_id: str = answer["jobId"]
        return job_id

    async def delivered(self, job_id: str) -> Any:
        """The job, once its delivery has ended."""
        async with asyncio.timeout(60):
            while (job := await self.client.job(job_id))["deliveryState"] == "PENDING":
                await asyncio.sleep(0.05)
        return job

    async def says(self, event: str) -> None:
        """Return once the service has logged ``event``."""
        await asyncio.to_thread(self.running.until_it_says, f'"{event}"')

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once ``holds`` returns true, for example for a scraped metric."""
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(holds):
                await asyncio.sleep(0.05)

    def scraped(self) -> dict[str, dict[tuple[str, ...], float]]:
        """The metrics."""
        return scraped(self.url)


@contextlib.asynccontextmanager
async def watched(folder: Path, port: int, *arguments: str, **settings: str) -> AsyncIterator[Watched]:
    """Run ``serve`` and its processes, with embedded parts unless ``settings`` name others."""
    url = f"http://127.0.0.1:{port}"
    settings = {"DATAJOBS_MIN_FREE_DISK": "0"} | settings
    with started(
        "serve", "--port", str(port), "--data-dir", folder / "data", *arguments,
        lines=folder / "lines", **settings,
    ) as running:  # fmt: skip
        async with aiohttp.ClientSession() as session:
            yield Watched(running, url, Service(url, session, None))  # type: ignore[arg-type]
