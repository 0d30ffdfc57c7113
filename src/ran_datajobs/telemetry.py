# SPDX-License-Identifier: Apache-2.0
"""Declares every log event with its fields and every metric. No other module formats log lines.

An event is a dotted name; a test compares the fields of each call with :data:`FIELDS`.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TextIO

import structlog
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector


class Event(enum.StrEnum):
    """Every event that is logged."""

    SERVICE_STARTED = "service.started"
    SERVICE_STOPPED = "service.stopped"
    PROCESS_STARTED = "process.started"
    PROCESS_ENDED = "process.ended"
    PROCESS_RESTARTED = "process.restarted"
    PROCESS_NOT_STARTED = "process.not_started"
    DATABASE_EMBEDDED = "database.embedded"
    DATABASE_UNAVAILABLE = "database.unavailable"
    SCHEMA_WAITS = "schema.waits"
    SCHEMA_MIGRATED = "schema.migrated"
    INVENTORY_REGISTERED = "inventory.registered"
    JOB_ACCEPTED = "job.accepted"
    JOB_PLANNED = "job.planned"
    JOB_ENDED = "job.ended"
    JOB_CANCEL_REQUESTED = "job.cancel_requested"
    OPERATIONS_FAILED = "operations.failed"
    PLUGIN_SILENT = "plugin.silent"
    PLUGIN_ANSWERS = "plugin.answers"
    CIRCUIT_OPENED = "circuit.opened"
    CIRCUIT_CLOSED = "circuit.closed"
    BULK_CANCEL_REFUSED = "bulk_cancel.refused"
    LANE_QUARANTINED = "lane.quarantined"
    LANE_REOPENED = "lane.reopened"
    LANE_ADMISSION_REFUSED = "lane.admission_refused"
    TRANSITION_REFUSED = "sub_job.transition_refused"
    MESSAGE_DROPPED = "message.dropped"
    DELIVERY_WAITS = "delivery.waits"
    DELIVERY_FAILED = "delivery.failed"
    DELIVERY_SUCCEEDED = "delivery.succeeded"
    BUS_UNAVAILABLE = "bus.unavailable"
    STORAGE_UNAVAILABLE = "storage.unavailable"
    STORAGE_AVAILABLE = "storage.available"
    WORKER_INTERRUPTED = "worker.interrupted"
    WORKER_RESUMED = "worker.resumed"
    LEASES_LOST = "worker.leases_lost"
    TASK_FAILED = "task.failed"
    REQUEST_FAILED = "request.failed"
    JOBS_PRUNED = "jobs.pruned"
    DMI_ELEMENT_BROKEN = "dmi.element_broken"
    DMI_JOURNAL_UNAVAILABLE = "dmi.journal_unavailable"
    DMI_READ_UNDELIVERABLE = "dmi.read_undeliverable"


_SUMMED: Final = frozenset({"since", "others"})

FIELDS: Final[Mapping[Event, frozenset[str]]] = {
    Event.SERVICE_STARTED: frozenset({"role", "address"}),
    Event.SERVICE_STOPPED: frozenset({"role"}),
    Event.PROCESS_STARTED: frozenset({"role", "pid"}),
    Event.PROCESS_ENDED: frozenset({"role", "pid", "status"}),
    Event.PROCESS_RESTARTED: frozenset({"role", "pause"}),
    Event.PROCESS_NOT_STARTED: frozenset({"role", "cause"}),
    Event.DATABASE_EMBEDDED: frozenset({"line"}),
    Event.DATABASE_UNAVAILABLE: frozenset({"cause", "pause"}),
    Event.SCHEMA_WAITS: frozenset({"cause"}),
    Event.SCHEMA_MIGRATED: frozenset({"version"}),
    Event.INVENTORY_REGISTERED: frozenset({"plugin", "created", "updated", "removed", "failed"}),
    Event.JOB_ACCEPTED: frozenset({"job_id", "client", "type", "operations", "destination"}),
    Event.JOB_PLANNED: frozenset({"job_id", "sub_jobs", "unmatched", "seconds"}),
    Event.JOB_ENDED: frozenset(
        {
            "job_id",
            "status",
            "reason",
            "seconds",
            "succeeded",
            "failed",
            "unmatched",
            "not_started",
            "unknown",
        }
    ),
    Event.JOB_CANCEL_REQUESTED: frozenset({"job_id", "client"}),
    Event.OPERATIONS_FAILED: _SUMMED | {"job_id", "sub_jobs", "reasons", "cause"},
    Event.PLUGIN_SILENT: _SUMMED | {"plugin", "cause"},
    Event.PLUGIN_ANSWERS: _SUMMED | {"plugin", "seconds"},
    Event.CIRCUIT_OPENED: _SUMMED | {"plugin", "cause", "calls"},
    Event.CIRCUIT_CLOSED: _SUMMED | {"plugin", "seconds"},
    Event.LANE_QUARANTINED: _SUMMED | {"plugin", "lanes", "lane_id", "seconds", "cause"},
    Event.LANE_REOPENED: _SUMMED | {"plugin", "lanes", "lane_id"},
    Event.BULK_CANCEL_REFUSED: frozenset({"job_id", "plugin", "cause"}),
    Event.LANE_ADMISSION_REFUSED: frozenset({"lane_id", "cause"}),
    Event.TRANSITION_REFUSED: frozenset({"sub_job_id", "cause"}),
    Event.MESSAGE_DROPPED: _SUMMED | {"topic", "why", "messages", "offset"},
    Event.DELIVERY_WAITS: _SUMMED | {"destination", "cause"},
    Event.DELIVERY_FAILED: _SUMMED | {"destination", "jobs", "job_id", "cause"},
    Event.DELIVERY_SUCCEEDED: frozenset({"job_id", "destination"}),
    Event.BUS_UNAVAILABLE: _SUMMED | {"cause", "tries"},
    Event.STORAGE_UNAVAILABLE: frozenset({"bucket", "cause"}),
    Event.STORAGE_AVAILABLE: frozenset({"bucket"}),
    Event.WORKER_INTERRUPTED: frozenset({"cause"}),
    Event.WORKER_RESUMED: frozenset(),
    Event.LEASES_LOST: _SUMMED | {"kind", "leases"},
    Event.TASK_FAILED: frozenset({"kind", "subject", "cause"}),
    Event.REQUEST_FAILED: frozenset({"method", "path", "cause"}),
    Event.JOBS_PRUNED: frozenset({"jobs"}),
    Event.DMI_ELEMENT_BROKEN: frozenset({"data_producer_job_id", "cause"}),
    Event.DMI_JOURNAL_UNAVAILABLE: frozenset({"cause", "pause"}),
    Event.DMI_READ_UNDELIVERABLE: frozenset({"data_producer_job_id", "cause"}),
}
"""The fields that each event may carry; ``exc_info=True`` adds the traceback to any of them."""

SUMMED: Final = frozenset(event for event, fields in FIELDS.items() if fields >= _SUMMED)
"""The events that a :class:`Digest` logs."""

TELL_EVERY: Final = 10.0
"""Interval in seconds at which a :class:`Digest` writes its lines."""

MOST_SUBJECTS: Final = 10
"""Maximum number of lines that a :class:`Digest` writes of one event at a time, besides the summary line."""

_SECRET_NAME: Final = re.compile(r"password|secret|token|authori[sz]ation|credential|private", re.IGNORECASE)
_USER_INFO: Final = re.compile(r"(\w+://[^:/@\s]*):[^@/\s]*@")
_BEARER: Final = re.compile(r"(?i)\b(bearer)\s+[\w.~+/=-]+")


class Logger:
    """Writes events. Fields that look like secrets are masked."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink

    def bind(self, **fields: Any) -> Logger:
        """A logger that adds ``fields`` to all its lines."""
        return Logger(self._sink.bind(**fields))

    def debug(self, event: Event, **fields: Any) -> None:
        """Log details for troubleshooting."""
        self._sink.debug(event.value, **fields)

    def info(self, event: Event, **fields: Any) -> None:
        """Log normal operation."""
        self._sink.info(event.value, **fields)

    def warning(self, event: Event, **fields: Any) -> None:
        """Log an external fault; the process continues."""
        self._sink.warning(event.value, **fields)

    def error(self, event: Event, **fields: Any) -> None:
        """Log a task that is abandoned, or a bug."""
        self._sink.error(event.value, **fields)


