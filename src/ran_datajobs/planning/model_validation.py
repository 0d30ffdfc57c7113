# SPDX-License-Identifier: Apache-2.0
"""Validation of a job's operations while it is planned, each by the class model of its CM handle."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final, Protocol, cast

from msgspec import Struct

from ran_datajobs.inventory.owners import Owner
from ran_datajobs.model import Op, OperationWarning, Validation, Warnings
from ran_datajobs.nrm.class_model import ClassModel, Finding
from ran_datajobs.nrm.model import load
from ran_datajobs.nrm.validation import Validator
from ran_datajobs.plugins.wire import SeedOperation, names

MAX_LISTED: Final = 100
"""Maximum number of warnings that are listed."""


class ModelsByTag(Struct, frozen=True, eq=False):
    """The class models of a job: ``by_tag`` those of module sets, by ``moduleSetTag``, else ``built_in``."""

    built_in: ClassModel
    by_tag: Mapping[str, ClassModel] = MappingProxyType({})

    def of(self, owner: Owner) -> ClassModel:
        """The class model for the objects of a CM handle."""
        return self.by_tag.get(owner.module_set_tag, self.built_in)


class ModuleSets(Protocol):
    """Source of the class models of module sets."""

    async def by_tag(self, tags: Set[str]) -> Mapping[str, ClassModel]:
        """The class models of those of ``tags`` that have a module set. Raises StoreUnavailable."""
        ...


@dataclass(eq=False)
class ModelSource:
    """The class models of an API or a worker. Those that are kept are shared by all jobs."""

    module_sets: ModuleSets | None = None

    @cached_property
    def built_in(self) -> ClassModel:
        """The model of this package."""
        return ClassModel(load())

    async def of_tags(self, tags: Set[str]) -> ModelsByTag:
        """The class models for objects of CM handles with these tags."""
        by_tag = await self.module_sets.by_tag(tags) if tags and self.module_sets is not None else {}
        return ModelsByTag(self.built_in, by_tag)


class JobValidation:
    """Validates the operations of one job, in order, and collects the warnings."""

    def __init__(self, mode: Validation, models: ModelsByTag) -> None:
        self._is_strict = mode is Validation.STRICT
        self._models = models
        self._validator = Validator()
        self._listed: list[OperationWarning] = []
        self._count = 0

    @property
    def warnings(self) -> Warnings | None:
        """The warnings so far; None if there are none."""
        return Warnings(tuple(self._listed), self._count) if self._count else None

    def failure(self, operation: SeedOperation, owner: Owner) -> Finding | None:
        """Why the operation fails, unsent; None if it does not."""
        if operation.data_node_selector is not None:
            return None
        selected = names(operation.attributes) or () if _is_of_base_only(operation) else ()
        found = self._validator.findings(
            operation.op, operation.path, operation.value, self._models.of(owner), selected
        )
        failure = None
        for each in found:
            if self._is_strict and not each.is_warning:
                failure = failure or each
            else:
                self._warn(operation, each)
        return failure

    def sent(self) -> None:
        """Record that the operation that was validated last is sent: it can create or remove an object."""
        self._validator.executed()

    def _warn(self, operation: SeedOperation, finding: Finding) -> None:
        self._count += 1
        if len(self._listed) < MAX_LISTED:
            operation_id = cast("str | int", operation.operation_id)
            self._listed.append(
                OperationWarning(operation_id, operation.path, finding.reason, finding.detail)
            )


def _is_of_base_only(operation: SeedOperation) -> bool:
    return operation.op is Op.READ and operation.scope is None and operation.filter is None
