# SPDX-License-Identifier: Apache-2.0
"""Split a request by the owner of each managed object: one sub-job per (DMI plugin, data producer). Pure.

An operation belongs to the CM handle with the longest alternate id that is a whole-RDN prefix of its FDN. A
read that reaches below its base also goes to the handles there. Planning the same request over the same
owners twice gives the same bytes.
"""

from __future__ import annotations

import copy
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, cast

import msgspec
import zstandard
from msgspec import UNSET, Raw, Struct

from ran_datajobs.inventory.owners import Owner, Owners, lane_of, one_per_lane
from ran_datajobs.model import (
    ActivationMode,
    Op,
    Operation,
    OperationState,
    PlannedSubJob,
    Reason,
    Scope,
    ScopeType,
    Validation,
    Warnings,
)
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm import filter as nrm_filter
from ran_datajobs.nrm.names import common_ancestor
from ran_datajobs.planning.envelope import Envelope
from ran_datajobs.planning.model_validation import JobValidation, ModelsByTag
from ran_datajobs.planning.policy import Batch, Questions, Verdicts, is_asked
from ran_datajobs.planning.request import open_accepted, read_in_pieces
from ran_datajobs.planning.selectors import Route, routes_of
from ran_datajobs.plugins.port import PluginProfile
from ran_datajobs.plugins.wire import (
    Dialect,
    OnapOperation,
    SeedOperation,
    onap_operation,
)

_MAX_UNCOMPRESSED: Final = 32 * 1024 * 1024
"""Number of bytes of encoded operations at which those of all sub-jobs are compressed."""

_MOST_UNENCODED: Final = 100_000
"""Number of parts of reads that are held before they are encoded."""

_ZSTD_LEVEL: Final = 1
_UNLIMITED: Final = None
_BASE_ONLY: Final = 0
_MOST_DEPTHS: Final = 3
_READS_AT_ONCE: Final = 1000
_CHILDREN_TOO: Final = Scope(ScopeType.BASE_SUBTREE, 1)


class RejectedOperation(Struct, frozen=True):
    """An operation, or one part of a fanned-out read, that is sent to no plugin. ``position``: from 0.

    ``reason``: a :class:`~ran_datajobs.model.Reason`, or one of TS 28.572 from validation.
    """

    position: int
    operation: Operation
    reason: str
    detail: str

    @property
    def state(self) -> OperationState:
        """Its outcome."""
        is_stopped = self.reason == Reason.NOT_STARTED
        return OperationState.NOT_STARTED if is_stopped else OperationState.FAILED


class Plan(Struct, frozen=True):
    """The result of a split.

    ``sub_jobs`` are in order of first appearance and keep the request's order within. ``parts_of`` holds, by
    id text, the number of parts of each operation with several parts: one per sub-job and one per entry of
    ``refused`` that contains the operation. ``warnings``: of the validation. ``only_reads``: it is of
    :func:`split_reads`, and so contains no operation of a request.
    """

    sub_jobs: list[PlannedSubJob]
    refused: list[RejectedOperation]
    parts_of: dict[str, int]
    warnings: Warnings | None = None
    only_reads: bool = False

    @property
    def unmatched(self) -> int:
        """The number of operations that no CM handle owns, nor any part of them."""
        return sum(
            each.reason == Reason.UNMATCHED and each.operation.id_text not in self.parts_of
            for each in self.refused
        )


class Permission(Struct, frozen=True):
    """What decides whether an operation with an owner may be sent; by default nothing.

    ``models``: of a job that is validated. ``questions`` collects the operations that need permission.
    ``verdicts``: which have it. ``stopped``: why none is sent.
    """

    models: ModelsByTag | None = None
    questions: Questions | None = None
    verdicts: Verdicts | None = None
    stopped: str | None = None