def logger() -> Logger:
    """A logger with the output that :func:`configure` sets up."""
    return Logger(structlog.get_logger())


class Digest:
    """Aggregates frequent events: writes one line per subject every :data:`TELL_EVERY` seconds.

    An event has at most :data:`MOST_SUBJECTS` lines at a time, plus one that sums up the other subjects.
    Integers, and counts by name, are added up; of any other field the first value is kept. ``since`` is the
    time of the first occurrence, ``others`` the number of subjects in the summary line.
    """

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._noted: dict[Event, dict[tuple[tuple[str, Any], ...], dict[str, Any]]] = {}
        self._levels: dict[Event, Callable[..., None]] = {}

    def info(self, event: Event, subject: Mapping[str, Any], **fields: Any) -> None:
        """Note normal operation of ``subject``."""
        self._note(self._log.info, event, subject, fields)

    def warning(self, event: Event, subject: Mapping[str, Any], **fields: Any) -> None:
        """Note an external fault of ``subject``; the process continues."""
        self._note(self._log.warning, event, subject, fields)

    def error(self, event: Event, subject: Mapping[str, Any], **fields: Any) -> None:
        """Note that work for ``subject`` is abandoned."""
        self._note(self._log.error, event, subject, fields)

    def tell(self) -> None:
        """Write the lines of all events since the last call."""
        noted, self._noted = self._noted, {}
        for event, subjects in noted.items():
            rest: dict[str, Any] = {}
            for place, (subject, fields) in enumerate(subjects.items()):
                if place < MOST_SUBJECTS:
                    self._levels[event](event, **dict(subject), **fields)
                else:
                    _add_up(rest, dict.fromkeys(name for name, _ in subject) | fields)
            if rest:
                self._levels[event](event, **rest, others=len(subjects) - MOST_SUBJECTS)

    async def run(self) -> None:
        """Write lines until cancelled; the cancellation writes the remaining ones."""
        try:
            while True:
                await asyncio.sleep(TELL_EVERY)
                self.tell()
        finally:
            self.tell()

    def _note(
        self, level: Callable[..., None], event: Event, subject: Mapping[str, Any], fields: dict[str, Any]
    ) -> None:
        self._levels[event] = level
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        of_event = self._noted.setdefault(event, {})
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


