# SPDX-License-Identifier: Apache-2.0
"""Close the connection of a client without an answer, like a network failure."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Final

_DESCRIPTORS: Final = Path("/proc/self/fd")


def close_connection_of(client: tuple[str, int]) -> bool:
    """Close this process's TCP connection to ``client`` (address, port). False if there is none.

    ASGI has no way to close a connection; it is found among the descriptors of the process (Linux).
    """
    for descriptor in _DESCRIPTORS.iterdir():
        with contextlib.suppress(OSError):
            if _is_connection_to(int(descriptor.name), client):
                return True
    return False


def _is_connection_to(descriptor: int, client: tuple[str, int]) -> bool:
    if not _DESCRIPTORS.joinpath(str(descriptor)).readlink().name.startswith("socket:"):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        peer = connection.getpeername()
        if isinstance(peer, tuple) and peer[:2] == client:
            connection.shutdown(socket.SHUT_RDWR)
            return True
    return False
