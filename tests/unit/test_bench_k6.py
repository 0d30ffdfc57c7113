# SPDX-License-Identifier: Apache-2.0
"""The table of ONAP's load test: what is expected and required, what was measured, which checks failed."""

from __future__ import annotations

from pathlib import Path

import msgspec
from bench.k6 import Config, Expectation, Row, Summary, missing, rows, table

EXPECTATIONS = msgspec.convert(
    [
        {
            "testNumber": number,
            "testName": name,
            "unit": unit,
            "measurementName": metric,
            "currentExpectation": expectation,
        }
        for number, name, unit, metric, expectation in (
            ("0", "HTTP request failures", "rate of failed requests", "http_req_failed", 0),
            ("1", "Registration", "CM-handles/second", "created", 70),
            ("8", "Data job", "milliseconds", "job", 20),
            ("10", "ProvMnS read", "milliseconds", "read", 15),
        )
    ],
    list[Expectation],
)
CONFIG = msgspec.convert(
    {
        "scenarios": {},
        "thresholds": {
            "http_req_failed": ["rate <= 0.01"],
            "created": ["avg >= 22"],
            "job": ["avg <= 500"],
            "read": ["avg <= 100"],
        },
    },
    Config,
)
SUMMARY = msgspec.json.decode(
    b"""{"root_group": {"name": "", "checks": [
          {"name": "create equals 200", "scenario": "setup", "passes": 25, "fails": 0},
          {"name": "Small job", "scenario": "job_scenario", "passes": 118, "fails": 2},
          {"name": "Read", "scenario": "read_scenario", "passes": 0, "fails": 40}]},
        "metrics": {
          "http_req_failed": {"type": "rate", "values": {"rate": 0.25, "passes": 42, "fails": 126}},
          "created": {"type": "trend", "scenarios": ["setup"], "values": {"avg": 4321.5, "count": 1}},
          "job": {"type": "trend", "scenarios": ["job_scenario"], "values": {"avg": 612.25, "count": 118}},
          "read": {"type": "trend", "scenarios": [], "values": {"avg": 0, "count": 0}}},
        "scenarios": {"job_scenario": {"dropped": 0}, "read_scenario": {"dropped": 7}}, "errors": 0}""",
    type=Summary,
)


def test_a_test_of_onap_has_its_measurement_and_the_checks_of_its_scenario() -> None:
    """A scenario all of whose checks failed measured nothing: zero is no figure, and its checks have a row of
    their own. The requirement is that of the configuration, in its direction."""
    assert rows(EXPECTATIONS, CONFIG, SUMMARY) == [
        Row("0 HTTP request failures", "rate of failed requests", 0, "<= 0.01", 0.25, False, 0, 0, 0),
        Row("1 Registration", "CM-handles/second", 70, ">= 22", 4321.5, True, 1, 25, 0),
        Row("8 Data job", "milliseconds", 20, "<= 500", 612.25, False, 118, 118, 2),
        Row("10 ProvMnS read", "milliseconds", 15, "<= 100", None, False, 0, 0, 0),
        Row("read_scenario", "", None, "", None, False, 0, 0, 40),
    ]


def test_the_table_names_what_failed_and_what_was_dropped() -> None:
    """A measurement that misses what is required is marked."""
    lines = [" ".join(line.split()) for line in table(rows(EXPECTATIONS, CONFIG, SUMMARY), SUMMARY)]
    assert lines[1:] == [
        "0 HTTP request failures rate 0 <= 0.01 0.25 0 0 0 not as required",
        "1 Registration CM-handles/second 70 >= 22 4,322 1 25 0",
        "8 Data job milliseconds 20 <= 500 612 118 118 2 not as required",
        "10 ProvMnS read milliseconds 15 <= 100 - 0 0 0",
        "read_scenario - - 0 0 40",
        "failed: 2 of 120 in job_scenario: Small job",
        "failed: 40 of 40 in read_scenario: Read",
        "dropped: 7 iterations of read_scenario",
    ]


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    """The line says how to name the folder."""
    for folder in ("", str(tmp_path)):
        assert "ONAP_K6_TESTS=FOLDER" in missing(folder)
        assert "\n" not in missing(folder)
