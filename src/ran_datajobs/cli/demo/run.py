# SPDX-License-Identifier: Apache-2.0
"""Run the demo: start all components, register the network, run two jobs and show their outcomes."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct
from rich.console import Console
from rich.text import Text

from ran_datajobs.api import paths
from ran_datajobs.cli import formatting
from ran_datajobs.cli.api import Api
from ran_datajobs.cli.demo.jobs import DemoJob, Planned, demo_jobs
from ran_datajobs.cli.handles import register
from ran_datajobs.cli.results import manifest_objects, responses
from ran_datajobs.cli.serve import until_stopped
from ran_datajobs.cli.watch import Bars, follow
from ran_datajobs.config import Settings, default_data_dir
from ran_datajobs.dmi.provmns.servers import DATA_PRODUCER
from ran_datajobs.errors import UsageError
from ran_datajobs.inventory.registration import ALREADY_EXISTS
from ran_datajobs.local.process_group import program_of, running_service
from ran_datajobs.local.supervisor import claim_port, lock_data_dir
from ran_datajobs.model import OperationState, Status, read_status
from ran_datajobs.reasons import explanation_of
from ran_datajobs.simulator.registration import registration
from ran_datajobs.telemetry import logger

_LOOPBACK: Final = "127.0.0.1"
_SHOWN_REASONS: Final = 20
_SHOWN_RESULT_LINES: Final = 16
_START_WITHIN: Final = 60.0
_ONCE_WITHIN: Final = 180.0
"""Timeout in seconds of a demo with ``--once``."""

_T = TypeVar("_T")


class Stage(Struct, frozen=True):
    """Settings of one demo, addresses of its network and plugin, and the file of their output."""

    settings: Settings
    network: str
    plugin: str
    output: Path

    def programs(self) -> tuple[Any, ...]:
        """Programs of the simulated network and of the reference plugin."""
        elsewhere = self.settings.with_changes(host=_LOOPBACK, data_dir=self.settings.data_dir / "plugin")
        network = elsewhere.with_changes(port=urlsplit(self.network).port)
        plugin = elsewhere.with_changes(
            port=urlsplit(self.plugin).port,
            provmns_url=f"{self.network}/{DATA_PRODUCER}",
            dmi_service_url=self.settings.effective_api_root,
        )
        return (program_of("simulate", network, self.output), program_of("dmi", plugin, self.output))


async def run(settings: Settings, *, once: bool) -> int:
    """Run the demo until both jobs have ended (``once``) or until a signal. Returns the exit status."""
    as_planned = await until_stopped(_run(settings, once=once))
    interrupted = as_planned is None
    return 0 if as_planned or (interrupted and not once) else 1


async def _run(settings: Settings, *, once: bool) -> bool:
    """Run the demo. Returns True if both jobs ended as planned."""
    out = formatting.console()
    own = settings.data_dir == default_data_dir(os.environ)
    if own:
        settings = settings.with_changes(data_dir=settings.data_dir / "demo")
    with lock_data_dir(settings.data_dir):
        pass  # an owner is named before anything else
    settings = settings.with_changes(port=await claim_port(settings.host, settings.port))
    network = await _port_near(settings.port + 1)
    plugin = await _port_near(network + 1)
    stage = Stage(
        settings,
        f"http://{_LOOPBACK}:{network}",
        f"http://{_LOOPBACK}:{plugin}",
        settings.data_dir / "demo.log",
    )
    _say(out, f"Data in {settings.data_dir}{', emptied for each demo' if own else ''}")
    _say(out, f"Starting {settings.sites} simulated sites, a DMI plugin, PostgreSQL, API and worker")
    began = time.monotonic()
    async with running_service(settings, logger(), output=stage.output, beside=stage.programs(), wipe=own):
        try:
            async with asyncio.timeout(_ONCE_WITHIN if once else None):
                as_planned = await _in_thread(lambda: _show_jobs(stage, out, began))
        except TimeoutError:
            _say(out, f"The jobs did not end within {_ONCE_WITHIN:g} s: see {stage.output}", style="red")
            return False
        if not once:
            _say(out, "Serving until Ctrl-C")
            await asyncio.Event().wait()
    return as_planned


def _show_jobs(stage: Stage, out: Console, began: float) -> bool:
    """Register the network, run both jobs and show their outcomes. Returns True if all are as expected."""
    api = Api(stage.settings.with_changes(server=stage.settings.effective_api_root))
    _until_it_listens(stage.network)
    _until_it_listens(stage.plugin)
    _say(out, f"Everything is up after {time.monotonic() - began:.1f} s")
    began = time.monotonic()
    inventory = registration(
        stage.settings.seed,
        stage.settings.sites,
        stage.plugin,
        idempotent=True,
        stopOnError=True,
        bulkCancel=True,
        selectors=True,
        guards=True,
        beforeImages=True,
    )
    if refused := take_over(api, inventory):
        raise UsageError(
            f"{len(refused)} CM handles were refused, the first because {refused[0]['errorText']}"
        )
    handles = len(inventory["createdCmHandles"])
    _say(out, f"Registered {handles} CM handles in {time.monotonic() - began:.2f} s")
    ended = []
    with Bars(out) as bars:
        for job in demo_jobs(stage.settings.sites, stage.settings.seed):
            accepted = api.post(paths.JOBS, job.body)
            ended.append((job, follow(api, accepted["jobId"], label=job.label, bars=bars)))
    well = [_show_outcome(api, out, job, outcome) for job, outcome in ended]
    _show_addresses(stage, out, [outcome for _, outcome in ended])
    return all(well)


def take_over(api: Api, inventory: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Register the network. Returns the entries that were refused.

    Handles that an earlier demo on the same data dir registered with a plugin at another port are moved.
    """
    refused = register(api, json.dumps(inventory).encode())
    known = [entry["cmHandle"] for entry in refused if entry["errorCode"] == ALREADY_EXISTS]
    if known:
        refused = register(api, json.dumps({**inventory, "removedCmHandles": known}).encode())
    return refused


