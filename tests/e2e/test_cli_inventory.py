# SPDX-License-Identifier: Apache-2.0
"""``datajobs inventory``, run as processes against running services."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ran_datajobs.http.ports import free_port
from tests.kit import yang
from tests.kit.commands import datajobs, environment, json_lines, started

ONE, OTHER = "http://127.0.0.1:9101", "http://127.0.0.1:9102"
READS, WRITES = "http://127.0.0.1:9103", "http://127.0.0.1:9104"
JSON = ("--output", "json")
MIB = 1 << 20


@contextlib.contextmanager
def service(folder: Path) -> Iterator[str]:
    """The address of a service with an inventory of its own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ("serve", "--port", str(port), "--data-dir", folder / "data")
    with started(*arguments, lines=folder / "lines") as running:
        running.until_ready(url)
        yield url


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One service for the tests of this module, each of which uses names of its own."""
    with service(tmp_path_factory.mktemp("service")) as url:
        yield url


@pytest.fixture
def tag() -> str:
    """A name that only this test uses."""
    return f"t{uuid.uuid4().hex[:8]}"


def inventory(server: str, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``datajobs inventory``."""
    return datajobs("inventory", *arguments, stdin=stdin.encode(), DATAJOBS_SERVER=server)


def loaded(server: str, text: str, *options: str) -> str:
    """Load a file that is accepted. Returns what was printed."""
    done = inventory(server, "load", "-", *options, stdin=text)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def listed(server: str, tag: str) -> list[Any]:
    """All handles of a test, without the trust level that follows from the health of their plugin, which is
    down."""
    found = json_lines(inventory(server, "list", "--below", f"/A={tag}", *JSON))
    return [{name: each[name] for name in each if name != "trustLevel"} for each in found]


def registration(tag: str, count: int, plugin: str = ONE, **fields: Any) -> str:
    """A registration of some handles below ``/A=tag``."""
    created = [
        {
            "cmHandle": f"{tag}-{n:06}",
            "alternateId": f"/A={tag}/B={n}",
            "dataProducerIdentifier": f"{tag}-{n}",
        }
        for n in range(count)
    ]
    return json.dumps({"dmiPlugin": plugin, "createdCmHandles": [one | fields for one in created]})


