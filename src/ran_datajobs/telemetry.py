# SPDX-License-Identifier: Apache-2.0
"""Log lines and metrics: declares every metric; no other module formats log lines.

An event is a dotted name. The page for operators lists all of them with their fields; a test compares it with
the calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO, TypeAlias

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from structlog.typing import FilteringBoundLogger

from ran_datajobs.errors import DataJobsError, StoreUnavailable

WRITE_EVERY: Final = 10.0
"""Interval in seconds at which a :class:`Digest` writes its lines."""

MOST_SUBJECTS: Final = 10
"""Maximum number of lines that a :class:`Digest` writes of one event at a time, besides the summary line."""

_SECRET_NAME: Final = re.compile(r"password|secret|token|authori[sz]ation|credential|private", re.IGNORECASE)
_USER_INFO: Final = re.compile(r"(\w+://[^:/@\s]*):[^@/\s]*@")
_BEARER: Final = re.compile(r"(?i)\b(bearer)\s+[\w.~+/=-]+")


Logger: TypeAlias = FilteringBoundLogger
"""Writes an event with its fields: ``info`` normal operation, ``warning`` an external fault, after
which the process continues, ``error`` a task that is abandoned, or a bug. Fields that look like secrets are
masked."""


logger: Final[Callable[[], Logger]] = structlog.get_logger
"""Returns a logger with the output that :func:`configure` sets up."""


_Subject: TypeAlias = tuple[tuple[str, Any], ...]


class Digest:
    """Aggregates frequent events: writes one line per subject every :data:`WRITE_EVERY` seconds.

    An event has at most :data:`MOST_SUBJECTS` lines at a time, plus one that sums up the other subjects.
    Integers, and counts by name, are added up; of any other field the first value is kept. ``since`` is the
    time of the first occurrence, ``others`` the number of subjects in the summary line.
    """

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._noted: dict[tuple[str, str], dict[_Subject, dict[str, Any]]] = {}

    def info(self, event: str, subject: Mapping[str, Any], **fields: Any) -> None:
        """Note normal operation of ``subject``."""
        self._note("info", event, subject, fields)

    def warning(self, event: str, subject: Mapping[str, Any], **fields: Any) -> None:
        """Note an external fault of ``subject``; the process continues."""
        self._note("warning", event, subject, fields)

    def error(self, event: str, subject: Mapping[str, Any], **fields: Any) -> None:
        """Note that work for ``subject`` is abandoned."""
        self._note("error", event, subject, fields)

    def write(self) -> None:
        """Write the lines of all events since the last call."""
        noted, self._noted = self._noted, {}
        for (level, event), subjects in noted.items():
            log = getattr(self._log, level)
            rest: dict[str, Any] = {}
            for place, (subject, fields) in enumerate(subjects.items()):
                if place < MOST_SUBJECTS:
                    log(event, **dict(subject), **fields)
                else:
                    _add_up(rest, dict.fromkeys(name for name, _ in subject) | fields)
            if rest:
                log(event, **rest, others=len(subjects) - MOST_SUBJECTS)

    async def run(self) -> None:
        """Write lines until cancelled; the cancellation writes the remaining ones."""
        try:
            while True:
                await asyncio.sleep(WRITE_EVERY)
                self.write()
        finally:
            self.write()

    def _note(self, level: str, event: str, subject: Mapping[str, Any], fields: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        of_event = self._noted.setdefault((level, event), {})
        _add_up(of_event.setdefault(tuple(subject.items()), {}), fields | {"since": now})


def _add_up(sums: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if name not in sums:
            sums[name] = dict(value) if isinstance(value, Mapping) else value
        elif isinstance(value, Mapping):
            for key, count in value.items():
                sums[name][key] = sums[name].get(key, 0) + count
        elif isinstance(value, int):
            sums[name] += value


@contextlib.contextmanager
def errors_logged(log: Logger, kind: str, subject: str) -> Iterator[None]:
    """Log an error of a background task, which continues: be it a cancelled statement or a bug."""
    try:
        yield
    except StoreUnavailable:  # the worker logs it
        pass
    except DataJobsError as error:
        log.warning("task.failed", kind=kind, subject=subject, cause=str(error))
    except Exception as error:
        log.error("task.failed", kind=kind, subject=subject, cause=repr(error), exc_info=True)


def configure(*, level: str, form: str, stream: TextIO | None = None) -> None:
    """Configure the log lines of this process, including those of libraries; called once, by its entry point.

    ``form``: ``console``, ``json``, or ``auto`` for console on a terminal. ``stream``: standard error.
    """
    target = sys.stderr if stream is None else stream
    people = form == "console" or (form == "auto" and target.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    last: Any = (
        structlog.dev.ConsoleRenderer(colors=target.isatty())
        if people
        else structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        cache_logger_on_first_use=False,
    )
    shape = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
    )
    lines = logging.StreamHandler(target)
    lines.setFormatter(shape)
    root = logging.getLogger()
    root.handlers[:] = [lines]
    root.setLevel(level.upper())
    for chatty in ("aiohttp.access", "httpx", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("asyncpg").setLevel(logging.ERROR)  # logs each failed try with a traceback


def redact(_sink: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask fields with a secret's name, and passwords inside addresses (a structlog processor)."""
    for name, value in fields.items():
        if _SECRET_NAME.search(name):
            fields[name] = "***"
        elif isinstance(value, str | BaseException):
            fields[name] = masked(str(value))
    return fields


