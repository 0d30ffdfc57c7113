# SPDX-License-Identifier: Apache-2.0
"""What can be observed: every event with its fields, and every metric. Log lines are shaped here alone.

An event is a dotted name; a test compares the fields of each call with :data:`FIELDS`.
"""

from __future__ import annotations

import enum
import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector


class Event(enum.StrEnum):
    """Everything that is logged."""

    SERVICE_STARTED = "service.started"
    SERVICE_STOPPED = "service.stopped"
    PROCESS_STARTED = "process.started"
    PROCESS_ENDED = "process.ended"
    PROCESS_RESTARTED = "process.restarted"
    PROCESS_NOT_STARTED = "process.not_started"
    DATABASE_EMBEDDED = "database.embedded"
    DATABASE_AWAY = "database.away"
    SCHEMA_WAITS = "schema.waits"
    SCHEMA_MIGRATED = "schema.migrated"
    INVENTORY_REGISTERED = "inventory.registered"
    INDEX_BUILT = "inventory.index_built"
    JOB_ACCEPTED = "job.accepted"
    JOB_PLANNED = "job.planned"
    JOB_ENDED = "job.ended"
    JOB_CANCEL_ASKED = "job.cancel_asked"
    SUB_JOB_STARTED = "sub_job.started"
    SUB_JOB_ENDED = "sub_job.ended"
    SUB_JOB_IN_TROUBLE = "sub_job.in_trouble"
    BULK_CANCEL_REFUSED = "bulk_cancel.refused"
    LANE_QUARANTINED = "lane.quarantined"
    LANE_ADMISSION_REFUSED = "lane.admission_refused"
    TRANSITION_REFUSED = "sub_job.transition_refused"
    MESSAGE_DROPPED = "message.dropped"
    DELIVERY_ENDED = "delivery.ended"
    DELIVERY_IN_TROUBLE = "delivery.in_trouble"
    BUS_AWAY = "bus.away"
    STORAGE_AWAY = "storage.away"
    STORAGE_BACK = "storage.back"
    WORKER_INTERRUPTED = "worker.interrupted"
    TASK_FAILED = "task.failed"
    REQUEST_FAILED = "request.failed"
    JOBS_PRUNED = "jobs.pruned"
    PRUNING_INTERRUPTED = "jobs.pruning_interrupted"
    DMI_JOB_ENDED = "dmi.job_ended"
    DMI_ELEMENT_BROKEN = "dmi.element_broken"
    DMI_JOURNAL_AWAY = "dmi.journal_away"
    DMI_READ_UNDELIVERABLE = "dmi.read_undeliverable"


FIELDS: Final[Mapping[Event, frozenset[str]]] = {
    Event.SERVICE_STARTED: frozenset({"role", "address", "version"}),
    Event.SERVICE_STOPPED: frozenset({"role", "signal"}),
    Event.PROCESS_STARTED: frozenset({"role", "pid"}),
    Event.PROCESS_ENDED: frozenset({"role", "pid", "status"}),
    Event.PROCESS_RESTARTED: frozenset({"role", "pid", "pause"}),
    Event.PROCESS_NOT_STARTED: frozenset({"role", "cause"}),
    Event.DATABASE_EMBEDDED: frozenset({"line"}),
    Event.DATABASE_AWAY: frozenset({"cause", "pause"}),
    Event.SCHEMA_WAITS: frozenset({"cause"}),
    Event.SCHEMA_MIGRATED: frozenset({"version"}),
    Event.INVENTORY_REGISTERED: frozenset({"plugin", "created", "updated", "removed", "failed"}),
    Event.INDEX_BUILT: frozenset({"handles", "seconds"}),
    Event.JOB_ACCEPTED: frozenset({"job_id", "client", "type", "operations", "destination"}),
    Event.JOB_PLANNED: frozenset({"job_id", "sub_jobs", "unmatched", "seconds"}),
    Event.JOB_ENDED: frozenset({"job_id", "status", "reason", "seconds"}),
    Event.JOB_CANCEL_ASKED: frozenset({"job_id", "client"}),
    Event.SUB_JOB_STARTED: frozenset({"job_id", "sub_job_id", "plugin", "data_producer_id"}),
    Event.SUB_JOB_ENDED: frozenset({"job_id", "sub_job_id", "status", "cause"}),
    Event.SUB_JOB_IN_TROUBLE: frozenset({"job_id", "sub_job_id", "cause", "pause"}),
    Event.BULK_CANCEL_REFUSED: frozenset({"job_id", "plugin", "cause"}),
    Event.LANE_QUARANTINED: frozenset({"lane_id", "sub_job_id", "seconds"}),
    Event.LANE_ADMISSION_REFUSED: frozenset({"lane_id", "cause"}),
    Event.TRANSITION_REFUSED: frozenset({"sub_job_id", "cause"}),
    Event.MESSAGE_DROPPED: frozenset({"topic", "offset", "why"}),
    Event.DELIVERY_ENDED: frozenset({"job_id", "state", "cause"}),
    Event.DELIVERY_IN_TROUBLE: frozenset({"job_id", "shard", "cause", "pause"}),
    Event.BUS_AWAY: frozenset({"cause", "pause"}),
    Event.STORAGE_AWAY: frozenset({"bucket", "cause"}),
    Event.STORAGE_BACK: frozenset({"bucket"}),
    Event.WORKER_INTERRUPTED: frozenset({"cause"}),
    Event.TASK_FAILED: frozenset({"kind", "subject", "cause"}),
    Event.REQUEST_FAILED: frozenset({"method", "path", "cause"}),
    Event.JOBS_PRUNED: frozenset({"jobs"}),
    Event.PRUNING_INTERRUPTED: frozenset({"cause"}),
    Event.DMI_JOB_ENDED: frozenset({"data_producer_job_id", "status"}),
    Event.DMI_ELEMENT_BROKEN: frozenset({"data_producer_job_id", "cause"}),
    Event.DMI_JOURNAL_AWAY: frozenset({"cause", "pause"}),
    Event.DMI_READ_UNDELIVERABLE: frozenset({"data_producer_job_id", "cause"}),
}
"""The fields that each event may carry; ``exc_info=True`` adds the traceback to any of them."""

