# SPDX-License-Identifier: Apache-2.0
"""Events of CM handles as an operator sees them: a setting, a registration, a command."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kit.commands import datajobs, json_lines
from tests.kit.whole_service import whole_service

TOPIC = "ncmp-events"


async def test_the_command_prints_the_events(database_url: str, tmp_path: Path) -> None:
    """``datajobs tail`` prints the events of what is registered, updated and removed."""
    async with whole_service(database_url, tmp_path, inventory_events_topic=TOPIC) as service:
        await service.register("http://127.0.0.1:9", {"/ManagedElement=1": "ems", "/ManagedElement=2": "ems"})
        for change in (
            {"updatedCmHandles": [{"cmHandle": "_ManagedElement-1", "moduleSetTag": "t"}]},
            {"removedCmHandles": ["_ManagedElement-2"]},
        ):
            await service.call("POST", "/ncmpInventory/v1/ch", change, expect=200)
        async with asyncio.timeout(60):
            while True:
                tail = ("tail", TOPIC, "--no-follow", "--server", service.root)
                done = await asyncio.to_thread(datajobs, *tail)
                assert done.returncode == 0, done.stderr
                if len(printed := json_lines(done)) >= 4:
                    break
    assert [(each["key"], each["value"]["eventType"].rpartition(".")[2]) for each in printed] == [
        ("_ManagedElement-1", "create"),
        ("_ManagedElement-2", "create"),
        ("_ManagedElement-1", "update"),
        ("_ManagedElement-2", "delete"),
    ]
    assert [each["headers"]["ce_type"] for each in printed] == [
        each["value"]["eventType"] for each in printed
    ]


@pytest.mark.parametrize("topic", ["a topic", "ncmp-async-m2m", "__positions", ".."])
def test_a_topic_that_cannot_be_used(tmp_path: Path, free_port: int, topic: str) -> None:
    """``serve`` ends with status 2 and names the variable."""
    done = datajobs(
        "serve", "--port", str(free_port), "--data-dir", tmp_path, DATAJOBS_INVENTORY_EVENTS_TOPIC=topic
    )
    assert done.returncode == 2
    assert "DATAJOBS_INVENTORY_EVENTS_TOPIC" in done.stderr
    assert repr(topic) in done.stderr
