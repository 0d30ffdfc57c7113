# SPDX-License-Identifier: Apache-2.0
"""One suite for both object stores of results: a folder and a real S3 service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.errors import InvalidRequest, StorageUnavailable
from ran_datajobs.results.objects import (
    MAX_OBJECT_BYTES,
    READY_KEY,
    ObjectStore,
    bucket_problem,
    open_folder,
    open_s3,
    valid_key,
)
from tests.peers.program import free_ports
from tests.peers.s3 import S3Service

BUCKET = S3Service.bucket


def s3_objects(service: S3Service) -> ObjectStore:
    """The real service through our client."""
    return open_s3(
        service.endpoint,
        give_up=timedelta(seconds=2),
        config={"access_key_id": service.access_key_id, "secret_access_key": service.secret_access_key},
    )


def replaced(objects: ObjectStore) -> ObjectStore:
    """The same store in another process, with no state in memory."""
    return ObjectStore(objects.open_bucket, folder=objects.folder)


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """Each kind of object store."""
    if request.param == "folder":
        return open_folder(tmp_path / "objects")
    return s3_objects(request.getfixturevalue("s3_service"))


async def test_what_was_put_is_read_back(objects: ObjectStore) -> None:
    """Bytes, size and pieces of an object are read as written."""
    data = os.urandom(700_000)
    assert await objects.put(BUCKET, "job/a/0.json", data)
    assert await objects.get(BUCKET, "job/a/0.json") == data
    found = await objects.stream(BUCKET, "job/a/0.json")
    assert found is not None
    pieces = [piece async for piece in found[1]]
    assert len(pieces) > 1
    assert b"".join(pieces) == data
    assert found[0] == len(data)


async def test_what_is_not_there_is_none(objects: ObjectStore) -> None:
    """A missing key reads as absent through every read method."""
    assert await objects.get(BUCKET, "job/none/0.json") is None
    assert await objects.stream(BUCKET, "job/none/0.json") is None


async def test_a_put_replaces_and_a_conditional_put_does_not(objects: ObjectStore) -> None:
    """Without a condition the last write takes effect; with ``only_if_absent`` the first one does."""
    assert await objects.put(BUCKET, "job/b/0.json", b"first", only_if_absent=True)
    assert not await objects.put(BUCKET, "job/b/0.json", b"second", only_if_absent=True)
    assert await objects.get(BUCKET, "job/b/0.json") == b"first"
    assert await objects.put(BUCKET, "job/b/0.json", b"third")
    assert await objects.get(BUCKET, "job/b/0.json") == b"third"


async def test_a_large_object_keeps_its_condition(objects: ObjectStore) -> None:
    """20 MB are sent as one conditional put, not as a multipart upload, which would drop the condition."""
    large = bytes(20_000_000)
    assert await objects.put(BUCKET, "job/large/0.json", large, only_if_absent=True)
    assert not await objects.put(BUCKET, "job/large/0.json", b"x", only_if_absent=True)
    assert await objects.get(BUCKET, "job/large/0.json") == large


async def test_deleting_twice_is_no_error(objects: ObjectStore) -> None:
    """A deleted object is gone, and deleting it again does nothing."""
    await objects.put(BUCKET, "job/c/0.json", b"x")
    await objects.delete(BUCKET, ["job/c/0.json", "job/c/1.json"])
    await objects.delete(BUCKET, ["job/c/0.json"])
    assert await objects.get(BUCKET, "job/c/0.json") is None


async def test_all_objects_of_a_job_go_and_those_of_others_stay(tmp_path: Path) -> None:
    """All objects of the job are deleted, whatever their names. A job whose name has the same prefix keeps
    its objects."""
    objects = open_folder(tmp_path)
    for key in ("gone/a/0.json", "gone/b/0-1.json", "gone/manifest.json", "gone-not/a/0.json"):
        await objects.put(BUCKET, key, b"x")
    for _ in range(2):
        for job_id in ("gone", "never-there"):
            await objects.delete_folder(BUCKET, job_id)
    assert await objects.get(BUCKET, "gone/a/0.json") is None
    assert await objects.get(BUCKET, "gone/b/0-1.json") is None
    assert await objects.get(BUCKET, "gone/manifest.json") is None
    assert await objects.get(BUCKET, "gone-not/a/0.json") == b"x"
    await objects.delete_folder(BUCKET, "..")
    assert await objects.get(BUCKET, "gone-not/a/0.json") == b"x"


async def test_in_a_bucket_that_is_gone_nothing_is_left(objects: ObjectStore) -> None:
    """Jobs whose bucket was removed have no objects left, so deletion succeeds."""
    await objects.delete("no-such-bucket", ["gone/a/0.json"])


async def test_what_a_killed_writer_had_begun_goes_with_its_job(tmp_path: Path) -> None:
    """Deletion includes a half-written file next to the objects in a folder."""
    objects = open_folder(tmp_path)
    await objects.put(BUCKET, "job/a/0.json", b"x")
    half = tmp_path / BUCKET / "job" / "a" / "1.json#1"
    half.write_bytes(b"half")
    await objects.delete_folder(BUCKET, "job")
    assert not (tmp_path / BUCKET).exists()


async def test_a_folder_that_cannot_be_removed_is_told(tmp_path: Path) -> None:
    """A removal that is blocked raises an error that names the path, and the files stay."""
    objects = open_folder(tmp_path)
    await objects.put(BUCKET, "job/a/0.json", b"x")
    (tmp_path / BUCKET / "link").symlink_to(tmp_path / BUCKET / "job")
    with pytest.raises(StorageUnavailable, match="symbolic link"):
        await objects.delete_folder(BUCKET, "link")
    assert await objects.get(BUCKET, "job/a/0.json") == b"x"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "../a",
        "a/../b",
        "a/..",
        "a/%2e%2e/b",
        "a%2Fb",
        "a\\b",
        "a\nb",
        "a\0b",
        ".a",
        "ä",
    ],
)
async def test_a_key_that_escapes_is_refused(objects: ObjectStore, key: str) -> None:
    """Such a key cannot be written and reads as absent."""
    with pytest.raises(InvalidRequest):
        await objects.put(BUCKET, key, b"x")
    assert await objects.get(BUCKET, key) is None
    assert await objects.stream(BUCKET, key) is None
    await objects.delete(BUCKET, [key])


@pytest.mark.parametrize(
    "bucket", ["", "ab", "..", "a..b", "Upper", "a/b", "192.168.0.1", "xn--abc", "-abc", "a" * 64]
)
async def test_a_bucket_name_against_the_rules_is_refused(objects: ObjectStore, bucket: str) -> None:
    """Such a bucket does not exist and cannot be written."""
    assert not await objects.bucket_exists(bucket)
    assert await objects.get(bucket, "a") is None
    with pytest.raises(InvalidRequest):
        await objects.put(bucket, "a", b"x")


async def test_too_much_for_one_object_is_refused(objects: ObjectStore) -> None:
    """The limit is checked before anything is sent."""
    with pytest.raises(InvalidRequest):
        await objects.put(BUCKET, "job/huge/0.json", bytes(MAX_OBJECT_BYTES + 1))
    assert await objects.get(BUCKET, "job/huge/0.json") is None


async def test_its_own_bucket_is_ready(objects: ObjectStore) -> None:
    """``ready`` returns for a bucket that accepts objects, on repeated calls too."""
    for _ in range(2):
        await objects.ready(BUCKET)
        assert await objects.get(BUCKET, READY_KEY) == b"{}"
        await objects.delete(BUCKET, [READY_KEY])
        assert await objects.bucket_exists(BUCKET)
        objects = replaced(objects)


async def test_in_a_folder_every_valid_bucket_exists(tmp_path: Path) -> None:
    """In the embedded store a bucket need not be created first. The check creates nothing."""
    objects = open_folder(tmp_path / "objects")
    assert await objects.bucket_exists("never-heard-of")
    assert await objects.presigned("never-heard-of", "a", timedelta(minutes=1)) is None
    assert list((tmp_path / "objects").iterdir()) == []


async def test_an_s3_bucket_that_is_not_there(s3_service: S3Service) -> None:
    """The error names the missing bucket, and a put into it fails."""
    objects = s3_objects(s3_service)
    assert not await objects.bucket_exists("no-such-bucket")
    with pytest.raises(StorageUnavailable, match="no-such-bucket"):
        await objects.ready("no-such-bucket")
    with pytest.raises(StorageUnavailable, match="no-such-bucket"):
        await objects.put("no-such-bucket", "a", b"x")


async def test_a_presigned_address_reads_without_credentials(s3_service: S3Service) -> None:
    """Until it expires, the address gives any client read access to the one object."""
    objects = s3_objects(s3_service)
    await objects.put(BUCKET, "job/signed/0.json", b"signed")
    address = await objects.presigned(BUCKET, "job/signed/0.json", timedelta(minutes=5))
    assert address is not None
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert answer.read() == b"signed"


async def test_what_is_set_for_the_service_beats_the_shell(
    s3_service: S3Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment variables of other programs change neither address, keys nor request signing."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "another-key",
        "AWS_SECRET_ACCESS_KEY": "else",
        "AWS_REGION": "eu-north-1",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    }.items():
        monkeypatch.setenv(name, value)
    objects = s3_objects(s3_service)
    await objects.put(BUCKET, "job/shell/0.json", b"ours")
    assert await objects.get(BUCKET, "job/shell/0.json") == b"ours"


async def test_wrong_credentials_are_no_missing_bucket(s3_service: S3Service) -> None:
    """A store that refuses the credentials is unavailable: the bucket may exist."""
    objects = open_s3(s3_service.endpoint, config={"access_key_id": "someone", "secret_access_key": "else"})
    with pytest.raises(StorageUnavailable):
        await objects.put(BUCKET, "a", b"x")


async def test_an_s3_service_that_is_away() -> None:
    """Every call raises StorageUnavailable, without the secret key in its text."""
    (port,) = free_ports(1)
    objects = open_s3(
        f"http://127.0.0.1:{port}",
        give_up=timedelta(seconds=1),
        config={"access_key_id": "k", "secret_access_key": "very-secret"},
    )
    for call in (objects.put(BUCKET, "a", b"x"), objects.get(BUCKET, "a"), objects.bucket_exists(BUCKET)):
        with pytest.raises(StorageUnavailable) as caught:
            await call
        assert "very-secret" not in str(caught.value)


def test_a_killed_writer_leaves_no_torn_object(tmp_path: Path) -> None:
    """After SIGKILL of a process that overwrites an object, a reader gets one complete version."""
    root = tmp_path / "objects"
    writer = (
        "import asyncio, pathlib, sys\n"
        "from ran_datajobs.results.objects import open_folder\n"
        "async def main():\n"
        "    objects = open_folder(pathlib.Path(sys.argv[1]))\n"
        "    for number in range(10**9):\n"
        "        await objects.put('torn-bucket', 'job/0.json', bytes([number % 251]) * 3_000_000)\n"
        "        print(number, flush=True)\n"
        "asyncio.run(main())\n"
    )
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", writer, str(root)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            process.wait()
        left = (root / "torn-bucket" / "job" / "0.json").read_bytes()
        assert len(left) == 3_000_000
        assert len(set(left)) == 1


@given(st.text(max_size=80))
def test_a_valid_key_stays_below_its_bucket(key: str) -> None:
    """Every valid key is a path inside the bucket's folder."""
    if valid_key(key):
        inside = Path("/root-folder/bucket") / key
        assert Path(os.path.normpath(inside)) == inside
        assert "%" not in key


@given(st.text(alphabet="ab9.-/%_A\n", max_size=70))
def test_a_valid_bucket_name_is_one_plain_folder_name(name: str) -> None:
    """Every valid bucket name is one ordinary path segment."""
    if bucket_problem(name) is None:
        assert Path(name).name == name
        assert 3 <= len(name) <= 63
        assert name == name.lower()