@pytest.mark.nightly
def test_an_export_is_loaded_elsewhere_without_a_difference(tmp_path: Path) -> None:
    """Export, load on an empty service, and export give the same bytes, as JSON and as CSV; without
    ``--private`` no secret leaves the service."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    rich = {
        "cmHandle": "rich",
        "alternateId": "/SubNetwork=Europe/ManagedElement=\u00e9\u2028,1",
        "dataProducerIdentifier": "ems",
        "moduleSetTag": "=tag",
        "trustLevel": "NONE",
        "publicCmHandleProperties": {"zone": "-1", "a": "", "note": 'two\nlines, "quoted"', "n": 7},
        "cmHandleProperties": {"password": "s3cret", "tilde": "'~"},
    }
    bodies = [
        {"dmiPlugin": ONE, "createdCmHandles": [rich, {"cmHandle": "-poor"}]},
        {
            "dmiDatajobsReadPlugin": READS,
            "dmiDatajobsWritePlugin": WRITES,
            "createdCmHandles": [{"cmHandle": "b"}],
        },
        {"dmiPlugin": ONE, "dmiDatajobsWritePlugin": WRITES, "createdCmHandles": [{"cmHandle": "c"}]},
        json.loads(registration("many", 4500, OTHER)),
    ]
    with service(first) as one, service(second) as two:
        loaded(one, json.dumps(bodies))
        exported = inventory(one, "export", "--private").stdout
        assert "s3cret" in exported
        assert sum(len(json.loads(line)["createdCmHandles"]) for line in exported.strip().split("\n")) == 4504
        assert max(len(json.loads(line)["createdCmHandles"]) for line in exported.strip().split("\n")) <= 2000
        loaded(two, exported)
        assert inventory(two, "export", "--private").stdout == exported
        assert inventory(one, "diff", "-", "--prune", stdin=exported).returncode == 0
        lines = inventory(two, "list", "--limit", "9999", *JSON).stdout.strip().split("\n")
        ids = [json.loads(line)["cmHandle"] for line in lines]
        assert len(ids) == 4504
        loaded(two, json.dumps({"removedCmHandles": ids}))
        assert inventory(two, "export").stdout == ""
        as_csv = inventory(one, "export", "--csv", "--private").stdout
        loaded(two, as_csv)
        assert inventory(two, "export", "--csv", "--private").stdout == as_csv
        assert inventory(two, "export", "--private").stdout == exported
        for form in ((), ("--csv",)):
            public = inventory(one, "export", *form).stdout
            assert "rich" in public and "s3cret" not in public and "password" not in public


@pytest.mark.nightly
def test_a_load_can_be_repeated_and_changes_what_the_file_names(server: str, tag: str) -> None:
    """A repeat changes nothing. An edited file changes its handles: what it does not name stays."""
    header = "cmHandle,alternateId,dataProducerIdentifier,moduleSetTag,public.site,public.zone,private.key"
    rows = f"{tag}1,/A={tag}/B=1,p1,m1,Cork,west,s3cret\n{tag}2,/A={tag}/B=2,p2,m1,Galway,west,s3cret\n"
    for _ in range(2):
        assert loaded(server, f"{header}\n{rows}", "--plugin", ONE) == "all were accepted\n"
    edited = f"cmHandle,dataProducerIdentifier,public.site,public.zone\n{tag}1,p9,Bantry,\n{tag}2,,,~\n"
    loaded(server, edited, "--plugin", ONE)
    one, two = listed(server, tag)
    assert (one["dataProducerId"], one["moduleSetTag"], one["alternateId"]) == ("p9", "m1", f"/A={tag}/B=1")
    assert (one["publicProperties"], two["publicProperties"]) == (
        {"site": "Bantry", "zone": "west"},
        {"site": "Galway"},
    )
    exported = inventory(server, "export", "--private").stdout
    assert exported.count("s3cret") >= 2, "a file without private properties leaves them as they are"


def test_a_handle_of_another_plugin_is_not_moved(server: str, tag: str) -> None:
    """Loading it for another plugin is refused, with the plugin that it has; nothing is changed."""
    loaded(server, registration(tag, 1))
    done = inventory(server, "load", "-", stdin=registration(tag, 1, OTHER, dataProducerIdentifier="x"))
    assert done.returncode == 1
    assert f"belongs to the plugin {ONE}: remove the handle, then load it again" in " ".join(
        done.stdout.split()
    )
    (handle,) = listed(server, tag)
    assert (handle["readPlugin"], handle["dataProducerId"]) == (ONE, f"{tag}-0")


@pytest.mark.nightly
def test_refused_handles_are_listed_up_to_a_number(server: str, tag: str) -> None:
    """The table has the first 100 and counts the others; JSON has all. The good ones are registered."""
    handles = [{"cmHandle": f"not an id {n}"} for n in range(120)] + [
        {"cmHandle": tag, "alternateId": f"/A={tag}"}
    ]
    body = json.dumps({"dmiPlugin": ONE, "createdCmHandles": handles})
    done = inventory(server, "load", "-", stdin=body)
    assert done.returncode == 1
    assert done.stdout.count("not an id") == 100
    assert "and 20 more of 120 refused: --output json lists all" in done.stdout
    assert len(listed(server, tag)) == 1
    as_json = inventory(server, "load", "-", *JSON, stdin=body)
    assert (as_json.returncode, len(json_lines(as_json))) == (1, 120)


@pytest.mark.nightly
def test_a_taken_alternate_id_is_refused(server: str, tag: str) -> None:
    """For a new handle, and for a change of a registered one."""
    loaded(server, registration(tag, 2))
    thief = {"cmHandle": f"{tag}-thief", "alternateId": f"/A={tag}/B=0"}
    change = {"cmHandle": f"{tag}-000001", "alternateId": f"/A={tag}/B=0"}
    body = json.dumps({"dmiPlugin": ONE, "createdCmHandles": [thief, change]})
    done = inventory(server, "load", "-", *JSON, stdin=body)
    assert done.returncode == 1
    assert sorted(each["cmHandle"] for each in json_lines(done)) == [f"{tag}-000001", f"{tag}-thief"]
    assert all("alternate id" in each["errorText"] for each in json_lines(done))
    assert [each["alternateId"] for each in listed(server, tag)] == [f"/A={tag}/B=0", f"/A={tag}/B=1"]


def test_nothing_is_sent_from_a_file_with_a_fault(server: str, tag: str) -> None:
    """The fault is in the last part of the file; the parts before it are not registered either."""
    body = json.loads(registration(tag, 4001))
    body["createdCmHandles"].append({"cmHandle": 7})
    done = inventory(server, "load", "-", stdin=json.dumps(body))
    assert done.returncode == 2
    assert "#/createdCmHandles/4001/cmHandle: must be a string" in done.stderr
    assert listed(server, tag) == []


@pytest.mark.nightly
def test_a_long_load_shows_its_progress(server: str, tag: str, tmp_path: Path) -> None:
    """A line for each part on standard error; a bar on a terminal."""
    file = tmp_path / "handles.json"
    file.write_text(registration(tag, 6000))
    done = inventory(server, "load", file)
    assert done.stdout == "all were accepted\n"
    assert done.stderr.splitlines() == [f"{n} of 6000 changes sent" for n in (2000, 4000, 6000)]
    reading, terminal = os.openpty()
    command = [sys.executable, "-m", "ran_datajobs", "inventory", "load", str(file), "--server", server]
    with open(reading, "rb", buffering=0) as screen:
        shown: list[bytes] = []

        def watch() -> None:
            with contextlib.suppress(OSError):  # the terminal is closed
                while piece := screen.read(4096):
                    shown.append(piece)

        watching = threading.Thread(target=watch)
        watching.start()
        variables = environment() | {"TERM": "xterm"}
        subprocess.run(
            command, stdout=subprocess.PIPE, stderr=terminal, env=variables, check=True, timeout=60
        )
        os.close(terminal)
        watching.join()
    assert b"6000/6000" in b"".join(shown)


class _Failing(BaseHTTPRequestHandler):
    """Takes one registration, then answers 503."""

    taken = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).taken += 1
        self.send_response(200 if self.taken == 1 else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""


def test_a_load_that_is_interrupted_says_how_far_it_came(tag: str) -> None:
    """Status 3, and the number of changes that were sent."""
    with HTTPServer(("127.0.0.1", 0), _Failing) as failing:
        serving = threading.Thread(target=failing.serve_forever)
        serving.start()
        try:
            done = inventory(
                f"http://127.0.0.1:{failing.server_port}", "load", "-", stdin=registration(tag, 2001)
            )
        finally:
            failing.shutdown()
            serving.join()
    assert done.returncode == 3
    assert "(2000 of 2001 changes were sent; the same command continues)" in done.stderr
    assert _Failing.taken == 4, "a registration is tried three times"


def test_diff_shows_what_load_would_do(server: str, tag: str) -> None:
    """One line for each handle to create, change, remove and refuse, without values of private properties;
    nothing is changed. The load makes the differences disappear."""
    loaded(server, registration(tag, 4, publicCmHandleProperties={"site": "Cork"}))
    before = listed(server, tag)
    body = {
        "dmiPlugin": ONE,
        "createdCmHandles": [
            {
                "cmHandle": f"{tag}-000000",
                "alternateId": f"/A={tag}/B=0",
                "dataProducerIdentifier": f"{tag}-0",
            },
            {
                "cmHandle": f"{tag}-000001",
                "dataProducerIdentifier": "p",
                "publicCmHandleProperties": {"site": "~", "zone": "west"},
                "cmHandleProperties": {"key": "s3cret"},
            },
            {"cmHandle": f"{tag}-new"},
        ],
        "updatedCmHandles": [{"cmHandle": f"{tag}-none", "moduleSetTag": "x"}],
        "removedCmHandles": [f"{tag}-000002"],
        "upgradedCmHandles": {"cmHandles": [f"{tag}-000003"], "moduleSetTag": "m"},
    }
    text = json.dumps(body)
    done = inventory(server, "diff", "-", *JSON, stdin=text)
    assert done.returncode == 1
    assert json_lines(done) == [
        {"change": "remove", "cmHandle": f"{tag}-000002"},
        {
            "change": "change",
            "cmHandle": f"{tag}-000001",
            "fields": {
                "dataProducerIdentifier": [f"{tag}-1", "p"],
                "public.site": ["Cork", None],
                "public.zone": [None, "west"],
                "private.key": [None, None],
            },
        },
        {"change": "create", "cmHandle": f"{tag}-new"},
        {"change": "refuse", "cmHandle": f"{tag}-none", "why": "is not registered"},
        {"change": "change", "cmHandle": f"{tag}-000003", "fields": {"moduleSetTag": [None, "m"]}},
    ]
    table = inventory(server, "diff", "-", stdin=text)
    assert table.returncode == 1
    assert "s3cret" not in table.stdout
    assert table.stderr == "1 to create, 2 to change, 1 to remove, 1 to refuse\n"
    assert listed(server, tag) == before
    assert inventory(server, "load", "-", stdin=text).returncode == 1  # one is refused
    rest = json_lines(inventory(server, "diff", "-", *JSON, stdin=text))
    assert [each["change"] for each in rest] == ["refuse", "refuse"]
    same = inventory(server, "diff", "-", stdin=registration(tag, 1))
    assert (same.returncode, same.stdout) == (0, "no difference\n")


def test_diff_without_a_file_needs_an_ncmp(server: str) -> None:
    """It says what to set. One that does not answer is an unavailable system: status 3."""
    done = inventory(server, "diff")
    assert done.returncode == 2 and "set DATAJOBS_FOLLOW_NCMP and DATAJOBS_FOLLOW_PLUGINS" in done.stderr
    done = inventory(server, "diff", "--follow-ncmp", "http://127.0.0.1:1", "--follow-plugins", ONE)
    assert done.returncode == 3 and "NCMP at http://127.0.0.1:1: connection refused" in done.stderr


def test_prune_removes_what_the_file_lacks(server: str, tag: str) -> None:
    """Only with ``--yes`` where nobody can be asked, and only handles of the plugins that the file names."""
    plugin = f"http://127.0.0.1:9200/{tag}"
    loaded(server, registration(tag, 3, plugin))
    loaded(server, registration(f"{tag}x", 1))
    smaller = registration(tag, 1, plugin)
    shown = json_lines(inventory(server, "diff", "-", "--prune", *JSON, stdin=smaller))
    assert shown == [{"change": "remove", "cmHandle": f"{tag}-00000{n}"} for n in (1, 2)]
    assert inventory(server, "diff", "-", stdin=smaller).returncode == 0
    done = inventory(server, "load", "-", "--prune", stdin=smaller)
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"datajobs: --prune would remove 2 CM handles that the file lacks: {tag}-000001, "
    )
    assert len(listed(server, tag)) == 3
    loaded(server, smaller, "--prune", "--yes")
    assert [each["cmHandle"] for each in listed(server, tag)] == [f"{tag}-000000"]
    assert len(listed(server, f"{tag}x")) == 1


@pytest.mark.nightly
def test_lists_are_paged_and_filtered(server: str, tag: str) -> None:
    """``--limit`` and ``--cursor`` walk through the handles; the filters are those of the API."""
    loaded(server, registration(tag, 5, moduleSetTag=f"m{tag}"))
    first = inventory(server, "list", "--module-set-tag", f"m{tag}", "--limit", "3", *JSON)
    assert [each["cmHandle"] for each in json_lines(first)] == [f"{tag}-00000{n}" for n in range(3)]
    (found,) = re.findall(r"There are more handles\. For the next 3, add: (--cursor \S+)", first.stderr)
    rest = inventory(server, "list", "--module-set-tag", f"m{tag}", *found.split(), *JSON)
    assert [each["cmHandle"] for each in json_lines(rest)] == [f"{tag}-00000{n}" for n in (3, 4)]
    assert rest.stderr == ""
    (one,) = json_lines(inventory(server, "list", "--data-producer", f"{tag}-4", *JSON))
    assert (one["alternateId"], one["readPlugin"]) == (f"/A={tag}/B=4", ONE)
    table = inventory(server, "list", "--below", f"/A={tag}/B=4").stdout.splitlines()
    assert table[0].split() == ["CM", "HANDLE", "ALTERNATE", "ID", "PRODUCER", "PLUGIN", "TRUST"]
    assert table[1].split()[:-1] == [f"{tag}-000004", f"/A={tag}/B=4", f"{tag}-4", ONE]
    assert table[1].split()[-1] in ("COMPLETE", "NONE"), "NONE once the plugin was found to be down"
    as_csv = inventory(server, "list", "--below", f"/A={tag}", "--csv").stdout
    assert inventory(server, "diff", "-", stdin=as_csv).returncode == 0
    assert inventory(server, "list", "--below", "nonsense").returncode == 2


@pytest.mark.nightly
def test_search_takes_a_text_and_conditions(server: str, tag: str) -> None:
    """All of them have to hold. Status 1 if nothing is found, 2 for a condition that cannot be."""
    loaded(
        server, registration(tag, 2, publicCmHandleProperties={"site": tag}, cmHandleProperties={"key": tag})
    )
    loaded(server, registration(f"{tag}x", 1, trustLevel="NONE"))

    def found(*arguments: str) -> list[str]:
        done = inventory(server, "search", *arguments, *JSON)
        assert done.returncode in (0, 1), done.stderr
        assert bool(done.returncode) == (done.stdout == "")
        return sorted(each["cmHandle"] for each in json_lines(done))

    both = [f"{tag}-000000", f"{tag}-000001"]
    assert found(f"{tag}-") == both
    assert found("--property", f"site={tag}") == both
    assert found("--private", f"key={tag}", "--plugin", ONE) == both
    assert found("B=1", "--property", f"site={tag}", "--state", "ready") == both[1:]
    assert f"{tag}x-000000" in found(tag, "--trust", "none")
    assert f"{tag}x-000000" not in found(tag, "--trust", "complete")
    assert found("--property", f"site={tag}", "--property", "site=other") == []
    limited = inventory(server, "search", tag, "--limit", "2", *JSON)
    assert (len(json_lines(limited)), limited.stderr) == (2, "There are more than 2: --limit shows more\n")
    for wrong in ((), ("--property", "site"), ("--state", "a'b"), ("--cps-path", "nonsense")):
        done = inventory(server, "search", *wrong)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_owner_shows_the_handle_or_the_nearest_one(server: str, tag: str) -> None:
    """Status 0 with handle, producer and plugins; 1 with the nearest handle; 2 for what is no FDN."""
    loaded(server, registration(tag, 1))
    done = inventory(server, "owner", f"/A={tag}/B=0/C=1")
    assert done.returncode == 0, done.stderr
    assert [line.split(maxsplit=2) for line in done.stdout.splitlines()] == [
        ["CM", "handle", f"{tag}-000000"],
        ["FDN", f"/A={tag}/B=0"],
        ["Producer", f"{tag}-0"],
        ["Plugin", ONE],
        ["Open", "jobs", "none"],
    ]
    nobody = inventory(server, "owner", f"/A={tag}/B=7")
    assert nobody.returncode == 1
    assert f"{tag}-000000" in nobody.stdout
    assert inventory(server, "owner", "nonsense").returncode == 2


@pytest.mark.nightly
def test_owner_lists_its_open_jobs(server: str, tag: str) -> None:
    """A job that waits for the producer is listed with its full id."""
    loaded(server, registration(tag, 1))
    operation = {"op": "replace", "path": f"/A={tag}/B=0#/attributes/x", "operationId": "1", "value": 1}
    body = json.dumps({"name": f"job {tag}", "data": [operation]}).encode()
    submitted = datajobs("submit", "-", *JSON, stdin=body, DATAJOBS_SERVER=server)
    (job,) = json_lines(submitted)
    while not (found := json_lines(inventory(server, "owner", f"/A={tag}/B=0", *JSON))[0])["openJobs"]:
        pass
    assert [each["jobId"] for each in found["openJobs"]] == [job["jobId"]]
    table = inventory(server, "owner", f"/A={tag}/B=0").stdout
    assert job["jobId"] in table and f"job {tag}" in table


def peak_of(pid: int) -> int:
    """The most memory in bytes that a process had so far; 0 once it has ended."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) << 10 if found else 0
    return 0


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_half_a_million_handles_need_little_memory(tmp_path: Path) -> None:
    """Load, export, diff and list of 500,000 handles, each in at most 250 MiB."""
    file = tmp_path / "handles.json"
    file.write_text(registration("n", 500_000))
    with service(tmp_path) as url:
        peaks: Counter[str] = Counter()
        for command in (
            ("load", file),
            ("load", file),
            ("export",),
            ("diff", file),
            ("list", "--limit", "500000", *JSON),
        ):
            with (tmp_path / "output").open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "ran_datajobs", "inventory", *map(str, command), "--server", url],
                    stdout=output,
                    env=environment(),
                )
                while process.poll() is None:
                    peaks[command[0]] = peak_of(process.pid) or peaks[command[0]]
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.2)
            assert process.returncode == 0, command
        assert max(peaks.values()) < 250 * MIB, peaks


