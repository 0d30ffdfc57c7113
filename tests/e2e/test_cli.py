# SPDX-License-Identifier: Apache-2.0
"""The client's commands, run as processes against a running service and a DMI plugin behind real HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import aiohttp
import pytest

from ran_datajobs.api.paths import INVENTORY, JOBS
from ran_datajobs.model import OperationState
from ran_datajobs.reasons import explanation_of
from tests.kit.commands import datajobs, environment, json_lines, started
from tests.kit.plugins.scripted import Script, ScriptedPlugin, Step
from tests.tiers import nightly

_COMMANDS = [
    tuple(command.split())
    for command in (
        *("", "demo", "serve", "dmi", "simulate", "config", "tail", "token", "token add", "token list"),
        *("submit", "list", "status", "watch", "results", "request", "outcomes", "failures", "cancel"),
        *("retry", "redeliver", "inventory", "inventory load", "inventory diff", "inventory list"),
        *("inventory search", "inventory owner", "inventory export", "inventory modules", "token revoke"),
    )
]
_USUAL = [(), ("demo",), ("submit",), ("inventory",), ("inventory", "load"), ("token", "revoke")]


NO_JSON = {
    b'{"data": [\n  1,\n]}': "3:1: got ']', needed a value behind the comma, or no comma",
    b'{"name": "\xc3\xa9" "data": []}': "1:14: got '\"', needed ',' or '}'",
    b'{"data": [1\n': "1:12: got the end of the file, needed what closes the objects, lists and texts that "
    "are open",
    b'{"name":\n "\xff"}': "2:3: got the byte 0xff, which is not UTF-8: save the file as UTF-8",
}
"""Files that are not valid JSON, and the message for each."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of one service for the tests of this module."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("service")
    url = f"http://127.0.0.1:{port}"
    with started(
        "serve", "--port", str(port), "--data-dir", folder / "data", lines=folder / "lines"
    ) as running:
        running.until_ready(url)
        yield url


