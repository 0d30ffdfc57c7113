# SPDX-License-Identifier: Apache-2.0
"""Result objects in a folder or in any S3 service, through obstore.

Layout: ``{bucket}/{jobId}/{subJobId}/{sequence}.json`` and, last, ``{bucket}/{jobId}/manifest.json``. Bucket
names follow the S3 rules; a key consists of plain segments. An invalid name is never sent to the store: a
read finds nothing, and a write raises :class:`~ran_datajobs.errors.InvalidRequest`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError
from obstore.store import LocalStore, MemoryStore, S3Store

from ran_datajobs.errors import InvalidRequest, StorageRefused, StorageUnavailable

if TYPE_CHECKING:
    from obstore.store import S3Config
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

PARALLEL: Final = 8
"""Maximum number of objects that are read or written concurrently for one purpose."""

MAX_OBJECT_BYTES: Final = 64 * 1024 * 1024
"""Maximum bytes of an object. An object is one conditional put: a multipart upload would drop the
condition."""

CONNECT_WITHIN: Final = 5.0
"""Timeout in seconds of a connection to the S3 service."""

ANSWER_WITHIN: Final = 60.0
"""Timeout in seconds of a complete answer of the S3 service."""

GIVE_UP: Final = 15.0
"""Time in seconds within which a failed request is retried, at most three times."""

JSON_CONTENT_TYPE: Final = "application/json"

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_FOUR_NUMBERS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+")
_RESERVED_STARTS: Final = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS: Final = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
_KEY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199})*")
_MAX_KEY: Final = 1024
_MAX_OPEN_BUCKETS: Final = 64
_CHUNK: Final = 256 * 1024
_WRITTEN_AT_ONCE: Final = 16
_NO_SUCH_BUCKET: Final = "NoSuchBucket"
_STATUS: Final = re.compile(r"status code: (\d{3}) ?([^:\n]*)")
_CODE: Final = re.compile(r"<Code>([^<]{1,100})</Code>")
_MESSAGE: Final = re.compile(r"<Message>([^<]{1,500})</Message>")
_IN_FOLDER: Final = "LocalFileSystem error"
_ADDRESS: Final = re.compile(r"Error performing \w+ (https?://[^/\s]+/[^/\s?]*)")
_RETRYABLE: Final = frozenset({408, 425, 429})

READY_KEY: Final = "ran-datajobs/ready"
"""Key of the object that is written to check that a bucket takes objects."""

TRY_EVERY: Final = 30.0
"""Interval in seconds between two writes of :meth:`ObjectStore.ready`."""


def bucket_problem(name: str) -> str | None:
    """Why ``name`` is not a valid bucket name, in words; ``None`` when it is valid.

    Source: "General purpose bucket naming rules" of Amazon S3.
    """
    if not _BUCKET.fullmatch(name):
        return (
            "a bucket name has 3 to 63 lower-case letters, digits, dots and hyphens, "
            "and begins and ends with a letter or a digit"
        )
    if ".." in name or _FOUR_NUMBERS.fullmatch(name):
        return "a bucket name has no two dots side by side and does not look like an IP address"
    if name.startswith(_RESERVED_STARTS) or name.endswith(_RESERVED_ENDS):
        return "this beginning or ending of a bucket name is reserved by S3"
    return None


def valid_key(key: str) -> bool:
    """True for plain segments joined by single slashes.

    False for ``..``, a leading slash, hidden names, control characters, ``%`` (encoded slashes) and anything
    else that two stores could interpret differently.
    """
    return len(key) <= _MAX_KEY and _KEY.fullmatch(key) is not None


def part_key(job_id: UUID | str, sub_job: UUID | str, sequence: int, piece: int = 0) -> str:
    """Key of one result object. ``sub_job`` is a sub-job id or ``unmatched``; ``sequence`` counts from 0.

    ``piece`` counts the objects of a plugin's message that was split.
    """
    name = f"{sequence}-{piece}" if piece else f"{sequence}"
    return f"{job_id}/{sub_job}/{name}.json"


def raw_key(job_id: UUID | str, sub_job: UUID | str, message: int | None = None) -> str:
    """Key of a plugin's own result body, or of its ``message`` with this number, stored unchanged."""
    name = "plugin-result" if message is None else f"plugin-message-{message}"
    return f"{job_id}/{sub_job}/{name}"


def manifest_key(job_id: UUID | str) -> str:
    """Key of the manifest, the last object of a job."""
    return f"{job_id}/manifest.json"


