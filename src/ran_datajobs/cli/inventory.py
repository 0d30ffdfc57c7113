# SPDX-License-Identifier: Apache-2.0
"""``inventory``: the CM handles of a service, from and to files in ONAP's shape."""

from __future__ import annotations

import io
import itertools
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from ran_datajobs.cli.api import Api, NotFound
from ran_datajobs.cli.options import CLIENT, Settings, takes_settings
from ran_datajobs.errors import ServerUnreachable, UsageError

if TYPE_CHECKING:
    from ran_datajobs.cli import handles

_FAILURES_SHOWN: Final = 100
_NAMED: Final = 5
_STATE: Final = "//state[@cm-handle-state='{}']"
_FILE_HELP: Final = (
    "ONAP's registrations or the handle objects of its searches, JSON; or CSV; - reads standard input"
)

File = Annotated[str, typer.Argument(metavar="FILE", help=_FILE_HELP)]
Plugin = Annotated[
    str | None, typer.Option(metavar="URL", help="plugin of the handles for which the file names none")
]
Csv = Annotated[bool, typer.Option("--csv", help="as CSV, in the form that load reads")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    inventory = typer.Typer(help="Owners of managed objects.", no_args_is_help=True)
    for command in (load, diff, list_, search, owner, export, modules):
        inventory.command(command.__name__.rstrip("_"))(command)
    app.add_typer(inventory, name="inventory", rich_help_panel="Around a service")


@takes_settings(*CLIENT)
def load(
    settings: Settings,
    file: File,
    plugin: Plugin = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="first remove the handles of these plugins that the file lacks")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="remove without a question")] = False,
) -> None:
    """Register the CM handles of a file; change those that exist with other data.

    What the file does not name stays as it is. Refused handles are listed, and then the command ends with 1.
    A load that was interrupted can be repeated: what is registered already does not change.

    CSV: one handle a line. The first line names the columns: cmHandle, alternateId, dataProducerIdentifier,
    moduleSetTag, trustLevel, dmiPlugin, dmiDatajobsReadPlugin, dmiDatajobsWritePlugin, public.NAME,
    private.NAME. A `~` removes a property.

    Examples: `datajobs inventory load handles.json` · `datajobs inventory load sites.csv --plugin
    http://dmi:8080`
    """
    from ran_datajobs.cli import formatting, handles
    from ran_datajobs.cli.handle_files import BATCH, open_handles
    from ran_datajobs.cli.progress import Progress

    api = Api(settings)
    with open_handles(file, plugin) as opened:
        total = sum(batch.size for batch in _checked(opened.batches()))
        surplus = list(handles.surplus(api, handles.contents(opened))) if prune else []
        if surplus and not yes:
            _ask_about(surplus, file)
        with Progress("changes sent", total + len(surplus), quiet=2 * BATCH) as sent:
            removed = handles.remove(api, surplus, sent.add)
            failures = _Failures(
                settings.output == "json", itertools.chain(removed, handles.load(api, opened, sent.add))
            )
            try:
                failures.read()
            except ServerUnreachable as error:
                done = f"{sent.done} of {sent.total} changes were sent; the same command continues"
                raise ServerUnreachable(f"{error} ({done})") from error
    if failures.count:
        failures.show()
        raise typer.Exit(1)
    if settings.output != "json":
        formatting.console().print("all were accepted")


def _checked(batches: Iterable[Any]) -> Iterator[Any]:
    """Raise UsageError for the first fault of a file before anything is sent."""
    for batch in batches:
        batch.checked()
        yield batch


def _ask_about(surplus: list[str], file: str) -> None:
    from ran_datajobs.cli import formatting

    first = ", ".join(map(formatting.clean, surplus[:_NAMED]))
    more = ", …" if len(surplus) > _NAMED else ""
    what = f"{formatting.plural(len(surplus), 'CM handle')} that the file lacks: {first}{more}"
    if file == "-" or not sys.stdin.isatty():
        raise UsageError(f"--prune would remove {what}. Add --yes to remove them")
    if not typer.confirm(f"Remove {what}?", err=True):
        raise typer.Exit(1)


class _Failures:
    """Refused changes: as JSON lines they are written as they come, for people the first ones are kept."""

    def __init__(self, as_json: bool, failures: Iterable[dict[str, str]]) -> None:
        self.count = 0
        self._as_json = as_json
        self._failures = failures
        self._first: list[dict[str, str]] = []

    def read(self) -> None:
        """Count all."""
        from ran_datajobs.cli import formatting

        for failure in self._failures:
            self.count += 1
            if self._as_json:
                formatting.json_line(failure)
            elif self.count <= _FAILURES_SHOWN:
                self._first.append(failure)

    def show(self) -> None:
        """Print those that are kept, and the number of the others."""
        from ran_datajobs.cli import formatting

        if self._as_json:
            return
        columns = ("cmHandle", "errorCode", "errorText")
        formatting.table(
            ("CM HANDLE", "CODE", "WHY"), [[each.get(key) for key in columns] for each in self._first]
        )
        if self.count > len(self._first):
            more = self.count - len(self._first)
            formatting.paragraph(f"and {more} more of {self.count} refused: --output json lists all")


