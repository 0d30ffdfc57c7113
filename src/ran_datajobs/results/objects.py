# SPDX-License-Identifier: Apache-2.0
"""Result objects in a folder or in any S3 service, through obstore.

Layout: ``{bucket}/{jobId}/{subJobId}/{sequence}.json`` and, last, ``{bucket}/{jobId}/manifest.json``.
Bucket names follow the S3 rules; a key is made of plain segments. A name that breaks them is never looked up:
it reads as absent, and writing it is an :class:`~ran_datajobs.errors.InvalidRequest`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import obstore
from msgspec import Struct
from obstore.exceptions import (
    BaseError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, MemoryStore, S3Store

from ran_datajobs.errors import InvalidRequest, StorageRefused, StorageUnavailable

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import S3Config, S3Credential

MAX_OBJECT_BYTES: Final = 64 * 1024 * 1024
"""An object is one conditional put: a multipart upload would drop the condition."""

CONNECT_WITHIN: Final = 5.0
"""Seconds in which the S3 service must take a connection."""

ANSWER_WITHIN: Final = 60.0
"""Seconds in which the S3 service must answer a request in full."""

GIVE_UP: Final = 15.0
"""Seconds within which a request that failed is sent again, three times at most."""

JSON_CONTENT_TYPE: Final = "application/json"

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_FOUR_NUMBERS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+")
_RESERVED_STARTS: Final = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS: Final = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
_KEY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199})*")
_MAX_KEY: Final = 1024
_MAX_OPEN_BUCKETS: Final = 64
_DELETED_AT_ONCE: Final = 100
_WRITTEN_AT_ONCE: Final = 16
_REMOVER: Final = """
import os, shutil, sys
for path in sys.argv[1:]:
    if os.path.lexists(path):
        shutil.rmtree(path)
"""
_MISSING: Final = (FileNotFoundError, NotFoundError)
_NO_SUCH_BUCKET: Final = "NoSuchBucket"
_UNAVAILABLE_ERRORS: Final = (BaseError, OSError)
_REFUSALS: Final = (
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
_STATUS: Final = re.compile(r"status code: (\d{3}) ?([^:\n]*)")
_CODE: Final = re.compile(r"<Code>([^<]{1,100})</Code>")
_MESSAGE: Final = re.compile(r"<Message>([^<]{1,500})</Message>")
_IN_FOLDER: Final = "LocalFileSystem error"
_ADDRESS: Final = re.compile(r"Error performing \w+ (https?://[^/\s]+/[^/\s?]*)")
_CURED_BY_A_REPEAT: Final = frozenset({408, 425, 429})

READY_KEY: Final = "ran-datajobs/ready"
"""Key of the object that is written to see whether a bucket takes objects."""

TRY_EVERY: Final = 30.0
"""Seconds after which :meth:`ObjectStore.ready` writes again."""


def bucket_problem(name: str) -> str | None:
    """What is wrong with ``name`` as a bucket name, in words; ``None`` when it is valid.

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

    Refuses ``..``, a leading slash, hidden names, control characters, ``%`` (encoded slashes) and all else
    that one store could read differently from another.
    """
    return len(key) <= _MAX_KEY and _KEY.fullmatch(key) is not None


def part_key(job_id: str, sub_job: str, sequence: int, piece: int = 0) -> str:
    """Key of one result object. ``sub_job`` is a sub-job id or ``unmatched``; ``sequence`` counts from 0.

    ``piece`` counts the objects of a plugin's message that was cut.
    """
    name = f"{sequence}-{piece}" if piece else f"{sequence}"
    return f"{job_id}/{sub_job}/{name}.json"


def raw_result_key(job_id: str, sub_job: str) -> str:
    """Key of a plugin's own result body, kept as it came."""
    return f"{job_id}/{sub_job}/plugin-result"


def unreadable_key(job_id: str, sub_job: str, message: int) -> str:
    """Key of a plugin's result message that cannot be read, kept as it came."""
    return f"{job_id}/{sub_job}/plugin-message-{message}"


def manifest_key(job_id: str) -> str:
    """Key of the manifest, the last object of a job."""
    return f"{job_id}/manifest.json"


