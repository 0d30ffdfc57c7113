# SPDX-License-Identifier: Apache-2.0
"""``inventory load``: register CM handles in ONAP's shape."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ran_datajobs.cli.api import Api
from ran_datajobs.cli.options import CLIENT, Settings, takes_settings

_FAILED = (
    "failedCreatedCmHandles",
    "failedUpdatedCmHandles",
    "failedRemovedCmHandles",
    "failedUpgradeCmHandles",
)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    inventory = typer.Typer(help="Owners of managed objects.", no_args_is_help=True)
    inventory.command()(load)
    app.add_typer(inventory, name="inventory", rich_help_panel="Around a service")


@takes_settings(*CLIENT)
def load(
    settings: Settings,
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="a registration in ONAP's shape, JSON; - reads standard input"),
    ],
) -> None:
    """Register CM handles. Lists those that were refused, and then ends with 1.

    Example: `datajobs inventory load handles.json`
    """
    from ran_datajobs.cli import formatting
    from ran_datajobs.cli.documents import read_document

    document = read_document(file)
    with document.located():
        failed = register(Api(settings), document.body)
    if settings.output == "json":
        for entry in failed:
            formatting.json_line(entry)
    elif failed:
        formatting.table(
            ("CM HANDLE", "CODE", "WHY"),
            [(entry.get("cmHandle"), entry.get("errorCode"), entry.get("errorText")) for entry in failed],
        )
    else:
        formatting.console().print("all were accepted")
    if failed:
        raise typer.Exit(1)


def register(api: Api, body: bytes) -> list[dict[str, Any]]:
    """Register CM handles. Returns the entries that were refused."""
    from ran_datajobs.api import paths

    # With DATAJOBS_REGISTRATION_ERROR_500 a registration that failed in part is answered with a 500.
    _, answer = api.call("POST", paths.INVENTORY, body=body, also=500)
    return [entry for name in _FAILED for entry in (answer or {}).get(name, ())]
