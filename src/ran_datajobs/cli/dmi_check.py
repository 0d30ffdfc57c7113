# SPDX-License-Identifier: Apache-2.0
"""``dmi-check``: check whether a DMI plugin keeps its contract with NCMP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from ran_datajobs.cli.options import Settings, takes_settings
from ran_datajobs.errors import InvalidFdn, UsageError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ran_datajobs.dmi.conformance.bus import Topics
    from ran_datajobs.dmi.conformance.checks import Line
    from ran_datajobs.dmi.conformance.trial import Subject
    from ran_datajobs.plugins.credentials import Credentials

PRODUCER = "dmi-check"
"""Data producer id if none is given."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Around a service")(dmi_check)


@takes_settings("output", "dmi_credentials_file")
def dmi_check(
    settings: Settings,
    url: Annotated[str, typer.Argument(metavar="URL", help="address of the DMI plugin")],
    data_producer: Annotated[
        str, typer.Option(metavar="ID", help="a data producer that the plugin serves")
    ] = PRODUCER,
    fdn: Annotated[str, typer.Option(metavar="FDN", help="an object of that data producer")] = "",
    dialect: Annotated[
        str, typer.Option(metavar="DIALECT", help="dialect of the plugin: seed, onap")
    ] = "seed",
    patience: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="maximum duration of a job")
    ] = 30.0,
    dmi_kafka_bootstrap: Annotated[
        str, typer.Option(metavar="SERVERS", help="Kafka servers to which the plugin publishes")
    ] = "",
    dmi_service_url: Annotated[
        str, typer.Option(metavar="URL", help="free address at which to receive its messages without Kafka")
    ] = "",
) -> None:
    """Check whether a DMI plugin keeps the contract. Nothing is changed at its elements.

    With --dmi-kafka-bootstrap the messages of a read are received from Kafka. With --dmi-service-url this
    command receives them at an address like http://127.0.0.1:8080, in place of the service: start the plugin
    with the same flag, and no service at that address.

    Every line has a promise and whether it holds; a skipped check has its reason. Ends with 1 if a check
    fails, and with 3 if the plugin does not answer.

    Example: `datajobs dmi-check http://127.0.0.1:8081 --data-producer ems-1 --fdn /SubNetwork=Europe/…`
    """
    from ran_datajobs.dmi.conformance.trial import Fails, Subject
    from ran_datajobs.plugins.credentials import Credentials
    from ran_datajobs.plugins.wire import Dialect

    if dialect not in list(Dialect):
        raise UsageError(f"--dialect is one of {', '.join(Dialect)}, not {dialect!r}")
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url!r} is not an address of a plugin: it must begin with http:// or https://")
    subject = Subject(Dialect(dialect), data_producer, _slashed(fdn), patience)
    credentials = Credentials(settings.dmi_credentials_file)
    reader = _topics(dmi_kafka_bootstrap, dmi_service_url, settings)
    lines = asyncio.run(_checked(url, subject, credentials, reader))
    _show(lines, settings.output)
    if any(isinstance(line.finding, Fails) for line in lines):
        raise typer.Exit(1)


def _slashed(fdn: str) -> str:
    """The FDN with a leading slash, in the spelling that every plugin accepts."""
    from ran_datajobs.nrm import fdn as names

    try:
        return names.render(names.parse(fdn)) if fdn else ""
    except InvalidFdn as error:
        raise UsageError(f"--fdn: {error}") from error


async def _checked(
    url: str,
    subject: Subject,
    credentials: Credentials,
    reader: AbstractAsyncContextManager[Topics | None],
) -> list[Line]:
    from ran_datajobs.dmi.conformance.checks import check_plugin
    from ran_datajobs.dmi.conformance.trial import Trial
    from ran_datajobs.errors import BusUnavailable, ServerUnreachable
    from ran_datajobs.plugins.client import PeerHttp
    from ran_datajobs.plugins.dialects import plugins_over
    from ran_datajobs.plugins.port import PluginProfile

    try:
        async with PeerHttp() as http, reader as topics:
            plugin = plugins_over(http, credentials)(PluginProfile(0, url, subject.dialect))
            return [line async for line in check_plugin(Trial(plugin, subject, topics))]
    except BusUnavailable as error:
        raise ServerUnreachable(str(error)) from error


@contextlib.asynccontextmanager
async def _topics(kafka: str, address: str, settings: Settings) -> AsyncIterator[Topics | None]:
    """Yield the reader of the plugin's messages; None where neither is given. Raises BusUnavailable."""
    from ran_datajobs.dmi.conformance.bus import StandIn, TopicsOfBus

    if kafka:
        from ran_datajobs.messaging.kafka import KafkaBus

        bus = KafkaBus(kafka, settings.kafka_properties, installation="dmi-check")
        async with contextlib.aclosing(bus):
            yield TopicsOfBus(bus)
    elif address:
        host, port = _listening(address)
        stand_in = StandIn()
        async with stand_in.serving(host, port):
            yield stand_in
    else:
        yield None


def _listening(address: str) -> tuple[str, int]:
    """Host and port of the address to which the plugin publishes."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"--dmi-service-url: {address!r}: {error}") from error
    if parts.scheme != "http" or not host or not port or parts.path not in ("", "/"):
        raise UsageError(f"--dmi-service-url is an address like http://127.0.0.1:8080, not {address!r}")
    return host, port


def _show(lines: list[Line], output: str) -> None:
    from ran_datajobs.cli import formatting

    rows = [
        (line.name, type(line.finding).__name__.lower(), line.promise, line.finding.note) for line in lines
    ]
    if output == "json":
        for name, verdict, promise, note in rows:
            formatting.json_line(
                {"check": name, "verdict": verdict, "promise": promise, "note": formatting.clean(note)}
            )
    else:
        formatting.table(("CHECK", "", "PROMISE", "OBSERVED"), rows)
