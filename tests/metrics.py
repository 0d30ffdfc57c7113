# SPDX-License-Identifier: Apache-2.0
"""The metrics that a service declares."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from ran_datajobs.telemetry import STORE_METRICS, Metrics


class Metric(NamedTuple):
    """A metric. ``name``: as it is scraped, for a histogram without ``_bucket``, ``_sum`` and ``_count``."""

    name: str
    kind: str
    labels: tuple[str, ...]


def declared() -> list[Metric]:
    """Every metric of a process and of the database."""
    of_process = [each for each in vars(Metrics()).values() if isinstance(each, MetricWrapperBase)]
    return [
        *(
            Metric(
                f"{each._name}_total" if each._type == "counter" else each._name,
                each._type,
                tuple(each._labelnames),
            )
            for each in of_process
        ),
        *(Metric(name, "gauge", (label,)) for name, (_, label) in STORE_METRICS.items()),
    ]