_SECRET_NAME: Final = re.compile(r"password|secret|token|authori[sz]ation|credential|private", re.IGNORECASE)
_USER_INFO: Final = re.compile(r"(\w+://[^:/@\s]*):[^@/\s]*@")
_BEARER: Final = re.compile(r"(?i)\b(bearer)\s+[\w.~+/=-]+")


class Logger:
    """Writes events. Fields that look like secrets are masked."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink

    def bind(self, **fields: Any) -> Logger:
        """A log whose lines all carry ``fields``."""
        return Logger(self._sink.bind(**fields))

    def debug(self, event: Event, **fields: Any) -> None:
        """For whoever looks for a fault."""
        self._sink.debug(event.value, **fields)

    def info(self, event: Event, **fields: Any) -> None:
        """The normal course of things."""
        self._sink.info(event.value, **fields)

    def warning(self, event: Event, **fields: Any) -> None:
        """Something outside is wrong, and we go on."""
        self._sink.warning(event.value, **fields)

    def error(self, event: Event, **fields: Any) -> None:
        """Something was given up, or is our fault."""
        self._sink.error(event.value, **fields)


def logger() -> Logger:
    """A log that goes where :func:`configure` says."""
    return Logger(structlog.get_logger())


def configure(*, level: str, form: str, stream: TextIO | None = None) -> None:
    """Shape this process's log lines, those of libraries too; called once, by a process's entry point.

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
    logging.getLogger("asyncpg").setLevel(logging.ERROR)  # tells each failed try, with a traceback


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


class Metrics:
    """Every metric, in a registry of its own.

    Where ``PROMETHEUS_MULTIPROC_DIR`` is set (``serve`` does), the processes of one service share their
    figures through that folder, and any of them can show the sums.
    """

    def __init__(self) -> None:
        own = CollectorRegistry()
        self._registry = own
        self.requests = Counter(
            "datajobs_requests", "Requests answered", ("method", "route", "status"), registry=own
        )
        self.request_seconds = Histogram(
            "datajobs_request_seconds", "Time to the answer", ("route",), buckets=_SECONDS, registry=own
        )
        self.body_bytes_in_flight = Gauge(
            "datajobs_body_bytes_in_flight",
            "Bytes of request bodies being received or worked on",
            registry=own,
            multiprocess_mode="livesum",
        )
        self.jobs_accepted = Counter("datajobs_jobs_accepted", "Jobs accepted", ("type",), registry=own)
        self.jobs_ended = Counter("datajobs_jobs_ended", "Jobs ended", ("status",), registry=own)
        self.operations_ended = Counter(
            "datajobs_operations_ended", "Operations settled", ("state",), registry=own
        )
        self.plan_seconds = Histogram(
            "datajobs_plan_seconds", "Time to plan a job", buckets=_SECONDS, registry=own
        )
        self.plugin_calls = Counter(
            "datajobs_plugin_calls", "Calls of DMI plugins", ("call", "outcome"), registry=own
        )
        self.plugin_seconds = Histogram(
            "datajobs_plugin_seconds", "Time of a plugin's answer", ("call",), buckets=_SECONDS, registry=own
        )
        self.messages_published = Counter(
            "datajobs_messages_published", "Messages published to a topic", registry=own
        )
        self.messages_dropped = Counter(
            "datajobs_messages_dropped", "Messages of the internal topic not taken", ("why",), registry=own
        )
        self.tasks_failed = Counter(
            "datajobs_tasks_failed", "Tasks to be tried again", ("task",), registry=own
        )

    def exposition(self) -> bytes:
        """All figures in the Prometheus text format."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]  # registers itself
        return generate_latest(shared)
