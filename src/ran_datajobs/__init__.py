# SPDX-License-Identifier: Apache-2.0
"""Data jobs for radio networks: one request, split by who owns each managed object, driven to the end.

::

    rApp ─► northbound ─► store ─► plan ─► dispatch ─► southbound ═HTTP═► dmi ─► element
                ▲  ▲        │        ▲        │                            │
          web, cli │   (202 is sent  inventory │                            ▼
           events ─┘    after this)            └─► results ◄── messaging ◄──┘
                                                      └─► S3 or folder, topic of the rApp

Each folder is a stage and knows the next one only by its port. ``simulator`` and ``dmi`` stand on the other
side of the wire: nothing in the service imports them. ``app`` wires the stages, ``cli`` starts them.
"""

from ran_datajobs.errors import DataJobsError
from ran_datajobs.fdn import ancestors, key, parse
from ran_datajobs.job import ActivationMode, JobType, Op, Operation, OperationState, Response, Status

__all__ = [
    "ActivationMode",
    "DataJobsError",
    "JobType",
    "Op",
    "Operation",
    "OperationState",
    "Response",
    "Status",
    "ancestors",
    "key",
    "parse",
]