@pytest.mark.nightly
def test_modules_are_put_shown_and_deleted(server: str, tag: str, tmp_path: Path) -> None:
    """From a folder or a zip. A fault is named with file and line, and the command ends with 2."""
    tag += "/1"
    folder = tmp_path / "yang"
    folder.mkdir()
    for name, text in yang.modules().items():
        (folder / name).write_text(text, encoding="utf-8")
    done = inventory(server, "modules", tag, folder)
    assert done.returncode == 0 and "x-cell" in done.stdout, (done.stdout, done.stderr)
    (tmp_path / "yang.zip").write_bytes(yang.zipped(yang.modules()))
    (put,) = json_lines(inventory(server, "modules", tag, tmp_path / "yang.zip", *JSON))
    (shown,) = json_lines(inventory(server, "modules", tag, *JSON))
    assert put == shown and put["moduleSetTag"] == tag and "NRCellDU" in put["classes"]
    (folder / "x-cell.yang").write_text("module x-cell {\n  leaf x {\n", encoding="utf-8")
    done = inventory(server, "modules", tag, folder)
    assert (done.returncode, "x-cell.yang:3: the file ends" in done.stderr) == (2, True), done.stderr
    assert inventory(server, "modules", tag, "--delete").returncode == 0
    assert inventory(server, "modules", tag).returncode == 2
