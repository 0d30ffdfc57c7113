# SPDX-License-Identifier: Apache-2.0
"""The checks of guards and before-images, of plugins that keep, lack or break these promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec import UNSET, structs

from ran_datajobs.dmi.conformance.checks import CHECKS
from ran_datajobs.dmi.conformance.trial import Fails, Finding, Holds, Skipped, Subject, Trial
from ran_datajobs.dmi.element import Element, Outcome
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.model import ActivationMode, Operation
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.dialects import plugins_over
from ran_datajobs.plugins.port import PluginProfile
from ran_datajobs.plugins.wire import Dialect
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network
from tests.kit.plugin_parts import served_plugin

PRODUCER, FDN = layout.data_producer_of(1), f"/{layout.element_key(1)}"
Change = Callable[[list[Outcome]], list[Outcome]]


class ChangedElement:
    """Executes operations at another element, without their guards if it ``ignores`` them, and changes the
    outcomes."""

    def __init__(self, element: Element, change: Change, *, ignores: bool = False) -> None:
        self.read = element.read
        self._element = element
        self._change = change
        self._ignores = ignores

    async def write(
        self, operations: Sequence[Operation], mode: ActivationMode, *, images: bool = False
    ) -> Sequence[Outcome]:
        if self._ignores:
            operations = [structs.replace(each, expect=UNSET) for each in operations]
        return self._change(list(await self._element.write(operations, mode, images=images)))


def as_they_are(outcomes: list[Outcome]) -> list[Outcome]:
    return outcomes


def without_reasons(outcomes: list[Outcome]) -> list[Outcome]:
    return [structs.replace(each, reason="") for each in outcomes]


def without_images(outcomes: list[Outcome]) -> list[Outcome]:
    return [structs.replace(each, before=None) for each in outcomes]


def without_the_last_image(outcomes: list[Outcome]) -> list[Outcome]:
    return outcomes[:-1] + without_images(outcomes[-1:])


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize(
    ("change", "ignores", "guards", "images"),
    [
        (as_they_are, False, Holds(), Holds()),
        (without_images, True, Skipped("register it without guards"), Skipped("without beforeImages")),
        (without_reasons, False, Fails("the reason is OTHER"), Holds()),
        (without_the_last_image, False, Holds(), Fails("1 of 2 responses have before")),
    ],
)
async def test_the_checks_say_what_a_plugin_can_be_registered_with(
    tmp_path: Path, dialect: Dialect, change: Change, ignores: bool, guards: Finding, images: Finding
) -> None:
    """A plugin that lacks a promise is not blamed; one that keeps it in part is. The network is unchanged."""
    network = Network(1)
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    element = ChangedElement(elements[PRODUCER], change, ignores=ignores)
    async with served_plugin(PluginSettings(tmp_path / "dmi"), lambda _: element) as url, PeerHttp() as http:
        trial = Trial(plugins_over(http)(PluginProfile(0, url, dialect)), Subject(dialect, PRODUCER, FDN))
        for name, expected in (("guards", guards), ("before-images", images)):
            found = await CHECKS[name][1](trial)
            assert type(found) is type(expected), found
            assert expected.note in found.note
    assert dict(network.walk()) == dict(Network(1).walk())
