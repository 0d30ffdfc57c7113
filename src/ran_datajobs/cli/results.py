# SPDX-License-Identifier: Apache-2.0
"""``results``: print or store the results of a data job."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from msgspec import UNSET

from ran_datajobs.cli.api import Api, exit_status, job_id_of
from ran_datajobs.cli.jobs import JobId
from ran_datajobs.cli.options import CLIENT, Settings, takes_settings
from ran_datajobs.cli.streams import OutputFailed
from ran_datajobs.errors import ServerUnreachable, UsageError
from ran_datajobs.model import Response, read_status
from ran_datajobs.results.responses import read_responses, state_of


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Data jobs")(results)


@takes_settings(*CLIENT)
def results(
    settings: Settings,
    job_id: JobId,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="keep the objects as files in this folder")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="wait for the end of the job first")] = False,
) -> None:
    """Print the outcome of each operation, or keep the result objects as files.

    Every object is checked against the SHA-256 of the manifest. An existing file that matches it is not
    fetched again.

    Examples: `datajobs results 3f0c1a2b --follow` · `datajobs results 3f0c1a2b --dir ./results`
    """
    from ran_datajobs.api import paths
    from ran_datajobs.cli import formatting
    from ran_datajobs.cli.watch import Bars
    from ran_datajobs.cli.watch import follow as to_the_end

    api = Api(settings)
    job_id = job_id_of(api, job_id)
    job: dict[str, Any] = {}
    if follow:
        with Bars(formatting.console(stderr=True)) as bars:
            job = to_the_end(api, job_id, label=f"job {job_id[:8]}", bars=bars)
    job = job or api.get(paths.fill(paths.JOB, job_id=job_id))
    status = read_status(job["status"])
    if status is None or not status.terminal:
        raise UsageError(
            f"job {job_id} is {formatting.in_words(job['status'])}: no results before its end (--follow)"
        )
    objects = manifest_objects(api, job)
    if folder is not None:
        size = sum(_keep(api, folder, bucket_of(job), entry) for entry in objects)
        formatting.console().print(f"{len(objects)} objects, {size} bytes in {folder / job_id}", markup=False)
    elif settings.output == "json":
        for response in responses(api, job, objects):
            formatting.json_line(response)
    else:
        found = (each for body in _bodies(api, job, objects) for each in read_responses(body))
        formatting.table(("OPERATION", "STATE", "OP", "PATH", "OUTCOME"), map(_row, found))
    if follow:
        raise typer.Exit(exit_status(job))


def bucket_of(job: dict[str, Any]) -> str:
    """The bucket that a job's ``resultsuri`` names."""
    return urlsplit(str(job["resultsuri"])).path.rpartition("/")[2]


def manifest_objects(api: Api, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries of the manifest of an ended job, in order."""
    from ran_datajobs.api import paths

    manifest = api.get(paths.fill(paths.BUCKET, bucket_id=bucket_of(job)), jobId=job["jobId"])
    entries: list[dict[str, Any]] = manifest["objects"]
    return entries


def responses(api: Api, job: dict[str, Any], objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the outcome of each operation, one object in memory at a time. Skips plugins' own bodies."""
    for body in _bodies(api, job, objects):
        yield from json.loads(body)["responses"]


def _bodies(api: Api, job: dict[str, Any], objects: list[dict[str, Any]]) -> Iterator[bytes]:
    return (_fetch(api, bucket_of(job), entry) for entry in objects if not entry.get("foreign"))


def _fetch(api: Api, bucket: str, entry: dict[str, Any]) -> bytes:
    from ran_datajobs.api import paths

    data = api.fetch(paths.fill(paths.BUCKET, bucket_id=bucket) + "/" + entry["key"])
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ServerUnreachable(f"the object {entry['key']} differs from the manifest: try again")
    return data


def _keep(api: Api, folder: Path, bucket: str, entry: dict[str, Any]) -> int:
    """Store an object as a file below ``folder``, unless it is there already. Returns its size in bytes."""
    key = PurePosixPath(entry["key"])
    if key.is_absolute() or not set(key.parts).isdisjoint({"..", "."}):
        raise UsageError(f"the manifest has an object key that is not a file name: {entry['key']!r}")
    file = folder.joinpath(*key.parts)
    try:
        if file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == entry["sha256"]:
            return file.stat().st_size
        data = _fetch(api, bucket, entry)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            partial.write_bytes(data)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputFailed(f"{file} cannot be written: {error.strerror}") from error
    return len(data)


def _row(response: Response) -> tuple[object, ...]:
    from ran_datajobs.cli import formatting

    request = json.loads(bytes(response.request))
    outcome = response.reason or response.status_message
    if response.result is not UNSET:
        outcome = json.dumps(json.loads(bytes(response.result)), ensure_ascii=False, separators=(",", ":"))
    target = formatting.target_of(request)
    return response.operation_id, state_of(response).lower(), request.get("op"), target, outcome
