# SPDX-License-Identifier: Apache-2.0
"""Every exception of this package, one tree. ``retry_helps`` says whether the same call can work later.

::

    DataJobsError
    ├── WrongUse               a setting, flag or file that cannot be used        (exit status 2)
    ├── InvalidRequest         a body that is refused as a whole                  (400)
    │   └── TooManyOperations  more operations than a job may have                (413)
    ├── InvalidFdn             not a full distinguished name
    ├── InvalidFilter          a filter that does not parse; has the position
    ├── Impossible             valid but not offered here                         (422)
    ├── StoreUnavailable       the database is away or refuses writes             (503, retry)
    ├── StorageUnavailable     the object store is away                           (503, retry)
    │   └── StorageRefused     it answers, and refuses: a repeat cannot cure it
    ├── BusUnavailable         the message bus is away                            (503, retry)
    │   └── TopicRefused       the bus works, but refuses one topic
    ├── ServerUnreachable      the command line cannot reach the service          (exit status 3)
    └── Fenced                 another worker took this over: stop, write nothing

What a plugin or an element does wrong is data (an outcome), never one of these.
"""

from __future__ import annotations

from typing import ClassVar


class DataJobsError(Exception):
    """Root of the tree."""

    retry_helps: ClassVar[bool] = False


class UsageError(DataJobsError):
    """A setting, a flag or a file that cannot be used; the text says what to do.

    Several texts are several faults.
    """

    def __str__(self) -> str:
        return "; ".join(map(str, self.args))


class InvalidRequest(DataJobsError):
    """A body that is refused as a whole. ``problems`` holds (JSON pointer, detail) pairs."""

    def __init__(
        self, detail: str, problems: tuple[tuple[str, str], ...] = (), count: int | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.problems = problems
        self.count = len(problems) if count is None else count


class TooManyOperations(InvalidRequest):
    """A request with more operations than a job may have."""

    def __init__(self, limit: int) -> None:
        detail = f"a job has at most {limit} operations: split the request"
        super().__init__(detail, (("#/data", detail),))


class InvalidFdn(DataJobsError):
    """Not a full distinguished name (TS 32.300 §7); the text names the bad part."""


class InvalidFilter(DataJobsError):
    """A filter that does not parse; ``position`` is the 0-based index of the character to blame."""

    def __init__(self, detail: str, position: int) -> None:
        super().__init__(f"{detail} at position {position}")
        self.detail = detail
        self.position = position


class UnsupportedRequest(DataJobsError):
    """A valid request for something that is not offered. ``problems`` holds (JSON pointer, detail) pairs."""

    def __init__(
        self, detail: str, problems: tuple[tuple[str, str], ...] = (), count: int | None = None
    ) -> None:
        super().__init__(detail)
        self.problems = problems
        self.count = len(problems) if count is None else count


class StoreUnavailable(DataJobsError):
    """The database is away, or refuses writes."""

    retry_helps = True


class StorageUnavailable(DataJobsError):
    """The object store is away, or refuses writes."""

    retry_helps = True


class StorageRefused(StorageUnavailable):
    """The object store answers and refuses the request: a repeat cannot cure that."""


class BusUnavailable(DataJobsError):
    """The message bus is away, or refuses messages."""

    retry_helps = True


class TopicRefused(BusUnavailable):
    """The bus works, but refuses ``topic``: it is missing, forbidden, or takes only smaller messages."""

    def __init__(self, topic: str, cause: str) -> None:
        super().__init__(f"topic {topic!r}: {cause}")
        self.topic = topic


class ServerUnreachable(DataJobsError):
    """The command line cannot reach the service."""

    retry_helps = True


class Fenced(DataJobsError):
    """Another worker took the lane, the job or the shard over: stop, and write nothing more."""
