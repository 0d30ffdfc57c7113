# SPDX-License-Identifier: Apache-2.0
"""Logs and counts the deliveries of a worker."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from ran_datajobs.model import DeliveryState
from ran_datajobs.store.outbox import FailedDelivery
from ran_datajobs.telemetry import Digest, Event, Logger, Metrics


class DeliveryNews:
    """One method per event of a delivery, called once the event is durable.

    A destination is the name of a topic, or ``s3:`` and the name of a bucket.
    """

    def __init__(self, log: Logger, digest: Digest, metrics: Metrics) -> None:
        self._log = log
        self._digest = digest
        self._metrics = metrics
        self._waiting: set[str] = set()

    def waits(self, destination: str | None, cause: str) -> None:
        """``destination`` did not take a message or copy; ``None``: the bus is unavailable. A destination
        is logged once until it takes something or its delivery fails."""
        if destination is None:
            self._digest.warning(Event.BUS_UNAVAILABLE, {"cause": cause}, tries=1)
        elif destination not in self._waiting:
            self._waiting.add(destination)
            self._digest.warning(Event.DELIVERY_WAITS, {"destination": destination}, cause=cause)

    def given_up(self, what: FailedDelivery) -> None:
        """A destination did not take the results of a job in time: the delivery failed."""
        self._waiting.discard(what.topic)
        self._metrics.deliveries_ended.labels(DeliveryState.FAILED.value).inc()
        self._digest.error(
            Event.DELIVERY_FAILED,
            {"destination": what.topic},
            jobs=1,
            job_id=str(what.job_id),
            cause=what.cause,
        )

    def published(
        self, messages: int, destinations: Collection[str], ended: Sequence[tuple[UUID, str]]
    ) -> None:
        """Topics took messages. ``ended``: (job, destination) of each completed delivery."""
        self._metrics.messages_published.inc(messages)
        self._took(destinations, ended)

    def copied(self, objects: int, destinations: Collection[str], ended: Sequence[tuple[UUID, str]]) -> None:
        """Buckets took copies; ``ended``: see :meth:`published`."""
        self._metrics.objects_copied.inc(objects)
        self._took(destinations, ended)

    def _took(self, destinations: Collection[str], ended: Sequence[tuple[UUID, str]]) -> None:
        self._waiting.difference_update(destinations)
        for job_id, destination in ended:
            self._metrics.deliveries_ended.labels(DeliveryState.DELIVERED.value).inc()
            self._log.info(Event.DELIVERY_SUCCEEDED, job_id=str(job_id), destination=destination)
