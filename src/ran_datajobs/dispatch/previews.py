# SPDX-License-Identifier: Apache-2.0
"""The finish step of a preview: applies its operations, in order, on copies of what its reads have found, and
writes an outcome with the effect of each.

Nothing is sent, and nothing but result objects is written. A repeat computes the same from the same result
objects and writes the same keys. Keys are in memory, attributes in a temporary file.
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
import zstandard
from msgspec import UNSET, Raw
from msgspec.structs import replace

from ran_datajobs.config import Settings
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.inventory.owners import NO_PLUGIN, Owner, Owners
from ran_datajobs.model import (
    UNMATCHED_PART,
    ActivationMode,
    Effect,
    EffectKind,
    Operation,
    OperationState,
    Reason,
    Response,
)
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm.effects import Applied, Copies, Effects, Unknown
from ran_datajobs.nrm.model import Model, load
from ran_datajobs.nrm.reach import Survey
from ran_datajobs.planning.previews import objects_to_read
from ran_datajobs.planning.request import accepted_in_batches
from ran_datajobs.planning.split import owners_of
from ran_datajobs.plugins.responses import APPLIED, UNKNOWN_ERROR
from ran_datajobs.plugins.wire import SeedOperation
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.results.outcomes import count
from ran_datajobs.results.parts import ResultWriter
from ran_datajobs.results.read_objects import ReadObjects, ValuesOnDisk
from ran_datajobs.results.responses import read_responses, request_of, states_in
from ran_datajobs.runtime import Runtime
from ran_datajobs.store.dispatch import DispatchStore, LeasedJob, Previewed
from ran_datajobs.store.jobs import JobRow
from ran_datajobs.store.results import ADDED_SEQUENCE, Part, is_foreign

_MAX_REQUEST: Final = 1 << 31
_encode: Final = msgspec.json.Encoder().encode

built_in_model: Final = functools.cache(load)


def refused_effects(refusals: Iterable[Response]) -> Iterator[Response]:
    """The responses of operations that would not be sent, with their effect."""
    for each in refusals:
        effect = Effect(EffectKind.WOULD_FAIL, reason=each.reason, detail=each.status_message)
        yield replace(each, effect=Raw(_encode(effect)))


class Outcomes:
    """The outcome of every operation of a request, in order, but for those that the plan has refused. They
    are computed while they are iterated, which works once."""

    def __init__(
        self,
        body: bytes,
        refused: Collection[str],
        owners: Owners,
        effects: Effects,
        survey: Survey,
        operations: int,
    ) -> None:
        envelope, self._batches = accepted_in_batches(body)
        self._stops = envelope.activation_mode is ActivationMode.STOP_ON_ERROR
        self._refused = refused
        self._owners = owners
        self._effects = effects
        self._survey = survey
        self._stopped: dict[tuple[int, str], Unknown | None] = {}
        self._count = operations - len(refused)
        self.states = Counter[OperationState]()

    def __len__(self) -> int:
        """The writer computes many on threads."""
        return self._count

    def __iter__(self) -> Iterator[Response]:
        for operations in self._batches:
            owners = owners_of([each.path for each in operations], self._owners)
            for operation, owner in zip(operations, owners, strict=True):
                if str(operation.operation_id) not in self._refused:
                    yield self._outcome(operation, owner)

    def _outcome(self, operation: SeedOperation, owner: Owner | None) -> Response:
        plugin = NO_PLUGIN if owner is None else owner.write_plugin
        producer = "" if owner is None else owner.data_producer_id
        applied = self._applied(operation, (plugin.plugin_id, producer))
        effect = applied.effect
        self._survey.add(fdn.key_of_path(operation.path), applied, producer, plugin.plugin_id)
        state = _state_of(effect)
        self.states[state] += 1
        succeeded = state is OperationState.SUCCEEDED
        operation_id = operation.operation_id
        return Response(
            "" if operation_id is None else operation_id,
            APPLIED if succeeded else UNKNOWN_ERROR,
            "" if succeeded else effect.detail,
            request_of(Operation(operation.op, operation.path, "")),
            state=state,
            reason="" if succeeded else effect.reason,
            effect=Raw(_encode(effect)),
            data_producer_id=producer or UNSET,
        )

    def _applied(self, operation: SeedOperation, lane: tuple[int, str]) -> Applied:
        """The effect of an operation. With STOP_ON_ERROR the first failure in a lane stops what follows."""
        if self._stops and lane in self._stopped:
            why = self._stopped[lane]
            if why is None:
                detail = "an earlier operation of its data producer would fail"
                return Applied(Effect(EffectKind.WOULD_FAIL, reason=Reason.NOT_STARTED, detail=detail))
            self._effects.skip(operation.op, operation.path, why)
            return Applied(Effect(EffectKind.UNKNOWN, reason=why.reason, detail=why.detail))
        applied = self._effects.of(operation.op, operation.path, operation.value)
        if self._stops and applied.effect.kind is EffectKind.WOULD_FAIL:
            self._stopped[lane] = None
        elif self._stops and applied.effect.kind is EffectKind.UNKNOWN:
            detail = "it is not known whether an earlier operation of its data producer would fail"
            self._stopped[lane] = Unknown(Reason.EFFECT_UNKNOWN, detail)
        return applied


def _state_of(effect: Effect) -> OperationState:
    """The state in which the operation would end."""
    match effect.kind:
        case EffectKind.WOULD_FAIL:
            is_stopped = effect.reason == Reason.NOT_STARTED
            return OperationState.NOT_STARTED if is_stopped else OperationState.FAILED
        case EffectKind.UNKNOWN:
            is_cancelled = effect.reason == Reason.CANCELLED
            return OperationState.NOT_STARTED if is_cancelled else OperationState.UNKNOWN
        case _:
            return OperationState.SUCCEEDED


@dataclass(eq=False)
class Previews:
    """Computes the effects of previews, one preview at a time."""

    store: DispatchStore
    index: OwnerIndex
    objects: ObjectStore
    settings: Settings
    runtime: Runtime

    def __post_init__(self) -> None:
        self._one_at_a_time = asyncio.Semaphore(1)

    async def computed(self, leased: LeasedJob, job: JobRow, parts: Iterable[Part]) -> Previewed:
        """Write the outcomes of a preview whose reads have ended. ``parts``: its result objects.

        Returns what to record. Raises Fenced when the lease is void, and StorageUnavailable.
        """
        async with self._one_at_a_time:
            with ValuesOnDisk(self.settings.data_dir) as values:
                return await self._computed(leased, job, list(parts), Copies(values))

    async def _computed(self, leased: LeasedJob, job: JobRow, parts: list[Part], copies: Copies) -> Previewed:
        in_thread, model, survey = self.runtime.in_thread, built_in_model(), Survey()
        stored = await self.store.request_of(job.job_id)
        body = await in_thread(lambda: zstandard.decompress(stored, max_output_size=_MAX_REQUEST))
        owners = await self.index.catch_up()
        planned = [part for part in parts if part.sub_job == UNMATCHED_PART]
        found = await self._refused(job, planned)
        refused, unmatched = ({}, 0) if found is None else (found, job.unmatched)
        survey.add_refused(len(refused))
        if found is not None:  # otherwise it is not known what was read, and every effect is UNKNOWN
            await self._collect(job, body, refused, parts, owners, model, copies)
        outcomes = await in_thread(
            lambda: Outcomes(body, refused, owners, Effects(copies, model), survey, job.operations)
        )
        writer = ResultWriter(self.objects, job.results_bucket, job.job_id, UNMATCHED_PART)
        written = await writer.write(outcomes, lambda: self.store.job_is_leased(leased), ADDED_SEQUENCE)
        counts = count(outcomes.states + Counter(refused.values()))
        counts = replace(counts, failed=counts.failed - unmatched, unmatched=unmatched)
        return Previewed(counts, survey.counts, survey.reach, planned, written)

    async def _refused(self, job: JobRow, planned: Iterable[Part]) -> dict[str, OperationState] | None:
        """The state of each operation that the plan has refused, by its id as text; ``None`` if one of their
        result objects was removed or damaged."""
        refused: dict[str, OperationState] = {}
        for part in planned:
            body = await self.objects.get(job.results_bucket, part.key)
            try:
                responses = await self.runtime.in_thread(functools.partial(read_responses, body or b""))
            except msgspec.DecodeError:
                return None
            refused |= states_in(responses)
        return refused

    async def _collect(
        self,
        job: JobRow,
        body: bytes,
        refused: Collection[str],
        parts: Iterable[Part],
        owners: Owners,
        model: Model,
        copies: Copies,
    ) -> None:
        """Copy what the reads have found."""
        in_thread = self.runtime.in_thread
        objects = await in_thread(lambda: objects_to_read(body, refused, model))
        reads = ReadObjects(list(objects.items()), copies)
        for part in parts:
            if part.sub_job != UNMATCHED_PART and not is_foreign(part.sequence):
                found = await self.objects.get(job.results_bucket, part.key)
                await in_thread(functools.partial(reads.take, found))
        await in_thread(lambda: reads.close(lambda key: owners.owner_of(key) is not None))
