# SPDX-License-Identifier: Apache-2.0
"""The registrations that were sent to ONAP CPS-NCMP (3.8) and to the service, one row each: NCMP's answer,
and the service's. Where the two differ, docs/inventory.md says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from ran_datajobs.api import paths
from ran_datajobs.cli import handles
from ran_datajobs.cli.api import Api as CommandLine
from ran_datajobs.config import Settings
from ran_datajobs.errors import ServerUnreachable
from ran_datajobs.store.database import Database
from tests.kit.api_service import PLUGIN, Api, northbound_api

ALTERNATE_ID = (
    "/SubNetwork=Europe/SubNetwork=Ireland/MeContext=MyRadioNode{n}/ManagedElement=MyManagedElement{n}"
)
"""The alternate ids of ONAP's load test."""


def handle(name: str, n: int = 7, **fields: Any) -> dict[str, Any]:
    """A handle as ONAP's load test creates it."""
    return {
        "cmHandle": name,
        "cmHandleProperties": {"segmentId": n},
        "publicCmHandleProperties": {"Color": "yellow", "Size": "small", "Shape": "cube"},
        "alternateId": ALTERNATE_ID.format(n=n),
        "dataProducerIdentifier": "some-data-producer-id",
        "moduleSetTag": f"tag{n % 5}",
        **fields,
    }


