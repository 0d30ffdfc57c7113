# SPDX-License-Identifier: Apache-2.0
"""``datajobs demo``, the first command that a new user runs."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from ran_datajobs.local.supervisor import lock_data_dir
from tests.kit.commands import ENDED_WITHIN, Started, datajobs, environment, json_lines, started
from tests.peers.program import not_installed
from tests.tiers import nightly

_ROOT = Path(__file__).resolve().parents[2]
_UP = "Serving until Ctrl-C"
_UP_WITHIN = 150.0


def _roles(demo: Started) -> set[str]:
    """Role of each process of a demo."""
    words = {"demo", "simulate", "dmi", "serve-api", "serve-worker"}
    tree = demo.tree()
    return {p.name() for p in tree if p.name() == "postgres"} | {
        w for p in tree for w in p.cmdline() if w in words
    }


@pytest.mark.nightly
def test_both_jobs_go_as_planned_and_everything_ends(tmp_path: Path, free_port: int) -> None:
    """``--once`` ends without a signal with status 0: every planned failure occurs, no other does, and all
    reasons are shown."""
    done = datajobs("demo", "--once", "--port", str(free_port), "--data-dir", tmp_path / "data")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "partially failed" in done.stdout
    assert "finished" in done.stdout
    assert "FINSHED" not in done.stdout
    assert "UNMATCHED" in done.stdout
    assert "Expected:" not in done.stdout
    assert f"http://127.0.0.1:{free_port}/" in done.stdout
    assert "Traceback" not in done.stderr
    left = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or ())]
    assert left == []


@pytest.mark.parametrize("signum", [nightly(signal.SIGINT), signal.SIGTERM])
def test_it_serves_until_a_signal_and_leaves_nothing(
    tmp_path: Path, free_port: int, signum: signal.Signals
) -> None:
    """Page, API and plugin run in separate processes; a signal ends all of them within 5 s."""
    arguments = ("demo", "--port", str(free_port), "--data-dir", tmp_path / "data")
    with started(*arguments, lines=tmp_path / "lines") as demo:
        demo.until_it_says(_UP, _UP_WITHIN)
        assert _roles(demo) == {"demo", "postgres", "simulate", "dmi", "serve-api", "serve-worker"}
        url = f"http://127.0.0.1:{free_port}"
        with urlopen(f"{url}/", timeout=10) as page:
            assert page.headers["Content-Type"].startswith("text/html")
        statuses = [
            job["status"] for job in json_lines(datajobs("list", "--server", url, "--output", "json"))
        ]
        assert statuses == ["FINSHED", "PARTIALLY_FAILED"]
        assert demo.end(signum) == 0


def test_a_signal_while_it_starts_ends_it_as_well(tmp_path: Path, free_port: int) -> None:
    """A signal is handled before the start is complete."""
    arguments = ("demo", "--port", str(free_port), "--data-dir", tmp_path / "data")
    with started(*arguments, lines=tmp_path / "lines") as demo:
        demo.until_it_says("Starting")
        demo.end(signal.SIGINT)


@pytest.mark.nightly
@pytest.mark.parametrize("sites", ["10", "300"])
def test_another_network_goes_as_planned_as_well(tmp_path: Path, free_port: int, sites: str) -> None:
    """The jobs and their expected outcomes depend on the size and the seed of the network."""
    data = ("--port", str(free_port), "--data-dir", tmp_path / "data")
    done = datajobs("demo", "--once", *data, "--sites", sites, "--seed", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("This is the expected outcome.") == 2
    assert "UNMATCHED" in done.stdout


@pytest.mark.nightly
def test_it_stays_on_this_machine_whatever_the_service_is_set_to(tmp_path: Path, free_port: int) -> None:
    """The demo ignores the operator's host, address, database, tokens and limits, and says so; the demo's own
    settings still apply."""
    tokens = tmp_path / "tokens.json"
    datajobs("token", "add", "someone", "--role", "admin", "--tokens-file", tokens)
    settings = {
        "DATAJOBS_HOST": "0.0.0.0",
        "DATAJOBS_API_ROOT": "https://jobs.example.org",
        "DATAJOBS_DATABASE_URL": "postgresql://someone@192.0.2.1/production",
        "DATAJOBS_KAFKA_BOOTSTRAP": "192.0.2.1:9092",
        "DATAJOBS_S3_ENDPOINT": "http://192.0.2.1:8333",
        "DATAJOBS_TOKENS_FILE": str(tokens),
        "DATAJOBS_MAX_OPERATIONS": "1",
        "DATAJOBS_SITES": "10",
    }
    arguments = ("demo", "--port", str(free_port), "--data-dir", tmp_path / "data")
    with started(*arguments, lines=tmp_path / "lines", **settings) as demo:
        demo.until_it_says(_UP, _UP_WITHIN)
        listening = {
            connection.laddr.ip
            for process in demo.tree()
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
        text = demo.text()
        assert demo.end(signal.SIGINT) == 0
    assert text.count("This is the expected outcome.") == 2
    assert "Starting 10 simulated sites" in text
    (line,) = (line for line in text.splitlines() if line.startswith("Not used by a demo: "))
    assert set(line.removeprefix("Not used by a demo: ").split(", ")) == set(settings) - {"DATAJOBS_SITES"}
    assert f"http://127.0.0.1:{free_port}/" in text
    assert "example.org" not in text


def test_a_second_one_on_the_same_data_dir_starts_nothing(tmp_path: Path, free_port: int) -> None:
    """It names the owner at once and ends with status 2."""
    with lock_data_dir(tmp_path / "data"):
        done = datajobs("demo", "--port", str(free_port), "--data-dir", tmp_path / "data")
    assert (done.returncode, done.stdout) == (2, "")
    assert "belongs to process" in done.stderr


@pytest.mark.nightly
def test_after_a_sigkill_nothing_is_left_and_the_next_one_goes_as_planned(
    tmp_path: Path, free_port: int
) -> None:
    """The children of a killed demo end within 5 s; the next demo uses the same ports and data dir."""
    arguments = ("demo", "--port", str(free_port), "--data-dir", tmp_path / "data")
    with started(*arguments, lines=tmp_path / "lines") as demo:
        demo.until_it_says(_UP, _UP_WITHIN)
        tree = demo.tree()
        demo.process.kill()
        demo.process.wait()
        _, alive = psutil.wait_procs(tree, timeout=ENDED_WITHIN)
        assert alive == []
    again = datajobs(*arguments, "--once")
    assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.nightly
def test_a_demo_whose_plugin_port_was_taken_meanwhile_goes_as_planned(tmp_path: Path, free_port: int) -> None:
    """The next demo on the data dir starts its plugin at another port and moves the CM handles there."""
    arguments = ("demo", "--once", "--port", str(free_port), "--data-dir", tmp_path / "data")
    first = datajobs(*arguments)
    assert first.returncode == 0, first.stdout + first.stderr
    before = _plugin_port(first.stdout)
    with socket.create_server(("127.0.0.1", before)):
        second = datajobs(*arguments)
    assert second.returncode == 0, second.stdout + second.stderr
    assert _plugin_port(second.stdout) != before


def _plugin_port(said: str) -> int:
    found = re.search(r"^DMI plugin +http://127\.0\.0\.1:(\d+)", said, re.MULTILINE)
    assert found is not None, said
    return int(found[1])


@pytest.mark.nightly
def test_the_default_data_dir_is_emptied_for_each_demo(tmp_path: Path, free_port: int) -> None:
    """Without --data-dir every demo starts with an empty folder of its own, and says so in one line."""
    settings = {"XDG_STATE_HOME": str(tmp_path)}
    for _ in range(2):
        done = datajobs("demo", "--once", "--port", str(free_port), **settings)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"Data in {tmp_path}/ran-datajobs/demo, emptied for each demo" in done.stdout


@pytest.mark.nightly
def test_a_wheel_in_an_empty_directory_runs_the_demo(tmp_path: Path, free_port: int) -> None:
    """The wheel contains code, SQL, page and examples."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        uv = Path(shutil.which("uv") or not_installed("uv, to build with,"))
    build = [uv, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*build, "--out-dir", tmp_path / "dist", _ROOT], check=True, timeout=120)
    [wheel] = (tmp_path / "dist").glob("*.whl")
    install = [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", sys.executable]
    subprocess.run([*install, "--target", tmp_path / "site", wheel], check=True, timeout=120)
    empty = tmp_path / "empty"
    empty.mkdir()
    variables = environment(PYTHONPATH=str(tmp_path / "site"))
    where = [sys.executable, "-c", "import ran_datajobs; print(ran_datajobs.__file__)"]
    found = subprocess.run(where, capture_output=True, check=True, cwd=empty, env=variables, text=True)
    assert found.stdout.startswith(str(tmp_path / "site"))
    options = ("--once", "--port", str(free_port), "--data-dir", str(tmp_path / "data"))
    done = subprocess.run(
        [sys.executable, "-m", "ran_datajobs", "demo", *options],
        capture_output=True,
        check=False,
        cwd=empty,
        env=variables,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(empty.iterdir()) == []
    owner = json.loads((tmp_path / "data/owner.json").read_text() or "{}")
    assert owner == {}
