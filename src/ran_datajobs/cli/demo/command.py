# SPDX-License-Identifier: Apache-2.0
"""``demo``: run all components on one machine, and two jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from ran_datajobs.cli.options import Settings, takes_settings
from ran_datajobs.config import Group


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Run")(demo)


_OWN = ("port", "sites", "seed", "data_dir", Group.LOGGING)
"""Settings of a demo; all others keep their embedded defaults, so that it runs on this machine alone."""


@takes_settings(*_OWN, log_level="warning")
def demo(
    settings: Settings,
    once: Annotated[
        bool,
        typer.Option("--once", help="end after the two jobs, with status 1 if an outcome is unexpected"),
    ] = False,
) -> None:
    """Show everything on this machine: a simulated network, the reference plugin, the service and its page.

    A write job and a read job run with live progress; then page and API remain available until Ctrl-C. Unless
    --data-dir is given, the demo has a data dir of its own and empties it at each start. It listens on this
    machine only and uses no other settings than those below.

    Examples: `datajobs demo` · `datajobs demo --once --port 9000`
    """
    import asyncio

    from ran_datajobs import telemetry
    from ran_datajobs.cli.demo.run import run

    settings, unused = settings.only(*_OWN)
    if unused:
        typer.echo(f"Not used by a demo: {', '.join(unused)}")
    telemetry.configure(level=settings.log_level, form=settings.log_format)
    raise typer.Exit(asyncio.run(run(settings, once=once)))
