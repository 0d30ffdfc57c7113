# SPDX-License-Identifier: Apache-2.0
"""The class models of module sets in the memory of a process, each once, whatever the number of its tags."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set

from ran_datajobs.nrm.class_model import ClassModel
from ran_datajobs.nrm.module_set import decode
from ran_datajobs.store import module_sets
from ran_datajobs.store.database import Database


class StoredModuleSets:
    """Keeps the class models that were used last, at most :data:`module_sets.MOST_MODELS`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[bytes, ClassModel] = {}  # by digest, the one that was used last at the end
        self._lock = asyncio.Lock()

    async def by_tag(self, tags: Set[str]) -> Mapping[str, ClassModel]:
        """The class models of those of ``tags`` that have a module set, with everything that was put before
        this call. Raises StoreUnavailable.

        Takes one query when all are in memory, and none without tags.
        """
        if not tags:
            return {}
        found: dict[str, ClassModel] = {}
        async with self._lock, self._database.connection() as connection:
            for tag, digest in (await module_sets.digests(connection, tags)).items():
                known = self._kept.pop(digest, None)
                if known is None:
                    stored = await module_sets.model(connection, digest)
                    if stored is None:
                        continue  # it was replaced since
                    known = await asyncio.to_thread(_read, stored)
                self._kept[digest] = found[tag] = known
        while len(self._kept) > module_sets.MOST_MODELS:
            del self._kept[next(iter(self._kept))]
        return found


def _read(stored: bytes) -> ClassModel:
    return ClassModel(decode(stored).model())
