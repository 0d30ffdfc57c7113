# SPDX-License-Identifier: Apache-2.0
"""The reads that a preview needs. Pure.

The reads are made from the names of objects alone: no operation of the request, and no value of it, is in
their sub-jobs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ran_datajobs.inventory.owners import Owners
from ran_datajobs.nrm.effects import reads_of
from ran_datajobs.nrm.model import Model
from ran_datajobs.planning.request import open_accepted, read_in_pieces
from ran_datajobs.planning.split import Plan, split_reads


def objects_to_read(body: bytes, refused: Collection[str], model: Model) -> dict[str, bool]:
    """The objects to read for a request, by key, and whether the children of each are needed. Those of the
    operations whose ids, as text, are ``refused`` are left out.

    The order of the objects is the same in each call: the id of a read is the position of its object.
    """

    def read(text: bytes, pieces: Iterable[bytes] | None) -> dict[str, bool]:
        objects: dict[str, bool] = {}
        for operations in open_accepted(text, pieces)[1]:
            for operation in operations:
                if str(operation.operation_id) in refused:
                    continue
                for key, with_children in reads_of(operation.op, operation.path, model):
                    objects[key] = with_children or objects.get(key, False)
        return objects

    return read_in_pieces(body, read)


def split_preview(body: bytes, as_write: Plan, owners: Owners, model: Model) -> Plan:
    """The plan of a preview of the request whose plan as a write is ``as_write``: its sub-jobs read the
    objects, and it refuses the same operations."""
    refused = {each.operation.id_text for each in as_write.refused}
    reads = split_reads(objects_to_read(body, refused, model).items(), owners)
    return Plan(reads.sub_jobs, as_write.refused, {}, as_write.warnings, reads.only_reads)