class _SubJobBuilder:
    """Builds a sub-job, with its operations in the plugin's dialect, as a JSON array that grows.

    It is compressed in successive frames to save memory.
    """

    def __init__(self, plugin: PluginProfile, producer: str, compressor: zstandard.ZstdCompressor) -> None:
        self._wants_properties = plugin.operation_properties
        self._is_onap = plugin.spoken_dialect == Dialect.ONAP
        self._lines: list[SeedOperation | OnapOperation] = []
        self.plugin = plugin
        self._producer = producer
        self._compressor = compressor
        self._count = 0
        self._size = 0
        self._encoded: list[bytes] = []
        self._frames: list[bytes] = []
        self.stopped: str | None = None  # why no further operation is added

    @property
    def is_empty(self) -> bool:
        """True if no operation was added."""
        return not (self._count or self._lines)

    def add(self, operation: SeedOperation, owner: Owner) -> None:
        """Append an operation, with the CM handle data that the plugin needs."""
        operation.module_set_tag = owner.module_set_tag or None
        operation.private_properties = Raw(owner.private_properties) if self._wants_properties else UNSET
        self._lines.append(onap_operation(operation) if self._is_onap else operation)

    def encode(self) -> int:
        """Encode the operations added since the last call; returns their size in bytes. Encoding soon after
        decoding is faster: the data is still in the CPU cache."""
        if not self._lines:
            return 0
        # Each part begins with the separator in front of it: the array's bracket, or a comma.
        encoded = (b"," if self._count else b"[") + msgspec.json.encode(self._lines)[1:-1]
        self._encoded.append(encoded)
        self._count += len(self._lines)
        self._size += len(encoded)
        self._lines.clear()
        return len(encoded)

    def compress(self) -> None:
        """Compress the operations that were encoded since the last call."""
        if self._encoded:
            self._frames.append(self._compressor.compress(b"".join(self._encoded)))
            self._encoded.clear()

    def planned(self) -> PlannedSubJob:
        """Return the finished sub-job."""
        self.encode()
        self._encoded.append(b"]")
        self.compress()
        plugin, body = self.plugin, b"".join(self._frames)
        return PlannedSubJob(
            plugin.plugin_id,
            plugin.url,
            self._producer,
            self._count,
            body,
            self._size + 1,
            plugin.spoken_dialect,
        )


