# SPDX-License-Identifier: Apache-2.0
"""Where a job's results go: what ``?destination=`` names, checked against the bus and the object store.

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

from ran_datajobs.errors import BusUnavailable, InvalidRequest
from ran_datajobs.messaging.bus import Bus
from ran_datajobs.messaging.topics import reserved_topic, topic_problem
from ran_datajobs.results.objects import ObjectStore, bucket_problem
from ran_datajobs.store.jobs import BUCKET, TOPIC

_KAFKA: Final = "kafka:"
_S3: Final = "s3:"
_PREFIX: Final = {TOPIC: _KAFKA, BUCKET: _S3}
_POINTER: Final = "destination"
_NEAR_NAMES: Final = 5
_NEAR_ENOUGH: Final = 0.6
_LONGEST_COMPARED: Final = 10_000


class Destination(Struct, frozen=True):
    """``name`` without prefix, ``None`` when none was given; ``kind`` is TOPIC or BUCKET."""

    name: str | None
    kind: str
    results_bucket: str


class DestinationRules(Struct, frozen=True):
    """Which destinations the operator lets jobs name: shell patterns, ``kafka:`` and ``s3:`` before one make
    it mean topics or buckets alone. What ``deny`` matches is refused; with an ``allow``, all else is."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def take(self, kind: str, name: str) -> bool:
        """True when jobs may name the topic or bucket ``name``."""
        spellings = (name, _PREFIX[kind] + name)
        return not _any_matches(self.deny, spellings) and (
            not self.allow or _any_matches(self.allow, spellings)
        )


async def _no_buckets() -> list[str]:
    """When nobody tells which buckets there are."""
    return []


class _Among(Struct, frozen=True):
    """What a destination is looked up in."""

    bus: Bus
    objects: ObjectStore
    own_bucket: str
    embedded: bool
    rules: DestinationRules
    known_buckets: Callable[[], Awaitable[list[str]]]


async def resolve(
    text: str | None,
    *,
    bus: Bus,
    objects: ObjectStore,
    own_bucket: str,
    embedded: bool,
    rules: DestinationRules = DestinationRules(),  # noqa: B008 - frozen
    known_buckets: Callable[[], Awaitable[list[str]]] = _no_buckets,
) -> Destination:
    """The destination that ``text`` names. ``embedded``: every valid name exists, and a bare one is a bucket.

    ``known_buckets`` tells names to compare with one that does not exist: a bucket store lists none. Raises
    InvalidRequest with what was found, and with near names where nothing was; BusUnavailable and
    StorageUnavailable when it cannot be asked.
    """
    among = _Among(bus, objects, own_bucket, embedded, rules, known_buckets)
    if text is None:
        return Destination(None, BUCKET, among.own_bucket)
    if text.startswith(_KAFKA):
        name = text.removeprefix(_KAFKA)
        _check_topic(name)
        if not await among.bus.topic_exists(name):
            raise await _unknown(f"there is no topic {name!r}", name, among, TOPIC)
        found = Destination(name, TOPIC, among.own_bucket)
    elif text.startswith(_S3):
        name = text.removeprefix(_S3)
        _check_bucket(name)
        if not await among.objects.bucket_exists(name):
            raise await _unknown(f"there is no bucket {name!r}", name, among, BUCKET)
        found = Destination(name, BUCKET, name)
    else:
        name = text
        found = await _bare(text, among)
    if not among.rules.take(found.kind, name):
        raise _refused(f"the operator of this service does not allow {_PREFIX[found.kind]}{name}")
    return found


async def _bare(name: str, among: _Among) -> Destination:
    bucket_fault, topic_fault = bucket_problem(name), topic_problem(name)
    if reserved_topic(name):
        raise _refused("this topic is the service's own: name another one")
    if bucket_fault is not None and topic_fault is not None:
        raise _refused(f"neither the name of a topic ({topic_fault}) nor of a bucket ({bucket_fault})")
    if among.embedded:
        _check_bucket(name)
        return Destination(name, BUCKET, name)
    is_bucket, is_topic = await asyncio.gather(
        _exists_bucket(among.objects, name, bucket_fault), _exists_topic(among.bus, name, topic_fault)
    )
    if is_bucket and is_topic:
        raise _refused(f"both a topic and a bucket are called {name!r}: say kafka:{name} or s3:{name}")
    if is_bucket:
        return Destination(name, BUCKET, name)
    if is_topic:
        return Destination(name, TOPIC, among.own_bucket)
    raise await _unknown(f"there is neither a topic nor a bucket {name!r}", name, among, TOPIC, BUCKET)


async def _unknown(detail: str, name: str, among: _Among, *kinds: str) -> InvalidRequest:
    """The refusal of a name that does not exist, with those that it may have been meant for."""
    known: list[str] = []
    if TOPIC in kinds:
        with contextlib.suppress(BusUnavailable):
            topics = await among.bus.topics()
            known += [_KAFKA + topic for topic in topics if _may_be_named(among.rules, TOPIC, topic)]
    if BUCKET in kinds:
        buckets = await among.known_buckets()
        known += [_S3 + bucket for bucket in buckets if _may_be_named(among.rules, BUCKET, bucket)]
    near = near_names(name, known)
    return _refused(detail + (f"; near names: {', '.join(near)}" if near else ""))


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Of ``known`` destinations (each with its prefix) those that ``name`` may have been meant for, the
    nearest first, at most five."""
    by_name: dict[str, list[str]] = {}
    for each in sorted(known)[:_LONGEST_COMPARED]:
        by_name.setdefault(each.partition(":")[2].lower(), []).append(each)
    close = difflib.get_close_matches(name.lower(), by_name, _NEAR_NAMES, _NEAR_ENOUGH)
    return [each for match in close for each in by_name[match]][:_NEAR_NAMES]


def _may_be_named(rules: DestinationRules, kind: str, name: str) -> bool:
    return rules.take(kind, name) and not (kind == TOPIC and reserved_topic(name))


async def _exists_bucket(objects: ObjectStore, name: str, fault: str | None) -> bool:
    return fault is None and await objects.bucket_exists(name)


async def _exists_topic(bus: Bus, name: str, fault: str | None) -> bool:
    return fault is None and await bus.topic_exists(name)


def _any_matches(patterns: tuple[str, ...], spellings: tuple[str, ...]) -> bool:
    return any(fnmatchcase(spelling, pattern) for pattern in patterns for spelling in spellings)


def _check_topic(name: str) -> None:
    if (problem := topic_problem(name)) is not None:
        raise _refused(problem)
    if reserved_topic(name):
        raise _refused("this topic is the service's own: name another one")


def _check_bucket(name: str) -> None:
    if (problem := bucket_problem(name)) is not None:
        raise _refused(problem)


def _refused(detail: str) -> InvalidRequest:
    return InvalidRequest(f"{_POINTER}: {detail}", ((_POINTER, detail),))
