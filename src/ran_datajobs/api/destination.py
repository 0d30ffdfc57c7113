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

from ran_datajobs.errors import BusUnavailable, InvalidRequest, TopicRefused
from ran_datajobs.messaging.bus import Bus
from ran_datajobs.messaging.topics import reserved_topic, topic_problem
from ran_datajobs.results.objects import ObjectStore, bucket_problem
from ran_datajobs.store.jobs import BUCKET, TOPIC

_KAFKA: Final = "kafka:"
_S3: Final = "s3:"
_PREFIX: Final = {TOPIC: _KAFKA, BUCKET: _S3}
_WORD: Final = {TOPIC: "topic", BUCKET: "bucket"}
_POINTER: Final = "destination"
_MAX_SUGGESTIONS: Final = 5
_MIN_SIMILARITY: Final = 0.6
_MAX_COMPARED: Final = 10_000


class Destination(Struct, frozen=True):
    """``name`` without prefix, ``None`` when none was given; ``kind`` is TOPIC or BUCKET."""

    name: str | None
    kind: str


class DestinationRules(Struct, frozen=True):
    """Destinations that the operator allows, as shell patterns; a prefix ``kafka:`` or ``s3:`` limits one to
    topics or buckets. Refused are names that ``deny`` matches and, with ``allow``, all that it does not."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def take(self, kind: str, name: str) -> bool:
        """True when jobs may name the topic or bucket ``name``."""
        spellings = (name, _PREFIX[kind] + name)
        return not _any_matches(self.deny, spellings) and (
            not self.allow or _any_matches(self.allow, spellings)
        )


async def _no_buckets() -> list[str]:
    """The default of ``known_buckets``: none."""
    return []


class _Lookup(Struct, frozen=True):
    """Sources and rules for the lookup of a destination."""

    bus: Bus
    objects: ObjectStore
    embedded: bool
    rules: DestinationRules
    known_buckets: Callable[[], Awaitable[list[str]]]


async def resolve(
    text: str | None,
    *,
    bus: Bus,
    objects: ObjectStore,
    embedded: bool,
    rules: DestinationRules = DestinationRules(),  # noqa: B008 - frozen
    known_buckets: Callable[[], Awaitable[list[str]]] = _no_buckets,
) -> Destination:
    """The destination that ``text`` names. ``embedded``: the bus is embedded, and a bare name is a bucket.

    ``known_buckets`` returns the names from which suggestions are made, because the object store lists none.
    Raises InvalidRequest if the name is invalid or ambiguous, if it does not exist (with suggestions), if the
    operator does not allow it (whether it exists or not), and if the service may not write to the topic;
    BusUnavailable and StorageUnavailable if the bus or the object store does not answer.
    """
    lookup = _Lookup(bus, objects, embedded, rules, known_buckets)
    if text is None:
        return Destination(None, BUCKET)
    if text.startswith(_KAFKA):
        name = text.removeprefix(_KAFKA)
        _check_topic(name)
        return await _named(TOPIC, name, lookup)
    if text.startswith(_S3):
        name = text.removeprefix(_S3)
        _check_bucket(name)
        return await _named(BUCKET, name, lookup)
    return await _bare(text, lookup)


async def _named(kind: str, name: str, lookup: _Lookup) -> Destination:
    """A destination of known kind. A name that the operator does not allow is not looked up."""
    if not lookup.rules.take(kind, name):
        raise _refused(_not_allowed(kind, name))
    if await _exists(kind, name, lookup):
        return Destination(name, kind)
    raise await _unknown(f"there is no {_WORD[kind]} {name!r}", name, lookup, kind)


async def _bare(name: str, lookup: _Lookup) -> Destination:
    faults = {BUCKET: bucket_problem(name), TOPIC: topic_problem(name)}
    if reserved_topic(name):
        raise _refused("this topic is the service's own: name another one")
    if faults[BUCKET] is not None and faults[TOPIC] is not None:
        raise _refused(f"neither the name of a topic ({faults[TOPIC]}) nor of a bucket ({faults[BUCKET]})")
    if lookup.embedded:
        _check_bucket(name)
        return await _named(BUCKET, name, lookup)
    possible = [kind for kind in (TOPIC, BUCKET) if faults[kind] is None]
    allowed = [kind for kind in possible if lookup.rules.take(kind, name)]
    exist = await asyncio.gather(*(_exists(kind, name, lookup) for kind in allowed))
    found = [kind for kind, exists in zip(allowed, exist, strict=True) if exists]
    match found:
        case [kind]:
            return Destination(name, kind)
        case []:
            denied = [kind for kind in possible if kind not in allowed]
            nothing = f"there is neither a topic nor a bucket {name!r}"
            if denied:
                nothing = "; ".join(
                    [
                        *(f"there is no {_WORD[kind]} {name!r}" for kind in allowed),
                        *(_not_allowed(kind, name) for kind in denied),
                    ]
                )
            raise await _unknown(nothing, name, lookup, *allowed)
        case _:
            raise _refused(f"both a topic and a bucket are called {name!r}: say kafka:{name} or s3:{name}")


async def _exists(kind: str, name: str, lookup: _Lookup) -> bool:
    """True if the topic or bucket exists. Refuses a topic that the service may not write to."""
    if kind == BUCKET:
        return await lookup.objects.bucket_exists(name)
    try:
        return await lookup.bus.topic_exists(name)
    except TopicRefused as refusal:
        raise _refused(str(refusal)) from refusal


def _not_allowed(kind: str, name: str) -> str:
    return f"the operator of this service does not allow {_PREFIX[kind]}{name}"


async def _unknown(detail: str, name: str, lookup: _Lookup, *kinds: str) -> InvalidRequest:
    """The refusal of a name that does not exist, with suggestions."""
    known: list[str] = []
    if TOPIC in kinds:
        with contextlib.suppress(BusUnavailable):
            topics = await lookup.bus.topics()
            known += [_KAFKA + topic for topic in topics if _may_be_named(lookup.rules, TOPIC, topic)]
    if BUCKET in kinds:
        buckets = await lookup.known_buckets()
        known += [_S3 + bucket for bucket in buckets if _may_be_named(lookup.rules, BUCKET, bucket)]
    near = suggest_names(name, known)
    return _refused(detail + (f"; near names: {', '.join(near)}" if near else ""))


def suggest_names(name: str, known: Iterable[str]) -> list[str]:
    """At most five of the ``known`` destinations (each with its prefix) that are similar to ``name``, most
    similar first."""
    by_name: dict[str, list[str]] = {}
    for each in sorted(known)[:_MAX_COMPARED]:
        by_name.setdefault(each.partition(":")[2].lower(), []).append(each)
    close = difflib.get_close_matches(name.lower(), by_name, _MAX_SUGGESTIONS, _MIN_SIMILARITY)
    return [each for match in close for each in by_name[match]][:_MAX_SUGGESTIONS]


def _may_be_named(rules: DestinationRules, kind: str, name: str) -> bool:
    return rules.take(kind, name) and not (kind == TOPIC and reserved_topic(name))


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
