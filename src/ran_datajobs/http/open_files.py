# SPDX-License-Identifier: Apache-2.0
"""The limit of open files and sockets of a process, and how many of them are available for its peers.

A process at the limit cannot open a result, a socket or a thread's pipe, and its libraries may not survive
that. The numbers of calls and clients are therefore bounded by what is available for peers.
"""

from __future__ import annotations

import resource
from typing import Final

from ran_datajobs.errors import UsageError

ENOUGH: Final = 65_536
"""Maximum limit that is requested: some programs iterate over all descriptors that they may have."""

LEAST: Final = 256
"""Minimum limit with which a process of the service can work."""

OWN: Final = 128
"""Files and sockets that a process needs for itself: the database, results, log, threads."""


def raise_limit() -> None:
    """Raise the limit of this process, and of those that it starts, to what the system grants."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_limit() -> None:
    """Raise UsageError if the limit is too low for the service."""
    if (limit := _limit()) < LEAST:
        raise UsageError(
            f"only {limit} files and sockets may be open at once (ulimit -n): "
            f"at least {LEAST} are needed, and some thousands are better"
        )


def for_peers() -> int:
    """Number of files and sockets available for peers, at least 1."""
    return max(1, _limit() - OWN)


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ENOUGH if soft == resource.RLIM_INFINITY else soft
