# SPDX-License-Identifier: Apache-2.0
"""How many files and sockets a process may have open at once, and how many of them are for its peers.

A process that has none left cannot open a result, a socket or a thread's pipe, and what it stands on may not
survive that: so calls and clients are bounded by what is left for them.
"""

from __future__ import annotations

import resource
from typing import Final

from ran_datajobs.errors import UsageError

ENOUGH: Final = 65_536
"""More than this is not asked for: some programs walk through all that they may have."""

LEAST: Final = 256
"""With fewer a process of the service cannot work."""

OWN: Final = 128
"""What a process needs for itself: the database, results, log, threads."""


def raise_limit() -> None:
    """Let this process, and those that it starts, have as many open as the system grants."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_limit() -> None:
    """Raise WrongUse where too few may be open for the service to work."""
    if (limit := _limit()) < LEAST:
        raise UsageError(
            f"only {limit} files and sockets may be open at once (ulimit -n): "
            f"at least {LEAST} are needed, and some thousands are better"
        )


def for_peers() -> int:
    """How many files and sockets there may be for the sake of others."""
    return max(1, _limit() - OWN)


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ENOUGH if soft == resource.RLIM_INFINITY else soft
