# SPDX-License-Identifier: Apache-2.0
"""All exceptions of this package, one tree.

::

    DataJobsError
    ├── UsageError             a setting, flag or file that cannot be used        (exit status 2)
    ├── RefusedRequest         a request that is refused as a whole
    │   ├── InvalidRequest     a body that is not a valid request                 (400)
    │   │   └── TooManyOperations  more operations than a job may have            (413)
    │   └── UnsupportedRequest valid but not offered here                         (422)
    ├── InvalidFdn             not a full distinguished name
    ├── InvalidFilter          a filter that does not parse; has the position
    ├── InvalidSelector        a data node selector that does not parse; the text marks the place
    ├── InvalidModules         YANG modules that cannot be read; has file and line
    ├── Unavailable            a retry can succeed                                (503, exit status 3)
    │   ├── StoreUnavailable   the database is unavailable or refuses writes
    │   ├── StorageUnavailable the object store is unavailable
    │   │   └── StorageRefused it answers with a refusal that a retry cannot cure
    │   ├── NcmpUnavailable    the NCMP that is followed is unavailable
    │   ├── BusUnavailable     the message bus is unavailable
    │   │   └── TopicRefused   the bus works, but refuses one topic
    │   ├── PolicyUnavailable  the policy executor gives no usable answer
    │   └── ServerUnreachable  the command line cannot reach the service
    └── Fenced                 another worker took this over: stop, write nothing

Faults of a plugin or an element are data (outcomes), never exceptions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self


class DataJobsError(Exception):
    """Root of the tree."""


class UsageError(DataJobsError):
    """A setting, a flag or a file that cannot be used; the text says what to do.

    Each argument is one fault.
    """

    def __str__(self) -> str:
        return "; ".join(map(str, self.args))


class RefusedRequest(DataJobsError):
    """A request that is refused as a whole. ``problems`` holds (JSON pointer, detail) pairs: the first ones
    of ``count``."""

    def __init__(
        self, detail: str, problems: tuple[tuple[str, str], ...] = (), count: int | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.problems = problems
        self.count = len(problems) if count is None else count

    def moved(self, place: Callable[[str], str]) -> Self:
        """The refusal of a request from which this one was made: ``place`` maps pointers to those of that
        request, or to names of parameters."""
        problems = tuple((place(pointer), detail) for pointer, detail in self.problems)
        detail = self.detail
        if problems and detail.startswith(self.problems[0][0]):
            detail = problems[0][0] + detail.removeprefix(self.problems[0][0])
        return type(self)(detail, problems, self.count)


class InvalidRequest(RefusedRequest):
    """A body that is not a valid request."""

    @classmethod
    def at(cls, pointer: str, detail: str) -> InvalidRequest:
        """The refusal for one fault: at a JSON pointer, or in the parameter of this name."""
        return InvalidRequest(f"{pointer}: {detail}", ((pointer, detail),))


class TooManyOperations(InvalidRequest):
    """A request with more operations than a job may have."""

    def __init__(self, limit: int) -> None:
        detail = f"a job has at most {limit} operations: split the request"
        super().__init__(detail, (("#/data", detail),))


class InvalidFdn(DataJobsError):
    """Not a full distinguished name (TS 32.300 §7); the text names the bad part."""


class InvalidFilter(DataJobsError):
    """A filter that does not parse; ``position`` is the 0-based index of the offending character."""

    def __init__(self, detail: str, position: int) -> None:
        super().__init__(f"{detail} at position {position}")
        self.detail = detail
        self.position = position


class InvalidSelector(DataJobsError):
    """A data node selector that does not parse; the text marks the place."""


class InvalidModules(DataJobsError):
    """YANG modules that cannot be read. ``file``: of the fault, empty if it is in none; ``line``: 0 if the
    fault has none."""

    def __init__(self, detail: str, file: str = "", line: int = 0) -> None:
        super().__init__(f"{file}:{line}: {detail}" if file else detail)
        self.detail = detail
        self.file = file
        self.line = line


class UnsupportedRequest(RefusedRequest):
    """A valid request for something that is not offered."""


class Unavailable(DataJobsError):
    """A system that is needed is unavailable: a retry of the call can succeed."""


class StoreUnavailable(Unavailable):
    """The database is unavailable, or refuses writes."""


class StorageUnavailable(Unavailable):
    """The object store is unavailable, or refuses writes."""


class StorageRefused(StorageUnavailable):
    """The object store answers with a refusal that a retry cannot cure."""


class NcmpUnavailable(Unavailable):
    """The NCMP that is followed does not answer, or not as NCMP does."""


class BusUnavailable(Unavailable):
    """The message bus is unavailable, or refuses messages."""


class TopicRefused(BusUnavailable):
    """The bus works, but refuses ``topic``: it is missing, forbidden, or takes only smaller messages."""

    def __init__(self, topic: str, cause: str) -> None:
        super().__init__(f"topic {topic!r}: {cause}")
        self.topic = topic


class PolicyUnavailable(Unavailable):
    """The policy executor gives no usable answer."""


class ServerUnreachable(Unavailable):
    """The command line cannot reach the service."""


class Fenced(DataJobsError):
    """Another worker took the lane, the job or the shard over: stop, and write nothing more."""