def masked(text: str) -> str:
    """``text`` with the passwords of addresses and bearer tokens replaced."""
    return _BEARER.sub(r"\1 ***", _USER_INFO.sub(r"\1:***@", text))


_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


STORE_METRICS: Final = {
    "datajobs_jobs": ("Open jobs", "status"),
    "datajobs_lanes": ("Lanes by whether they start a write", "state"),
    "datajobs_plugins": ("DMI plugins by their health", "health"),
    "datajobs_queue_age_seconds": ("Time that the oldest due row has waited", "kind"),
    "datajobs_delivery_lag_seconds": ("Age of the oldest undelivered message or copy", "to"),
}
"""Gauges computed from the database: by name the help text and the label. The API reads them at each scrape,
once for all processes."""


class Metrics:
    """All metrics of a process, in a registry of its own.

    If ``PROMETHEUS_MULTIPROC_DIR`` is set (``serve`` does), the processes of one service share their values
    through that folder, and each of them can report the sums.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        counter = partial(Counter, registry=self._registry)
        histogram = partial(Histogram, registry=self._registry, buckets=_SECONDS)
        gauge = partial(Gauge, registry=self._registry)
        self.requests = counter("datajobs_requests", "Requests answered", ["method", "route", "status"])
        self.request_seconds = histogram("datajobs_request_seconds", "Time to the answer", ["route"])
        self.body_bytes_in_flight = gauge(
            "datajobs_body_bytes_in_flight",
            "Bytes of request bodies being received or worked on",
            multiprocess_mode="livesum",
        )
        self.jobs_accepted = counter("datajobs_jobs_accepted", "Jobs accepted", ["type"])
        self.jobs_ended = counter("datajobs_jobs_ended", "Jobs ended", ["status"])
        self.plan_seconds = histogram("datajobs_plan_seconds", "Time to plan a job")
        self.operations_ended = counter("datajobs_operations_ended", "Operations settled", ["state"])
        self.operations_failed = counter(
            "datajobs_operations_failed", "Operations that did not succeed", ["reason"]
        )
        self.plugin_call_seconds = histogram(
            "datajobs_plugin_call_seconds", "Calls of DMI plugins and their time", ["call", "result"]
        )
        self.policy_request_seconds = histogram(
            "datajobs_policy_request_seconds", "Requests to the policy executor and their time", ["result"]
        )
        self.circuits_open = gauge(
            "datajobs_circuits_open",
            "Plugins that a worker calls no more, at most",
            multiprocess_mode="livemax",
        )
        self.leases_lost = counter("datajobs_leases_lost", "Leases that ended under a worker", ["kind"])
        self.messages_published = counter("datajobs_messages_published", "Messages published to topics")
        self.objects_copied = counter("datajobs_objects_copied", "Result objects copied to buckets")
        self.messages_dropped = counter(
            "datajobs_messages_dropped", "Messages of the internal topic not taken", ["why"]
        )
        self.follow_changes = counter(
            "datajobs_follow_changes", "CM handles changed as in the NCMP that is followed", ["change"]
        )
        self.follow_failing = gauge(
            "datajobs_follow_failing",
            "1 while the NCMP that is followed does not answer",
            multiprocess_mode="livemax",
        )
        self.deliveries_ended = counter("datajobs_deliveries_ended", "Deliveries ended", ["state"])

    def exposition(self, of_store: Mapping[str, Mapping[str, float]] | None = None) -> bytes:
        """All values in the Prometheus text format. ``of_store``: values of :data:`STORE_METRICS`, by name
        and label."""
        registry = CollectorRegistry()
        registry.register(_StoreCollector(of_store or {}))
        if folder := os.environ.get(SHARED_FOLDER):
            return shared_exposition(Path(folder)) + generate_latest(registry)
        return generate_latest(self._registry) + generate_latest(registry)


SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Variable of the Prometheus client that names the folder with the values of all processes."""


def shared_exposition(folder: Path) -> bytes:
    """Values that processes keep in ``folder``, in the Prometheus text format: counters include processes
    that have ended, gauges only running ones: see ``mark_process_dead`` of the Prometheus client."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]  # registers itself
    return generate_latest(registry)


class _StoreCollector(Collector):
    """Values that no process keeps: a :class:`Gauge` would share them with other processes."""

    def __init__(self, figures: Mapping[str, Mapping[str, float]]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, values in self._figures.items():
            text, label = STORE_METRICS[name]
            family = GaugeMetricFamily(name, text, labels=(label,))
            for value_of_label, value in values.items():
                family.add_metric((value_of_label,), value)
            yield family