class ObjectHead(Struct, frozen=True):
    """What is known of an object without its bytes."""

    size: int
    etag: str | None


class ObjectStore:
    """Buckets of small objects (at most :data:`MAX_OBJECT_BYTES`).

    A put is atomic: readers see all of it or nothing, also when the writer is killed. Every call raises
    StorageUnavailable when the store is away, and StorageRefused when an S3 service answers that it refuses.
    No call needs the right to list a bucket.
    """

    def __init__(
        self, open_bucket: Callable[[str], LocalStore | S3Store], *, folder: Path | None = None
    ) -> None:
        """``folder``: where the buckets are sub-folders of it; ``None`` where they are at an S3 service."""
        self.open_bucket: Final = open_bucket
        self.folder: Final = folder
        self._stores: OrderedDict[str, LocalStore | S3Store] = OrderedDict()
        # Each put into a folder has a thread of obstore's: thousands only stand in each other's way.
        self._writing = asyncio.Semaphore(_WRITTEN_AT_ONCE)
        self._written_at: dict[str, float] = {}
        self.written: Callable[[str, StorageUnavailable | None], None] = lambda _bucket, _failure: None
        """Is told each put, and why it failed."""

    @property
    def in_folder(self) -> bool:
        """Whether the buckets are local folders."""
        return self.folder is not None

    async def put(self, bucket: str, key: str, data: bytes, *, only_if_absent: bool = False) -> bool:
        """Write one object; False when ``only_if_absent`` and one was there already.

        It is there on return, whoever is killed then. In a folder the system decides when it is on the disk.

        Raises InvalidRequest for a name that is not allowed or data over the limit.
        """
        if (problem := bucket_problem(bucket)) is not None:
            raise InvalidRequest(f"bucket {bucket!r}: {problem}")
        if not valid_key(key):
            raise InvalidRequest(f"{key!r} is not an object key: plain segments joined by '/' are")
        if len(data) > MAX_OBJECT_BYTES:
            raise InvalidRequest(
                f"an object holds at most {MAX_OBJECT_BYTES} bytes, this one has {len(data)}"
            )
        try:
            with self._errors(f"cannot write to bucket {bucket!r}"):
                new = await self._put(bucket, key, data, "create" if only_if_absent else "overwrite")
        except StorageUnavailable as failure:
            self.written(bucket, failure)
            raise
        self.written(bucket, None)
        return new

    async def _put(self, bucket: str, key: str, data: bytes, mode: PutMode) -> bool:
        try:
            async with self._writing if self.in_folder else contextlib.nullcontext():
                await obstore.put_async(
                    self._store(bucket),
                    self._path(bucket, key),
                    data,
                    mode=mode,
                    use_multipart=False,
                    attributes=None if self.in_folder else {"Content-Type": JSON_CONTENT_TYPE},
                )
        except obstore.exceptions.AlreadyExistsError:
            return False
        return True

    async def get(self, bucket: str, key: str) -> bytes | None:
        """The bytes of an object; ``None`` when there is none."""
        if not self._possible(bucket, key):
            return None
        with self._errors(f"cannot read from bucket {bucket!r}"):
            try:
                found = await obstore.get_async(self._store(bucket), self._path(bucket, key))
                return bytes(await found.bytes_async())
            except _MISSING:
                return None

    async def stream(
        self, bucket: str, key: str, *, chunk: int = 256 * 1024
    ) -> tuple[ObjectHead, AsyncIterator[bytes]] | None:
        """Head and bytes of an object, in pieces of about ``chunk`` bytes; ``None`` when there is none."""
        if not self._possible(bucket, key):
            return None
        with self._errors(f"cannot read from bucket {bucket!r}"):
            try:
                found = await obstore.get_async(self._store(bucket), self._path(bucket, key))
            except _MISSING:
                return None
        return ObjectHead(found.meta["size"], found.meta["e_tag"]), self._pieces(bucket, found, chunk)

    async def _pieces(self, bucket: str, found: obstore.GetResult, chunk: int) -> AsyncIterator[bytes]:
        with self._errors(f"cannot read from bucket {bucket!r}"):
            async for piece in found.stream(min_chunk_size=chunk):
                yield bytes(piece)

    async def head(self, bucket: str, key: str) -> ObjectHead | None:
        """Size and etag of an object; ``None`` when there is none."""
        if not self._possible(bucket, key):
            return None
        with self._errors(f"cannot read from bucket {bucket!r}"):
            try:
                meta = await obstore.head_async(self._store(bucket), self._path(bucket, key))
            except _MISSING:
                return None
        return ObjectHead(meta["size"], meta["e_tag"])

    async def delete(self, bucket: str, keys: Sequence[str]) -> None:
        """Remove objects; one that is not there is no error, and neither is no bucket."""
        paths = [self._path(bucket, key) for key in keys if self._possible(bucket, key)]
        with self._errors(f"cannot delete in bucket {bucket!r}"):
            for first in range(0, len(paths), _DELETED_AT_ONCE):
                try:
                    await obstore.delete_async(self._store(bucket), paths[first : first + _DELETED_AT_ONCE])
                except (*_MISSING, BaseError) as error:
                    if not _is_missing(error):
                        raise

    async def delete_folders(self, bucket: str, job_ids: Sequence[str]) -> None:
        """Remove everything of these jobs from a bucket that is a folder, also what a killed writer had
        begun, which is no object; nothing there is no error."""
        possible = [job_id for job_id in job_ids if self._possible(bucket, job_id)]
        if self.folder is None or not possible:
            return
        with self._errors(f"cannot delete in bucket {bucket!r}"):
            await asyncio.to_thread(_remove_folders, [self.folder / bucket / name for name in possible])

    async def bucket_exists(self, bucket: str) -> bool:
        """False when the S3 service says that there is no such bucket; in a folder every valid name exists.

        Whether anything can be written there is not known before it is tried.
        """
        if bucket_problem(bucket) is not None:
            return False
        if self.in_folder:
            return True
        with self._errors(f"cannot look for bucket {bucket!r}"):
            try:
                await obstore.get_async(self._store(bucket), READY_KEY)
            except PermissionDeniedError:
                return True
            except _MISSING as error:
                return _NO_SUCH_BUCKET not in str(error)
        return True

    async def presigned(self, bucket: str, key: str, lifetime: timedelta) -> str | None:
        """An address from which anybody can read the object for ``lifetime``; ``None`` for a folder."""
        store = self._store(bucket) if self._possible(bucket, key) else None
        if not isinstance(store, S3Store):
            return None
        with self._errors(f"cannot sign for bucket {bucket!r}"):
            return await obstore.sign_async(store, "GET", key, lifetime)

    async def ready(self, bucket: str) -> None:
        """Return when ``bucket``, the service's own, is there and takes objects; raise StorageUnavailable
        otherwise.

        It is written with the condition that result objects are written with, at most once in
        :data:`TRY_EVERY` seconds while that works.
        """
        if not await self.bucket_exists(bucket):
            raise StorageRefused(f"there is no bucket {bucket!r} at the object store: create it")
        now = asyncio.get_running_loop().time()
        if now - self._written_at.get(bucket, -TRY_EVERY) >= TRY_EVERY:
            await self.put(bucket, READY_KEY, b"{}", only_if_absent=True)
            self._written_at[bucket] = now

    def _errors(self, what: str) -> contextlib.AbstractContextManager[None]:
        return _storage_errors(what, s3=not self.in_folder)

    def _possible(self, bucket: str, key: str) -> bool:
        return bucket_problem(bucket) is None and valid_key(key)

    def _path(self, bucket: str, key: str) -> str:
        return f"{bucket}/{key}" if self.in_folder else key

    def _store(self, bucket: str) -> LocalStore | S3Store:
        """One client per bucket; the least recently used ones are let go."""
        name = "" if self.in_folder else bucket
        store = self._stores.get(name) or self.open_bucket(name)
        self._stores[name] = store
        self._stores.move_to_end(name)
        if len(self._stores) > _MAX_OPEN_BUCKETS:
            self._stores.popitem(last=False)
        return store