@takes_settings(*CLIENT, "follow_ncmp", "follow_plugins", "dmi_credentials_file")
def diff(
    settings: Settings,
    file: Annotated[str | None, typer.Argument(metavar="[FILE]", help=_FILE_HELP)] = None,
    plugin: Plugin = None,
    prune: Annotated[bool, typer.Option("--prune", help="also what load --prune would remove")] = False,
) -> None:
    """Show what loading a file would create, change and remove; send nothing.

    Without a file: how the inventory differs from that of the NCMP that the service follows. NCMP is asked
    from here, and private properties are compared; role admin.

    Ends with 0 if there is no difference, else with 1. Values of private properties are not shown.

    Examples: `datajobs inventory diff handles.json --prune` · `datajobs inventory diff --follow-ncmp
    http://ncmp:8080 --follow-plugins http://dmi:8080`
    """
    from ran_datajobs.cli import handles
    from ran_datajobs.cli.handle_files import open_handles

    api = Api(settings)
    if file is None:
        if plugin is not None or prune:
            raise UsageError("--plugin and --prune are for a FILE")
        from ran_datajobs.cli.ncmp import differences_from_ncmp

        _show_differences(settings, differences_from_ncmp(settings, api))
        return
    with open_handles(file, plugin) as opened:
        for _ in _checked(opened.batches()):
            pass
        surplus = handles.surplus(api, handles.contents(opened)) if prune else iter(())
        removed = (handles.Difference("remove", cm_handle) for cm_handle in surplus)
        _show_differences(settings, itertools.chain(removed, handles.differences(api, opened)))


def _show_differences(settings: Settings, differences: Iterable[handles.Difference]) -> None:
    """Print differences as they come, and their numbers; end with 1 if there are any."""
    from ran_datajobs.cli import formatting

    counts: Counter[str] = Counter()

    def counted() -> Iterator[handles.Difference]:
        for each in differences:
            counts[each.change] += 1
            yield each

    found = counted()
    if settings.output == "json":
        for each in found:
            formatting.json_line(msgspec.to_builtins(each))
    elif first := next(found, None):
        rows = ((each.change, each.cm_handle, _what(each)) for each in itertools.chain([first], found))
        formatting.table(("CHANGE", "CM HANDLE", "WHAT"), rows)
    else:
        formatting.console().print("no difference")
    if counts:
        said = ", ".join(
            f"{counts[change]} to {change}"
            for change in ("create", "change", "remove", "refuse")
            if counts[change]
        )
        formatting.paragraph(said, formatting.console(stderr=True))
        raise typer.Exit(1)


def _what(difference: handles.Difference) -> str:
    changes = [
        f"{name}: changed" if name.startswith("private.") else f"{name}: {old or 'none'} → {new or 'none'}"
        for name, (old, new) in difference.fields.items()
    ]
    return difference.why or ", ".join(changes)


@takes_settings(*CLIENT)
def list_(
    settings: Settings,
    below: Annotated[
        str | None, typer.Option(metavar="FDN", help="only handles of this object and of those below it")
    ] = None,
    data_producer: Annotated[str | None, typer.Option(help="only handles of this data producer")] = None,
    plugin: Annotated[
        str | None, typer.Option(metavar="URL", help="only handles of this plugin; none: of no plugin")
    ] = None,
    module_set_tag: Annotated[str | None, typer.Option(help="only handles with this tag")] = None,
    limit: Annotated[int, typer.Option(min=1, help="maximum number of handles")] = 100,
    cursor: Annotated[str | None, typer.Option(help="continue a list that did not show all handles")] = None,
    as_csv: Csv = False,
) -> None:
    """List CM handles. If there are more, the last line has the option that shows them.

    Examples: `datajobs inventory list --below /SubNetwork=Europe --limit 1000` · `datajobs inventory list
    --data-producer ems-1 --csv`
    """
    from ran_datajobs.cli import formatting
    from ran_datajobs.cli.handles import Listing

    found = Listing(
        Api(settings),
        limit,
        cursor,
        alternateIdPrefix=below,
        dataProducerId=data_producer,
        plugin=plugin,
        moduleSetTag=module_set_tag,
    )
    _show(settings, found, as_csv)
    if found.next:
        more = f"There are more handles. For the next {limit}, add: --cursor {found.next}"
        formatting.paragraph(more, formatting.console(stderr=True))


