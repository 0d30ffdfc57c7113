# SPDX-License-Identifier: Apache-2.0
"""``request``, ``outcomes``, ``failures``, ``diff``: operations of a data job, their outcomes and effects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import typer

from ran_datajobs.cli.api import Api, job_id_of
from ran_datajobs.cli.jobs import JobId
from ran_datajobs.cli.options import CLIENT, Settings, takes_settings
from ran_datajobs.errors import UsageError

_AT_ONCE: Final = 1000
_MARKS: Final = {"CHANGE": "~", "CREATE": "+", "DELETE": "-", "WOULD_FAIL": "!", "UNKNOWN": "?"}
_MOST_OF_VALUE: Final = 200
"""Maximum characters of a value that ``diff`` shows."""


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (request, outcomes, failures, diff):
        app.command(rich_help_panel="Data jobs")(command)


@takes_settings(*CLIENT)
def request(settings: Settings, job_id: JobId) -> None:
    """Print the operations of a job as they were submitted, in their order.

    Example: `datajobs request 3f0c1a2b --output json > operations.ndjson`
    """
    from ran_datajobs.cli import formatting

    api = Api(settings)
    operations = _operations(api, job_id_of(api, job_id))
    if settings.output == "json":
        for operation in operations:
            formatting.json_line(operation)
    else:
        rows = (
            (each.get("operationId"), each.get("op"), formatting.target_of(each), _value_of(each))
            for each in operations
        )
        formatting.table(("OPERATION", "OP", "PATH", "VALUE"), rows)


def _operations(api: Api, job_id: str) -> Iterator[dict[str, Any]]:
    from ran_datajobs.api import paths

    cursor: str | None = None
    while True:
        page = api.get(paths.fill(paths.REQUEST, job_id=job_id), limit=_AT_ONCE, cursor=cursor)
        yield from page["items"]
        cursor = page["next"]
        if cursor is None:
            return


def _value_of(operation: dict[str, Any]) -> str:
    if "value" not in operation:
        return ""
    return json.dumps(operation["value"], ensure_ascii=False, separators=(",", ":"))


@takes_settings(*CLIENT)
def outcomes(
    settings: Settings,
    job_id: JobId,
    state: Annotated[
        list[str] | None, typer.Option(help="only this state, e.g. FAILED; may be repeated")
    ] = None,
    reason: Annotated[
        list[str] | None, typer.Option(help="only this reason, e.g. UNMATCHED; may be repeated")
    ] = None,
    data_producer: Annotated[
        list[str] | None, typer.Option(help="only this data producer; may be repeated")
    ] = None,
    below: Annotated[str | None, typer.Option(help="only this FDN and what is below it")] = None,
) -> None:
    """List the operations of a job with their outcomes; those that are still pending are left out.

    Examples: `datajobs outcomes 3f0c1a2b --state FAILED --below /SubNetwork=Europe` · `datajobs outcomes
    3f0c1a2b --output json | jq -r .path`
    """
    from ran_datajobs.api import paths
    from ran_datajobs.cli import causes, formatting

    api = Api(settings)
    found = causes.outcomes(
        api,
        paths.fill(paths.OUTCOMES, job_id=job_id_of(api, job_id)),
        state=[each.upper().replace("-", "_") for each in state or ()],
        reason=reason,
        dataProducerId=data_producer,
        below=below,
    )
    if settings.output == "json":
        for line in found:
            formatting.json_line(json.loads(line))
    else:
        decoded = map(json.loads, found)
        formatting.table(
            ("OPERATION", "STATE", "OP", "PATH", "VALUE", "REASON"),
            (
                (
                    each["operationId"],
                    _state(each),
                    each["op"],
                    formatting.target_of(each),
                    _value_of(each),
                    each["reason"],
                )
                for each in decoded
            ),
        )


def _state(outcome: dict[str, Any]) -> str:
    return str(outcome["state"]).lower().replace("_", " ")


@takes_settings(*CLIENT)
def failures(settings: Settings, job_id: JobId) -> None:
    """List every operation of a job that did not succeed, by reason, with the action to take.

    Examples: `datajobs failures 3f0c1a2b` · `datajobs failures 3f0c1a2b --output json | jq -r .path`
    """
    from ran_datajobs.cli import causes, formatting

    api = Api(settings)
    found = causes.failures(api, job_id_of(api, job_id))
    if settings.output == "json":
        for line in found:
            formatting.json_line(json.loads(line))
    else:
        causes.show_causes(causes.by_reason(found))


@takes_settings(*CLIENT)
def diff(
    settings: Settings,
    job_id: JobId,
    below: Annotated[str | None, typer.Option(help="only this FDN and what is below it")] = None,
    every: Annotated[bool, typer.Option("--all", help="also operations that change nothing")] = False,
) -> None:
    """Show what the operations of an ended preview would change: each attribute before and after.

    The marks are ~ change, + create, - delete, ! would fail, ? unknown and = no change.

    Examples: `datajobs diff 3f0c1a2b` · `datajobs diff 3f0c1a2b --output json | jq .effect`
    """
    from ran_datajobs.api import paths
    from ran_datajobs.cli import causes, formatting

    api = Api(settings)
    full_id = job_id_of(api, job_id)
    job = api.get(paths.fill(paths.JOB, job_id=full_id))
    if job["type"] != "PREVIEW":
        raise UsageError(f"{full_id} is no preview: submit the request with --preview")
    found = map(json.loads, causes.outcomes(api, paths.fill(paths.OUTCOMES, job_id=full_id), below=below))
    for each in found:
        effect = each.get("effect") or {"kind": "UNKNOWN"}
        if effect["kind"] == "NO_CHANGE" and not every:
            continue
        if settings.output == "json":
            formatting.json_line(each)
            continue
        mark = _MARKS.get(effect["kind"], "=")
        formatting.paragraph(formatting.clean(f"{mark} {each['op']} {each['path']}"), indent=4)
        for line in _changes(effect):
            formatting.paragraph(f"    {formatting.clean(line)}", indent=8)
    if settings.output != "json":
        summary = formatting.effects_in_words(job.get("preview")) or "the preview has not ended yet"
        formatting.paragraph(summary, formatting.console(stderr=True))


def _changes(effect: Mapping[str, Any]) -> Iterator[str]:
    """The lines of one effect."""
    before, after = effect.get("before") or {}, effect.get("after") or {}
    for name in before | after:
        old, new = (_short(values[name]) if name in values else None for values in (before, after))
        if effect["kind"] == "CHANGE":
            yield f"{name}: {'(none)' if old is None else old} -> {'(none)' if new is None else new}"
        else:
            yield f"{name}: {new if old is None else old}"
    if said := ": ".join(filter(None, (effect.get("reason"), effect.get("detail")))):
        yield said


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= _MOST_OF_VALUE else text[: _MOST_OF_VALUE - 1] + "…"