def _show_outcome(api: Api, out: Console, demo_job: DemoJob, job: dict[str, Any]) -> bool:
    """Print the outcome of a job. Returns True if it is the expected one."""
    found = list(responses(api, job, manifest_objects(api, job)))
    failed = [response for response in found if response.get("state") != OperationState.SUCCEEDED]
    reasons = Counter(str(response["reason"]) for response in failed)
    came = Planned(
        read_status(job["status"]) or Status.RUNNING,
        {name: count for name, count in job["operations"].items() if count},
        dict(reasons),
    )
    out.print()
    out.print(
        Text(demo_job.label, style="bold"),
        formatting.status_text(job["status"]),
        Text(f"· {formatting.counts_in_words(job['operations'])} · {_seconds(job):.1f} s"),
    )
    _show_failures(out, failed, reasons)
    _show_a_result(out, found)
    if came == demo_job.planned:
        _say(out, "This is the expected outcome.", style="green")
        return True
    planned = demo_job.planned
    status, counts = formatting.in_words(planned.status), formatting.counts_in_words(planned.operations)
    _say(out, f"Expected: {status} · {counts} · {planned.reasons}", style="red")
    return False


def _seconds(job: Mapping[str, Any]) -> float:
    """Seconds from the 202 response to the end of the job."""
    return (datetime.fromisoformat(job["endedAt"]) - datetime.fromisoformat(job["createdAt"])).total_seconds()


def _show_failures(out: Console, failed: list[dict[str, Any]], reasons: Counter[str]) -> None:
    if failed:
        _say(out, "Operations that did not succeed, by reason, each with an example:")
    for reason, count in reasons.most_common(_SHOWN_REASONS):
        request = next(response["request"] for response in failed if response["reason"] == reason)
        _say(out, f"{count:>5} × {formatting.clean(reason)}: {explanation_of(reason).title}")
        _say(out, f"        {formatting.clean(request['op'])} {formatting.clean(request['path'])}")


def _show_a_result(out: Console, found: list[dict[str, Any]]) -> None:
    with_objects = min(
        (r for r in found if r.get("result")), key=lambda r: len(str(r["result"])), default=None
    )
    if with_objects is None:
        return
    _say(out, f"Part of the result of {formatting.clean(with_objects['request']['path'])}:")
    text = json.dumps(with_objects["result"], indent=2, ensure_ascii=False).splitlines()
    for line in text[:_SHOWN_RESULT_LINES]:
        _say(out, f"  {formatting.clean(line)}")
    if len(text) > _SHOWN_RESULT_LINES:
        _say(out, f"  … and {len(text) - _SHOWN_RESULT_LINES} lines more")


def _show_addresses(stage: Stage, out: Console, jobs: list[Mapping[str, Any]]) -> None:
    root = stage.settings.effective_api_root
    out.print()
    for name, address in (
        ("Page", f"{root}/"),
        ("API", root + paths.JOBS),
        ("OpenAPI", root + paths.SCHEMA),
        ("Network (ProvMnS)", stage.network),
        ("DMI plugin", stage.plugin),
        *(("Results", job["resultsuri"]) for job in jobs),
        ("Try", f"datajobs failures {jobs[0]['jobId']} --server {root}"),
    ):
        out.print(Text(f"{name:<18}", style="bold") + Text(str(address)))


async def _port_near(wanted: int) -> int:
    """``wanted`` if it is free, so that addresses are the same in every demo; else any free port."""
    try:
        return await claim_port(_LOOPBACK, wanted)
    except UsageError:
        return await claim_port(_LOOPBACK, 0)


def _until_it_listens(address: str) -> None:
    parts = urlsplit(address)
    deadline = time.monotonic() + _START_WITHIN
    while True:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=1)
        try:
            connection.connect()
        except OSError as error:
            if time.monotonic() > deadline:
                raise UsageError(f"nothing answers at {address}; see demo.log in the data dir") from error
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Run ``work`` in a daemon thread and return its result. Cancellation does not wait for the thread."""
    result: Future[_T] = Future()
    result.set_running_or_notify_cancel()

    def body() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=body, daemon=True).start()
    return await asyncio.wrap_future(result)


def _say(out: Console, line: str, style: str = "") -> None:
    out.print(Text(line, style=style))
