# SPDX-License-Identifier: Apache-2.0
"""``datajobs serve`` as a process: it starts, survives failures, ends in time, and says why it does not
start."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.kit.commands import ENDED_WITHIN, Started, datajobs, started
from tests.kit.plugins.scripted import Script, ScriptedPlugin, Step
from tests.tiers import nightly


@pytest.fixture
def url(free_port: int) -> str:
    """Address of the service of a test."""
    return f"http://127.0.0.1:{free_port}"


@pytest.fixture
def service(tmp_path: Path, free_port: int, url: str) -> Iterator[Started]:
    """A service that is ready."""
    with started(
        "serve", "--port", str(free_port), "--data-dir", tmp_path / "data", lines=tmp_path / "lines"
    ) as running:
        running.until_ready(url)
        yield running


def _a_job(url: str) -> str:
    """Submit a job whose operations have no owner. Returns its id."""
    body = {"data": [{"op": "remove", "path": "/ManagedElement=nowhere", "operationId": "1"}]}
    done = datajobs("submit", "-", "--server", url, "--output", "json", stdin=json.dumps(body).encode())
    assert done.returncode == 0, done.stderr
    job_id: str = json.loads(done.stdout)["jobId"]
    return job_id


@pytest.mark.parametrize("signum", [signal.SIGTERM, nightly(signal.SIGINT)])
def test_a_signal_ends_everything_in_time(service: Started, signum: signal.Signals) -> None:
    """SIGTERM and Ctrl-C stop all processes, the database included, within 5 s and with status 0."""
    names = {p.name() for p in service.tree()}
    assert "postgres" in names
    assert service.end(signum) == 0


@pytest.mark.nightly
def test_an_open_event_stream_does_not_delay_the_end(tmp_path: Path, free_port: int, url: str) -> None:
    """The service ends the stream of a client that follows a job, and does not wait for it."""
    arguments = ("serve", "--roles", "api", "--port", str(free_port), "--data-dir", tmp_path / "data")
    with started(*arguments, lines=tmp_path / "lines") as running:
        running.until_ready(url)
        path = f"/ranoam/cm/v1/dataJob/{_a_job(url)}/events"
        with socket.create_connection(("127.0.0.1", free_port), timeout=10) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            stream = client.makefile("rb")
            assert next(line for line in stream if line.startswith(b"event:")) == b"event: progress\n"
            assert running.end() == 0


@pytest.mark.nightly
async def test_a_plugin_that_does_not_answer_does_not_delay_the_end(
    tmp_path: Path, free_port: int, url: str
) -> None:
    """An active call gets the grace period. Then all processes end, within 5 s of the signal."""
    plugin = ScriptedPlugin(Script(create=(Step.STALL,)))
    arguments = ("serve", "--port", str(free_port), "--data-dir", tmp_path / "data")
    async with plugin.serving() as address:
        with started(*arguments, lines=tmp_path / "lines") as running:
            await asyncio.to_thread(running.until_ready, url)
            handle = {
                "cmHandle": "h",
                "alternateId": "/ManagedElement=nowhere",
                "dataProducerIdentifier": "p",
            }
            body = json.dumps({"dmiPlugin": address, "createdCmHandles": [handle]}).encode()
            loaded = await asyncio.to_thread(datajobs, "inventory", "load", "-", "--server", url, stdin=body)
            assert loaded.returncode == 0, loaded.stderr
            await asyncio.to_thread(_a_job, url)
            async with asyncio.timeout(30):
                await plugin.changed.wait()
            assert await asyncio.to_thread(running.end) == 0


def test_a_killed_service_leaves_nothing_and_the_next_start_goes_on(
    tmp_path: Path, free_port: int, url: str
) -> None:
    """After a SIGKILL of the main process its children end within 5 s. Data and port are free again."""
    arguments = ("serve", "--port", str(free_port), "--data-dir", tmp_path / "data")
    with started(*arguments, lines=tmp_path / "first") as first:
        first.until_ready(url)
        job_id = _a_job(url)
        tree = first.tree()
        first.process.kill()
        first.process.wait()
        with started(*arguments, lines=tmp_path / "second") as second:
            second.until_ready(url)
            done = datajobs("watch", job_id, "--server", url)
            assert done.returncode == 1
            assert "failed" in done.stdout
        _, alive = psutil.wait_procs(tree, timeout=ENDED_WITHIN)
        assert alive == []


@pytest.mark.nightly
@pytest.mark.parametrize("role", ["serve-api", "serve-worker"])
def test_a_process_that_dies_is_started_again(service: Started, url: str, role: str) -> None:
    """A crash of one role causes a short pause. The supervisor and the other role continue."""
    died = service.child(role)
    died.kill()
    service.until_it_says("process.restarted")
    service.until_ready(url)
    job_id = _a_job(url)
    assert datajobs("watch", job_id, "--server", url).returncode == 1


@pytest.mark.nightly
def test_a_service_has_as_many_workers_as_it_is_told(tmp_path: Path, free_port: int, url: str) -> None:
    """Two workers: while one is frozen, jobs end all the same. Both stop in time."""
    arguments = ("serve", "--workers", "2", "--port", str(free_port), "--data-dir", tmp_path / "data")
    with started(*arguments, lines=tmp_path / "lines") as service:
        service.until_ready(url)
        workers = [p for p in service.tree()[1:] if "serve-worker" in p.cmdline()]
        assert len(workers) == 2
        for frozen in workers:
            frozen.suspend()
            try:
                assert datajobs("watch", _a_job(url), "--server", url).returncode == 1
            finally:
                frozen.resume()
        assert service.end() == 0


@pytest.mark.nightly
def test_the_database_is_started_again_when_it_dies(service: Started, url: str) -> None:
    """A crash of the embedded database causes a short pause, and loses nothing that was promised."""
    job_id = _a_job(url)
    postmaster = next(p for p in service.tree() if p.name() == "postgres" and p.ppid() == service.process.pid)
    postmaster.send_signal(signal.SIGKILL)
    service.until_it_says("starting it again")
    service.until_ready(url)
    assert datajobs("watch", job_id, "--server", url).returncode == 1


@pytest.mark.nightly
def test_a_data_dir_has_one_owner(service: Started, tmp_path: Path) -> None:
    """A second service on the same data dir ends with status 2 and names the first."""
    second = datajobs("serve", "--port", "0", "--data-dir", tmp_path / "data")
    assert second.returncode == 2
    assert f"process {service.process.pid} " in second.stderr
    assert "serve --port" in second.stderr


@pytest.mark.nightly
def test_a_port_in_use_gives_a_suggestion(service: Started, tmp_path: Path, free_port: int) -> None:
    """Status 2, and a free port."""
    second = datajobs("serve", "--port", str(free_port), "--data-dir", tmp_path / "other")
    assert second.returncode == 2
    suggested = re.search(r"try --port (\d+)", second.stderr)
    assert suggested is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", int(suggested[1])))


def test_another_address_needs_root_tokens_and_tls(tmp_path: Path) -> None:
    """The service cannot be exposed to the network by accident. The message names all missing settings."""
    done = datajobs("serve", "--host", "0.0.0.0", "--data-dir", tmp_path / "data")
    assert done.returncode == 2
    for name in (
        "DATAJOBS_API_ROOT",
        "DATAJOBS_TOKENS_FILE",
        "DATAJOBS_TLS_CERT",
        "DATAJOBS_BEHIND_TLS_PROXY",
    ):
        assert name in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_wrong_file_of_credentials_is_refused(tmp_path: Path) -> None:
    """Status 2, before anything is started, and no secret of it."""
    (tmp_path / "file").write_text('{"http://dmi:8080": {"username": "u", "password": 4711}}')
    done = datajobs(
        "serve", "--data-dir", tmp_path / "data", DATAJOBS_DMI_CREDENTIALS_FILE=str(tmp_path / "file")
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"datajobs: DATAJOBS_DMI_CREDENTIALS_FILE: {tmp_path}/file: ")
    assert "4711" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_an_unknown_setting_is_refused_with_the_nearest(tmp_path: Path) -> None:
    """Status 2 and the probable intention."""
    done = datajobs("serve", "--data-dir", tmp_path / "data", DATAJOBS_MAXBODY="1")
    assert done.returncode == 2
    assert done.stderr == "datajobs: unknown setting DATAJOBS_MAXBODY: did you mean DATAJOBS_MAX_BODY?\n"


def test_a_data_dir_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """Status 2, and the folder's name."""
    (tmp_path / "file").write_text("")
    done = datajobs("serve", "--port", "0", "--data-dir", tmp_path / "file/data")
    assert done.returncode == 2
    assert str(tmp_path / "file/data") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.nightly
