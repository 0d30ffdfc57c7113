# SPDX-License-Identifier: Apache-2.0
"""ONAP's load test: the k6 scenarios of CPS, unchanged, against this service.

``python -m bench k6=FOLDER[,HANDLES[,SECONDS[,WITHOUT…]]]``. FOLDER is ``k6-tests`` of a checkout of
onap/cps; nothing is written into it. HANDLES (default: 2,000) is a multiple of the test's batch of 2,000.
SECONDS (default: 60) is the duration of the scenarios, 900 in ONAP's own runs. WITHOUT are names of scenarios
that are left out. The scripts get the addresses by the variables that
they read. Node.js executes them, at the rates of their configuration, with ``bench/k6_runtime``, which offers
the part of k6's interface that they use. k6 itself is neither needed nor installed.

The plugin is :mod:`bench.onap_plugin`, in the place of ONAP's stub. Service, plugin and scripts run on this
machine alone. Exit status: 1 if a check of a script failed, or none was made.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from bench.machine import answers, folder, running_machine
from ran_datajobs.http.ports import free_port
from ran_datajobs.local.supervisor import die_with_parent

BATCH: Final = 2_000
NOT_OFFERED: Final = {
    "passthrough_read_alt_id_scenario": "ncmp_read_overhead",
    "passthrough_write_alt_id_scenario": "ncmp_write_overhead",
    "legacy_batch_produce_scenario": "legacy_batch_read",
    "legacy_batch_consume_scenario": "legacy_batch_read",
    "produceCmAvcBackGroundLoadAtPeakRate": "",
}
"""Scenarios of interfaces that the service does not have (docs/onap.md), each with its metric."""

_RUNTIME: Final = Path(__file__).parent / "k6_runtime" / "main.mjs"
_SCRIPT: Final = Path("ncmp", "ncmp-test-runner.js")
_CONFIG: Final = Path("ncmp", "config")
_BESIDE_THE_SCENARIOS: Final = 900.0
"""Seconds that registration, removal and everything else may take."""

_SETTINGS: Final = {
    "DATAJOBS_ONAP_TEST_API": "1",
    "DATAJOBS_INVENTORY_EVENTS_TOPIC": "ncmp-events",
    # all handles have one data producer, and 40 reads of 0.3 s begin each second
    "DATAJOBS_READ_SLOTS": "64",
}
_COMPARED: Final[dict[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


class Expectation(Struct, rename="camel", frozen=True):
    """One test of ONAP's ``scenario-metadata.json``."""

    test_number: str
    test_name: str
    unit: str
    measurement_name: str
    current_expectation: float


class Config(Struct, frozen=True):
    """The part of ``kpi.json`` that is read. ``thresholds``: one such as ``avg <= 2600`` for each metric."""

    scenarios: dict[str, msgspec.Raw]
    thresholds: dict[str, list[str]]


class Check(Struct, frozen=True):
    """A check of a script, and how often it held when a scenario made it."""

    name: str
    scenario: str
    passes: int
    fails: int


class Group(Struct, frozen=True):
    """The checks of a run."""

    checks: list[Check]


class Metric(Struct, frozen=True):
    """A metric with its aggregated values, and the scenarios that recorded it."""

    values: dict[str, float]
    scenarios: list[str] = []


class Executed(Struct, frozen=True):
    """``dropped``: iterations that did not start, since no virtual user was free."""

    dropped: int


class Summary(Struct, frozen=True):
    """The end-of-test summary, in k6's form. ``errors``: calls of the script that raised."""

    root_group: Group
    metrics: dict[str, Metric]
    scenarios: dict[str, Executed]
    errors: int


class Row(Struct, frozen=True):
    """One test: what ONAP expects and requires, and what was measured; None where nothing was."""

    name: str
    unit: str
    expected: float | None
    required: str
    measured: float | None
    meets: bool
    samples: int
    passed: int
    failed: int


def rows(expectations: Sequence[Expectation], config: Config, summary: Summary) -> list[Row]:
    """A row for each test of ONAP, and one for each scenario that has checks but recorded no metric."""
    found, reported = [], set[str]()
    for each in expectations:
        if each.measurement_name in NOT_OFFERED.values():
            continue
        threshold = config.thresholds[each.measurement_name][0]
        aggregate, compared, bound = threshold.split()
        metric = summary.metrics.get(each.measurement_name, Metric({}))
        samples = int(metric.values.get("count", 0))
        measured = metric.values.get(aggregate) if samples or aggregate == "rate" else None
        meets = measured is not None and _COMPARED[compared](measured, float(bound))
        passed, failed = counts(summary, metric.scenarios)
        reported.update(metric.scenarios)
        found.append(
            Row(
                f"{each.test_number} {each.test_name}",
                each.unit,
                each.current_expectation,
                f"{compared} {bound}",
                measured,
                meets,
                samples,
                passed,
                failed,
            )
        )
    silent = [
        scenario
        for scenario in dict.fromkeys(check.scenario for check in summary.root_group.checks)
        if scenario not in reported
    ]
    return found + [Row(each, "", None, "", None, False, 0, *counts(summary, [each])) for each in silent]


def counts(summary: Summary, scenarios: Sequence[str]) -> tuple[int, int]:
    """How many checks of these scenarios passed, and how many failed."""
    checks = [check for check in summary.root_group.checks if check.scenario in scenarios]
    return sum(check.passes for check in checks), sum(check.fails for check in checks)


