# SPDX-License-Identifier: Apache-2.0
"""Creates at plugins of the dialect ``auto``, and at plugins that take one media type, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec import structs

from ran_datajobs.model import Op, Operation, Scope, ScopeType
from ran_datajobs.plugins import wire
from ran_datajobs.plugins.client import HttpBounds, PeerHttp
from ran_datajobs.plugins.dialects import PluginOf, plugins_over
from ran_datajobs.plugins.port import AUTO, Created, OutcomeUnknown, PluginProfile, Refused, Retryable
from tests.kit.plugin_parts import call_for, reads, writes
from tests.kit.plugins.scripted import Manner, Script, ScriptedPlugin, Step

SEED, ONAP = wire.Dialect.SEED, wire.Dialect.ONAP
DIALECTS = ["seed", "onap"]


@pytest.fixture
async def scripted() -> AsyncIterator[tuple[ScriptedPlugin, str]]:
    """A scripted plugin and its address."""
    plugin = ScriptedPlugin()
    async with plugin.serving() as url:
        yield plugin, url


@pytest.fixture
async def plugin_of() -> AsyncIterator[PluginOf]:
    """The clients of one process."""
    async with PeerHttp(HttpBounds(total=1.0)) as http:
        yield plugins_over(http)


def auto(url: str, found: str | None = None) -> PluginProfile:
    return PluginProfile(1, url, AUTO, found_dialect=found)


def creates(plugin: ScriptedPlugin) -> list[str]:
    """The dialects of the creates that arrived, in order."""
    posts = [each.path for each in plugin.received if each.method == "POST"]
    return ["seed" if path.startswith("/dmi/v1/dataJob/") else "onap" for path in posts]


@pytest.mark.parametrize("absent", [404, 405])
@pytest.mark.parametrize("operations", [writes(3), reads("A", "B")], ids=["writes", "reads"])
async def test_a_plugin_without_the_seeds_create_gets_the_other_one(
    scripted: tuple[ScriptedPlugin, str], plugin_of: PluginOf, absent: int, operations: list[Operation]
) -> None:
    """After a 404 or a 405, which prove that nothing was executed, the operations are sent in the dialect
    onap, converted from the form in which they were planned. They are executed once."""
    plugin, url = scripted
    plugin.manner = Manner(speaks=(ONAP,), absent=absent)
    call = structs.replace(call_for("seed", operations), dialect="seed")
    answer = await plugin_of(auto(url)).create(call)
    assert isinstance(answer, Created)
    assert answer.dialect == "onap"
    assert creates(plugin) == ["seed", "onap"]
    (executed,) = plugin.history
    assert [each.path for each in executed.operations] == [each.path for each in operations]
    assert [each.operation_id for each in executed.operations] == [str(o.operation_id) for o in operations]
    assert [each.scope for each in executed.operations] == [each.scope for each in operations]


@pytest.mark.parametrize(("found", "speaks"), [(None, SEED), ("seed", SEED), ("onap", ONAP)])
async def test_what_was_found_is_sent_first(
    scripted: tuple[ScriptedPlugin, str], plugin_of: PluginOf, found: str | None, speaks: wire.Dialect
) -> None:
    """The dialect that was found costs one call; so does the seed's, which is the first to be tried."""
    plugin, url = scripted
    plugin.manner = Manner(speaks=(speaks,))
    answer = await plugin_of(auto(url, found)).create(call_for(speaks.value, writes(1)))
    assert isinstance(answer, Created)
    assert answer.dialect == speaks
    assert creates(plugin) == [speaks]


@pytest.mark.parametrize(("found", "now"), [("seed", ONAP), ("onap", SEED)])
async def test_a_plugin_that_was_replaced_is_found_anew(
    scripted: tuple[ScriptedPlugin, str], plugin_of: PluginOf, found: str, now: wire.Dialect
) -> None:
    """Operations that were planned in the dialect found before are converted to the other one."""
    plugin, url = scripted
    plugin.manner = Manner(speaks=(now,))
    call = structs.replace(call_for(found, writes(2)), dialect=found)
    answer = await plugin_of(auto(url, found)).create(call)
    assert isinstance(answer, Created)
    assert (answer.dialect, creates(plugin)) == (now, [found, now])
    assert [each.value for each in plugin.history[0].operations] == [each.value for each in writes(2)]


async def test_many_operations_are_converted(
    scripted: tuple[ScriptedPlugin, str], plugin_of: PluginOf
) -> None:
    """Also those that are converted on a thread."""
    plugin, url = scripted
    plugin.manner = Manner(speaks=(ONAP,))
    call = structs.replace(call_for("seed", writes(3_000)), dialect="seed")
    async with PeerHttp() as http:
        assert isinstance(await plugins_over(http)(auto(url)).create(call), Created)
    assert len(plugin.history[0].operations) == 3_000


