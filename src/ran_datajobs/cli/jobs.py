# SPDX-License-Identifier: Apache-2.0
"""``submit``, ``list``, ``status``, ``watch``, ``cancel``, ``retry``, ``redeliver``."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import uuid4

import typer

from ran_datajobs.cli.api import Api, exit_status, job_id_of
from ran_datajobs.cli.options import CLIENT, Settings, takes_settings
from ran_datajobs.errors import ServerUnreachable

JobId = Annotated[str, typer.Argument(metavar="ID", help="id of a job, its beginning, or its address")]
_TRIES = 3


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (submit, list_, status, watch, cancel, retry, redeliver):
        app.command(command.__name__.rstrip("_"), rich_help_panel="Data jobs")(command)


@takes_settings(*CLIENT)
def submit(
    settings: Settings,
    file: Annotated[str, typer.Argument(metavar="FILE", help="the request, JSON; - reads standard input")],
    destination: Annotated[
        str | None, typer.Option(help="topic or bucket for the results; kafka:NAME or s3:NAME says which")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="follow the job to its end")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan and send nothing")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="read the objects, compute the effects, and write nothing")
    ] = False,
) -> None:
    """Submit a data job.

    A submit without an answer is repeated; the service accepts it once. `datajobs diff` shows the effects of
    a preview.

    Examples: `datajobs submit job.json --watch` · `jq … | datajobs submit - --destination kafka:results`
    """
    from ran_datajobs.api import paths
    from ran_datajobs.cli.documents import read_document

    document = read_document(file)
    api = Api(settings)
    with document.located():
        if dry_run:
            _show_plan(settings, api.post(paths.JOBS, document.body, dryRun="true", destination=destination))
            return
        accepted = _submit_once(api, paths.JOBS, document.body, destination, preview)
    if not watch:
        _show_accepted(settings, accepted)
        return
    _show_ignored(settings, accepted)
    _watch(settings, api, accepted["jobId"])


def _submit_once(api: Api, path: str, body: bytes, destination: str | None, preview: bool) -> Any:
    asked = {"destination": destination, "preview": "true" if preview else None}
    key = {"Idempotency-Key": str(uuid4())}
    for _ in range(_TRIES - 1):
        try:
            return api.post(path, body, key, **asked)
        except ServerUnreachable as error:
            if isinstance(error.__cause__, ConnectionRefusedError):
                raise
    return api.post(path, body, key, **asked)


@takes_settings(*CLIENT)
def list_(
    settings: Settings,
    status: Annotated[str | None, typer.Option(help="only jobs with this status, e.g. RUNNING")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="only READ, WRITE or PREVIEW jobs")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="maximum number of jobs, newest first")] = 20,
    cursor: Annotated[str | None, typer.Option(help="continue a list that did not show all jobs")] = None,
) -> None:
    """List data jobs, newest first. If there are more, the last line has the option that shows them.

    Example: `datajobs list --status RUNNING --limit 100`
    """
    from ran_datajobs.api import paths
    from ran_datajobs.cli import formatting

    page = Api(settings).get(
        paths.JOBS,
        limit=limit,
        status=status.upper().replace("-", "_") if status else None,
        type=kind.upper() if kind else None,
        cursor=cursor,
    )
    if settings.output == "json":
        for job in page["items"]:
            formatting.json_line(job)
    else:
        formatting.job_list(page["items"])
    if page["next"]:
        formatting.paragraph(
            f"There are more jobs. For the next {limit}, add: --cursor {page['next']}",
            formatting.console(stderr=True),
        )


@takes_settings(*CLIENT)
def status(settings: Settings, job_id: JobId) -> None:
    """Show one data job.

    Example: `datajobs status 3f0c1a2b --output json`
    """
    from ran_datajobs.api import paths

    api = Api(settings)
    _show_job(settings, api, api.get(paths.fill(paths.JOB, job_id=job_id_of(api, job_id))))


@takes_settings(*CLIENT)
def watch(settings: Settings, job_id: JobId) -> None:
    """Follow a data job to its end. Ends with 0 when it finished, with 1 when it ended otherwise.

    After a broken connection the command reconnects and continues.

    Example: `datajobs watch 3f0c1a2b`
    """
    api = Api(settings)
    _watch(settings, api, job_id_of(api, job_id))


def _watch(settings: Settings, api: Api, job_id: str) -> None:
    from ran_datajobs.cli.watch import Bars, follow

    if settings.output == "json":
        ended = follow(api, job_id, label=job_id, bars=None)
    else:
        with Bars() as bars:
            ended = follow(api, job_id, label=f"job {job_id[:8]}", bars=bars)
        _show_job(settings, api, ended)
    raise typer.Exit(exit_status(ended))


@takes_settings(*CLIENT)
def cancel(settings: Settings, job_id: JobId) -> None:
    """Cancel a data job: start no further operation, and cancel the running ones at their plugins.

    Example: `datajobs cancel 3f0c1a2b && datajobs watch 3f0c1a2b`
    """
    from ran_datajobs.api import paths

    api = Api(settings)
    _show_job(settings, api, api.post(paths.fill(paths.CANCEL, job_id=job_id_of(api, job_id))))


@takes_settings(*CLIENT)
def retry(
    settings: Settings,
    job_id: JobId,
    include_unknown: Annotated[
        bool, typer.Option("--include-unknown", help="also those that may have been executed already")
    ] = False,
) -> None:
    """Submit the operations of an ended job that did not succeed again, as a new job.

    Example: `datajobs retry 3f0c1a2b`
    """
    from ran_datajobs.api import paths

    api = Api(settings)
    path = paths.fill(paths.RETRY, job_id=job_id_of(api, job_id))
    _show_accepted(settings, api.post(path, includeUnknown="true" if include_unknown else None))


@takes_settings(*CLIENT)
def redeliver(settings: Settings, job_id: JobId) -> None:
    """Send the results of an ended job to its destination once more.

    Example: `datajobs redeliver 3f0c1a2b`
    """
    from ran_datajobs.api import paths

    api = Api(settings)
    _show_job(settings, api, api.post(paths.fill(paths.REDELIVER, job_id=job_id_of(api, job_id))))


def _show_job(settings: Settings, api: Api, job: dict[str, Any]) -> None:
    from ran_datajobs.cli import causes, formatting

    if settings.output == "json":
        formatting.json_line(job)
    else:
        formatting.job(job, causes.in_brief(api, job))


def _show_accepted(settings: Settings, accepted: dict[str, Any]) -> None:
    from ran_datajobs.cli import formatting

    if settings.output == "json":
        formatting.json_line(accepted)
        return
    status = formatting.status_text(accepted["status"])
    formatting.entries((("Job", accepted["jobId"]), ("Status", status), ("Results", accepted["resultsuri"])))
    _show_ignored(settings, accepted)


def _show_ignored(settings: Settings, answer: dict[str, Any]) -> None:
    from ran_datajobs.cli import formatting

    if settings.output != "json" and (ignored := formatting.ignored_in_words(answer)):
        formatting.paragraph(
            f"These keys have no effect in this request: {ignored}", formatting.console(stderr=True)
        )


def _show_plan(settings: Settings, plan: dict[str, Any]) -> None:
    from ran_datajobs.cli import formatting
    from ran_datajobs.reasons import explanation_of

    if settings.output == "json":
        formatting.json_line(plan)
        return
    formatting.table(
        ("DMI PLUGIN", "DATA PRODUCER", "OPERATIONS"),
        [(sub["dmiServiceName"], sub["dataProducerId"], sub["operations"]) for sub in plan["subJobs"]],
    )
    counts = plan["operations"]
    details = [lost["reason"] for lost in plan["unmatched"] if "detail" in lost]
    denied = details.count("POLICY_DENIED")
    invalid = len(details) - denied
    formatting.console().print(
        f"\n{counts['total']} operations in {len(plan['subJobs'])} sub-jobs, {counts['unmatched']} unmatched"
        + (f", {denied} denied" if denied else "")
        + (f", {invalid} invalid" if invalid else "")
    )
    if plan["unmatched"]:
        formatting.table(
            ("OPERATION", "PATH", "REASON", "DETAIL")[: 4 if details else 3],
            [
                (
                    lost["operationId"],
                    formatting.target_of(lost),
                    lost["reason"],
                    *([lost.get("detail", "")] if details else []),
                )
                for lost in plan["unmatched"]
            ],
        )
        for reason in sorted({lost["reason"] for lost in plan["unmatched"]}):
            words = explanation_of(reason)
            formatting.paragraph(f"{formatting.clean(reason)}: {words.meaning} {words.advice}")
    if warnings := formatting.warnings_in_words(plan):
        formatting.paragraph(f"Warnings of the validation: {warnings}")
    _show_ignored(settings, plan)
