# SPDX-License-Identifier: Apache-2.0
"""Settings as flags: a command lists its settings and receives the effective values."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ran_datajobs.config import YES_NO, Declaration, Group, Settings, declarations, load

CLIENT = (Group.CLIENT,)
"""Settings of every command that calls a service."""


def takes_settings(
    *wanted: Group | str, **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the flags of the ``wanted`` settings (groups, or settings by name) to a command.

    The command's first parameter is called ``settings`` and receives all effective settings. ``defaults``
    override the defaults of the settings for this command.
    """
    taken = [
        about
        for about in declarations()
        if about.flag is not None and (about.group in wanted or about.name in wanted)
    ]

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        def run(**given: Any) -> None:
            flags = {about.name: _text(given.pop(about.name)) for about in taken}
            command(load(os.environ, flags, defaults), **given)

        parameters = [
            *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
            *(_parameter(about, defaults) for about in taken),
        ]
        run.__name__ = command.__name__
        run.__doc__ = command.__doc__
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
        return run

    return wrap


def _text(given: str | bool | None) -> str | None:
    return "1" if given is True else (given or None)


def _parameter(about: Declaration, defaults: dict[str, Any]) -> inspect.Parameter:
    default = defaults.get(about.name, about.default)
    shown = ",".join(default) if isinstance(default, tuple) else default
    choices = f" ({', '.join(about.choices)})" if about.choices else ""
    standard = "" if shown in (None, "", False) else f"; default {shown}"
    option = typer.Option(
        str(about.flag),
        metavar="" if about.kind is YES_NO else about.kind.name.upper().replace("/", "|"),
        help=f"{about.help}{choices} [{about.variable}{standard}]",
        rich_help_panel=about.group.value,
        show_default=False,
    )
    kind: Any = bool if about.kind is YES_NO else str | None
    return inspect.Parameter(
        about.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if about.kind is YES_NO else None,
        annotation=Annotated[kind, option],
    )


__all__ = ["CLIENT", "Settings", "takes_settings"]
