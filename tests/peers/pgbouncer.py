# SPDX-License-Identifier: Apache-2.0
"""A real PgBouncer in front of a real PostgreSQL, for the tests that need one."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.peers.program import Program, free_ports, not_installed

_SETTINGS = """
[databases]
* = host={host} port={server_port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
server_round_robin = {round_robin}
max_client_conn = 200
"""


@contextlib.contextmanager
def pgbouncer(url: str, mode: str, *, size: int = 60, round_robin: bool = False) -> Iterator[str]:
    """The address of a PgBouncer in front of the database at ``url``, during the block.

    It refuses to run as root: there it runs as ``nobody``.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        not_installed("PgBouncer")
    parts = urlsplit(url)
    (port,) = free_ports(1)
    folder = Path(tempfile.mkdtemp(prefix=f"ran-datajobs-tests-{os.getpid()}-"))
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        _SETTINGS.format(
            host=parts.hostname,
            server_port=parts.port,
            user=parts.username,
            password=parts.password,
            port=port,
            mode=mode,
            size=size,
            round_robin=int(round_robin),
        )
    )
    command = [program, "--quiet", str(settings)]
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (folder, settings):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        ids = (f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")
        command = ["setpriv", *ids, "--pdeathsig=KILL", *command]
    running = Program(command, folder, {})
    try:
        running.start(lambda: _listens(port))
        yield urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}"))
    finally:
        running.stop()
        shutil.rmtree(folder)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