def created(*each: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A registration with these handles."""
    return {"dmiPlugin": PLUGIN, "createdCmHandles": list(each), **fields}


class Row(NamedTuple):
    """A registration, sent after one of the handle ``known``.

    ``ncmp``: NCMP's status and code; ``ours``: the service's, whose 207 is a 500 where it is configured
    so. ``text``: how the text of the code begins.
    """

    body: dict[str, Any]
    ncmp: tuple[int, str | None]
    ours: tuple[int, str | None]
    text: str = ""


KNOWN = handle("known", 1)

ROWS = {
    "Postman: text properties": Row(
        created(handle("new", cmHandleProperties={"neType": "RadioNode"})), (200, None), (200, None)
    ),
    "load test: numbers in properties": Row(created(handle("new")), (200, None), (200, None)),
    "no dialect": Row(created(handle("new")), (200, None), (200, None)),
    "a plugin for reads and one for writes": Row(
        created(
            handle("new"),
            dmiDatajobsReadPlugin="http://127.0.0.1:10",
            dmiDatajobsWritePlugin="http://127.0.0.1:11",
        ),
        (200, None),
        (200, None),
    ),
    "a plugin for data and one for models": Row(
        created(handle("new"), dmiPlugin="", dmiDataPlugin=PLUGIN, dmiModelPlugin=PLUGIN),
        (200, None),
        (200, None),
    ),
    "an alternate id that is no FDN": Row(
        created(handle("new", alternateId="alt-1")), (200, None), (207, "110"), "alternateId: "
    ),
    "an alternate id that is taken": Row(
        created(handle("new", 1)), (500, "109"), (207, "109"), "cm-handle already exists"
    ),
    "an alternate id twice in one registration": Row(
        created(handle("one"), handle("new")), (500, "109"), (207, "109"), "cm-handle already exists"
    ),
    "a create with other data": Row(
        created(handle("known", 2)), (500, "109"), (207, "109"), "cm-handle already exists"
    ),
    "the same create again": Row(created(KNOWN), (500, "109"), (200, None)),
    "an update of an unknown handle": Row(
        {"updatedCmHandles": [{"cmHandle": "never"}]},
        (500, "100"),
        (207, "100"),
        "cm handle reference(s) not found",
    ),
    "a removal of an unknown handle": Row(
        {"removedCmHandles": ["never"]}, (500, "100"), (207, "100"), "cm handle reference(s) not found"
    ),
    "an upgrade of an unknown handle": Row(
        {"upgradedCmHandles": {"cmHandles": ["never"], "moduleSetTag": "t"}},
        (500, "100"),
        (207, "100"),
        "cm handle reference(s) not found",
    ),
    "an upgrade of a handle that is not READY": Row(
        {"upgradedCmHandles": {"cmHandles": ["known"], "moduleSetTag": "t"}}, (500, "101"), (200, None)
    ),
    "another alternate id": Row(
        {"updatedCmHandles": [{"cmHandle": "known", "alternateId": ALTERNATE_ID.format(n=3)}]},
        (500, "109"),
        (200, None),
    ),
    "a handle id with a blank and a slash": Row(
        created(handle("a b/c")),
        (200, None),
        (207, "110"),
        "cm handle reference has an invalid character(s) in id",
    ),
    "a removal with such an id": Row(
        {"removedCmHandles": ["a b/c"]},
        (500, "110"),
        (207, "110"),
        "cm handle reference has an invalid character(s) in id",
    ),
    "a handle status": Row(created(handle("new", cmHandleStatus="ADVISED")), (500, "108"), (200, None)),
    "no data producer": Row(created(handle("new", dataProducerIdentifier="")), (200, None), (200, None)),
    "nothing": Row({}, (200, None), (200, None)),
    "no plugin": Row(created(handle("new"), dmiPlugin=""), (200, None), (400, None)),
    "a plugin that is no URL": Row(
        created(handle("new"), dmiPlugin="my-dmi-plugin"), (200, None), (207, "108"), "dmiPlugin: "
    ),
    "a plugin that is not allowed": Row(
        created(handle("new"), dmiPlugin="http://169.254.169.254"), (400, None), (207, "108"), "dmiPlugin: "
    ),
    "a plugin of another registration removes": Row(
        {"dmiPlugin": "http://127.0.0.1:10", "removedCmHandles": ["known"]}, (200, None), (200, None)
    ),
    "a list that is no list": Row({"createdCmHandles": {}}, (400, None), (400, None)),
    "a trust level that there is not": Row(
        created(handle("new", trustLevel="SOME")), (400, None), (400, None)
    ),
}

OTHERWISE = {
    "an alternate id that is no FDN",
    "the same create again",
    "an upgrade of a handle that is not READY",
    "another alternate id",
    "a handle id with a blank and a slash",
    "a handle status",
    "no plugin",
    "a plugin that is no URL",
    "a plugin that is not allowed",
}
"""The rows with another answer than NCMP's: the rows of the table in docs/inventory.md."""


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """The API with the one handle that is known."""
    async with northbound_api(database, tmp_path, free_port, registration_error_500=True) as running:
        assert (await running.post(paths.INVENTORY, created(KNOWN))).status == 200
        yield running


def documented(row: Row) -> tuple[int, str | None]:
    """The answer of the service that answers NCMP's 500."""
    return (500 if row.ours[0] == 207 else row.ours[0]), row.ours[1]


@pytest.mark.parametrize("name", ROWS)
async def test_a_registration_is_answered_as_ncmp_answers_it(api: Api, name: str) -> None:
    """Status, code and the beginning of the text; the failed handle alone is missing afterwards."""
    row = ROWS[name]
    answer = await api.post(paths.INVENTORY, row.body)
    failed = [] if answer.status != 500 else [each for some in answer.json().values() for each in some]
    assert (answer.status, failed[0]["errorCode"] if failed else None) == documented(row), answer.body
    assert [each["errorText"][: len(row.text)] for each in failed] == [row.text] * len(failed)
    kept = {each["cm_handle"] for each in await api.rows("select cm_handle from cm_handle where not removed")}
    wanted = {each["cmHandle"] for each in row.body.get("createdCmHandles", ()) if answer.status != 400}
    gone = set(row.body.get("removedCmHandles", ()))
    assert kept == (wanted | {"known"}) - {each["cmHandle"] for each in failed} - gone | (
        {"known"} if failed and "known" in wanted else set()
    )


def test_each_difference_is_listed() -> None:
    """A row whose answer differs from NCMP's is one of those that the documents explain."""
    assert {name for name, row in ROWS.items() if documented(row) != row.ncmp} == OTHERWISE


async def test_properties_and_tags_are_kept_as_ncmp_keeps_them(api: Api) -> None:
    """A number is kept as its text. In an update null removes a property, and so does "~", which NCMP's code
    stores though its OpenAPI says that it deletes; "" is kept. An upgrade without a tag clears it."""
    properties = {"a": 1, "b": "x", "c": "y", "d": "z", "e": None}
    assert (
        await api.post(paths.INVENTORY, created(handle("new", cmHandleProperties=properties)))
    ).status == 200
    changed = {"a": 2.50, "b": None, "c": "~", "d": "", "f": True}
    updated = {"updatedCmHandles": [{"cmHandle": "new", "cmHandleProperties": changed}]}
    assert (await api.post(paths.INVENTORY, updated)).status == 200
    upgraded = {"upgradedCmHandles": {"cmHandles": ["new"]}}
    assert (await api.post(paths.INVENTORY, upgraded)).status == 200
    (row,) = await api.rows("select * from cm_handle where cm_handle = 'new'")
    assert row["private_properties"] == {"a": "2.5", "d": "", "f": "true"}
    assert row["public_properties"] == {"Color": "yellow", "Size": "small", "Shape": "cube"}
    assert (row["module_set_tag"], row["data_producer_id"]) == ("", "some-data-producer-id")


async def test_a_registration_moves_a_handle_to_another_plugin_and_producer(api: Api) -> None:
    """An update changes the data producer (NCMP from 3.7.7). A removal and a create in one registration
    change the plugins as well."""
    updated = {"updatedCmHandles": [{"cmHandle": "known", "dataProducerIdentifier": "another"}]}
    assert (await api.post(paths.INVENTORY, updated)).status == 200
    moved = created(KNOWN, dmiPlugin="http://127.0.0.1:10", removedCmHandles=["known"])
    find = (
        "select p.url, h.data_producer_id from cm_handle h join dmi_plugin p using (plugin_id)"
        " where h.cm_handle = 'known'"
    )
    assert await api.rows(find) == [{"url": PLUGIN, "data_producer_id": "another"}]
    assert (await api.post(paths.INVENTORY, moved)).status == 200
    assert await api.rows(find) == [
        {"url": "http://127.0.0.1:10", "data_producer_id": "some-data-producer-id"}
    ]


async def test_the_command_line_lists_what_was_not_taken(api: Api) -> None:
    """NCMP's 500 with its lists is an answer to it, and a 500 that is an error is not."""
    client = CommandLine(Settings(server=api.root))
    body = msgspec.json.encode(
        created(
            handle("new", 1), updatedCmHandles=[{"cmHandle": "x"}], upgradedCmHandles={"cmHandles": ["y"]}
        )
    )
    failed = await asyncio.to_thread(handles.register, client, body)
    assert [(each["cmHandle"], each["errorCode"]) for each in failed] == [
        ("new", "109"),
        ("x", "100"),
        ("y", "100"),
    ]
    api.parts.database = None  # type: ignore[assignment]
    with pytest.raises(ServerUnreachable, match="unexpected error"):
        await asyncio.to_thread(handles.register, client, body)