async def start_runtime() -> None:
    """Start what carries every call of the object store's client in this process: at a time when a lack of
    descriptors cannot keep it from starting, for it would not start again."""
    await obstore.put_async(MemoryStore(), "first", b"")


def open_folder(path: Path) -> ObjectStore:
    """An object store in a local folder, made with mode 0700 when missing: one sub-folder per bucket.

    Nothing is ever written outside it. Raises StorageUnavailable when it cannot be made.
    """
    with _storage_errors(f"cannot use the folder {path}", s3=False):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = path.resolve()
        store = LocalStore(folder, automatic_cleanup=True)  # empty folders go with their last object
    return ObjectStore(lambda _bucket: store, folder=folder)


def open_s3(
    endpoint: str | None,
    *,
    region: str = "us-east-1",
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    session_token: str | None = None,
    virtual_hosted: bool = False,
    give_up: timedelta = timedelta(seconds=GIVE_UP),
) -> ObjectStore:
    """An object store at any S3 service. ``endpoint`` is its http or https address; ``None`` is Amazon's.

    Without keys the AWS chain applies (``AWS_…`` variables, web identity, instance role). A call is
    repeated for at most ``give_up``.
    """
    # The client reads the AWS variables of the environment. What is given here must beat each of them.
    config: S3Config = {"region": region, "virtual_hosted_style_request": virtual_hosted}
    keys: Callable[[], S3Credential] | None = None
    if endpoint is not None:
        config["endpoint"] = config["aws_endpoint_url_s3"] = endpoint
    if access_key_id is not None and secret_access_key is not None:
        credential: S3Credential = {
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
            "token": session_token,
            "expires_at": None,
        }
        config["skip_signature"] = False

        def keys() -> S3Credential:
            return credential

    def open_bucket(bucket: str) -> S3Store:
        return S3Store(
            bucket,
            config=config,
            credential_provider=keys,
            client_options={
                "allow_http": endpoint is not None and endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_WITHIN),
                "timeout": timedelta(seconds=ANSWER_WITHIN),
            },
            retry_config={
                "max_retries": 3,
                "retry_timeout": give_up,
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=2),
                    "base": 2,
                },
            },
        )

    return ObjectStore(open_bucket)