async def concurrently(work: Callable[[_Item], Awaitable[_Result]], items: Sequence[_Item]) -> list[_Result]:
    """The results of ``work`` for each item, in order, at most eight at a time. A failure cancels the others
    and is raised."""
    if len(items) == 1:
        return [await work(items[0])]
    slots = asyncio.Semaphore(PARALLEL)

    async def in_slot(item: _Item) -> _Result:
        async with slots:
            return await work(item)

    tasks = [asyncio.create_task(in_slot(item)) for item in items]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class ObjectStore:
    """Buckets of small objects (at most :data:`MAX_OBJECT_BYTES`).

    A put is atomic: readers see all of it or nothing, even when the writer is killed. Every call raises
    StorageUnavailable when the store is unavailable, and StorageRefused when an S3 service refuses the
    request. No call needs the right to list a bucket.
    """

    def __init__(
        self, open_bucket: Callable[[str], LocalStore | S3Store], *, folder: Path | None = None
    ) -> None:
        """``folder``: the folder whose sub-folders are the buckets; ``None`` for an S3 service."""
        self.open_bucket: Final = open_bucket
        self.folder: Final = folder
        self._store = functools.lru_cache(_MAX_OPEN_BUCKETS)(open_bucket)
        # obstore runs each put into a folder on a thread of its own: thousands only slow each other down.
        self._writing = asyncio.Semaphore(_WRITTEN_AT_ONCE)
        self._written_at: dict[str, float] = {}
        self.written: Callable[[str, StorageUnavailable | None], None] = lambda _bucket, _failure: None
        """Called after each put, with its failure if it failed."""

    async def put(self, bucket: str, key: str, data: bytes, *, only_if_absent: bool = False) -> bool:
        """Write one object. Returns False when ``only_if_absent`` is set and the object exists.

        On return the object exists, even if this process is killed. In a folder, the operating system decides
        when it is flushed to disk.

        Raises InvalidRequest for an invalid name or data over the limit.
        """
        if (problem := bucket_problem(bucket)) is not None:
            raise InvalidRequest(f"bucket {bucket!r}: {problem}")
        if not valid_key(key):
            raise InvalidRequest(f"{key!r} is not an object key: plain segments joined by '/' are")
        if len(data) > MAX_OBJECT_BYTES:
            raise InvalidRequest(
                f"an object holds at most {MAX_OBJECT_BYTES} bytes, this one has {len(data)}"
            )
        new = True
        try:
            async with self._writing if self.folder else contextlib.nullcontext():
                with _storage_errors(f"cannot write to bucket {bucket!r}"):
                    await obstore.put_async(
                        self._store(bucket),
                        self._path(bucket, key),
                        data,
                        mode="create" if only_if_absent else "overwrite",
                        use_multipart=False,
                        attributes=None if self.folder else {"Content-Type": JSON_CONTENT_TYPE},
                    )
        except AlreadyExistsError:
            new = False
        except StorageUnavailable as failure:
            self.written(bucket, failure)
            raise
        self.written(bucket, None)
        return new

    async def get(self, bucket: str, key: str) -> bytes | None:
        """The bytes of an object; ``None`` when there is none."""
        with _storage_errors(f"cannot read from bucket {bucket!r}"):
            found = await self._get(bucket, key)
            return None if found is None else bytes(await found.bytes_async())

    async def stream(self, bucket: str, key: str) -> tuple[int, AsyncIterator[bytes]] | None:
        """Size and bytes of an object, in pieces of about 256 KiB; ``None`` when there is none."""
        with _storage_errors(f"cannot read from bucket {bucket!r}"):
            found = await self._get(bucket, key)
        return None if found is None else (found.meta["size"], self._pieces(bucket, found))

    async def _get(self, bucket: str, key: str) -> obstore.GetResult | None:
        if not _is_possible(bucket, key):
            return None
        try:
            return await obstore.get_async(self._store(bucket), self._path(bucket, key))
        except FileNotFoundError:
            return None

    async def _pieces(self, bucket: str, found: obstore.GetResult) -> AsyncIterator[bytes]:
        with _storage_errors(f"cannot read from bucket {bucket!r}"):
            async for piece in found.stream(min_chunk_size=_CHUNK):
                yield bytes(piece)

    async def delete(self, bucket: str, keys: Sequence[str]) -> None:
        """Remove objects. A missing object or bucket is no error."""
        paths = [self._path(bucket, key) for key in keys if _is_possible(bucket, key)]
        with _storage_errors(f"cannot delete in bucket {bucket!r}"):
            try:
                await obstore.delete_async(self._store(bucket), paths)
            except FileNotFoundError:
                pass
            except BaseError as error:  # a missing bucket has no class of its own
                if _NO_SUCH_BUCKET not in str(error):
                    raise

    async def delete_folder(self, bucket: str, job_id: str) -> None:
        """Remove all files of a job from a bucket in a folder, including temporary files of a killed writer.
        Missing files are no error."""
        if self.folder is not None and _is_possible(bucket, job_id):
            with _storage_errors(f"cannot delete in bucket {bucket!r}"):
                await asyncio.to_thread(_remove_folder, self.folder / bucket / job_id)

    async def bucket_exists(self, bucket: str) -> bool:
        """False when the S3 service reports that the bucket does not exist; in a folder every valid name
        does.

        It does not check whether the bucket can be written.
        """
        if bucket_problem(bucket) is not None:
            return False
        if self.folder is not None:
            return True
        with _storage_errors(f"cannot look for bucket {bucket!r}"):
            try:
                await obstore.get_async(self._store(bucket), READY_KEY)
            except PermissionDeniedError:
                return True
            except FileNotFoundError as error:
                return _NO_SUCH_BUCKET not in str(error)
        return True

    async def presigned(self, bucket: str, key: str, lifetime: timedelta) -> str | None:
        """Address that lets anyone read the object for ``lifetime``; ``None`` for a folder."""
        store = self._store(bucket) if _is_possible(bucket, key) else None
        if not isinstance(store, S3Store):
            return None
        with _storage_errors(f"cannot sign for bucket {bucket!r}"):
            return await obstore.sign_async(store, "GET", key, lifetime)

    async def ready(self, bucket: str) -> None:
        """Return if ``bucket``, the service's own, exists and takes objects; else raise StorageUnavailable.

        The check writes one object with the condition that result objects are written with, at most once in
        :data:`TRY_EVERY` seconds while that succeeds.
        """
        if not await self.bucket_exists(bucket):
            raise StorageRefused(f"there is no bucket {bucket!r} at the object store: create it")
        now = asyncio.get_running_loop().time()
        if now - self._written_at.get(bucket, -TRY_EVERY) >= TRY_EVERY:
            await self.put(bucket, READY_KEY, b"{}", only_if_absent=True)
            self._written_at[bucket] = now

    def _path(self, bucket: str, key: str) -> str:
        return key if self.folder is None else f"{bucket}/{key}"