def test_secrets_show_nowhere(tmp_path: Path, free_port: int, url: str) -> None:
    """The password of the embedded database is in no log line and on no command line."""
    data = tmp_path / "data"
    arguments = ("serve", "--port", str(free_port), "--data-dir", data, "--log-level", "debug")
    with started(*arguments, lines=tmp_path / "lines") as running:
        running.until_ready(url)
        password = (data / "postgresql.password").read_text().strip()
        commands = [part for p in running.tree() for part in p.cmdline()]
        assert running.end() == 0
        assert password not in running.text()
        assert not any(password in part for part in commands)


@pytest.mark.nightly
@pytest.mark.without_schema
def test_the_roles_can_be_processes_apart(
    tmp_path: Path, free_port: int, url: str, database_url: str
) -> None:
    """An API group and a worker group on one PostgreSQL, empty before, execute a job together."""
    shared = {"DATAJOBS_DATABASE_URL": database_url}
    api = ("serve", "--roles", "api", "--port", str(free_port), "--data-dir", tmp_path / "data")
    worker = ("serve", "--roles", "worker", "--port", "0", "--data-dir", tmp_path / "worker")
    with started(*api, lines=tmp_path / "api", **shared) as one:
        one.until_ready(url)
        with started(*worker, lines=tmp_path / "worker-lines", **shared) as other:
            other.until_it_says("service.started")
            assert "postgres" not in {p.name() for p in (*one.tree(), *other.tree())}
            assert datajobs("watch", _a_job(url), "--server", url).returncode == 1
            assert other.end() == 0
        assert one.end() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_than_before_is_told_so(tmp_path: Path) -> None:
    """A cluster of another user is not changed. The message names its owner."""
    home = tmp_path / "data/postgresql"
    home.mkdir(parents=True)
    (home / "data").mkdir()
    os.chown(home, 65534, 65534)
    done = datajobs("serve", "--port", "0", "--data-dir", tmp_path / "data")
    assert done.returncode == 2
    assert "belongs to user nobody" in done.stderr