async def test_a_plugin_without_any_create_refuses(
    scripted: tuple[ScriptedPlugin, str], plugin_of: PluginOf
) -> None:
    """The cause quotes both answers."""
    plugin, url = scripted
    plugin.manner = Manner(speaks=())
    answer = await plugin_of(auto(url)).create(call_for("seed", writes(1)))
    assert isinstance(answer, Refused)
    assert "HTTP 404: no such call in the dialect seed" in answer.cause
    assert "HTTP 404: no such call in the dialect onap" in answer.cause
    assert creates(plugin) == ["seed", "onap"]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_registered_dialect_is_the_only_one(
    scripted: tuple[ScriptedPlugin, str], plugin_of: PluginOf, dialect: str
) -> None:
    """A 404 of a plugin that is registered with its dialect is a refusal."""
    plugin, url = scripted
    plugin.manner = Manner(speaks=())
    answer = await plugin_of(PluginProfile(1, url, dialect)).create(call_for(dialect, writes(1)))
    assert answer == Refused("HTTP 404: no such call")
    assert creates(plugin) == [dialect]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Step.REFUSE, Refused),
        (Step.NOT_IMPLEMENTED, Refused),
        (Step.REDIRECT, Refused),
        (Step.BUSY, Retryable),
        (Step.ERROR, OutcomeUnknown),
        (Step.WRONG_SHAPE, OutcomeUnknown),
        (Step.STALL, OutcomeUnknown),
        (Step.DROP, OutcomeUnknown),
    ],
)
async def test_no_other_answer_is_followed_by_another_create(
    scripted: tuple[ScriptedPlugin, str], plugin_of: PluginOf, step: Step, expected: type
) -> None:
    """What may have been executed, was refused, or is to be repeated, is not sent in the other dialect."""
    plugin, url = scripted
    plugin.script("producer-1", Script(create=(step,)))
    assert isinstance(await plugin_of(auto(url)).create(call_for("seed", writes(1))), expected)
    assert creates(plugin) == ["seed"]


@pytest.mark.parametrize("manner", [Manner(speaks=(ONAP,)), Manner(media_types=(wire.JSON_PATCH_3GPP,))])
async def test_a_create_is_not_sent_again_by_a_worker_that_no_longer_may(
    scripted: tuple[ScriptedPlugin, str], plugin_of: PluginOf, manner: Manner
) -> None:
    """A worker whose lease has ended before the plugin answered sends no second form of the create."""
    plugin, url = scripted
    plugin.manner = manner
    call = structs.replace(call_for("seed", writes(1)), may_be_sent=lambda: False)
    answer = await plugin_of(auto(url)).create(call)
    assert isinstance(answer, Retryable)
    assert answer.answered
    assert (len(plugin.received), len(plugin.history)) == (1, 0)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("taken", [wire.JSON, wire.JSON_PATCH_3GPP])
async def test_a_plugin_that_takes_one_media_type_gets_it(
    scripted: tuple[ScriptedPlugin, str], plugin_of: PluginOf, dialect: str, taken: str
) -> None:
    """After a 415 the create is sent once more with the other media type, which later creates begin with."""
    plugin, url = scripted
    plugin.manner = Manner(media_types=(taken,))
    first = wire.CREATE_CONTENT_TYPE[wire.Dialect(dialect)]
    for _ in range(2):
        answer = await plugin_of(PluginProfile(1, url, dialect)).create(call_for(dialect, writes(1)))
        assert isinstance(answer, Created)
    tried = [first] if first != taken else []
    assert [each.content_type for each in plugin.received] == [*tried, taken, taken]
    assert len(plugin.history) == 2


async def test_a_plugin_that_takes_neither_media_type_refuses(
    scripted: tuple[ScriptedPlugin, str], plugin_of: PluginOf
) -> None:
    """Two creates are sent, no more."""
    plugin, url = scripted
    plugin.manner = Manner(media_types=("text/plain",))
    answer = await plugin_of(auto(url)).create(call_for("seed", writes(1)))
    assert answer == Refused("HTTP 415: no such media type")
    assert [each.content_type for each in plugin.received] == [wire.JSON, wire.JSON_PATCH_3GPP]


async def test_both_at_once(scripted: tuple[ScriptedPlugin, str], plugin_of: PluginOf) -> None:
    """An onap plugin that takes ``application/json`` alone, as NCMP sends it, executes the create once; the
    next one costs one call."""
    plugin, url = scripted
    plugin.manner = Manner(speaks=(ONAP,), media_types=(wire.JSON,))
    first = await plugin_of(auto(url)).create(call_for("seed", writes(1)))
    assert isinstance(first, Created)
    assert len(plugin.received) == 3
    await plugin_of(auto(url, first.dialect)).create(call_for("onap", writes(1)))
    assert len(plugin.received) == 4
    assert len(plugin.history) == 2


def test_operations_that_are_converted_there_and_back_keep_their_values() -> None:
    """``value`` keeps its JSON tokens, a scope and the properties of the handle their members; an id becomes
    a string, several filters one."""
    operation = wire.SeedOperation(
        Op.READ,
        "/A=1",
        7,
        value=msgspec.Raw(b'{"x": 1.50}'),
        attributes=("a", "b"),
        filter=("A/attributes/x==1", "A/attributes/y==2"),
        module_set_tag="t",
        data_node_selector="//A",
        scope=Scope(ScopeType.BASE_NTH_LEVEL, 2),
        private_properties=msgspec.Raw(b'{"user":"u"}'),
    )
    seed = msgspec.json.encode([operation])
    onap = wire.converted(seed, ONAP)
    assert onap == msgspec.json.encode([wire.onap_operation(operation)])
    assert b'"value":{"x": 1.50}' in onap
    back = msgspec.json.decode(wire.converted(onap, SEED))
    one_filter = "(A/attributes/x==1) && (A/attributes/y==2)"
    assert back == [{**msgspec.json.decode(seed)[0], "operationId": "7", "filter": one_filter}]