class Metric(Struct, frozen=True):
    """Declaration of a metric. ``kind``: ``counter``, ``gauge`` or ``histogram``. ``name``: as it is
    scraped, for a histogram without ``_bucket``, ``_sum`` and ``_count``."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


STORE_METRICS: Final = (
    Metric("datajobs_jobs", "gauge", "Open jobs", ("status",)),
    Metric("datajobs_lanes", "gauge", "Lanes by whether they start a write", ("state",)),
    Metric("datajobs_queue_age_seconds", "gauge", "Time that the oldest due row has waited", ("kind",)),
    Metric(
        "datajobs_delivery_lag_seconds", "gauge", "Age of the oldest undelivered message or copy", ("to",)
    ),
)
"""Metrics computed from the database. The API reads them at each scrape, once for all processes."""


class Metrics:
    """All metrics of a process, in a registry of its own.

    If ``PROMETHEUS_MULTIPROC_DIR`` is set (``serve`` does), the processes of one service share their values
    through that folder, and each of them can report the sums.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.declared: list[Metric] = []
        """Every metric of a process, in the order of the page that documents them."""
        self.requests = self._counter("datajobs_requests", "Requests answered", "method", "route", "status")
        self.request_seconds = self._histogram("datajobs_request_seconds", "Time to the answer", "route")
        self.body_bytes_in_flight = self._gauge(
            "datajobs_body_bytes_in_flight", "Bytes of request bodies being received or worked on", "livesum"
        )
        self.jobs_accepted = self._counter("datajobs_jobs_accepted", "Jobs accepted", "type")
        self.jobs_ended = self._counter("datajobs_jobs_ended", "Jobs ended", "status")
        self.plan_seconds = self._histogram("datajobs_plan_seconds", "Time to plan a job")
        self.operations_ended = self._counter("datajobs_operations_ended", "Operations settled", "state")
        self.operations_failed = self._counter(
            "datajobs_operations_failed", "Operations that did not succeed", "reason"
        )
        self.plugin_call_seconds = self._histogram(
            "datajobs_plugin_call_seconds", "Calls of DMI plugins and their time", "call", "result"
        )
        self.circuits_open = self._gauge(
            "datajobs_circuits_open", "Plugins that a worker calls no more, at most", "livemax"
        )
        self.leases_lost = self._counter("datajobs_leases_lost", "Leases that ended under a worker", "kind")
        self.messages_published = self._counter("datajobs_messages_published", "Messages published to topics")
        self.objects_copied = self._counter("datajobs_objects_copied", "Result objects copied to buckets")
        self.messages_dropped = self._counter(
            "datajobs_messages_dropped", "Messages of the internal topic not taken", "why"
        )
        self.deliveries_ended = self._counter("datajobs_deliveries_ended", "Deliveries ended", "state")

    def exposition(self, of_store: Mapping[str, Mapping[str, float]] | None = None) -> bytes:
        """All values in the Prometheus text format. ``of_store``: values of :data:`STORE_METRICS`, by name
        and label."""
        if folder := os.environ.get(SHARED_FOLDER):
            return shared_exposition(Path(folder)) + _store_exposition(of_store or {})
        return generate_latest(self._registry) + _store_exposition(of_store or {})

    def _declare(self, name: str, kind: str, text: str, labels: tuple[str, ...]) -> None:
        self.declared.append(Metric(name, kind, text, labels))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self._declare(f"{name}_total", "counter", text, labels)
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        self._declare(name, "histogram", text, labels)
        return Histogram(name, text, labels, buckets=_SECONDS, registry=self._registry)

    def _gauge(self, name: str, text: str, mode: Literal["livesum", "livemax"]) -> Gauge:
        self._declare(name, "gauge", text, ())
        return Gauge(name, text, registry=self._registry, multiprocess_mode=mode)


SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Variable of the Prometheus client that names the folder with the values of all processes."""


def shared_exposition(folder: Path) -> bytes:
    """Values that processes keep in ``folder``, in the Prometheus text format: counters include processes
    that have ended, gauges only running ones (see :func:`forget_process`)."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]  # registers itself
    return generate_latest(registry)


def forget_process(folder: Path, pid: int) -> None:
    """Remove the gauges of a process that has ended from ``folder``."""
    for file in folder.glob(f"gauge_live*_{pid}.db"):
        file.unlink(missing_ok=True)


def _store_exposition(figures: Mapping[str, Mapping[str, float]]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_StoreCollector(figures))
    return generate_latest(registry)


class _StoreCollector(Collector):
    """Values that no process keeps: a :class:`Gauge` would share them with other processes."""

    def __init__(self, figures: Mapping[str, Mapping[str, float]]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for metric in STORE_METRICS:
            if metric.name in self._figures:
                family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
                for label, value in self._figures[metric.name].items():
                    family.add_metric((label,), value)
                yield family
