# SPDX-License-Identifier: Apache-2.0
"""Resolves ``?destination=`` to a topic of the bus or a bucket of the object store.

Source: ONAP CPS-NCMP data jobs (a Kafka topic or an S3 bucket); the ``kafka:`` and ``s3:`` prefixes are this
project's.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from collections.abc import Awaitable, Callable, Iterable
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from ran_datajobs.config import Settings
from ran_datajobs.errors import BusUnavailable, InvalidRequest, TopicRefused
from ran_datajobs.messaging.bus import Bus
from ran_datajobs.messaging.topics import reserved_topic, topic_problem
from ran_datajobs.results.objects import ObjectStore, bucket_problem
from ran_datajobs.store.jobs import BUCKET, TOPIC

_PREFIX: Final = {TOPIC: "kafka:", BUCKET: "s3:"}
_NOT_ALLOWED: Final = "the operator of this service does not allow"
_MAX_SUGGESTIONS: Final = 5
_MAX_COMPARED: Final = 10_000


class Destination(Struct, frozen=True):
    """``name`` without prefix, ``None`` when none was given; ``kind`` is TOPIC or BUCKET. ``of_plugins``: the
    destination that plugins get, if it is not ``name``; nothing is delivered to it."""

    name: str | None
    kind: str
    of_plugins: str | None = None


async def resolve(
    text: str | None,
    settings: Settings,
    *,
    bus: Bus,
    objects: ObjectStore,
    known_buckets: Callable[[], Awaitable[list[str]]],
) -> Destination:
    """The destination that ``text`` names. With the embedded bus a bare name is a bucket.

    ``known_buckets`` returns the names from which suggestions are made, because the object store lists none.
    Raises InvalidRequest if the name is invalid or ambiguous, if it does not exist (with suggestions), if the
    operator does not allow it (whether it exists or not), and if the service may not write to the topic;
    BusUnavailable and StorageUnavailable if the bus or the object store does not answer.
    """
    if text is None:
        return Destination(None, BUCKET)
    kinds, name = _kinds_and_name(text, settings)
    allowed = [kind for kind in kinds if _is_allowed(settings, kind, name)]
    exist = await asyncio.gather(*(_exists(kind, name, bus, objects) for kind in allowed))
    found = [kind for kind, exists in zip(allowed, exist, strict=True) if exists]
    if len(found) > 1:
        raise _refused(f"both a topic and a bucket are called {name!r}: say kafka:{name} or s3:{name}")
    if found:
        return Destination(name, found[0])
    missing = [f"there is no {kind.lower()} {name!r}" for kind in allowed]
    denied = [f"{_NOT_ALLOWED} {_PREFIX[kind]}{name}" for kind in kinds if kind not in allowed]
    detail = "; ".join(missing + denied)
    known: list[str] = []
    if TOPIC in allowed:
        with contextlib.suppress(BusUnavailable):
            topics = [topic for topic in await bus.topics() if not _is_own(settings, topic)]
            known += [_PREFIX[TOPIC] + topic for topic in topics if _is_allowed(settings, TOPIC, topic)]
    if BUCKET in allowed:
        buckets = await known_buckets()
        known += [_PREFIX[BUCKET] + bucket for bucket in buckets if _is_allowed(settings, BUCKET, bucket)]
    near = suggest_names(name, known)
    raise _refused(detail + (f"; near names: {', '.join(near)}" if near else ""))


def _kinds_and_name(text: str, settings: Settings) -> tuple[list[str], str]:
    """The kinds that ``text`` can name, and the name without its prefix. Raises InvalidRequest for none."""
    name, kinds = text, [BUCKET] if settings.kafka_bootstrap is None else [TOPIC, BUCKET]
    for kind, prefix in _PREFIX.items():
        if text.startswith(prefix):
            name, kinds = text.removeprefix(prefix), [kind]
    faults = {TOPIC: topic_problem(name) or "", BUCKET: bucket_problem(name) or ""}
    possible = [kind for kind in kinds if not faults[kind]]
    if _is_own(settings, name) and (TOPIC in possible or name == text):
        raise _refused("this topic is the service's own: name another one")
    if possible:
        return possible, name
    raise _refused("; ".join(faults[kind] for kind in kinds))


def _is_own(settings: Settings, topic: str) -> bool:
    """True for topics that only the service may write to."""
    return reserved_topic(topic) or topic == settings.inventory_events_topic


def _is_allowed(settings: Settings, kind: str, name: str) -> bool:
    """True if the operator allows jobs to name the topic or bucket ``name``.

    The settings are shell patterns; a prefix ``kafka:`` or ``s3:`` limits one to topics or buckets. Refused
    are names that ``destination_deny`` matches and, with ``destination_allow``, all that it does not.
    """

    def matches(patterns: tuple[str, ...]) -> bool:
        return any(
            fnmatchcase(each, pattern) for pattern in patterns for each in (name, _PREFIX[kind] + name)
        )

    allow = settings.destination_allow
    return not matches(settings.destination_deny) and (not allow or matches(allow))


async def _exists(kind: str, name: str, bus: Bus, objects: ObjectStore) -> bool:
    """True if the topic or bucket exists. Refuses a topic that the service may not write to."""
    try:
        return await (bus.topic_exists(name) if kind == TOPIC else objects.bucket_exists(name))
    except TopicRefused as refusal:
        raise _refused(str(refusal)) from refusal


def suggest_names(name: str, known: Iterable[str]) -> list[str]:
    """At most five of the ``known`` destinations (each with its prefix) that are similar to ``name``, most
    similar first."""
    by_name: dict[str, list[str]] = {}
    for each in sorted(known)[:_MAX_COMPARED]:
        by_name.setdefault(each.partition(":")[2].lower(), []).append(each)
    close = difflib.get_close_matches(name.lower(), by_name, _MAX_SUGGESTIONS)
    return [each for match in close for each in by_name[match]][:_MAX_SUGGESTIONS]


def _refused(detail: str) -> InvalidRequest:
    return InvalidRequest.at("destination", detail)
