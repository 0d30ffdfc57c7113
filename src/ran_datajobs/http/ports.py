# SPDX-License-Identifier: Apache-2.0
"""Free TCP ports, and ports that are in use."""

from __future__ import annotations

import contextlib
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
        with contextlib.suppress(OSError):
            return _bind(host, _FIRST + secrets.randbelow(_LAST - _FIRST + 1))
    return _bind(host, 0)


def check_bindable(host: str, port: int, flag: str = "--port") -> None:
    """Raise UsageError if ``host:port`` cannot be bound; if the port is taken, with one that is free for
    ``flag``."""
    try:
        _bind(host, port)
    except PermissionError as error:
        raise UsageError(
            f"port {port} of {host} is not allowed to this user: try a port above 1023"
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} of {host} is in use: try {flag} {free_port(host)}") from error
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def _bind(host: str, port: int) -> int:
    """Bind a port for a moment and return its number. Raises OSError."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])
