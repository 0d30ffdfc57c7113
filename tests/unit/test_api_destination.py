# SPDX-License-Identifier: Apache-2.0
"""The meaning of a destination if topics and buckets are two separate services."""

from __future__ import annotations

import dataclasses
from typing import cast

import pytest

from ran_datajobs.api.destination import Destination, resolve, suggest_names
from ran_datajobs.config import Settings
from ran_datajobs.errors import BusUnavailable, InvalidRequest, StorageUnavailable, TopicRefused
from ran_datajobs.messaging.bus import Bus
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.store.jobs import BUCKET, TOPIC

EVERY_ONE = Settings()


class ScriptedNames:
    """Both services: some names exist, and either service can be unavailable."""

    def __init__(
        self,
        topics: tuple[str, ...] = (),
        buckets: tuple[str, ...] = (),
        *,
        unavailable: bool = False,
        forbidden: tuple[str, ...] = (),
    ) -> None:
        self.topics_there = topics
        self.buckets = buckets
        self.unavailable = unavailable
        self.forbidden = forbidden
        self.asked: list[str] = []

    async def topic_exists(self, topic: str) -> bool:
        """As scripted."""
        self.asked.append(topic)
        if self.unavailable:
            raise BusUnavailable("unavailable")
        if topic in self.forbidden:
            raise TopicRefused(topic, "not ours")
        return topic in self.topics_there

    async def topics(self) -> list[str]:
        """The existing topics, and the service's own."""
        if self.unavailable:
            raise BusUnavailable("unavailable")
        return [*self.topics_there, "ncmp-async-m2m", "__consumer_offsets"]

    async def bucket_exists(self, bucket: str) -> bool:
        """As scripted."""
        self.asked.append(bucket)
        if self.unavailable:
            raise StorageUnavailable("unavailable")
        return bucket in self.buckets


async def resolved(text: str | None, names: ScriptedNames, rules: Settings = EVERY_ONE) -> Destination:
    """The destination, with Kafka and S3."""

    async def known_buckets() -> list[str]:
        return ["own", *names.buckets]

    return await resolve(
        text,
        dataclasses.replace(rules, kafka_bootstrap="127.0.0.1:9092"),
        bus=cast(Bus, names),
        objects=cast(ObjectStore, names),
        known_buckets=known_buckets,
    )


async def test_without_a_destination_results_stay_in_the_own_bucket() -> None:
    """Neither service is called."""
    names = ScriptedNames(unavailable=True)
    assert await resolved(None, names) == Destination(None, BUCKET)
    assert names.asked == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("results", Destination("results", BUCKET)),
        ("s3:results", Destination("results", BUCKET)),
        ("Events", Destination("Events", TOPIC)),
        ("kafka:Events", Destination("Events", TOPIC)),
        ("s3:both", Destination("both", BUCKET)),
        ("kafka:both", Destination("both", TOPIC)),
    ],
)
async def test_a_name_is_what_exists_under_it(text: str, found: Destination) -> None:
    """A bare name is the one service that has it, a prefix names the service. The name is kept without the
    prefix."""
    names = ScriptedNames(topics=("Events", "both"), buckets=("results", "both"))
    assert await resolved(text, names) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("both", "both a topic and a bucket"),
        ("nothing", "there is no topic 'nothing'; there is no bucket 'nothing'"),
        ("kafka:results", "no topic"),
        ("s3:events-topic", "no bucket"),
    ],
)
async def test_a_name_that_is_not_clear_says_what_was_found(text: str, said: str) -> None:
    """The refusal says which of the two exist."""
    names = ScriptedNames(topics=("both", "events-topic"), buckets=("both", "results"))
    with pytest.raises(InvalidRequest, match=said):
        await resolved(text, names)


@pytest.mark.parametrize("text", ["name", "kafka:name", "s3:name"])
async def test_a_service_that_cannot_be_asked_is_told_as_away(text: str) -> None:
    """The existence is not guessed: the client retries later (503)."""
    with pytest.raises((BusUnavailable, StorageUnavailable)):
        await resolved(text, ScriptedNames(unavailable=True))