def _remove_folders(paths: Sequence[Path]) -> None:
    """Remove folders with all they have, and the one above when that is empty then. Raises OSError.

    A process of its own does it: here each of ten thousand files would wait for the interpreter.
    """
    command = [sys.executable, "-I", "-S", "-c", _REMOVER, *map(str, paths)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        last_line = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise OSError(last_line or f"it was ended by signal {-done.returncode}")
    with contextlib.suppress(OSError):
        paths[0].parent.rmdir()


def _is_missing(error: Exception) -> bool:
    """True when there was no such object or bucket: some answers have no class of their own."""
    return isinstance(error, _MISSING) or _NO_SUCH_BUCKET in str(error)


def _is_refusal(error: Exception) -> bool:
    """True for an answer of an S3 service that a repeat does not change: a 4xx but 408, 425, 429; a 501."""
    if isinstance(error, _REFUSALS):
        return True
    status = int(found[1]) if (found := _STATUS.search(str(error))) else 0
    return status == 501 or (400 <= status < 500 and status not in _CURED_BY_A_REPEAT)


@contextlib.contextmanager
def _storage_errors(what: str, *, s3: bool) -> Iterator[None]:
    """Turn every error of the object store into StorageUnavailable, with its cause in one line."""
    try:
        yield
    except _UNAVAILABLE_ERRORS as error:
        kind = StorageRefused if s3 and _is_refusal(error) else StorageUnavailable
        raise kind(f"{what}: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """What went wrong: the same words for every object that it happens to."""
    text = str(error)
    place = found[1] if (found := _ADDRESS.search(text)) else "the S3 service"
    if status := _STATUS.search(text):
        told = [found[1] for each in (_CODE, _MESSAGE) if (found := each.search(text))]
        return f"{place} answered {status[1]} {': '.join(told) or status[2]}"
    first_line = next(iter(text.splitlines()), type(error).__name__)
    if _IN_FOLDER in text:
        return first_line.rpartition(": ")[2]
    before, separator, why = first_line.partition(" - ")
    return f"no answer of {place}: {why}" if separator and _ADDRESS.search(before) else first_line