class _Splitter:
    """One run of a split. Callers pass operations in order, in batches: all writes, or all reads."""

    def __init__(self, envelope: Envelope, owners: Owners, permission: Permission) -> None:
        self._owners = owners
        self._permission = permission
        self._needs_permission = permission != Permission()
        self._stops = envelope.activation_mode is ActivationMode.STOP_ON_ERROR
        self._validation: JobValidation | None = None
        if permission.models is not None and envelope.validation is not Validation.OFF:
            self._validation = JobValidation(envelope.validation, permission.models)
        self._drafts: dict[tuple[int, str], _SubJobBuilder] = {}
        self._classes_of_filter = functools.cache(_classes_of_filter)
        self._owners_named = functools.cache(lambda *begins: one_per_lane(owners.named(*begins)))
        self._refused: list[RejectedOperation] = []
        self._parts_of: dict[str, int] = {}
        self._operations = self._parts = 0
        self._compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        self._uncompressed = 0

    def plan(self) -> Plan:
        """Return the plan of all operations that were placed."""
        sub_jobs = [draft.planned() for draft in self._drafts.values() if not draft.is_empty]
        warnings = self._validation.warnings if self._validation is not None else None
        return Plan(sub_jobs, self._refused, self._parts_of, warnings)

    def place(self, operations: list[SeedOperation]) -> None:
        """Assign the next operations to sub-jobs; their CM handle data is overwritten."""
        if operations[0].op is Op.READ:
            self._place_reads(operations)
        else:
            self._place_writes(operations)
        self._operations += len(operations)

    def _place_writes(self, operations: list[SeedOperation]) -> None:
        owners = owners_of([operation.path for operation in operations], self._owners)
        drafts: dict[str, _SubJobBuilder] = {}  # keyed by data producer; the plugin is compared
        for position, (operation, owner) in enumerate(zip(operations, owners, strict=True), self._operations):
            if owner is None:
                detail = f"no CM handle owns {fdn.key_of_path(operation.path)}"
                self._refuse(position, operation, Reason.UNMATCHED, detail)
                continue
            draft = drafts.get(owner.data_producer_id)
            if draft is None or draft.plugin is not owner.write_plugin:
                draft = self._draft_for(position, operation, owner, owner.write_plugin)
                if draft is None:
                    continue
                drafts[owner.data_producer_id] = draft
            if self._needs_permission and not self._is_permitted(position, operation, owner, draft):
                continue
            draft.add(operation, owner)
        self._encode(drafts.values())

    def _is_permitted(
        self, position: int, operation: SeedOperation, owner: Owner, draft: _SubJobBuilder
    ) -> bool:
        """False if the operation must not be sent: it is refused."""
        permission = self._permission
        if not self._is_valid(position, operation, owner):
            if self._stops:
                draft.stopped = draft.stopped or "the class model does not allow an earlier operation"
            return False
        if permission.questions is not None:
            permission.questions.add(position, operation, owner)
        if permission.verdicts is not None and is_asked(operation.op):
            denial = permission.verdicts.denial_of(position)
            if denial is not None:
                self._refuse(position, operation, Reason.POLICY_DENIED, denial)
                if self._stops:
                    draft.stopped = draft.stopped or "the policy executor denies an earlier operation"
                return False
        stopped = permission.stopped or draft.stopped
        if stopped is not None:
            self._refuse(position, operation, Reason.NOT_STARTED, stopped)
        elif self._validation is not None:
            self._validation.sent()
        return stopped is None

    def _is_valid(self, position: int, operation: SeedOperation, owner: Owner) -> bool:
        """False if the operation fails because of the class model: it is refused."""
        failure = self._validation.failure(operation, owner) if self._validation is not None else None
        if failure is not None:
            detail = f"not sent, because it fails validation: {failure.detail}"
            self._refuse(position, operation, failure.reason, detail)
        return failure is None

    def _encode(self, drafts: Iterable[_SubJobBuilder]) -> None:
        """Encode what was added to ``drafts``, and compress all if that is much: it is held in memory."""
        for draft in drafts:
            self._uncompressed += draft.encode()
            if self._uncompressed >= _MAX_UNCOMPRESSED:
                for each in self._drafts.values():
                    each.compress()
                self._uncompressed = 0

    def _place_reads(self, operations: list[SeedOperation]) -> None:
        """Each once per (plugin, data producer): a producer answers for all its objects below the base."""
        for position, operation in enumerate(operations, self._operations):
            if operation.data_node_selector is not None:
                self._place_selectors(position, operation, routes_of(operation.data_node_selector))
                continue
            key = fdn.key_of_path(operation.path)
            lanes: dict[tuple[int, str], Owner] = {}
            base = self._owners.owner_of(key)
            if base is not None and not self._is_valid(position, operation, base):
                continue
            for owner in self._read_owners(operation, key, base):
                lanes.setdefault((owner.read_plugin.plugin_id, owner.data_producer_id), owner)
            for owner in lanes.values():
                self._add_part(position, operation, owner)
            if not lanes:
                detail = f"no CM handle owns or lies below {key}"
                self._refuse(position, operation, Reason.UNMATCHED, detail)
            elif len(lanes) > 1:
                self._parts_of[str(operation.operation_id)] = len(lanes)
        self._encode(self._drafts.values())

    def _add_part(self, position: int, operation: SeedOperation, owner: Owner) -> None:
        """Add a copy of a read to the sub-job of an owner. The parts of few reads can be very many."""
        draft = self._draft_for(position, operation, owner, owner.read_plugin)
        if draft is not None:
            draft.add(copy.copy(operation), owner)
            self._parts += 1
            if self._parts % _MOST_UNENCODED == 0:
                self._encode(self._drafts.values())

    def _read_owners(self, operation: SeedOperation, key: str, base: Owner | None) -> Iterator[Owner]:
        if base is not None:
            yield base
        level = self._reach(operation, key)
        if level != _BASE_ONLY:
            yield from self._owners.owners_below(key, level)

    def _reach(self, operation: SeedOperation, key: str) -> int | None:
        """How many levels below its base a read reaches; None: all of them."""
        scope = operation.scope
        if scope is None:
            # Without a scope, a filter that names a class other than the base's reaches below it.
            base_class = key.rpartition("/")[2].partition("=")[0].partition(".")[0]
            classes = self._classes_of_filter(operation.filter) if operation.filter else frozenset()
            return _BASE_ONLY if classes <= {base_class} else _UNLIMITED
        if scope.scope_type is ScopeType.BASE_ONLY:
            return _BASE_ONLY
        return _UNLIMITED if scope.scope_type is ScopeType.BASE_ALL else scope.scope_level

    def _place_selectors(self, position: int, operation: SeedOperation, routes: Sequence[Route]) -> None:
        """One part per (plugin, data producer), with all selectors that it gets. One part that is refused for
        each plugin that does not read by selector, and one for all selectors that no CM handle owns."""
        if len(routes) == 1 and not routes[0].is_broadcast and routes[0].begins is None:  # nearly always
            owner = self._owners.owner_of(routes[0].base)
            if owner is not None and owner.read_plugin.selectors:
                self._add_part(position, _part_of(operation, routes), owner)
                return
        broadcasts = [number for number, route in enumerate(routes) if route.is_broadcast]
        lanes: dict[tuple[int, str], tuple[Owner, list[int]]] = {}  # without the broadcasts, which all get
        unowned: list[Route] = []
        for number, route in enumerate(routes):
            owners = self._owners_of(route)
            if not owners:
                unowned.append(route)
            elif not route.is_broadcast:
                for owner in owners:
                    lanes.setdefault(lane_of(owner), (owner, []))[1].append(number)
        for owner in self._owners.lanes if broadcasts else ():
            lanes.setdefault(lane_of(owner), (owner, []))
        parts: dict[tuple[int, ...], SeedOperation] = {}
        unable: dict[int, tuple[Owner, set[int]]] = {}
        sent = 0
        for owner, own in lanes.values():
            if not owner.read_plugin.selectors:
                unable.setdefault(owner.read_plugin.plugin_id, (owner, {*broadcasts}))[1].update(own)
                continue
            part = parts.get(tuple(own))
            if part is None:
                some = [routes[number] for number in sorted({*broadcasts, *own})]
                part = parts[tuple(own)] = _part_of(operation, some)
            self._add_part(position, part, owner)
            sent += 1
        for owner, which in unable.values():
            detail = f"the DMI plugin of CM handle {owner.cm_handle} does not read by dataNodeSelector"
            part = _part_of(operation, [routes[number] for number in sorted(which)])
            self._refuse(position, part, Reason.MODE_NOT_SUPPORTED, detail)
        if unowned:
            self._refuse(position, _part_of(operation, unowned), Reason.UNMATCHED, _why_unowned(unowned))
        if (count := sent + len(unable) + bool(unowned)) > 1:
            self._parts_of[str(operation.operation_id)] = count

    def _owners_of(self, route: Route) -> Sequence[Owner]:
        """The owners that get a selector, at least one for each of their lanes."""
        if route.is_broadcast:
            return self._owners.lanes
        if route.begins is not None:
            return self._owners_named(*route.begins)
        owner = self._owners.owner_of(route.base)
        return () if owner is None else (owner,)

    def _draft_for(
        self, position: int, operation: SeedOperation, owner: Owner, plugin: PluginProfile
    ) -> _SubJobBuilder | None:
        """Return the sub-job for an owner's operations at one of its plugins; None if there is none: the
        operation is refused."""
        if not owner.data_producer_id:
            missing = "dataProducerIdentifier" if owner.read_plugin.url else "DMI plugin that is followed"
            detail = f"CM handle {owner.cm_handle} has no {missing}"
            self._refuse(position, operation, Reason.NO_DATA_PRODUCER, detail)
            return None
        if self._stops and not plugin.stop_on_error:
            detail = f"the DMI plugin of CM handle {owner.cm_handle} does not offer STOP_ON_ERROR"
            self._refuse(position, operation, Reason.MODE_NOT_SUPPORTED, detail)
            return None
        lane = (plugin.plugin_id, owner.data_producer_id)
        draft = self._drafts.get(lane)
        if draft is None:
            draft = self._drafts[lane] = _SubJobBuilder(plugin, owner.data_producer_id, self._compressor)
        return draft

    def _refuse(self, position: int, operation: SeedOperation, reason: str, detail: str) -> None:
        operation_id = cast("str | int", operation.operation_id)
        selector = UNSET if operation.data_node_selector is None else operation.data_node_selector
        rejected = Operation(operation.op, operation.path, operation_id, data_node_selector=selector)
        self._refused.append(RejectedOperation(position, rejected, reason, detail))


