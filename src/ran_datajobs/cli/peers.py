# SPDX-License-Identifier: Apache-2.0
"""``dmi`` and ``simulate``: run the reference DMI plugin and the simulated network."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ran_datajobs.cli.options import Settings, takes_settings
from ran_datajobs.cli.serve import until_stopped
from ran_datajobs.config import Group, default_data_dir

if TYPE_CHECKING:
    from ran_datajobs.dmi.jobs import ElementOf
    from ran_datajobs.dmi.owners import Owners
    from ran_datajobs.dmi.publisher import Publisher, StatusNews
    from ran_datajobs.plugins.client import PeerHttp

DMI_PORT = 8081
NETWORK_PORT = 8082


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="Run")(dmi)
    app.command(rich_help_panel="Run")(simulate)


@takes_settings(
    "host",
    "port",
    "data_dir",
    "dmi_kafka_bootstrap",
    "dmi_service_url",
    "provmns_url",
    "provmns_servers_file",
    "sites",
    "seed",
    Group.LOGGING,
    port=DMI_PORT,
)
def dmi(settings: Settings) -> None:
    """Run the reference DMI plugin until Ctrl-C or SIGTERM.

    The element is a ProvMnS server; {dataProducerId} in its address stands for the data producer of a
    sub-job; --provmns-servers-file names a server per data producer, with its names and manners. Without
    either, the plugin simulates a network by itself. Results of reads go to --dmi-kafka-bootstrap, or to the
    service at --dmi-service-url or DATAJOBS_SERVER. There, the plugin also asks who owns the object of a
    ProvMnS request; the owner of a simulated one is known.

    Examples: `datajobs dmi --provmns-url http://127.0.0.1:8082 --dmi-kafka-bootstrap 127.0.0.1:9092` ·
    `datajobs dmi`
    """
    from ran_datajobs import telemetry

    telemetry.configure(level=settings.log_level, form=settings.log_format)
    asyncio.run(until_stopped(_dmi(settings)))


@takes_settings("host", "port", "sites", "seed", Group.LOGGING, port=NETWORK_PORT)
def simulate(settings: Settings) -> None:
    """Run the simulated network, a ProvMnS server (TS 28.532), until Ctrl-C or SIGTERM.

    Example: `datajobs simulate --sites 1000 --seed 7`
    """
    from ran_datajobs import telemetry

    telemetry.configure(level=settings.log_level, form=settings.log_format)
    asyncio.run(until_stopped(_simulate(settings)))


async def _dmi(settings: Settings) -> None:
    from ran_datajobs.dmi.publisher import ServiceLink
    from ran_datajobs.dmi.server import serve
    from ran_datajobs.dmi.settings import PluginSettings
    from ran_datajobs.plugins.client import PeerHttp

    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(PeerHttp())
        publisher: Publisher
        news: StatusNews | None = None
        kafka = settings.dmi_kafka_bootstrap
        service = settings.dmi_service_url or settings.server
        element_of, owners = _elements(settings, http, service)
        if kafka is None:
            publisher = news = ServiceLink(service, http, settings.token, settings.finished_spelling)
        else:
            from ran_datajobs.messaging.kafka import KafkaBus

            publisher = await stack.enter_async_context(
                contextlib.aclosing(KafkaBus(kafka, settings.kafka_properties, installation="dmi"))
            )
        await serve(
            settings.host,
            settings.port,
            PluginSettings(_own_folder(settings), finished_spelling=settings.finished_spelling),
            element_of,
            publisher,
            news=news,
            owners=owners,
        )


def _own_folder(settings: Settings) -> Path:
    """Data dir of the plugin; a subfolder of the default one, since a service uses that itself."""
    own = settings.data_dir == default_data_dir(os.environ)
    return settings.data_dir / "plugin" if own else settings.data_dir


def _elements(settings: Settings, http: PeerHttp, service: str) -> tuple[ElementOf, Owners]:
    """ProvMnS servers if any are configured, whose owners ``service`` knows; else a simulated network in this
    process."""
    from ran_datajobs.dmi.owners import NcmpOwners
    from ran_datajobs.dmi.provmns.servers import (
        DATA_PRODUCER,
        EVERY,
        ProvMnsElements,
        ServerEntry,
        read_servers,
    )
    from ran_datajobs.simulator.wire import PROVMNS

    owners = NcmpOwners(service, http, settings.token)
    if settings.provmns_servers_file is not None:
        return ProvMnsElements(read_servers(settings.provmns_servers_file), http).element_of, owners
    if settings.provmns_url is None:
        return _elements_in_process(settings)
    root = settings.provmns_url if settings.provmns_url.endswith(PROVMNS) else settings.provmns_url + PROVMNS
    entry = ServerEntry(root, actions=DATA_PRODUCER in root)
    return ProvMnsElements({EVERY: entry}, http).element_of, owners


def _elements_in_process(settings: Settings) -> tuple[ElementOf, Owners]:
    from ran_datajobs.dmi.owners import ElementOwners
    from ran_datajobs.dmi.simulated import simulated_elements
    from ran_datajobs.simulator.network import Network

    network = Network(settings.sites, settings.seed)
    producers = network.data_producers()
    elements = simulated_elements(network, network.model, network.actions, producers)
    return elements.get, ElementOwners(producers)


async def _simulate(settings: Settings) -> None:
    from ran_datajobs.simulator.network import Network
    from ran_datajobs.simulator.server import serve
    from ran_datajobs.telemetry import logger

    def ready(address: str) -> None:
        logger().info("service.started", role="simulate", address=address)

    await serve(settings.host, settings.port, Network(settings.sites, settings.seed), ready)
