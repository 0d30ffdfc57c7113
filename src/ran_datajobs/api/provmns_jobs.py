# SPDX-License-Identifier: Apache-2.0
"""The data job behind a request of ProvMnS: it is stored, awaited, and its failure is the answer.

The request is checked against the inventory before it is stored, as in a dry run: nothing is left of one that
cannot be executed. Once the job is stored, no answer says that nothing happened, unless the outcomes say so:
while they are not known, also because the database is away, the answer is a 504 with the address of the job.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import quote
from uuid import UUID

from litestar import Response
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.params import HeaderParameter, SkipValidation
from msgspec import Struct

from ran_datajobs.api import provmns_problems, submit
from ran_datajobs.api.dependencies import AnyRequest, Api, ApiDependencies, Caller
from ran_datajobs.api.destination import Destination
from ran_datajobs.api.jobs import awaited
from ran_datajobs.api.problems import error_answer
from ran_datajobs.api.provmns_problems import HEADERS, VERSION
from ran_datajobs.api.request_body import off_loop
from ran_datajobs.api.results import responses_in
from ran_datajobs.api.tokens import Client
from ran_datajobs.errors import Unavailable
from ran_datajobs.inventory.owners import Owners
from ran_datajobs.model import JobType, Reason, Status
from ran_datajobs.model import Response as Outcome
from ran_datajobs.planning.envelope import MAX_NAME
from ran_datajobs.planning.provmns import Place, ProvMnsOperation, check_job, in_document, job_body
from ran_datajobs.planning.split import owners_of, split
from ran_datajobs.plugins.wire import TREE_HIERARCHICAL
from ran_datajobs.store import jobs, results
from ran_datajobs.store.database import Connection
from ran_datajobs.store.jobs import BUCKET, JobRow, NewJob

WAIT: Final = 60.0
"""Seconds for which an answer waits for the end of its job, unless the client prefers another time."""

MAX_WAIT: Final = 600
_NO_DESTINATION: Final = Destination(None, BUCKET)
_VERSIONS: Final = ("1", "1.0", "1.0.0", VERSION)
_SUPPORTED: Final = ", ".join(_VERSIONS)


class Preferences(Struct, frozen=True):
    """What a client prefers (RFC 7240). ``wait``: for at most so many seconds; ``None`` if it says
    nothing."""

    wait: int | None = None
    respond_async: bool = False

    @property
    def seconds(self) -> float:
        """Seconds for which the answer waits."""
        return (0.0 if self.respond_async else WAIT) if self.wait is None else self.wait

    @property
    def applied(self) -> dict[str, str]:
        """The header that names the preferences that are applied."""
        words = ["respond-async"] * self.respond_async
        if self.wait is not None:
            words.append(f"wait={self.wait}")
        return {"Preference-Applied": ", ".join(words)} if words else {}


def read_preferences(values: Sequence[str]) -> Preferences:
    """The preferences in the values of all ``Prefer`` headers; the first of a name counts."""
    given: dict[str, str] = {}
    for word in ",".join(values).split(","):
        name, _, value = (part.strip() for part in word.partition(";")[0].partition("="))
        given.setdefault(name.lower(), value.strip('"'))
    wait = given.get("wait", "")
    return Preferences(
        min(int(wait), MAX_WAIT) if wait.isascii() and wait.isdigit() and len(wait) < 10 else None,
        "respond-async" in given,
    )


@dataclass(frozen=True, eq=False)
class ProvMnsCall:
    """One request of ProvMnS, and who sent it."""

    request: AnyRequest
    api: ApiDependencies
    caller: Client
    preferences: Preferences
    key: str | None

    async def executed(
        self,
        operations: Sequence[ProvMnsOperation],
        document: bytes = b"",
        accept_type: str = TREE_HIERARCHICAL,
        place: Place = in_document,
    ) -> JobRow | Response[Any]:
        """The job of these operations, once all of them have succeeded; else the answer to the request.

        ``document``: the body of the request, by which a repeat under an Idempotency-Key is recognised.
        ``place``: where the fields of an operation are in the request.
        """
        api = self.api
        await submit.check_disk(api)
        body = job_body(operations, accept_type, self._line[:MAX_NAME])
        head = check_job(body, api.settings.max_operations, place)
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        key = (self.key, submit.digest(f"{self._line} {kind}".encode(), document)) if self.key else None
        job: NewJob | JobRow | None = await submit.check_admission(api, self.caller, key)
        if job is None:
            refused = await off_loop(
                len(body), _refusal, body, operations, await api.owners.catch_up(), self._is_patch
            )
            if refused is not None:
                return error_answer(self.request, *refused)
            submit.check_watchers(api)
            job = await submit.accept(api, self.caller, head, _NO_DESTINATION, body, key=key)
        row = await self._ended(job.job_id)
        if row is None and self.preferences.respond_async:
            answer = submit.accepted(api, job)
            answer.headers |= HEADERS | self.preferences.applied
            return answer
        if row is None:
            return self.pending(job.job_id, "the job of this request goes on: its address is in Location")
        return row if row.status is Status.FINISHED else await self._failure(row)

    def pending(self, job_id: UUID, detail: str) -> Response[Any]:
        """The answer while the outcome is not known."""
        uri = self.api.view.job_uri(job_id)
        return provmns_problems.pending(self._path, uri, detail, self.preferences.applied)

    async def outcomes(self, row: JobRow, limit: int | None = None) -> tuple[list[Outcome], int]:
        """The responses of an ended job, in the order of its operations, and the bytes of their objects.

        Of a read that has failed only the failures. No responses if there are more bytes than ``limit``.
        """
        api = self.api
        async with api.database.connection() as connection:
            parts = await results.listing(connection, row.job_id)
        only_failed = row.type is JobType.READ and row.status is not Status.FINISHED
        parts = [part for part in parts if part.operations and (part.failed or not only_failed)]
        size = sum(part.size for part in parts)
        if limit is not None and size > limit:
            return [], size
        found = [each for part in parts for each in await responses_in(api, row, part)]
        return sorted(found, key=_position), size

    @property
    def _path(self) -> str:
        path: str = self.request.scope["path"]
        return path

    @property
    def _is_patch(self) -> bool:
        return bool(self.request.scope["method"] == "PATCH")

    @property
    def _line(self) -> str:
        """Method and address of the request, in printable characters."""
        scope = self.request.scope
        address = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        return f"{scope['method']} {quote(address, safe=string.printable.strip())}"

    async def _ended(self, job_id: UUID) -> JobRow | None:
        """The job, once it is terminal; ``None`` when the client does not wait any longer."""

        async def ended(connection: Connection) -> JobRow | None:
            row = await jobs.find(connection, job_id, None)
            return row if row is not None and row.status.terminal else None

        return await awaited(self.api, self.request, job_id, self.preferences.seconds, ended)

    async def _failure(self, row: JobRow) -> Response[Any]:
        uri = self.api.view.job_uri(row.job_id)
        try:
            outcomes, _ = await self.outcomes(row)
        except Unavailable as error:
            return self.pending(
                row.job_id, f"the job has ended, and its outcomes cannot be read now: {error}"
            )
        answer = provmns_problems.failure(self._path, uri, outcomes, is_patch=self._is_patch)
        return answer or self.pending(row.job_id, "the job has ended, and its outcomes are lost")


def call_of(
    request: AnyRequest,
    api: Api,
    caller: Caller,
    version: Annotated[
        str | None,
        HeaderParameter(name="Version", description=f"Version of R1's API: {_SUPPORTED}; others are a 406."),
    ] = None,
    prefer: Annotated[
        str | None,
        HeaderParameter(
            name="Prefer",
            description=f"`wait=SECONDS` ({WAIT:g} by default, at most {MAX_WAIT}) and `respond-async`.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        HeaderParameter(
            name="Idempotency-Key", description="A repeat of the request with it is not executed again."
        ),
    ] = None,
) -> ProvMnsCall:
    """The call that a route answers. Raises a 406 for a version of R1's API that is not supported."""
    if version is not None and version.strip() not in _VERSIONS:
        raise HTTPException(f"Version must be one of {_SUPPORTED}", status_code=406)
    submit.check_key(key)
    return ProvMnsCall(request, api, caller, read_preferences(request.headers.getall("prefer", [])), key)