def split(body: bytes, owners: Owners, models: ModelsByTag | None = None) -> Plan:
    """Split a request that was accepted into sub-jobs and refused operations.

    ``models``: the class models of a job that is validated. Nothing else is checked again. Operations are
    decoded in batches of about a thousand, and each batch is encoded for its plugins at once.
    """
    return _split_by(body, owners, Permission(models))


def split_and_ask(body: bytes, owners: Owners, models: ModelsByTag | None = None) -> tuple[Plan, list[Batch]]:
    """The plan if all operations are permitted, and the operations that need permission: not those that the
    validation fails."""

    def read(text: bytes, pieces: Iterable[bytes] | None) -> tuple[Plan, list[Batch]]:
        questions = Questions()
        plan = _split(text, pieces, owners, Permission(models, questions))
        questions.close()
        return plan, questions.batches

    return read_in_pieces(body, read)


def split_permitted(
    body: bytes,
    owners: Owners,
    verdicts: Verdicts,
    models: ModelsByTag | None = None,
    *,
    whole_job: bool,
) -> Plan:
    """The plan of the operations that are permitted. The others have failed with ``POLICY_DENIED``; in a job
    that is ``STOP_ON_ERROR`` those behind them for the same lane are not started.

    ``whole_job``: nothing is sent if an operation that would be sent is denied: the others are not started.
    """
    plan = _split_by(body, owners, Permission(models, verdicts=verdicts))
    if whole_job and (denied := sum(each.reason == Reason.POLICY_DENIED for each in plan.refused)):
        stopped = f"the policy executor denies {denied} of the job's operations, and so the whole job"
        plan = _split_by(body, owners, Permission(models, verdicts=verdicts, stopped=stopped))
    return plan


