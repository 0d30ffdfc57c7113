# SPDX-License-Identifier: Apache-2.0
"""The page for operators agrees with the code: events with their fields, metrics with their labels."""

from __future__ import annotations

import re

from ran_datajobs.telemetry import STORE_METRICS
from tests.metrics import declared
from tests.operations_page import FIELDS, rows, words


def test_the_page_lists_every_event_once_and_says_which_are_digests() -> None:
    """``test_telemetry.py`` compares the events and their fields with the calls."""
    listed = rows("| event | means | fields |")
    assert len(listed) == len(FIELDS)
    assert {words(event)[0] for event, means, _ in listed if means.startswith("summed up by ")} == {
        event for event, fields in FIELDS.items() if fields >= {"since", "others"}
    }


def test_the_page_lists_every_metric_with_its_labels() -> None:
    """Each metric once, in the order of the code, with its kind, a unit, its labels, and its meaning."""
    listed = rows("| metric | kind | unit | labels | means |")
    assert [(words(name)[0], kind, tuple(words(labels))) for name, kind, _, labels, _ in listed] == [
        (metric.name, metric.kind, metric.labels) for metric in declared()
    ]
    assert all(unit and means for _, _, unit, _, means in listed)
    of_store = {words(name)[0] for name, _, _, _, means in listed if means.startswith("*database*")}
    assert of_store == set(STORE_METRICS)


def test_the_alerts_ask_for_metrics_that_there_are() -> None:
    """Each expression names metrics and labels that are declared."""
    metrics = {metric.name: metric for metric in declared()}
    alerts = rows("| when | expression | then |")
    for _, expression, _ in alerts:
        asked = re.findall(r"(datajobs_\w+?)(?:_count)?(?:\{(\w+)|[^\w{]|$)", words(expression)[0])
        assert asked, expression
        for name, label in asked:
            assert name in metrics, expression
            assert not label or label in metrics[name].labels, expression
    assert len(alerts) >= 4