Call: TypeAlias = SkipValidation[NamedDependency[ProvMnsCall]]
"""A route's parameter ``call``."""


_Refused: TypeAlias = tuple[int, str, None, tuple[tuple[str, str], ...]]
"""Status, detail, headers and faults of an answer."""


def _refusal(
    body: bytes, operations: Sequence[ProvMnsOperation], owners: Owners, is_patch: bool
) -> _Refused | None:
    """Why the job of this ``body`` would not be executed as a whole, according to its plan."""
    plan = split(body, owners)
    if plan.refused:
        first = plan.refused[0]
        detail = first.detail
        if first.reason is Reason.MODE_NOT_SUPPORTED and len(operations) > 1:
            detail += ", so that a patch can have one operation: send the others separately, or a data job"
        faults = ((f"#/{first.position}", detail),) if is_patch else ()
        return provmns_problems.STATUSES[first.reason], detail, None, faults
    if not is_patch:
        return None
    found = owners_of([str(each.path) for each in operations], owners)
    handles = [each.cm_handle for each in found if each is not None]
    other = next((place for place, handle in enumerate(handles) if handle != handles[0]), None)
    if other is None:
        return None
    detail = (
        f"a patch has one owner, and CM handle {handles[0]} owns the object of /0, {handles[other]} that of "
        f"/{other}: send them separately, or as a data job"
    )
    return 422, detail, None, ((f"#/{other}", detail),)


def _position(outcome: Outcome) -> int:
    """The position of an operation: its id, since requests of ProvMnS have none."""
    text = str(outcome.operation_id)
    return int(text) if text.isascii() and text.isdigit() else 0
