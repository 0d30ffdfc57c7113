# SPDX-License-Identifier: Apache-2.0
"""``datajobs``: all commands, and the mapping of errors to one line and an exit status.

0 done · 1 the job did not succeed · 2 wrong use · 3 the service cannot be reached · 4 the output cannot
be written.
"""

from __future__ import annotations

import atexit
import os
import sys
from importlib import metadata
from typing import Annotated, NoReturn

import typer

from ran_datajobs.cli import environment, streams
from ran_datajobs.errors import DataJobsError, Unavailable, UsageError
from ran_datajobs.http.open_files import raise_limit

DONE = 0
WRONG_USE = 2
UNREACHABLE = 3
UNWRITABLE = 4
INTERRUPTED = 130


def build() -> typer.Typer:
    """Create the application with all commands."""
    from ran_datajobs.cli import (
        config,
        dmi_check,
        inventory,
        jobs,
        outcomes,
        peers,
        results,
        serve,
        tokens,
        topics,
    )
    from ran_datajobs.cli.demo import command as demo

    app = typer.Typer(
        help="Data jobs for radio networks: submit one job of many operations, and follow it to its end.",
        epilog="Exit status: 0 done · 1 the job did not succeed · 2 wrong use · 3 service not reached · "
        "4 output not written.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_print_version)
        ] = False,
    ) -> None:
        """The options before any command."""

    for part in (
        demo,
        serve,
        peers,
        jobs,
        outcomes,
        results,
        inventory,
        topics,
        tokens,
        dmi_check,
        config,
    ):
        part.add_to(app)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"datajobs {metadata.version('ran-datajobs')}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command that the arguments name and end the process with its exit status."""
    environment.speak_utf_8()
    environment.keep_loopback_direct()
    raise_limit()
    streams.prepare()
    _leave(_status())


def _status() -> int:
    try:
        try:
            for warning in environment.accept_renamed_settings(sys.argv, os.environ):
                _print_error(warning)
            build()()
        finally:
            sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else DONE
    except DataJobsError as error:
        for text in error.args if isinstance(error, UsageError) else (error,):
            _print_error(str(text))
        return UNREACHABLE if isinstance(error, Unavailable) else WRONG_USE
    except KeyboardInterrupt:
        return INTERRUPTED
    except streams.OutputFailed as error:
        _print_error(str(error))
        return UNWRITABLE
    except streams.PipeClosed:
        return DONE
    return DONE


def _leave(status: int) -> NoReturn:
    """End the process without finalizing the interpreter.

    A thread of the HTTP server's runtime outlives the server; when it acquires the GIL during finalization,
    CPython before 3.14 ends the thread through Rust frames, which aborts the process.
    """
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(status)


def _print_error(text: str) -> None:
    line = " ".join(text.split())
    sys.stderr.write(f"datajobs: {''.join(c if c.isprintable() else '?' for c in line)}\n")
