# SPDX-License-Identifier: Apache-2.0
"""Destinations and presigned reads through the API, over a real S3 service."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from tests.kit.plugins.scripted import Script, ScriptedPlugin
from tests.kit.whole_service import JOBS, whole_service
from tests.peers.s3 import S3Service

LINE = {"op": "merge", "path": "/SubNetwork=X/ManagedElement=1", "value": {"a": 1}, "operationId": 1}


@pytest.fixture
def s3(s3_service: S3Service, monkeypatch: pytest.MonkeyPatch) -> S3Service:
    """The S3 service, with its keys in the environment variables that the service reads."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_service.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_service.secret_access_key)
    return s3_service


async def test_presigned_reads_are_answered_by_the_s3_service(
    database_url: str, tmp_path: Path, s3: S3Service
) -> None:
    """``?presigned=true`` is a 307 to an address at which the same object can be read without a token."""
    plugin = ScriptedPlugin(Script(statuses=("FINSHED",)))
    async with (
        plugin.serving() as address,
        whole_service(database_url, tmp_path, s3_endpoint=s3.endpoint) as service,
        aiohttp.ClientSession() as anybody,
    ):
        await service.register(address, {"/SubNetwork=X/ManagedElement=1": "ems-1"})
        job = await service.ended(await service.submit([LINE]))
        manifest = await service.call("GET", job["resultsuri"], expect=200)
        base = job["resultsuri"].split("?")[0]
        for uri, joined in (
            (job["resultsuri"], "&"),
            *((f"{base}/{entry['key']}", "?") for entry in manifest["objects"]),
        ):
            async with anybody.get(f"{uri}{joined}presigned=true", allow_redirects=False) as answer:
                assert answer.status == 307
                elsewhere = answer.headers["Location"]
            assert elsewhere.startswith(s3.endpoint)
            async with anybody.get(elsewhere) as signed, anybody.get(uri) as plain:
                assert signed.status == plain.status == 200
                assert await signed.read() == await plain.read()


@pytest.mark.parametrize(
    "rules",
    [
        {"destination_allow": "s3:datajobs-*"},
        {"destination_deny": "rapp-*"},
        {"destination_allow": "*", "destination_deny": "s3:rapp-results"},
    ],
)
async def test_operators_decide_which_destinations_jobs_may_name(
    database_url: str, tmp_path: Path, s3: S3Service, rules: dict[str, str]
) -> None:
    """A destination that is not allowed is a 400 that is the same whether or not the destination exists; the
    others are accepted."""
    async with whole_service(database_url, tmp_path, s3_endpoint=s3.endpoint, **rules) as service:
        body = {"data": [LINE]}
        refused = await service.call("POST", f"{JOBS}?destination=s3:{s3.other_bucket}", body, expect=400)
        assert "does not allow" in refused["detail"]
        assert refused["errors"][0]["pointer"] == "destination"
        await service.call("POST", f"{JOBS}?destination=s3:{s3.bucket}", body, expect=202)
