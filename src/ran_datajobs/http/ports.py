# SPDX-License-Identifier: Apache-2.0
"""Free TCP ports, and ports that are in use."""

from __future__ import annotations

import errno
import secrets
import socket
from typing import Final

from ran_datajobs.errors import UsageError

_FIRST, _LAST = 10_240, 32_767
"""Above the well-known services and below Linux's default ``ip_local_port_range``: no outgoing connection
takes the port before it is bound."""

_TRIES: Final = 200


def free_port(host: str = "127.0.0.1") -> int:
    """A port without a listener at this moment, if possible outside the range of outgoing connections."""
    for _ in range(_TRIES):
        port = _FIRST + secrets.randbelow(_LAST - _FIRST + 1)
        if _is_free(host, port):
            return port
    with _socket(host) as probe:
        probe.bind((host, 0))
        chosen: int = probe.getsockname()[1]
        return chosen


def check_bindable(host: str, port: int, flag: str = "--port") -> None:
    """Raise UsageError if ``host:port`` cannot be bound; if the port is taken, with one that is free for
    ``flag``."""
    with _socket(host) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise UsageError(
                f"port {port} of {host} is not allowed to this user: try a port above 1023"
            ) from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UsageError(f"port {port} of {host} is in use: try {flag} {free_port(host)}") from error
            raise UsageError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def _is_free(host: str, port: int) -> bool:
    with _socket(host) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