@takes_settings(*CLIENT)
def search(
    settings: Settings,
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="part of the id or of the alternate id")
    ] = None,
    public: Annotated[
        list[str] | None,
        typer.Option("--property", metavar="NAME=VALUE", help="with this public property; may be repeated"),
    ] = None,
    private: Annotated[
        list[str] | None,
        typer.Option("--private", metavar="NAME=VALUE", help="with this private property; role admin"),
    ] = None,
    module: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="with this module; may be repeated")
    ] = None,
    plugin: Annotated[str | None, typer.Option(metavar="URL", help="of this plugin; role admin")] = None,
    trust: Annotated[str | None, typer.Option(metavar="LEVEL", help="COMPLETE or NONE")] = None,
    state: Annotated[str | None, typer.Option(help="in this state, e.g. READY")] = None,
    cps_path: Annotated[str | None, typer.Option(metavar="PATH", help="a CPS path of ONAP")] = None,
    limit: Annotated[int, typer.Option(min=1, help="maximum number of handles")] = 100,
    as_csv: Csv = False,
) -> None:
    """List the CM handles that fulfil all conditions. Ends with 1 if there are none.

    Examples: `datajobs inventory search Ireland` · `datajobs inventory search --property region=west --trust
    NONE`
    """
    from ran_datajobs.cli import formatting, handles

    conditions = [
        _condition("hasAllProperties", _pairs("--property", public)),
        _condition("hasAllAdditionalProperties", _pairs("--private", private)),
        _condition("hasAllModules", [{"moduleName": name} for name in module or ()]),
        _condition("cmHandleWithDmiPlugin", [{"dmiPluginName": plugin}] if plugin else []),
        _condition("cmHandleWithTrustLevel", [{"trustLevel": trust.upper()}] if trust else []),
        _condition("cmHandleWithCpsPath", [{"cpsPath": cps_path}] if cps_path else []),
        _condition(
            "cmHandleWithCpsPath", [{"cpsPath": _STATE.format(_word("--state", state))}] if state else []
        ),
    ]
    asked = [each for each in conditions if each["conditionParameters"]]
    if not asked and not text:
        raise UsageError("search for what? Give a text or a condition (list shows all handles)")
    api = Api(settings)
    found: Iterable[handles.Handle]
    if asked:
        everything = handles.found_by(api, asked, southbound=bool(private or plugin))
        found = (
            each for each in everything if not text or text in each["cmHandle"] + " " + each["alternateId"]
        )
        found = itertools.islice(found, limit + 1)
    else:
        found = handles.Listing(api, limit + 1, search=text)
    shown = _Counted(found, limit)
    _show(settings, shown, as_csv)
    if shown.more:
        formatting.paragraph(
            f"There are more than {limit}: --limit shows more", formatting.console(stderr=True)
        )
    if not shown.count:
        formatting.paragraph("no CM handle was found", formatting.console(stderr=True))
        raise typer.Exit(1)


class _Counted:
    """The first ``limit`` elements, and whether there are more."""

    def __init__(self, elements: Iterable[Any], limit: int) -> None:
        self.count = 0
        self.more = False
        self._elements = iter(elements)
        self._limit = limit

    def __iter__(self) -> Iterator[Any]:
        for each in self._elements:
            if self.count == self._limit:
                self.more = True
                return
            self.count += 1
            yield each


def _condition(name: str, parameters: list[dict[str, str]]) -> dict[str, Any]:
    return {"conditionName": name, "conditionParameters": parameters}


def _pairs(flag: str, given: list[str] | None) -> list[dict[str, str]]:
    pairs = [each.partition("=") for each in given or ()]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise UsageError(f"{flag}: {name + equals!r} is not NAME=VALUE")
    return [{name: value} for name, _, value in pairs]


def _word(flag: str, given: str) -> str:
    if not given.isalpha():
        raise UsageError(f"{flag}: {given!r} is not a state, such as READY")
    return given.upper()


