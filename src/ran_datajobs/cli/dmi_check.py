# SPDX-License-Identifier: Apache-2.0
"""``dmi-check``: which promises of the contract between NCMP and a DMI plugin hold."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from ran_datajobs.cli.options import Settings, takes_settings
from ran_datajobs.errors import InvalidFdn, WrongUse

if TYPE_CHECKING:
    from ran_datajobs.dmi.conformance import Line
    from ran_datajobs.dmi.conformance_trial import Subject

PRODUCER = "dmi-check"
"""Stands for the data producer when none is named."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Around a service")(dmi_check)


@takes_settings("output")
def dmi_check(
    settings: Settings,
    url: Annotated[str, typer.Argument(metavar="URL", help="address of the DMI plugin")],
    data_producer: Annotated[
        str, typer.Option(metavar="ID", help="a data producer that the plugin serves")
    ] = PRODUCER,
    fdn: Annotated[str, typer.Option(metavar="FDN", help="an object of that data producer")] = "",
    dialect: Annotated[
        str, typer.Option(metavar="DIALECT", help="how the plugin speaks: seed, onap")
    ] = "seed",
    patience: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="how long a job may take")
    ] = 30.0,
) -> None:
    """Check whether a DMI plugin keeps the contract. Nothing is changed at its elements.

    Every line says what was promised and whether it holds; what was not tried says why. Ends with 1 when
    something does not hold, and with 3 when nobody answers.

    Example: `datajobs dmi-check http://127.0.0.1:8081 --data-producer ems-1 --fdn /SubNetwork=Europe/…`
    """
    from ran_datajobs.dmi.conformance_trial import Fails, Subject
    from ran_datajobs.southbound.wire import Dialect

    if dialect not in list(Dialect):
        raise WrongUse(f"--dialect is one of {', '.join(Dialect)}, not {dialect!r}")
    if not url.startswith(("http://", "https://")):
        raise WrongUse(f"{url!r} is no address of a plugin: it begins with http:// or https://")
    lines = asyncio.run(_checked(url, Subject(Dialect(dialect), data_producer, _slashed(fdn), patience)))
    _show(lines, settings.output)
    if any(isinstance(line.finding, Fails) for line in lines):
        raise typer.Exit(1)


def _slashed(fdn: str) -> str:
    """The FDN with its leading slash, in the spelling that every plugin reads."""
    from ran_datajobs import fdn as names

    try:
        return names.render(names.parse(fdn)) if fdn else ""
    except InvalidFdn as error:
        raise WrongUse(f"--fdn: {error}") from error


async def _checked(url: str, subject: Subject) -> list[Line]:
    from ran_datajobs.dmi.conformance import check_plugin
    from ran_datajobs.dmi.conformance_trial import Trial
    from ran_datajobs.southbound.http import PeerHttp
    from ran_datajobs.southbound.peers import Peers
    from ran_datajobs.southbound.plugin import PluginProfile

    async with PeerHttp() as http:
        plugin = Peers(http).plugin(PluginProfile(0, url, subject.dialect))
        return [line async for line in check_plugin(Trial(plugin, subject))]


def _show(lines: list[Line], output: str) -> None:
    from ran_datajobs.cli import show

    rows = [
        (line.name, type(line.finding).__name__.lower(), line.promise, line.finding.note) for line in lines
    ]
    if output == "json":
        for name, verdict, promise, note in rows:
            show.json_line({"check": name, "verdict": verdict, "promise": promise, "note": show.clean(note)})
    else:
        show.table(("CHECK", "", "PROMISE", "WHAT WAS SEEN"), rows)
