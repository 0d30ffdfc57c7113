# SPDX-License-Identifier: Apache-2.0
"""Element adapter for any ProvMnS server (3GPP TS 28.532) of a data producer.

Writes are sent as 3GPP JSON Patch documents, which a server applies atomically (TS 32.158 §6.3.1). A refused
document changed nothing: it is split around the faulty operation, down to single operations, so that the
outcomes equal those of separate requests. If the answer to a document is lost, the objects are read to
determine its outcome; if they are inconclusive, its operations are UNKNOWN.

A guard is sent as ``test`` operations in the document of its operation, so that the server compares and
writes in one step. ``test`` cannot express that something is absent, or that an object exists: there, as for
before-images, the object is read directly before the document. No other write through this element comes
between, but a write of another client can.

Operations of different ManagedElements are independent: except under STOP_ON_ERROR, each element has its own
documents, and elements are written concurrently.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, Protocol, assert_never

import msgspec
from msgspec import Raw, Struct, structs

from ran_datajobs.dmi.element import Outcome, ReadChunk, changed_since
from ran_datajobs.dmi.provmns.documents import (
    Edit,
    Span,
    document,
    documents,
    edit_of_item,
    independent,
    read_edit,
    resource,
    target_of,
    uri_of,
)
from ran_datajobs.dmi.provmns.error_bodies import Refusal, read_refusal
from ran_datajobs.dmi.provmns.names import Aliases
from ran_datajobs.dmi.provmns.nodes import Asked
from ran_datajobs.dmi.provmns.read import ProvMnsReader, ScopeSpelling
from ran_datajobs.dmi.provmns.reconcile import Found, Settled, settled
from ran_datajobs.dmi.provmns.retry import Patience, Sleep
from ran_datajobs.model import ActivationMode, ErrorDetail, Op, Operation, OperationState
from ran_datajobs.nrm import faults, guards
from ran_datajobs.nrm.model import Model, load
from ran_datajobs.plugins.answers import NOT_PROCESSED, seconds_of
from ran_datajobs.plugins.client import Answered, Broken, Exchange, NotSent
from ran_datajobs.plugins.wire import JSON, JSON_PATCH_3GPP, JSON_PATCH_VND_3GPP

_SUCCEEDED: Final = Outcome(OperationState.SUCCEEDED)
_NOT_STARTED: Final = Outcome(OperationState.NOT_STARTED)
_MAY_HAVE_CHANGED: Final = frozenset({OperationState.SUCCEEDED, OperationState.UNKNOWN})

_Read = dict[str, Any] | ErrorDetail | None
"""The attributes of an object, None if it does not exist, or why it cannot be read."""


class ProvMnsServer(Struct, frozen=True):
    """Settings of one server.

    ``root``: its address up to the version, for example ``http://ems/ProvMnS/v1``. ``document``: maximum
    operations in one document; ``span``: objects that one may contain. ``concurrency``: maximum concurrent
    requests. ``patience``: seconds for which one call retries while the server is unavailable or busy.
    ``actions``: the server accepts ``action`` as an additional op of documents; ProvMnS has none. Filters are
    not sent, since servers share no filter language: the client applies them to the received objects.
    ``selectors``: the server knows ``dataNodeSelector``; one that does not may ignore it.
    """

    root: str
    document: int = 200
    span: Span = Span.ELEMENT
    concurrency: int = 8
    patience: float = 20.0
    actions: bool = False
    scope_spelling: ScopeSpelling = ScopeSpelling.EXPLODED
    selectors: bool = False


class Http(Protocol):
    """The part of :class:`~ran_datajobs.plugins.client.PeerHttp` that is used here."""

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        result: bool = False,
    ) -> Exchange:
        """Send one request and read the complete answer."""
        ...


class _Refused(Struct, frozen=True):
    """The server refused the document and changed nothing."""

    refusal: Refusal


class _Unavailable(Struct, frozen=True):
    """The server was not reached or did not process the request within the patience."""

    cause: str


class _AnswerLost(Struct, frozen=True):
    """The server may have applied the document. ``done_with``: it answered, so it no longer executes it."""

    cause: str
    done_with: bool


class _Applied(Struct, frozen=True):
    """The server applied the document."""


_Sent = _Applied | _Refused | _Unavailable | _AnswerLost


class ProvMnsElement:
    """An :class:`~ran_datajobs.dmi.element.Element` over HTTP; ``http`` may be shared by many."""

    def __init__(
        self,
        server: ProvMnsServer,
        http: Http,
        aliases: Aliases | None = None,
        model: Model | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """``model``: the stage-2 class model; default: the one of this package."""
        self._server = server
        self._model = model or load()
        self._sleep = sleep
        self._http = http
        self._aliases = aliases or Aliases()
        self._slots = asyncio.Semaphore(server.concurrency)
        self._patch_type = JSON_PATCH_3GPP
        self._reader = ProvMnsReader(
            self._ask,
            self._aliases,
            server.scope_spelling,
            self._patience,
            selectors=server.selectors,
        )

    async def write(
        self, operations: Sequence[Operation], mode: ActivationMode, *, images: bool = False
    ) -> Sequence[Outcome]:
        """See :class:`~ran_datajobs.dmi.element.Element`."""
        patience = self._patience()
        edits = [self._edit(operation) for operation in operations]
        if mode is ActivationMode.STOP_ON_ERROR:
            return await self._up_to_the_first_failure(edits, patience, images)
        return await self._by_element(edits, patience, images)

    def read(self, operation: Operation) -> AsyncIterator[ReadChunk]:
        """See :class:`~ran_datajobs.dmi.element.Element`."""
        return self._reader.read(operation)

    def _patience(self) -> Patience:
        return Patience(self._server.patience, self._sleep)

    def _edit(self, operation: Operation) -> Edit | ErrorDetail:
        if operation.op is Op.ACTION and not self._server.actions:
            return faults.malformed(operation.path, "this element takes no actions: ProvMnS has none")
        return read_edit(operation)

    async def _up_to_the_first_failure(
        self, edits: Sequence[Edit | ErrorDetail], patience: Patience, images: bool
    ) -> list[Outcome]:
        """Execute in the order of the operations, across elements, until the first failure."""
        place = next((at for at, each in enumerate(edits) if isinstance(each, ErrorDetail)), len(edits))
        readable = [each for each in edits[:place] if isinstance(each, Edit)]
        outcomes = await self._run(readable, True, patience, images)
        if place < len(edits) and _all_succeeded(outcomes) and isinstance(bad := edits[place], ErrorDetail):
            outcomes.append(Outcome(OperationState.FAILED, (bad,)))
        return outcomes + [_NOT_STARTED] * (len(edits) - len(outcomes))

    async def _by_element(
        self, edits: Sequence[Edit | ErrorDetail], patience: Patience, images: bool
    ) -> list[Outcome]:
        """Execute the operations of each ManagedElement in order, and different elements concurrently."""
        outcomes = [
            Outcome(OperationState.FAILED, (each,)) if isinstance(each, ErrorDetail) else _NOT_STARTED
            for each in edits
        ]

        async def run(places: Sequence[int]) -> None:
            group = [each for place in places if isinstance(each := edits[place], Edit)]
            for place, outcome in zip(places, await self._run(group, False, patience, images), strict=True):
                outcomes[place] = outcome

        for step in independent(edits, self._server.span):
            async with asyncio.TaskGroup() as group:
                for places in step:
                    group.create_task(run(places))
        return outcomes

    async def _run(
        self, edits: Sequence[Edit], stop: bool, patience: Patience, images: bool
    ) -> list[Outcome]:
        """Execute operations in order, in as few documents as possible."""
        outcomes: list[Outcome] = []
        for first, end in documents(edits, self._server.span, self._server.document, images=images):
            outcomes += await self._after_a_look(edits[first:end], stop, patience, images)
            if stop and not _all_succeeded(outcomes):
                break
        return outcomes + [_NOT_STARTED] * (len(edits) - len(outcomes))

    async def _after_a_look(
        self, edits: Sequence[Edit], stop: bool, patience: Patience, images: bool
    ) -> list[Outcome]:
        """Read the objects that guards or ``images`` need, then send one document of the edits whose guards
        hold. An edit whose object cannot be read is not sent."""
        looks = [images or not edit.is_tested for edit in edits]
        if not any(looks):
            return await self._document(edits, stop, patience)
        looked_at = [edit for edit, look in zip(edits, looks, strict=True) if look]
        found = await self._objects_of(looked_at, patience)
        refused = {
            place: outcome
            for place, (edit, look) in enumerate(zip(edits, looks, strict=True))
            if look and (outcome := _refused_by(edit, found[edit.key])) is not None
        }
        end = min(refused, default=len(edits)) if stop else len(edits)
        sent = [edit for place, edit in enumerate(edits[:end]) if place not in refused]
        results = iter(await self._document(sent, stop, patience) if sent else ())
        outcomes = [refused[place] if place in refused else next(results) for place in range(end)]
        if images:
            outcomes = [
                _with_image(edit, found[edit.key], outcome)
                for edit, outcome in zip(edits[:end], outcomes, strict=True)
            ]
        if end < len(edits) and _all_succeeded(outcomes):
            outcomes.append(refused[end])
        return outcomes + [_NOT_STARTED] * (len(edits) - len(outcomes))

    async def _objects_of(self, edits: Sequence[Edit], patience: Patience) -> dict[str, _Read]:
        keys = list(dict.fromkeys(edit.key for edit in edits))
        read = await asyncio.gather(*(self._reader.attributes_of(key, patience) for key in keys))
        return dict(zip(keys, read, strict=True))

    async def _document(self, edits: Sequence[Edit], stop: bool, patience: Patience) -> list[Outcome]:
        match await self._send(edits, patience):
            case _Applied():
                return [_SUCCEEDED] * len(edits)
            case _Refused(refusal) if len(edits) == 1:
                return [await self._refusal(edits[0], refusal.error, patience)]
            case _Refused(refusal):
                return await self._split(edits, refusal.bad, stop, patience)
            case _Unavailable(cause):
                return self._failed(edits, cause, stop)
            case _AnswerLost(cause, done_with):
                return await self._reconcile(edits, cause, done_with, stop)
            case sent:
                assert_never(sent)

    async def _split(
        self, edits: Sequence[Edit], bad: int | None, stop: bool, patience: Patience
    ) -> list[Outcome]:
        """Split a refused document around the faulty operation, or in halves if none is named, and resend."""
        cuts = {bad, bad + 1} if bad is not None and bad < len(edits) else {len(edits) // 2}
        outcomes: list[Outcome] = []
        for end in sorted({*cuts, len(edits)} - {0}):
            outcomes += await self._document(edits[len(outcomes) : end], stop, patience)
            if stop and not _all_succeeded(outcomes):
                break
        return outcomes + [_NOT_STARTED] * (len(edits) - len(outcomes))

    async def _refusal(self, edit: Edit, error: ErrorDetail, patience: Patience) -> Outcome:
        """Outcome of a refused operation: CHANGED_SINCE if its guard does not hold. Servers need not say
        which operation of a document they refuse, so the object is read."""
        if edit.expect is not None:
            found = await self._reader.attributes_of(edit.key, patience)
            if not isinstance(found, ErrorDetail) and (
                difference := guards.changed_since(edit.expect, edit.key, found)
            ):
                return changed_since(difference)
        return Outcome(OperationState.FAILED, (error,))

    def _failed(self, edits: Sequence[Edit], cause: str, stop: bool) -> list[Outcome]:
        """Outcomes of operations that were not executed."""
        outcomes = [
            Outcome(OperationState.FAILED, (_error(edit, cause),)) for edit in (edits[:1] if stop else edits)
        ]
        return outcomes + [_NOT_STARTED] * (len(edits) - len(outcomes))

    async def _reconcile(
        self, edits: Sequence[Edit], cause: str, done_with: bool, stop: bool
    ) -> list[Outcome]:
        """Outcomes of a document whose answer was lost: SUCCEEDED if the objects show it; FAILED if they show
        that it was not applied and the server no longer executes it; else UNKNOWN."""
        found = await self._found(edits)
        match Settled.OPEN if found is None else settled(edits, found, self._model):
            case Settled.DONE:
                return [_SUCCEEDED] * len(edits)
            case Settled.NOT_DONE if done_with:
                return self._failed(edits, cause, stop)
            case _:
                return [Outcome(OperationState.UNKNOWN, (_error(edit, cause),)) for edit in edits]

    async def _found(self, edits: Sequence[Edit]) -> Found | None:
        found: dict[str, dict[str, object] | None] = {}
        for key in dict.fromkeys(edit.key for edit in edits):
            attributes = await self._reader.attributes_of(key)
            if isinstance(attributes, ErrorDetail):
                return None
            found[key] = attributes
        return found

    async def _send(self, edits: Sequence[Edit], patience: Patience) -> _Sent:
        """Send one document. Retries within the patience while the server provably did not process it."""
        waits = patience.waits()
        while True:
            exchange = await self._call(edits)
            match exchange:
                case Broken(cause):
                    return _AnswerLost(cause, done_with=False)
                case NotSent(cause):
                    unavailable, wish = cause, None
                case Answered(status) if status in NOT_PROCESSED:
                    unavailable, wish = f"it answers {status}", seconds_of(exchange.retry_after)
                case Answered(status) if status in {200, 201, 204}:
                    return _Applied()
                case Answered(415) if self._patch_type == JSON_PATCH_3GPP:
                    self._patch_type = JSON_PATCH_VND_3GPP
                    continue
                case Answered(status, body) if (400 <= status < 500 and status != 408) or status == 501:
                    refusal = read_refusal(status, body, self._asked(edits))
                    bad = None if refusal.bad is None else edit_of_item(edits, refusal.bad)
                    return _Refused(Refusal(refusal.error, bad))
                case Answered(status):
                    return _AnswerLost(f"it answers {status}", done_with=status == 500)
            if not await waits.pause(wish):
                return _Unavailable(unavailable)

    def _asked(self, edits: Sequence[Edit]) -> Asked:
        first = edits[0]
        return Asked(first.key, target_of(edits), self._aliases, first.pointer, first.fragment)

    async def _call(self, edits: Sequence[Edit]) -> Exchange:
        target = target_of(edits)
        if target:
            body = document(edits, target, self._aliases)
            return await self._ask("PATCH", uri_of(target, self._aliases), body, self._patch_type)
        # A single object directly below the root: there is no resource to patch.
        edit = edits[0]
        if edit.op is Op.REMOVE:
            return await self._ask("DELETE", uri_of(edit.key, self._aliases))
        return await self._ask("PUT", uri_of(edit.key, self._aliases), resource(edit, self._aliases), JSON)

    async def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "",
        accept: str = JSON,
        result: bool = False,
    ) -> Exchange:
        headers = {"Accept": accept} | ({"Content-Type": content_type} if body is not None else {})
        async with self._slots:
            return await self._http.exchange(
                method, self._server.root.rstrip("/") + path, body=body, headers=headers, result=result
            )


def _refused_by(edit: Edit, found: _Read) -> Outcome | None:
    """The outcome of an edit that is not sent, according to the object that was read; None if it is sent."""
    if isinstance(found, ErrorDetail):
        return Outcome(OperationState.FAILED, (found,))
    if edit.expect is None:
        return None
    difference = guards.changed_since(edit.expect, edit.key, found)
    return None if difference is None else changed_since(difference)


def _with_image(edit: Edit, found: _Read, outcome: Outcome) -> Outcome:
    """``outcome`` with the image of the object that was read, if the edit was or may have been executed."""
    if isinstance(found, ErrorDetail) or outcome.state not in _MAY_HAVE_CHANGED:
        return outcome
    value = msgspec.json.decode(edit.value) if isinstance(edit.value, Raw) else edit.value
    return structs.replace(outcome, before=guards.image_of(edit.op, edit.pointer, value, found))


def _all_succeeded(outcomes: Sequence[Outcome]) -> bool:
    return all(outcome.state is OperationState.SUCCEEDED for outcome in outcomes)


def _error(edit: Edit, cause: str) -> ErrorDetail:
    return ErrorDetail(
        type="SERVER_ERROR",
        bad_data_node=faults.node(edit.key, edit.pointer),
        reason="OTHER",
        title="The element did not answer",
        detail=cause,
    )
