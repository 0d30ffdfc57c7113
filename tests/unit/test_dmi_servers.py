# SPDX-License-Identifier: Apache-2.0
"""The file of ProvMnS servers: the address of each data producer, and the spelling of its server."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ran_datajobs.dmi.provmns.servers import ProvMnsElements, ServerEntry, aliases_of, read_servers
from ran_datajobs.errors import UsageError
from ran_datajobs.model import ActivationMode, Op, Operation, OperationState
from ran_datajobs.nrm.model import load
from ran_datajobs.plugins.client import Answered, Exchange


class Recorder:
    """Accepts every request, and records it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes | None]] = []

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: object = None,
        result: bool = False,
    ) -> Exchange:
        self.asked.append((method, url, body))
        return Answered(204, b"")


def servers(tmp_path: Path, text: str) -> dict[str, ServerEntry]:
    file = tmp_path / "servers.json"
    file.write_text(text, encoding="utf-8")
    return read_servers(file)


async def test_each_data_producer_has_its_server_and_names(tmp_path: Path) -> None:
    """A data producer of the file is called in its own spelling, any other at the common address with its
    id."""
    http = Recorder()
    elements = ProvMnsElements(
        servers(
            tmp_path,
            """{"*": {"address": "http://all/{dataProducerId}/ProvMnS/v1"},
                "ems 7": {"address": "http://seven/ProvMnS/v1", "names": "openapi",
                          "aliases": {"attributes": {"NRCellDU": {"nRTAC": "trackingAreaCode"}}}}}""",
        ),
        http,
    )
    path = "/ManagedElement=1/GNBDUFunction=1/NRCellDU=1#/attributes"
    write = Operation(Op.MERGE, path, "1", msgspec.Raw(b'{"nRPCI":7,"nRTAC":9}'))
    for producer in ("ems 7", "a/b"):
        element = elements.element_of(producer)
        assert element is elements.element_of(producer)
        assert element is not None
        [outcome] = await element.write([write], ActivationMode.BEST_EFFORT)
        assert outcome.state is OperationState.SUCCEEDED
    assert [(url, msgspec.json.decode(body or b"")) for _, url, body in http.asked] == [
        (
            "http://seven/ProvMnS/v1/ManagedElement=1",
            [
                {
                    "op": "merge",
                    "path": "/GnbDuFunction=1/NrCellDu=1#/attributes",
                    "value": {"nrPci": 7, "trackingAreaCode": 9},
                }
            ],
        ),
        (
            "http://all/a%2Fb/ProvMnS/v1/ManagedElement=1",
            [
                {
                    "op": "merge",
                    "path": "/GNBDUFunction=1/NRCellDU=1#/attributes",
                    "value": {"nRPCI": 7, "nRTAC": 9},
                }
            ],
        ),
    ]


def test_a_data_producer_without_an_entry_has_no_element(tmp_path: Path) -> None:
    """Then the plugin refuses its jobs."""
    elements = ProvMnsElements(servers(tmp_path, '{"a": {"address": "http://a"}}'), Recorder())
    assert elements.element_of("b") is None


def test_own_names_come_on_top_of_the_generations(tmp_path: Path) -> None:
    """An entry may correct single names, in both directions."""
    text = '{"a": {"address": "http://a", "names": "openapi", "aliases": {"classes": {"NRCellDU": "Cell"}}}}'
    aliases = aliases_of(servers(tmp_path, text)["a"], load())
    assert aliases.their_key("GNBDUFunction=1/NRCellDU=2") == "GnbDuFunction=1/Cell=2"
    assert aliases.our_key("GnbDuFunction=1/Cell=2") == "GNBDUFunction=1/NRCellDU=2"
    assert aliases.their_attribute("NRCellDU", "nRPCI") == "nrPci"


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '{"a": {}}', '{"a": {"address": "ftp://a"}}', '{"a": {"address": "http://a", "more": 1}}',
        '{"a": {"address": "http://a", "names": "yang"}}', '{"a": {"address": "http://a", "document": 0}}',
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, text: str) -> None:
    """The message names the file."""
    with pytest.raises(UsageError, match=r"servers\.json"):
        servers(tmp_path, text)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """So is one that cannot be read."""
    with pytest.raises(UsageError, match="cannot be read"):
        read_servers(tmp_path / "none.json")