def _is_possible(bucket: str, key: str) -> bool:
    return bucket_problem(bucket) is None and valid_key(key)


async def start_runtime() -> None:
    """Start the background runtime of obstore in this process.

    Call it early, while file descriptors are available: a failed start is not repeated by the library.
    """
    await obstore.put_async(MemoryStore(), "first", b"")


def open_folder(path: Path) -> ObjectStore:
    """Object store in a local folder, created with mode 0700 if missing: one sub-folder per bucket.

    Nothing is written outside the folder. Raises StorageUnavailable when it cannot be created.
    """
    with _storage_errors(f"cannot use the folder {path}"):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = path.resolve()
        store = LocalStore(folder, automatic_cleanup=True)  # removes folders that become empty
    return ObjectStore(lambda _bucket: store, folder=folder)


def open_s3(
    endpoint: str, *, give_up: timedelta = timedelta(seconds=GIVE_UP), config: S3Config | None = None
) -> ObjectStore:
    """Object store at any S3 service. ``endpoint`` is its http or https address.

    Region and keys are those of ``config``, else of the AWS chain (``AWS_…`` variables, web identity,
    instance role); each request is signed. A call is retried for at most ``give_up``.
    """
    over_environment: S3Config = {
        "endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
        "virtual_hosted_style_request": False,
        "skip_signature": False,
    }

    def open_bucket(bucket: str) -> S3Store:
        return S3Store(
            bucket,
            config=over_environment | (config or {}),
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_WITHIN),
                "timeout": timedelta(seconds=ANSWER_WITHIN),
            },
            retry_config={"max_retries": 3, "retry_timeout": give_up},
        )

    return ObjectStore(open_bucket)


def _remove_folder(path: Path) -> None:
    """Remove a folder recursively, and its parent folder if it is empty then. Raises OSError."""
    if os.path.lexists(path):
        shutil.rmtree(path)
    with contextlib.suppress(OSError):
        path.parent.rmdir()


@contextlib.contextmanager
def _storage_errors(what: str) -> Iterator[None]:
    """Turn errors of the object store into StorageUnavailable, with the cause in one line; an answer that a
    retry does not cure (a 4xx other than 408, 425, 429; a 501) into StorageRefused."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except (BaseError, OSError) as error:
        status = int(found[1]) if (found := _STATUS.search(str(error))) else 0
        refused = status == 501 or (400 <= status < 500 and status not in _RETRYABLE)
        raise (StorageRefused if refused else StorageUnavailable)(f"{what}: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """Cause of an error in one line; equal for all objects with the same failure."""
    text = str(error)
    place = found[1] if (found := _ADDRESS.search(text)) else "the S3 service"
    if status := _STATUS.search(text):
        details = [found[1] for each in (_CODE, _MESSAGE) if (found := each.search(text))]
        return f"{place} answered {status[1]} {': '.join(details) or status[2]}"
    first_line = next(iter(text.splitlines()), type(error).__name__)
    if _IN_FOLDER in text:
        return first_line.rpartition(": ")[2]
    before, separator, why = first_line.partition(" - ")
    return f"no answer of {place}: {why}" if separator and _ADDRESS.search(before) else first_line
