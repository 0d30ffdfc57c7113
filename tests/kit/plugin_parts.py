# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the DMI plugin tests: an observable element, calls, and a served plugin."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Raw

from ran_datajobs.dmi.element import Element, Outcome, ReadChunk
from ran_datajobs.dmi.owners import Owners
from ran_datajobs.dmi.publisher import Publisher, StatusNews
from ran_datajobs.dmi.server import serve
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.errors import BusUnavailable
from ran_datajobs.messaging.bus import Message
from ran_datajobs.model import (
    ActivationMode,
    ErrorDetail,
    ObjectState,
    Op,
    Operation,
    OperationState,
    Scope,
    ScopeType,
    Status,
)
from ran_datajobs.plugins import wire
from ran_datajobs.plugins.port import CreateCall, Created, DmiPlugin, JobAddress, Polled, StatusAnswer

DEADLINE = 30.0
PRIVATE = Raw(b'{"netconf-password":"s3cr3t-of-the-element","user":"adm1n-of-the-element"}')
SECRETS = (b"s3cr3t-of-the-element", b"adm1n-of-the-element", b"netconf-password", b"privateProperties")
REFUSED = ErrorDetail(
    type="DATA_NODE_TREE_ERROR",
    bad_data_node="/SubNetwork=X/Refused=1",
    reason="TARGET_DATA_NODE_NOT_FOUND",
    title="No such object",
)


class WatchedElement:
    """Applies every operation whose path does not contain ``Refused`` and records it.

    With ``gate`` closed, a write waits until it is opened. ``log``: a file that gets one line per operation,
    synced to disk before the operation counts as done.
    """

    def __init__(self, log: Path | None = None) -> None:
        self.executed: list[str | int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()
        self._log = log

    async def write(
        self, operations: Sequence[Operation], mode: ActivationMode, *, images: bool = False
    ) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        failed = False
        for operation in operations:
            self.waiting.set()
            await self.gate.wait()
            if failed and mode is ActivationMode.STOP_ON_ERROR:
                outcomes.append(Outcome(OperationState.NOT_STARTED))
                continue
            self._note(operation)
            failed = "Refused" in operation.path
            outcomes.append(
                Outcome(OperationState.FAILED, (REFUSED,))
                if failed
                else Outcome(OperationState.SUCCEEDED, before=image_before(operation) if images else None)
            )
        return outcomes

    async def read(self, operation: Operation) -> AsyncIterator[ReadChunk]:
        self.executed.append(operation.operation_id)
        if "Refused" in operation.path:
            yield ReadChunk((), True, (REFUSED,))
            return
        count = 0 if "Empty" in operation.path else 3 if "Small" in operation.path else 4_000
        size = 1_000_000 if "Oversized" in operation.path else 400
        for first in range(0, max(count, 1), 500):
            rows = [flat_object(number, size) for number in range(first, min(first + 500, count))]
            yield ReadChunk(tuple(rows), first + 500 >= count)

    def _note(self, operation: Operation) -> None:
        self.executed.append(operation.operation_id)
        if self._log is not None:
            with self._log.open("ab") as log:
                log.write(f"{operation.operation_id}\n".encode())
                log.flush()
                os.fsync(log.fileno())


def image_before(operation: Operation) -> ObjectState:
    """The before-image that a :class:`WatchedElement` tells."""
    return ObjectState({"userLabel": f"before {operation.operation_id}"})


def flat_object(number: int, size: int) -> dict[str, Any]:
    return {
        "id": str(number),
        "objectClass": "NRCellDU",
        "objectInstance": f"SubNetwork=X,ManagedElement=1,GNBDUFunction=1,NRCellDU={number}",
        "attributes": {"userLabel": "x" * size, "nRPCI": number},
    }


class KeptMessages:
    """A publisher that keeps its messages in memory; its first ``failures`` calls fail."""

    def __init__(self, failures: int = 0) -> None:
        self.messages: list[tuple[str, Message]] = []
        self._failures = failures

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        if self._failures:
            self._failures -= 1
            raise BusUnavailable("unavailable, as the test sets it")
        self.messages += [(topic, message) for message in messages]


@contextlib.asynccontextmanager
async def served_plugin(
    settings: PluginSettings,
    element_of: Callable[[str], Element | None],
    publisher: Publisher | None = None,
    news: StatusNews | None = None,
    owners: Owners | None = None,
) -> AsyncIterator[str]:
    """The reference plugin on a free port. Yields its base address."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve(
            "127.0.0.1",
            0,
            settings,
            element_of,
            publisher or KeptMessages(),
            news=news,
            owners=owners,
            ready=ready.set_result,
        )
    )
    try:
        await asyncio.wait({serving, ready}, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        yield ready.result()
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


def writes(count: int, first: int = 0, refused: frozenset[int] = frozenset()) -> list[Operation]:
    return [
        Operation(
            Op.REPLACE,
            f"/SubNetwork=X/{'Refused' if number in refused else 'Known'}={number}#/attributes/userLabel",
            number,
            Raw(b'"new \xc3\xa9 label"'),
        )
        for number in range(first, first + count)
    ]


def reads(*names: str) -> list[Operation]:
    return [
        Operation(
            Op.READ,
            f"/SubNetwork={name}",
            number,
            attributes=("userLabel",),
            filter=("NRCellDU/attributes/nRPCI >= 0",),
            scope=Scope(ScopeType.BASE_ALL),
        )
        for number, name in enumerate(names)
    ]


def call_for(
    dialect: str,
    operations: Sequence[Operation],
    *,
    data_producer_id: str = "producer-1",
    mode: ActivationMode = ActivationMode.BEST_EFFORT,
    sub_job_id: str | None = None,
    job_id: str | None = None,
    accept_type: str = wire.TREE_FLAT,
    before_images: bool = False,
) -> CreateCall:
    spoken = wire.Dialect(dialect)
    return CreateCall(
        job_id=job_id or str(uuid4()),
        sub_job_id=sub_job_id or str(uuid4()),
        data_producer_id=data_producer_id,
        destination="results-of-the-rapp",
        accept_type=accept_type,
        content_type=wire.JSON_PATCH_3GPP,
        activation_mode=mode,
        is_read=operations[0].op is Op.READ,
        operations=msgspec.json.encode([_sent(spoken, one) for one in operations]),
        before_images=before_images,
    )


def _sent(dialect: wire.Dialect, operation: Operation) -> wire.SeedOperation | wire.OnapOperation:
    """The operation as NCMP sends it, with CM handle data."""
    seed = msgspec.json.decode(msgspec.json.encode(operation), type=wire.SeedOperation)
    seed.module_set_tag, seed.private_properties = "tag-1", PRIVATE
    return wire.onap_operation(seed) if dialect is wire.Dialect.ONAP else seed


def address_of(call: CreateCall, created: object) -> JobAddress:
    assert isinstance(created, Created), created
    return JobAddress(
        call.job_id, call.data_producer_id, created.data_producer_job_id, call.destination, call.is_read
    )


async def until_terminal(plugin: DmiPlugin, address: JobAddress) -> list[Status]:
    """Return every distinct status in the order of first appearance, up to a terminal one."""
    seen: list[Status] = []
    async with asyncio.timeout(DEADLINE):
        while True:
            answer: StatusAnswer = await plugin.status(address)
            assert isinstance(answer, Polled), answer
            if answer.status not in seen:
                seen.append(answer.status)
            if answer.status.terminal:
                return seen
            await asyncio.sleep(0.01)  # polling interval
