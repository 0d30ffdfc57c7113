# SPDX-License-Identifier: Apache-2.0
"""Headers of the events on the bus: CloudEvents 1.0 in Kafka's binary mode (pure).

Source: ONAP's DataJobEvent (CPS-2154). The sub-job's and the counting headers are this project's extension.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid5

from msgspec import Struct

RESULT_TYPE: Final = "org.onap.cps.ncmp.events.async1_0_0.DataJobEvent"
STATUS_TYPE: Final = "org.onap.cps.ncmp.events.async1_0_0.DataJobStatusEvent"

SERVICE: Final = "ncmp"
PLUGIN: Final = "dmi"
"""First word of ``ce_source``: the producer of the event."""

CORRELATION_ID: Final = "ce_correlationid"
DESTINATION: Final = "ce_destination"
SUB_JOB_ID: Final = "ce_subjobid"
DATA_PRODUCER_ID: Final = "ce_dataproducerid"
DATA_PRODUCER_JOB_ID: Final = "ce_dataproducerjobid"
SEQUENCE: Final = "ce_sequence"
TOTAL: Final = "ce_total"
DELIVERY: Final = "ce_delivery"
TIME: Final = "ce_time"

_NUMBER_DIGITS: Final = 9
_EVENTS: Final = UUID("6f0a3e0e-51c5-5d0b-9d2b-6d1f3b8f6a55")


class ResultPart(Struct, frozen=True):
    """Identity of a result message: a part of a job's results. ``sequence`` counts from 0 within ``sub_job``.

    ``sub_job`` is a sub-job id, or ``unmatched``. ``total``: number of messages of the sub-job, if known.
    """

    job_id: str
    sub_job: str
    sequence: int
    total: int | None = None
    data_producer_id: str = ""
    data_producer_job_id: str = ""
    delivery: int = 1


def result_headers(part: ResultPart, destination: str, source: str, at: datetime) -> dict[str, str]:
    """Headers of a result event. ``source`` is :data:`SERVICE` or :data:`PLUGIN`; ``at`` has a time zone.

    ``ce_id`` is derived from the identity: the same part of the same delivery has the same id.
    """
    identity = f"{source}/{part.job_id}/{part.sub_job}/{part.sequence}/{part.delivery}"
    headers = _headers(RESULT_TYPE, identity, source, part.job_id, destination, at)
    own = {
        SUB_JOB_ID: part.sub_job,
        DATA_PRODUCER_ID: part.data_producer_id,
        DATA_PRODUCER_JOB_ID: part.data_producer_job_id,
        SEQUENCE: str(part.sequence),
        TOTAL: "" if part.total is None else str(part.total),
        DELIVERY: str(part.delivery) if source == SERVICE else "",
    }
    return headers | {name: value for name, value in own.items() if value}


def status_headers(job_id: str, destination: str, version: int, at: datetime) -> dict[str, str]:
    """Headers of a status event; ``version`` is the job's version at the change."""
    return _headers(STATUS_TYPE, f"status/{job_id}/{version}", SERVICE, job_id, destination, at)


def time_header(at: datetime) -> dict[str, str]:
    """Header with the time of a message; ``at`` has a time zone."""
    return {TIME: at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")}


def message_key(job_id: str, sub_job: str) -> str:
    """Key of a result message: the messages of one sub-job stay in order."""
    return f"{job_id}/{sub_job}"


def count_in(headers: Mapping[str, str], name: str) -> int | None:
    """Value of a counting header; ``None`` when it is missing or not a number of at most 9 digits."""
    text = headers.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS else None


def _headers(
    kind: str, identity: str, source: str, job_id: str, destination: str, at: datetime
) -> dict[str, str]:
    return {
        "ce_id": str(uuid5(_EVENTS, identity)),
        "ce_specversion": "1.0",
        "ce_source": f"{source}.{job_id}",
        "ce_type": kind,
        **time_header(at),
        "ce_dataschema": f"urn:cps:{kind}:1.0.0",
        "content-type": "application/json",
        CORRELATION_ID: job_id,
        DESTINATION: destination,
    }