def table(found: Sequence[Row], summary: Summary) -> list[str]:
    """The rows as lines, then the failed checks by name, and the iterations that were dropped."""
    titles = f"{'expected':>9} {'required':>9} {'measured':>9} {'values':>7} {'passed':>7} {'failed':>6}"
    lines = [f"  {'test':<78} {'unit':<14} {titles}"]
    for row in found:
        unit = "rate" if row.unit.startswith("rate") else row.unit
        verdict = "" if row.measured is None or row.meets else "  not as required"
        lines.append(
            f"  {row.name[:78]:<78} {unit:<14} {_shown(row.expected):>9} {row.required:>9}"
            f" {_shown(row.measured):>9} {row.samples:>7,} {row.passed:>7,} {row.failed:>6,}{verdict}"
        )
    lines += [
        f"  failed: {check.fails:,} of {check.fails + check.passes:,} in {check.scenario}: {check.name}"
        for check in summary.root_group.checks
        if check.fails
    ]
    lines += [
        f"  dropped: {executed.dropped:,} iterations of {name}"
        for name, executed in summary.scenarios.items()
        if executed.dropped
    ]
    if summary.errors:
        lines.append(f"  {summary.errors:,} calls of the scripts raised an error")
    return lines


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def missing(tests: str) -> str:
    """What ONAP's load test lacks on this machine, in one line; empty if nothing."""
    if not tests or not (Path(tests) / _SCRIPT).is_file():
        wanted = "name the folder k6-tests of a checkout of onap/cps"
        return f"{wanted} (make bench ARGS=k6=FOLDER, ONAP_K6_TESTS=FOLDER make nightly)"
    node = shutil.which("node")
    if node is None:
        return "Node.js is not installed (Debian: apt-get install nodejs)"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    if (major := re.match(r"v(\d+)", version)) is None or int(major[1]) < 20:
        return f"Node.js 20 or newer is needed, not {version.strip()}"
    return ""


async def execute(
    script: Path, variables: Mapping[str, str], without: Sequence[str], seconds: float | None
) -> Summary:
    """Run a script with these variables. What it prints as it runs goes to standard error.

    ``without``: scenarios that are not executed; ``seconds``: of the others, ``None``: their own.
    """
    with folder() as place:
        summary = place / "summary.json"
        wanted = {"env": variables, "without": without, "seconds": seconds, "summary": str(summary)}
        (place / "run.json").write_bytes(msgspec.json.encode(wanted))
        process = await asyncio.create_subprocess_exec(
            *("node", "--no-warnings", "--experimental-vm-modules"),
            *(str(_RUNTIME), str(script), str(place / "run.json")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=sys.stderr,
            env={"PATH": os.environ["PATH"]},
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
        try:
            async with asyncio.timeout((seconds or 0) + _BESIDE_THE_SCENARIOS):
                status = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if status:
            raise SystemExit(f"the script ended with {status}")
        return msgspec.json.decode(summary.read_bytes(), type=Summary)


async def run(wanted: str = "") -> None:
    """Print the table. ``wanted``: folder, handles, seconds, and scenarios that are left out."""
    tests, handles, seconds, *without = (wanted + "," * max(0, 2 - wanted.count(","))).split(",")
    count, lasts = int(handles or BATCH), float(seconds or 60)
    if reason := missing(tests):
        raise SystemExit(reason)
    if count <= 0 or count % BATCH:
        raise SystemExit(f"the number of handles is a multiple of {BATCH:,}, as the test registers them")
    config_folder = Path(tests) / _CONFIG
    config = msgspec.json.decode((config_folder / "kpi.json").read_bytes(), type=Config)
    expectations = msgspec.json.decode(
        (config_folder / "scenario-metadata.json").read_bytes(), type=list[Expectation]
    )
    if unknown := set(without) - set(config.scenarios):
        raise SystemExit(f"no scenario of the test: {', '.join(sorted(unknown))}")
    left_out = [name for name in config.scenarios if name in NOT_OFFERED or name in without]
    print(f"ONAP's load test: {count:,} CM handles, scenarios of {lasts:g} s", flush=True)
    began = time.monotonic()
    port, own = free_port(), free_port()
    plugin, service = (f"http://127.0.0.1:{each}" for each in (port, own))
    beside = ("-m", "bench.onap_plugin", str(port), service)
    async with running_machine(beside, port=own, **_SETTINGS) as machine:
        await answers(machine.session, plugin + "/actuator/health")
        used = machine.processor_seconds()
        variables = {
            "TEST_PROFILE": "kpi",
            "NCMP_BASE_URL": machine.root,
            "DMI_PLUGIN_URL": plugin,
            "TOTAL_CM_HANDLES": str(count),
        }
        summary = await execute(Path(tests).resolve() / _SCRIPT, variables, left_out, lasts)
        used = machine.processor_seconds() - used
        peaks = ", ".join(f"{name} {mib} MiB" for name, mib in sorted(machine.peak_rss().items()))
    print("\n".join(table(rows(expectations, config, summary), summary)))
    print(f"  not executed: {', '.join(left_out)}")
    print(f"  processor time of the service and its database: {used:.0f} s; peak memory: {peaks}")
    passed, failed = counts(summary, list({check.scenario for check in summary.root_group.checks}))
    print(f"{passed} passed, {failed} failed in {time.monotonic() - began:.2f}s, checks of ONAP's scenarios")
    if failed or summary.errors or not passed:
        raise SystemExit(1)