@pytest.mark.parametrize(
    "text",
    ["ncmp-async-m2m", "kafka:ncmp-data-job-status", "__x", "kafka:__x", "a/b", "s3:A", "kafka:", "\0"],
)
async def test_names_that_cannot_be_are_never_looked_up(text: str) -> None:
    """Reserved and invalid names are refused before any service is called."""
    names = ScriptedNames(topics=(text, text.partition(":")[2]), buckets=(text,))
    with pytest.raises(InvalidRequest):
        await resolved(text, names)
    assert names.asked == []


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("rapp-result", "kafka:rapp-results, s3:rapp-results-2"),
        ("kafka:Rapp-Results", "kafka:rapp-results"),
        ("s3:rapp-results", "s3:rapp-results-2"),
    ],
)
async def test_an_unknown_name_is_answered_with_near_ones(text: str, near: str) -> None:
    """The refusal lists similar names, with their prefix, of the requested kind."""
    names = ScriptedNames(topics=("rapp-results", "alarms"), buckets=("rapp-results-2",))
    with pytest.raises(InvalidRequest) as refusal:
        await resolved(text, names)
    assert refusal.value.detail.endswith(f"; near names: {near}")


async def test_near_names_are_only_those_that_may_be_named() -> None:
    """It lists neither a topic of the service nor one that the operator denies."""
    names = ScriptedNames(topics=("ncmp-async-secret",))
    with pytest.raises(InvalidRequest) as refusal:
        await resolved("ncmp-async-m2n", names, Settings(destination_deny=("*-secret",)))
    assert "near names" not in refusal.value.detail


def test_no_more_than_five_names_are_near() -> None:
    """However many there are."""
    assert len(suggest_names("topic", [f"kafka:topic{n}" for n in range(50)])) == 5


@pytest.mark.parametrize(
    ("rules", "taken"),
    [
        (Settings(), {"kafka:ran-a", "kafka:x", "s3:ran-b"}),
        (Settings(destination_allow=("ran-*",)), {"kafka:ran-a", "s3:ran-b"}),
        (Settings(destination_allow=("kafka:ran-*", "s3:y")), {"kafka:ran-a"}),
        (Settings(destination_deny=("kafka:*",)), {"s3:ran-b"}),
        (Settings(destination_allow=("ran-*",), destination_deny=("ran-a",)), {"s3:ran-b"}),
    ],
)
async def test_operators_allow_and_deny_by_pattern(rules: Settings, taken: set[str]) -> None:
    """A pattern without a prefix applies to both kinds. A denied name is refused even if it is allowed."""
    names = ScriptedNames(topics=("ran-a", "x"), buckets=("ran-b",))
    for text in ("kafka:ran-a", "kafka:x", "s3:ran-b"):
        for spelling in (text, text.partition(":")[2]):
            if text in taken:
                assert (await resolved(spelling, names, rules)).name == text.partition(":")[2]
            else:
                with pytest.raises(InvalidRequest, match="does not allow"):
                    await resolved(spelling, names, rules)


@pytest.mark.parametrize("text", ["kafka:secret", "s3:secret", "secret"])
async def test_a_denied_name_tells_nothing_of_what_exists(text: str) -> None:
    """The response is the same whether or not a topic or bucket of that name exists, and neither service is
    called."""
    rules = Settings(destination_deny=("secret",))
    details = set()
    for names in (
        ScriptedNames(),
        ScriptedNames(topics=("secret",)),
        ScriptedNames(buckets=("secret",)),
        ScriptedNames(unavailable=True),
    ):
        with pytest.raises(InvalidRequest, match="does not allow") as refusal:
            await resolved(text, names, rules)
        assert names.asked == []
        details.add(refusal.value.detail)
    assert len(details) == 1


async def test_a_name_that_is_denied_as_one_kind_may_be_the_other() -> None:
    """Only the allowed kind is looked up, and the response reveals nothing of the other."""
    rules = Settings(destination_deny=("kafka:*",))
    both = ScriptedNames(topics=("ran",), buckets=("ran",))
    assert (await resolved("ran", both, rules)).kind == BUCKET
    details = set()
    for names in (ScriptedNames(topics=("ran",)), ScriptedNames()):
        with pytest.raises(
            InvalidRequest, match=r"there is no bucket 'ran'; .* does not allow kafka:ran"
        ) as no:
            await resolved("ran", names, rules)
        details.add(no.value.detail)
    assert len(details) == 1


@pytest.mark.parametrize("text", ["kafka:theirs", "theirs"])
async def test_a_topic_that_cannot_be_written_is_refused_with_the_reason(text: str) -> None:
    """The topic exists, but the service may not write to it."""
    with pytest.raises(InvalidRequest, match="topic 'theirs': not ours"):
        await resolved(text, ScriptedNames(topics=("theirs",), forbidden=("theirs",)))


async def test_without_a_destination_no_rule_applies() -> None:
    """The service's own bucket is not a destination that a client named."""
    assert await resolved(None, ScriptedNames(), Settings(destination_deny=("*",))) == Destination(
        None, BUCKET
    )
