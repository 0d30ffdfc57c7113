# SPDX-License-Identifier: Apache-2.0
"""Routes of the manifests and result objects of existing jobs. No other object of a bucket is served."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final, TypeAlias
from uuid import UUID

from litestar import get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, QueryParameter
from litestar.response import Response, Stream
from msgspec import Raw

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import Api, ApiDependencies, Caller
from ran_datajobs.api.problems import documented, success
from ran_datajobs.http.problem import RETRY_AFTER
from ran_datajobs.results.objects import JSON_CONTENT_TYPE, manifest_key
from ran_datajobs.store import jobs
from ran_datajobs.store.jobs import JobRow

_ANSWERS: Final = documented(404) | {
    200: success(dict[str, object], "The object.", JSON_CONTENT_TYPE),
    307: success(None, "Where it can be read without a token."),
}
_PRESIGNED_LIFETIME: Final = timedelta(minutes=15)
_Presigned: TypeAlias = Annotated[
    bool,
    QueryParameter(
        description="Answer with 307 and an address at the S3 service that needs no token for 15 minutes; "
        "where the results are in a folder, with the object itself."
    ),
]
_IMMUTABLE: Final = {"Cache-Control": "private, max-age=86400, immutable"}


@get(paths.BUCKET, responses=_ANSWERS)
async def get_manifest(
    bucket_id: FromPath[str],
    api: Api,
    caller: Caller,
    job_id: Annotated[UUID, QueryParameter(name="jobId", description="The data job.")],
    presigned: _Presigned = False,
) -> Response[Raw] | Response[None]:
    """The manifest of a data job: status, counts and the list of its result objects. Written last."""
    return await _manifest(api, await _job_in(api, caller.sees, bucket_id, job_id), presigned)


@get(paths.OBJECT, responses=_ANSWERS)
async def get_object(
    bucket_id: FromPath[str],
    job_id: FromPath[UUID],
    part: FromPath[str],
    api: Api,
    caller: Caller,
    presigned: _Presigned = False,
) -> Stream | Response[Raw] | Response[None]:
    """One result object of a data job: `{"responses": [...]}`."""
    row = await _job_in(api, caller.sees, bucket_id, job_id)
    key = f"{job_id}{part}"
    if key == manifest_key(str(job_id)):
        return await _manifest(api, row, presigned)
    async with api.database.connection() as connection:
        if "\0" in key or not await jobs.has_part(connection, job_id, key):
            raise _no_such_object()
    if presigned and (elsewhere := await _signed(api, row, key)):
        return elsewhere
    found = await api.objects.stream(row.results_bucket, key)
    if found is None:
        raise _no_such_object()
    size, pieces = found
    return Stream(pieces, media_type=JSON_CONTENT_TYPE, headers=_IMMUTABLE | {"Content-Length": str(size)})


async def _signed(api: ApiDependencies, row: JobRow, key: str) -> Response[None] | None:
    """A redirect to a presigned address of the object; ``None`` if the object store has none."""
    address = await api.objects.presigned(row.results_bucket, key, _PRESIGNED_LIFETIME)
    if address is None:
        return None
    return Response(None, status_code=307, headers={"Location": address, "Cache-Control": "no-store"})


async def _job_in(api: ApiDependencies, sees: str | None, bucket: str, job_id: UUID) -> JobRow:
    """The job, whose results must be in ``bucket``. Raises a 404 otherwise."""
    async with api.database.connection() as connection:
        row = await jobs.find(connection, job_id, sees)
    if row is None or bucket not in (row.results_bucket, row.bucket_named):  # the service's, the client's
        raise NotFoundException(
            f"no data job {job_id} that you can see has its results in the bucket {bucket[:63]!r}"
        )
    return row


async def _manifest(api: ApiDependencies, row: JobRow, presigned: bool) -> Response[Raw] | Response[None]:
    """The manifest of a terminal job. Raises a 404 while the job runs, even if a manifest is written."""
    key = manifest_key(str(row.job_id))
    manifest = await api.objects.get(row.results_bucket, key) if row.status.terminal else None
    if manifest is None:
        raise NotFoundException(
            "the manifest is not written yet: it is the last object of a data job",
            headers={"Retry-After": str(RETRY_AFTER)},
        )
    if presigned and (elsewhere := await _signed(api, row, key)):
        return elsewhere
    return Response(Raw(manifest), media_type=JSON_CONTENT_TYPE)


def _no_such_object() -> NotFoundException:
    return NotFoundException("this data job has no such result object")