@takes_settings(*CLIENT)
def owner(
    settings: Settings,
    fdn: Annotated[str, typer.Argument(metavar="FDN", help="full distinguished name of any managed object")],
) -> None:
    """Show the CM handle that owns a managed object, and its open jobs.

    If no handle owns it, the nearest one is shown, with the reason, and the command ends with 1.

    Example: `datajobs inventory owner /SubNetwork=Europe/ManagedElement=1/GNBDUFunction=1`
    """
    from ran_datajobs.api import paths
    from ran_datajobs.cli import formatting

    try:
        found = Api(settings).get(paths.CM_HANDLE_OWNER, fdn=fdn)
    except NotFound as nobody:
        if settings.output == "json":
            formatting.json_line({"cmHandle": None, "detail": str(nobody)})
        else:
            formatting.paragraph(formatting.clean(nobody))
        raise typer.Exit(1) from nobody
    if settings.output == "json":
        formatting.json_line(found)
    else:
        jobs = found["openJobs"]
        formatting.entries(
            (
                ("CM handle", found["cmHandle"]),
                ("FDN", found["alternateId"]),
                ("Producer", found["dataProducerId"] or "none: this handle takes no data jobs"),
                *_plugin_entries(found),
                ("Open jobs", found["openJobCount"] or "none"),
            )
        )
        if jobs:
            rows = (
                (job["jobId"], job["name"], job["type"], formatting.status_text(job["status"]))
                for job in jobs
            )
            formatting.table(("JOB", "NAME", "TYPE", "STATUS"), rows, whole=("JOB",), lines=2)
        if found["openJobCount"] > len(jobs):
            formatting.paragraph(f"and {found['openJobCount'] - len(jobs)} older ones")


def _plugin_entries(found: dict[str, Any]) -> list[tuple[str, object]]:
    none = "none: this handle takes no data jobs"
    read, write = found["readPlugin"] or none, found["writePlugin"] or none
    return [("Plugin", read)] if read == write else [("Reads", read), ("Writes", write)]


@takes_settings(*CLIENT)
def export(
    settings: Settings,
    as_csv: Csv = False,
    private: Annotated[bool, typer.Option("--private", help="with private properties; role admin")] = False,
) -> None:
    """Print all CM handles in the form that load reads.

    JSON: registrations in ONAP's shape, one a line, each with at most 2,000 handles of one plugin.

    Examples: `datajobs inventory export --private > handles.ndjson` · `datajobs inventory export --csv >
    handles.csv`
    """
    from ran_datajobs.cli import handle_csv, handles

    found = handles.Listing(Api(settings), privateProperties="true" if private else None)
    if as_csv:
        handle_csv.write((handles.plugins_of(each), handles.as_registered(each)) for each in found)
        return
    for line in handles.registrations(found):
        sys.stdout.write(line.decode())


def _show(settings: Settings, found: Iterable[dict[str, Any]], as_csv: bool) -> None:
    from ran_datajobs.cli import formatting, handle_csv, handles

    if as_csv:
        handle_csv.write((handles.plugins_of(each), handles.as_registered(each)) for each in found)
    elif settings.output == "json":
        for each in found:
            formatting.json_line(each)
    else:
        rows = (
            (each["cmHandle"], each["alternateId"], each["dataProducerId"], *_where(each)) for each in found
        )
        formatting.table(("CM HANDLE", "ALTERNATE ID", "PRODUCER", "PLUGIN", "TRUST"), rows)


def _where(handle: dict[str, Any]) -> tuple[str, str]:
    read, write = handle.get("readPlugin", ""), handle.get("writePlugin", "")
    return read if read == write else f"read {read}, write {write}", handle.get("trustLevel") or ""


@takes_settings(*CLIENT)
def modules(
    settings: Settings,
    tag: Annotated[str, typer.Argument(metavar="TAG", help="module set tag of CM handles")],
    files: Annotated[
        Path | None,
        typer.Argument(metavar="[FILES]", help="zip of YANG modules, or a folder with them", exists=True),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="take the modules away from the tag")] = False,
) -> None:
    """Give a module set tag the YANG modules by which operations on its handles are validated; or show them.

    The modules must be complete: all that they import. A fault is named with its file and line. Role admin.

    Examples: `datajobs inventory modules vendor-23.4 yang.zip` · `datajobs inventory modules vendor-23.4`
    """
    from ran_datajobs.api import paths
    from ran_datajobs.cli import formatting

    if delete and files is not None:
        raise UsageError("--delete takes no FILES")
    api, path = Api(settings), paths.module_set(tag)
    if delete:
        api.call("DELETE", path)
        return
    if files is None:
        found = api.get(path)
    else:
        found = api.call("PUT", path, body=_zip_of(files), headers={"Content-Type": "application/zip"})[1]
    if settings.output == "json":
        formatting.json_line(found)
        return
    rows = ((each["moduleName"], each["revision"] or "none") for each in found["modules"])
    formatting.table(("MODULE", "REVISION"), rows)
    formatting.paragraph(f"classes of managed objects: {len(found['classes'])}")


def _zip_of(files: Path) -> bytes:
    """A zip file as it is; a zip of the modules in a folder."""
    try:
        if not files.is_dir():
            return files.read_bytes()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(files.rglob("*.yang")):
                archive.write(file, file.relative_to(files))
        return packed.getvalue()
    except OSError as error:
        raise UsageError(f"{files} cannot be read: {error.strerror}") from error
