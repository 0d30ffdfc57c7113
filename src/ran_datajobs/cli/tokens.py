# SPDX-License-Identifier: Apache-2.0
"""``token``: manage the access tokens of the clients of a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ran_datajobs.cli.options import Settings, takes_settings
from ran_datajobs.errors import UsageError


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    token = typer.Typer(help="Tokens of the clients of the service.", no_args_is_help=True)
    token.command()(add)
    token.command("list")(list_)
    token.command()(revoke)
    app.add_typer(token, name="token", rich_help_panel="Around a service")


@takes_settings("tokens_file")
def add(
    settings: Settings,
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="name of the client")],
    role: Annotated[str, typer.Option(help="read, submit, plugin or admin")],
    dmi: Annotated[
        str | None, typer.Option(metavar="URL", help="address of the DMI plugin (role plugin)")
    ] = None,
) -> None:
    """Make a token and print it. It cannot be printed again: the file has its digest only.

    Example: `datajobs token add planning-app --role submit --tokens-file /etc/datajobs/tokens.json`
    """
    from ran_datajobs.api import tokens

    try:
        known = tokens.Role(role)
    except ValueError as error:
        raise UsageError(f"--role: {role!r} is not one of {', '.join(tokens.Role)}") from error
    typer.echo(tokens.add(_file(settings), client, known, dmi))


@takes_settings("tokens_file", "output")
def list_(settings: Settings) -> None:
    """List the clients that have tokens.

    Example: `datajobs token list --tokens-file /etc/datajobs/tokens.json`
    """
    from ran_datajobs.api import tokens
    from ran_datajobs.cli import formatting

    clients = tokens.listing(_file(settings))
    if settings.output == "json":
        for client in clients:
            formatting.json_line({"client": client.name, "role": client.role.value, "dmi": client.dmi_url})
    else:
        formatting.table(
            ("CLIENT", "ROLE", "DMI PLUGIN"), [(c.name, c.role.value, c.dmi_url) for c in clients]
        )


@takes_settings("tokens_file")
def revoke(
    settings: Settings, client: Annotated[str, typer.Argument(metavar="CLIENT", help="name of the client")]
) -> None:
    """Revoke every token of a client; it takes effect in a running service at once.

    Example: `datajobs token revoke planning-app --tokens-file /etc/datajobs/tokens.json`
    """
    from ran_datajobs.api import tokens

    taken = tokens.revoke(_file(settings), client)
    if not taken:
        raise UsageError(f"{client!r} has no token")
    typer.echo(f"{taken} token{'s' if taken > 1 else ''} of {client} revoked")


def _file(settings: Settings) -> Path:
    if settings.tokens_file is None:
        raise UsageError("which tokens file? Give --tokens-file FILE or DATAJOBS_TOKENS_FILE")
    return settings.tokens_file