def tags_of(body: bytes, owners: Owners) -> set[str]:
    """The module set tags of the CM handles that own the objects in a request that was accepted."""

    def read(text: bytes, pieces: Iterable[bytes] | None) -> set[str]:
        _, batches = open_accepted(text, pieces)
        return {
            owner.module_set_tag
            for operations in batches
            for owner in owners_of([each.path for each in operations if each.path], owners)
            if owner is not None and owner.module_set_tag
        }

    return read_in_pieces(body, read) if any(owner.module_set_tag for owner in owners) else set()


def split_reads(objects: Iterable[tuple[str, bool]], owners: Owners) -> Plan:
    """Split reads of ``objects``, each given by its key, and whether its children are read, too.

    The id of each read is its position from 0, as text. A read that no CM handle can answer is left out.
    """
    splitting = _Splitter(Envelope(), owners, Permission())
    numbered = enumerate(objects)
    while some := list(itertools.islice(numbered, _READS_AT_ONCE)):
        splitting.place(
            [
                SeedOperation(Op.READ, f"/{key}", str(number), scope=_CHILDREN_TOO if with_children else None)
                for number, (key, with_children) in some
            ]
        )
    return msgspec.structs.replace(splitting.plan(), refused=[], only_reads=True)


def _split_by(body: bytes, owners: Owners, permission: Permission) -> Plan:
    return read_in_pieces(body, lambda text, pieces: _split(text, pieces, owners, permission))


def _split(body: bytes, pieces: Iterable[bytes] | None, owners: Owners, permission: Permission) -> Plan:
    envelope, batches = open_accepted(body, pieces)
    splitting = _Splitter(envelope, owners, permission)
    for operations in batches:
        splitting.place(operations)
    return splitting.plan()


def _part_of(operation: SeedOperation, routes: Sequence[Route]) -> SeedOperation:
    """The part of a read with these of its selectors."""
    if len(routes) == 1:
        text, base = routes[0].text, routes[0].base
    else:
        text, base = "\n".join(route.text for route in routes), common_ancestor(each.base for each in routes)
    return SeedOperation(operation.op, f"/{base}", operation.operation_id, data_node_selector=text)


def _why_unowned(routes: Sequence[Route]) -> str:
    first = routes[0]
    if first.is_broadcast:
        detail = "there is no CM handle"
    elif first.begins is not None:
        detail = "no CM handle has {}={}… in its alternate id".format(*first.begins)
    elif first.base:
        detail = f"no CM handle owns {first.base}"
    else:
        detail = f'{first.text} does not begin with /Class[id="x"]: "//" before its steps asks all producers'
    return detail + (f" (and {len(routes) - 1} more selectors)" if len(routes) > 1 else "")


def _classes_of_filter(filters: str | tuple[str, ...]) -> frozenset[str]:
    texts = (filters,) if isinstance(filters, str) else filters
    return nrm_filter.all_of([nrm_filter.parse(text) for text in texts]).classes


def owners_of(paths: Sequence[str], owners: Owners) -> list[Owner | None]:
    """The owner of the object that each operation's path names, in order; the FDNs are valid.

    The lookup of one object tries its FDN, then each shorter prefix. For many objects it is faster to cut all
    their paths at the depths of the alternate ids: an inventory has few depths, usually one.
    """
    text = "\n".join(paths) + "\n"
    # Without these characters each FDN, but for its leading slash, is its own key.
    is_plain = text.isascii() and not any(character in text for character in "%,?")
    if not is_plain or len(owners.depths) > _MOST_DEPTHS:
        return [owners.owner_of(fdn.key_of_path(path)) for path in paths]
    found: list[Owner | None] = [None] * len(paths)
    for depth in sorted(owners.depths):
        deeper = owners.under(_prefixes(depth)(text))
        found = [below or above for below, above in zip(deeper, found, strict=True)]
    return found


@functools.cache
def _prefixes(depth: int) -> Callable[[str], list[str]]:
    """Function for the first ``depth`` RDNs of each line, a plain path, as a key; empty if it has fewer."""
    rdns = "/".join([r"[ !\"$-.0-~]++"] * depth)
    return re.compile(rf"/?({rdns}|).*\n").findall
