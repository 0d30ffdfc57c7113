# SPDX-License-Identifier: Apache-2.0
"""Names of the topics of the service, and the rules for topic names. No other module holds these names."""

from __future__ import annotations

import re
from typing import Final

INTERNAL_TOPIC: Final = "ncmp-async-m2m"
"""Topic on which DMI plugins publish the objects of a read (ONAP CPS-NCMP)."""

STATUS_TOPIC: Final = "ncmp-data-job-status"
"""Topic on which the service publishes every change of a job's status."""

LCM_TOPIC: Final = "ncmp-events"
"""Topic of the events of CM handles of the NCMP that is followed (ONAP CPS-NCMP,
``app.lcm.events.topic``)."""

POSITION_TOPIC: Final = "__ran-datajobs-positions"
"""Compacted topic with the last published position of each outbox shard. Only the service uses it."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


def topic_problem(name: str) -> str | None:
    """Why ``name`` is not a valid topic name, in words; ``None`` when it is valid (Kafka's rule)."""
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        return (
            "a topic name has 1 to 249 letters, digits, dots, underscores and hyphens, and is not '.' or '..'"
        )
    return None


def reserved_topic(name: str) -> bool:
    """True for topics that no job may name as its destination: the service's, and all that begin with
    ``__``."""
    return name in {INTERNAL_TOPIC, STATUS_TOPIC} or name.startswith("__")
