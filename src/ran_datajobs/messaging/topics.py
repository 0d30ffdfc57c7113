# SPDX-License-Identifier: Apache-2.0
"""The topics of the service and what a topic may be called. The names stand here alone."""

from __future__ import annotations

import re
from typing import Final

INTERNAL_TOPIC: Final = "ncmp-async-m2m"
"""Where DMI plugins publish the objects of a read (ONAP CPS-NCMP)."""

STATUS_TOPIC: Final = "ncmp-data-job-status"
"""Where every change of a job's status is told."""

POSITION_TOPIC: Final = "__ran-datajobs-positions"
"""Compacted; how far each shard of the outbox is published. Only the service reads and writes it."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


def topic_problem(name: str) -> str | None:
    """What is wrong with ``name`` as a topic name, in words; ``None`` when it is valid (Kafka's rule)."""
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        return (
            "a topic name has 1 to 249 letters, digits, dots, underscores and hyphens, and is not '.' or '..'"
        )
    return None


def reserved_topic(name: str) -> bool:
    """True for topics that no job may name as its destination: ours, and all that begin with ``__``."""
    return name in {INTERNAL_TOPIC, STATUS_TOPIC} or name.startswith("__")
