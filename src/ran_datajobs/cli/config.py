# SPDX-License-Identifier: Apache-2.0
"""``config``: show the effective settings."""

from __future__ import annotations

from typing import Annotated

import typer

from ran_datajobs.cli.options import Settings, takes_settings
from ran_datajobs.config import settings_table


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Around a service")(config)


@takes_settings("output")
def config(
    settings: Settings,
    markdown: Annotated[bool, typer.Option("--markdown", help="the table of all settings")] = False,
) -> None:
    """Show the settings in effect; secrets are masked.

    Example: `DATAJOBS_PORT=9000 datajobs config`
    """
    from ran_datajobs.cli import formatting

    if markdown:
        typer.echo(settings_table(), nl=False)
    elif settings.output == "json":
        formatting.json_line(settings.shown())
    else:
        formatting.table(("VARIABLE", "VALUE"), settings.shown().items(), whole=("VARIABLE",))