class Network:
    """Managed elements that a scripted plugin serves, and jobs for them."""

    def __init__(self, server: str, plugin: ScriptedPlugin, address: str) -> None:
        self.server = server
        self.plugin = plugin
        self.address = address
        self._tag = uuid.uuid4().hex[:8]

    async def run(self, *arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        """Run a command against the service while the plugin answers in this process."""
        return await asyncio.to_thread(datajobs, *arguments, stdin=stdin, DATAJOBS_SERVER=self.server)

    def fdn(self, name: str) -> str:
        """FDN of a managed element that only this test uses."""
        return f"/ManagedElement={name}-{self._tag}"

    def handles(self, *names: str) -> dict[str, Any]:
        """A registration with one CM handle and one data producer for each name."""
        handles = [
            {
                "cmHandle": f"{name}-{self._tag}",
                "alternateId": self.fdn(name),
                "dataProducerIdentifier": f"{name}-{self._tag}",
            }
            for name in names
        ]
        return {"dmiPlugin": self.address, "createdCmHandles": handles}

    async def register(self, *names: str) -> None:
        """Register the CM handles of these names."""
        await self._posted(INVENTORY, json.dumps(self.handles(*names)).encode(), 200)

    def script(self, name: str, script: Script) -> None:
        """Set the script of the plugin for one data producer."""
        self.plugin.script(f"{name}-{self._tag}", script)

    def request(self, *names: str) -> bytes:
        """A write job with one operation for each name."""
        operations = [
            {
                "op": "replace",
                "path": f"{self.fdn(name)}#/attributes/userLabel",
                "operationId": name,
                "value": "x",
            }
            for name in names
        ]
        return json.dumps({"name": "labels", "data": operations}).encode()

    async def submit(self, *names: str) -> str:
        """Submit a write job with one operation for each name and return its id."""
        job_id: str = (await self._posted(JOBS, self.request(*names), 202))["jobId"]
        return job_id

    async def _posted(self, path: str, body: bytes, status: int) -> Any:
        """The answer to a POST, sent without the command line to avoid a process for each request."""
        headers = {"Content-Type": "application/json"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(self.server + path, data=body) as answer,
        ):
            text = await answer.text()
            assert answer.status == status, text
            return json.loads(text) if text else None


@pytest.fixture
async def network(server: str) -> AsyncIterator[Network]:
    """A network behind a plugin that executes every request."""
    plugin = ScriptedPlugin()
    async with plugin.serving() as address:
        yield Network(server, plugin, address)


@pytest.mark.parametrize(
    "command",
    [command if command in _USUAL else nightly((command,)) for command in _COMMANDS],
    ids=lambda command: " ".join(command) or "datajobs",
)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    """``--help`` describes each command; a command that performs an action shows an example."""
    done = datajobs(*command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    if command not in ((), ("inventory",), ("token",)):
        assert "Example" in done.stdout
        assert f"datajobs {' '.join(command)}" in " ".join(done.stdout.replace("│", " ").split())


def test_the_version_is_told() -> None:
    """``--version`` prints name and version."""
    assert datajobs("--version").stdout.startswith("datajobs 0.")


async def test_a_job_that_finishes_ends_with_0(network: Network) -> None:
    """Submit and watch: progress, the final state in words, exit status 0."""
    handles = json.dumps(network.handles("a", "b")).encode()
    assert (await network.run("inventory", "load", "-", stdin=handles)).stdout == "all were accepted\n"
    done = await network.run("submit", "-", "--watch", stdin=network.request("a", "b"))
    assert done.returncode == 0, done.stderr
    assert "finished" in done.stdout
    assert "FINSHED" not in done.stdout
    assert "2 operations: 2 succeeded" in done.stdout


async def test_a_job_that_does_not_finish_well_ends_with_1_and_says_why(network: Network) -> None:
    """Failed operations are grouped by their reason, with the remedy; JSON output has one per line."""
    await network.register("good", "bad")
    network.script("bad", Script(statuses=("FAILED",), outcome=OperationState.FAILED))
    done = await network.run("submit", "-", "--watch", stdin=network.request("good", "bad", "nowhere"))
    assert done.returncode == 1
    assert "partially failed" in done.stdout
    job_id = json_lines(await network.run("list", "--limit", "1", "--output", "json"))[0]["jobId"]
    failures = await network.run("failures", job_id, "--output", "json")
    assert failures.returncode == 0
    found = {f["operationId"]: f for f in json_lines(failures)}
    assert {name: f["reason"] for name, f in found.items()} == {"bad": "STATUS_108", "nowhere": "UNMATCHED"}
    assert set(found["bad"]) == {
        "operationId",
        "path",
        "op",
        "state",
        "reason",
        "detail",
        "dataProducerId",
    }


async def test_failures_are_grouped_by_reason_and_explained(network: Network) -> None:
    """The most frequent reason comes first, each with its count, its title, an explanation, a remedy and its
    operations."""
    await network.register("good", "bad")
    network.script("bad", Script(statuses=("FAILED",), outcome=OperationState.FAILED))
    job_id = await network.submit("good", "bad", "nowhere", "elsewhere")
    watched = (await network.run("watch", job_id)).stdout
    done = await network.run("failures", job_id)
    assert done.returncode == 0, done.stderr
    unmatched, code = explanation_of("UNMATCHED"), explanation_of("STATUS_108")
    columns = "OPERATION OP STATE PATH DETAIL"
    groups = [" ".join(group.split()) for group in done.stdout.split("\n\n")]
    assert [group.split(columns)[0] for group in groups] == [
        f"2 × UNMATCHED – {unmatched.title} (2 failed) {unmatched.meaning} What to do: {unmatched.advice} ",
        f"1 × STATUS_108 – {code.title} (1 failed) {code.meaning} What to do: {code.advice} ",
    ]
    rows = [" ".join(group.split(columns)[1].split()) for group in groups]
    assert [row.count("replace FAILED") for row in rows] == [2, 1]
    assert "nowhere replace FAILED /" in rows[0] and "elsewhere replace FAILED /" in rows[0]
    assert "bad replace FAILED /" in rows[1]
    status = (await network.run("status", job_id)).stdout
    for text in (watched, status):
        lines = text.splitlines()
        place = lines.index(f"Failures    2 × UNMATCHED: {unmatched.title}")
        assert lines[place + 1].split(maxsplit=2) == ["1", "×", f"STATUS_108: {code.title}"]


@pytest.mark.nightly
async def test_a_job_without_failures_says_so(network: Network) -> None:
    """One line when there is nothing to group, and no line about failures in the job."""
    await network.register("a")
    job_id = await network.submit("a")
    assert "Failures" not in (await network.run("watch", job_id)).stdout
    assert (await network.run("failures", job_id)).stdout == "no operation has failed\n"
    assert (await network.run("failures", job_id, "--output", "json")).stdout == ""


async def test_a_dry_run_shows_the_plan_and_does_nothing(network: Network) -> None:
    """The plan names plugin, producer and operations without an owner. The plugin receives no call."""
    await network.register("a")
    done = await network.run("submit", "-", "--dry-run", stdin=network.request("a", "nowhere"))
    assert done.returncode == 0
    assert network.address in done.stdout
    assert "2 operations in 1 sub-jobs, 1 unmatched" in done.stdout
    assert f"UNMATCHED: {explanation_of('UNMATCHED').meaning}" in done.stdout
    assert list(network.plugin.calls) == []


async def test_results_are_printed_or_kept(network: Network, tmp_path: Path) -> None:
    """One line for each operation, or the objects of the manifest as files, byte for byte."""
    await network.register("a", "b")
    job_id = await network.submit("a", "b", "nowhere")
    printed = await network.run("results", job_id, "--follow", "--output", "json")
    assert printed.returncode == 1
    assert {r["operationId"]: r["state"] for r in json_lines(printed)} == {
        "a": "SUCCEEDED",
        "b": "SUCCEEDED",
        "nowhere": "FAILED",
    }
    table = (await network.run("results", job_id)).stdout.splitlines()
    assert table[0].split() == ["OPERATION", "STATE", "OP", "PATH", "OUTCOME"]
    states = {row[0]: (row[1], row[-1]) for row in (line.split() for line in table[1:])}
    assert states["nowhere"] == ("failed", "UNMATCHED")
    assert [states[name][0] for name in "ab"] == ["succeeded"] * 2
    kept = await network.run("results", job_id, "--dir", tmp_path)
    assert kept.returncode == 0, kept.stderr
    files = sorted(tmp_path.rglob("*.json"))
    assert len(files) == 3
    outcomes = [r for file in files for r in json.loads(file.read_bytes())["responses"]]
    assert {r["operationId"] for r in outcomes} == {"a", "b", "nowhere"}
    stamps = [file.stat().st_mtime_ns for file in files]
    await network.run("results", job_id, "--dir", tmp_path)
    assert [file.stat().st_mtime_ns for file in files] == stamps


@pytest.mark.nightly
async def test_a_plugins_own_result_body_is_kept_but_is_no_outcome(network: Network, tmp_path: Path) -> None:
    """A result of unknown shape is an object of its own: ``--dir`` saves it unchanged, and the command prints
    the outcomes derived from the status."""
    network.script("odd", Script(result=(Step.WRONG_SHAPE,)))
    await network.register("odd")
    job_id = await network.submit("odd")
    printed = await network.run("results", job_id, "--follow", "--output", "json")
    assert printed.returncode == 0, printed.stderr
    assert [(r["operationId"], r["state"]) for r in json_lines(printed)] == [("odd", "SUCCEEDED")]
    kept = await network.run("results", job_id, "--dir", tmp_path / "kept")
    assert kept.returncode == 0, kept.stderr
    (foreign,) = (tmp_path / "kept").rglob("plugin-result")
    assert "responses" not in json.loads(foreign.read_bytes())


@pytest.mark.nightly
async def test_results_of_a_running_job_are_not_there_yet(network: Network) -> None:
    """Status 2 with a remedy; after a cancel the job ends as cancelled, with status 1."""
    await network.register("slow")
    network.script("slow", Script(statuses=("RUNNING",)))
    job_id = await network.submit("slow")
    done = await network.run("results", job_id)
    assert done.returncode == 2
    assert "--follow" in done.stderr
    assert (await network.run("cancel", job_id)).returncode == 0
    network.script("slow", Script(statuses=("CANCELLED",), outcome=OperationState.NOT_STARTED))
    assert (await network.run("watch", job_id)).returncode == 1
    again = await network.run("cancel", job_id)
    assert again.returncode == 2
    assert "Traceback" not in again.stderr


async def test_a_retry_takes_what_did_not_succeed(network: Network) -> None:
    """The new job has only the operations that failed, and names the job that it retries."""
    await network.register("good")
    job_id = await network.submit("good", "late")
    assert (await network.run("watch", job_id)).returncode == 1
    await network.register("late")
    done = await network.run("retry", job_id, "--output", "json")
    assert done.returncode == 0, done.stderr
    run_transaction = json.loads(done.stdout)["jobId"]
    assert (await network.run("watch", run_transaction)).returncode == 0
    shown = json.loads((await network.run("status", run_transaction, "--output", "json")).stdout)
    assert shown["retryOf"] == job_id
    assert shown["operations"]["total"] == 1


async def test_status_and_list_show_jobs_in_words_and_as_json(network: Network) -> None:
    """A table, or one JSON document per line; commands accept the job's address as well as its id."""
    await network.register("a")
    job_id = await network.submit("a")
    assert (await network.run("watch", job_id)).returncode == 0
    shown = await network.run("status", f"{network.server}/ranoam/cm/v1/dataJob/{job_id}")
    assert "Status      finished" in shown.stdout
    listed = json_lines(await network.run("list", "--output", "json", "--type", "write"))
    assert listed[0]["jobId"] == job_id
    rows = [row.split() for row in (await network.run("list")).stdout.splitlines()]
    assert rows[0] == ["JOB", "NAME", "TYPE", "STATUS", "OPS", "AGE"]
    assert rows[1][:5] == [job_id, "labels", "WRITE", "finished", "1"]


@pytest.mark.nightly
async def test_what_people_read_fits_80_columns(network: Network) -> None:
    """Long texts wrap at 80 columns; job ids are printed whole."""
    names = ["a" * 70, "bad"]
    await network.register(*names)
    network.script("bad", Script(statuses=("FAILED",), outcome=OperationState.FAILED))
    request = json.loads(network.request(*names, "nowhere" * 20)) | {"name": "a name of a job " * 10}
    narrow = {"stdin": json.dumps(request).encode(), "DATAJOBS_SERVER": network.server, "COLUMNS": ""}
    done = await asyncio.to_thread(datajobs, "submit", "-", "--watch", **narrow)
    assert done.returncode == 1, done.stderr
    job_id = done.stdout.split("Job ")[1].split()[0]
    shown = {"submit": done.stdout}
    for command in (("list",), ("status", job_id), ("failures", job_id), ("results", job_id), ("config",)):
        shown[command[0]] = (await asyncio.to_thread(datajobs, *command, **narrow)).stdout
    for command in ("submit", "retry"):
        arguments = ("-", "--dry-run") if command == "submit" else (job_id,)
        done = await asyncio.to_thread(datajobs, command, *arguments, **narrow)
        shown[f"{command} {arguments[0]}"] = done.stdout
    widest = {command: max(map(len, text.splitlines())) for command, text in shown.items()}
    assert {command: width for command, width in widest.items() if not 40 < width <= 80} == {}
    (row,) = [line for line in shown["list"].splitlines() if line.startswith(job_id)]
    assert row.split()[1:3] == ["a", "name"]
    assert len(json_lines(await network.run("status", job_id, "--output", "json"))[0]["name"]) == 160


@pytest.mark.nightly
async def test_the_beginning_of_an_id_is_as_good_as_the_id(network: Network) -> None:
    """Every command that takes an id accepts a prefix. A prefix that matches several jobs, or none, gives
    status 2 and a message."""
    await network.register("a")
    job_id = await network.submit("a")
    short = job_id[:8]
    for command in ("watch", "status", "failures", "results"):
        done = await network.run(command, short, "--output", "json")
        assert (done.returncode, done.stderr) == (0, "")
    assert json_lines(await network.run("status", short.upper(), "--output", "json"))[0]["jobId"] == job_id
    for command, cause in (("cancel", "is over"), ("retry", "nothing to retry")):
        done = await network.run(command, short)
        assert (done.returncode, cause in done.stderr) == (2, True), done.stderr
    assert (await network.run("redeliver", short, "--output", "json")).returncode == 0
    ids = [job_id, *[await network.submit("nowhere") for _ in range(16)]]  # two of 17 share a first digit
    first = next(digit for digit in "0123456789abcdef" if sum(each[0] == digit for each in ids) > 1)
    done = await network.run("status", first)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    candidates = done.stderr.partition(": several data jobs have ids that begin with ")[2].split()
    assert candidates[0] == f"'{first}':"
    assert len(candidates) > 2 and all(each.startswith(first) for each in candidates[1:6] if len(each) >= 36)
    unused = next(p for n in range(256) if not any(each.startswith(p := f"{n:02x}") for each in ids))
    other = await network.run("status", f"{unused}00000000-0000")
    assert (other.returncode, other.stderr.count("\n")) == (2, 1)


@pytest.mark.nightly
async def test_a_list_that_ends_early_says_how_it_goes_on(network: Network) -> None:
    """The hint is on standard error; standard output holds only the list. The last page has no hint."""
    ids = [await network.submit("nowhere") for _ in range(3)]
    first = await network.run("list", "--limit", "2", "--output", "json")
    assert [job["jobId"] for job in json_lines(first)] == ids[:0:-1]
    how = first.stderr.split("add: ")[1].split()
    second = json_lines(await network.run("list", "--limit", "1", "--output", "json", *how))
    assert [job["jobId"] for job in second] == ids[:1]
    assert "--cursor" in (await network.run("list", "--limit", "1")).stderr
    assert (await network.run("list", "--limit", "1000")).stderr == ""


@pytest.mark.nightly
async def test_what_is_shown_of_jobs_ends_with_4_where_it_cannot_be_written(
    network: Network, tmp_path: Path
) -> None:
    """A full disk, or a results folder that is not a folder, gives status 4; a closed pipe is no error."""
    await network.register("a")
    job_id = await network.submit("a", "nowhere")
    assert (await network.run("watch", job_id)).returncode == 1
    (tmp_path / "file").write_text("x")
    for folder in ("/dev/full", "/proc/nowhere", tmp_path / "file"):
        done = await network.run("results", job_id, "--dir", folder)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
        assert f"datajobs: {folder}" in done.stderr and "cannot be written: " in done.stderr
    reading, gone = os.pipe()
    os.close(reading)
    with open("/dev/full", "wb") as full, open(gone, "wb") as unread:
        for command in ("list", "status", "watch", "failures", "results", "redeliver", "retry"):
            arguments = (command, *(() if command == "list" else (job_id,)))
            for stdout, form, status in ((full, "table", 4), (unread, "json", 0)):
                done = await asyncio.to_thread(_into, stdout, network.server, *arguments, form)
                assert (done.returncode, done.stderr.count(b"\n")) == (status, status // 4), command


def _into(stdout: Any, server: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    *command, form = arguments
    return subprocess.run(
        [sys.executable, "-m", "ran_datajobs", *command, "--output", form, "--server", server],
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        env=environment(),
        timeout=60,
    )


async def test_a_handle_that_is_not_taken_is_named(network: Network) -> None:
    """Status 1 and ONAP's code for each refused handle; the others are registered."""
    await network.register("a")
    handles = [
        {"cmHandle": "thief", "alternateId": network.fdn("a"), "dataProducerIdentifier": "t"},
        {"cmHandle": f"h-{uuid.uuid4()}", "alternateId": network.fdn("b"), "dataProducerIdentifier": "t"},
    ]
    body = json.dumps({"dmiPlugin": network.address, "createdCmHandles": handles}).encode()
    done = await network.run("inventory", "load", "-", "--output", "json", stdin=body)
    assert done.returncode == 1
    assert [entry["cmHandle"] for entry in json_lines(done)] == ["thief"]


async def test_a_topic_can_be_read(network: Network) -> None:
    """``tail`` prints the messages of a destination topic, from any position."""
    await network.register("a")
    topic = f"t{uuid.uuid4().hex[:8]}"
    done = await network.run(
        "submit", "-", "--watch", "--destination", f"kafka:{topic}", stdin=network.request("a")
    )
    assert done.returncode == 0, done.stderr
    messages = await network.run("tail", topic, "--no-follow")
    assert messages.returncode == 0, messages.stderr
    [message] = json_lines(messages)
    assert message["value"]["data"]["responses"][0]["operationId"] == "a"
    assert (await network.run("tail", topic, "--no-follow", "--from", "1")).stdout == ""


@pytest.mark.nightly
async def test_files_with_a_byte_order_mark_are_taken(network: Network, tmp_path: Path) -> None:
    """A registration and a job with a byte order mark, as Windows editors save them; the message about
    another encoding names it."""
    file = tmp_path / "file.json"
    handles = [{"cmHandle": f"h-{uuid.uuid4()}", "cmHandleProperties": {"id": 1}}]
    body = json.dumps({"dmiPlugin": network.address, "createdCmHandles": handles})
    file.write_text(body, encoding="utf-8-sig")
    assert (await network.run("inventory", "load", file)).stdout == "all were accepted\n"
    file.write_text(network.request("nowhere").decode(), encoding="utf-8-sig")
    assert (await network.run("submit", file)).returncode == 0
    file.write_text(network.request("nowhere").decode(), encoding="utf-16")
    done = await network.run("submit", file)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "UTF-8" in done.stderr and "UTF-16 LE" in done.stderr


async def test_ignored_keys_are_shown(network: Network) -> None:
    """Submit, dry run and job list ignored keys on standard error; programs read them in the JSON."""
    request = json.loads(network.request("a", "b")) | {"notBefore": "x"}
    request["data"] = [one | {"note": 1} for one in request["data"]]
    body = json.dumps(request).encode()
    said = "#/notBefore, note (2 operations)"
    submitted = await network.run("submit", "-", stdin=body)
    assert said in submitted.stderr
    assert said in (await network.run("submit", "-", "--dry-run", stdin=body)).stderr
    assert said in (await network.run("submit", "-", "--watch", stdin=body)).stderr
    job_id = submitted.stdout.split()[1]
    assert f"Ignored     {said}" in (await network.run("status", job_id)).stdout
    as_json = await network.run("submit", "-", "--output", "json", stdin=body)
    assert (as_json.stderr, json.loads(as_json.stdout)["ignoredCount"]) == ("", 2)


async def test_a_refused_request_shows_where_it_is_wrong(network: Network, tmp_path: Path) -> None:
    """Status 2, and each error once with its line and column in the file; likewise for a registration."""
    bad = b'{"data": [\n {"op": "copy", "path": "/A=1"},\n {"path": "/A=\xc3\xa9", "op": "add"}]}\n'
    done = await network.run("submit", "-", stdin=bad)
    assert (done.returncode, done.stdout) == (2, "")
    copied, added = done.stderr.splitlines()
    assert copied.startswith("datajobs: <stdin>:2:9: #/data/0/op: copy and move are not offered")
    assert added.startswith("datajobs: <stdin>:3:2: #/data/1/value: is missing")
    handles = b'\xef\xbb\xbf{"dmiPlugin": "http://127.0.0.1:1",\n"createdCmHandles": [{"cmHandle": 1}]}'
    (tmp_path / "handles.json").write_bytes(handles)
    done = await network.run("inventory", "load", tmp_path / "handles.json")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith(f"datajobs: {tmp_path}/handles.json:2:35: #/createdCmHandles/0/cmHandle: ")


@pytest.mark.parametrize("command", [("submit",), nightly((("inventory", "load"),))], ids=" ".join)
def test_a_file_that_is_no_json_is_told_without_the_service(
    tmp_path: Path, free_port: int, command: tuple[str, ...]
) -> None:
    """The message has line, column, text found and text expected, for a file and for standard input."""
    nobody = f"http://127.0.0.1:{free_port}"
    for number, (text, message) in enumerate(NO_JSON.items()):
        file = tmp_path / f"{number}.json"
        file.write_bytes(text)
        for name, done in (
            (str(file), datajobs(*command, file, DATAJOBS_SERVER=nobody)),
            ("<stdin>", datajobs(*command, "-", stdin=text, DATAJOBS_SERVER=nobody)),
        ):
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr == f"datajobs: {name}:{message}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "not-an-id"),
        ("submit", "/no/such/file"),
        ("status", "6a1c2b6e-0000-4000-8000-000000000000"),
        ("tail", "a b"),
    ],
    ids=lambda arguments: " ".join(arguments)[:20],
)
def test_wrong_use_ends_with_2_and_one_line(server: str, arguments: tuple[str, ...]) -> None:
    """Invalid arguments are reported in one line on standard error."""
    done = datajobs(*arguments, DATAJOBS_SERVER=server)
    assert done.returncode == 2
    assert done.stderr.startswith("datajobs: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["list", "status", "cancel"])
def test_a_service_that_is_not_there_ends_with_3(free_port: int, command: str) -> None:
    """The message names the address and how to start one."""
    arguments = () if command == "list" else (str(uuid.uuid4()),)
    done = datajobs(command, *arguments, "--server", f"http://127.0.0.1:{free_port}")
    assert done.returncode == 3
    assert f"http://127.0.0.1:{free_port}" in done.stderr
    assert "datajobs serve" in done.stderr


class _SomethingElse(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<h1>hello \x1b[31m</h1>")

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""


def test_something_else_at_the_address_ends_with_3() -> None:
    """An answer of another server gives no traceback."""
    with HTTPServer(("127.0.0.1", 0), _SomethingElse) as other:
        serving = Thread(target=other.serve_forever)
        serving.start()
        try:
            done = datajobs("list", "--server", f"http://127.0.0.1:{other.server_port}")
        finally:
            other.shutdown()
            serving.join()
    assert done.returncode == 3
    assert "not this service" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(server: str) -> None:
    """A command whose output pipe is closed early (``| head``) ends without a message."""

    pipe = f"{sys.executable} -m ran_datajobs config --markdown | head -1"
    done = subprocess.run(
        ["bash", "-c", f"{pipe}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        check=False,
        env=environment(),
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_effective_settings_are_shown_without_secrets() -> None:
    """``config`` shows the effective settings from every source."""
    done = datajobs("config", DATAJOBS_PORT="9000", DATAJOBS_TOKEN="s3cret")
    shown = [row.split() for row in done.stdout.splitlines()]
    assert ["DATAJOBS_PORT", "9000"] in shown
    assert ["DATAJOBS_TOKEN", "***"] in shown
