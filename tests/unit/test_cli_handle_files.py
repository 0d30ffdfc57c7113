# SPDX-License-Identifier: Apache-2.0
"""Files of CM handles for the command line: JSON and CSV, the places of faults, and the cells of a CSV."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.cli import handle_csv
from ran_datajobs.cli.handle_files import BATCH, Batch, in_batches, open_handles
from ran_datajobs.errors import UsageError

PLUGIN = "http://127.0.0.1:9000"


def batches(folder: Path, text: str | bytes, plugin: str | None = PLUGIN) -> list[Batch]:
    """The registrations of a file with this content, each of which is checked."""
    file = folder / "file"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with open_handles(str(file), plugin) as opened:
        found = list(opened.batches())
        for batch in found:
            batch.checked()
        return found


def registrations(folder: Path, text: str | bytes, plugin: str | None = PLUGIN) -> list[Any]:
    """The same, decoded."""
    return [json.loads(batch.body) for batch in batches(folder, text, plugin)]


@contextlib.contextmanager
def refused(folder: Path, message: str) -> Iterator[None]:
    """The block raises a UsageError with one message, which begins with the file's name and this."""
    with pytest.raises(UsageError) as raised:
        yield
    (said,) = raised.value.args
    assert str(said).startswith(f"{folder / 'file'}:{message}"), said


def handle(number: int) -> dict[str, Any]:
    """A handle in the shape of a registration."""
    return {"cmHandle": f"h{number}", "alternateId": f"/A={number}"}


def test_a_small_registration_is_sent_as_it_is(tmp_path: Path) -> None:
    """Byte for byte, with all its lists in one request: a move from one handle to another takes both."""
    text = '{ "dmiPlugin": "http://a", "removedCmHandles": ["x"], "createdCmHandles": [{"cmHandle": "y"}]}'
    (batch,) = batches(tmp_path, text + "\n")
    assert (batch.body, batch.size) == (text.encode(), 2)
    (settings,) = batches(tmp_path, '{"dmiPlugin": "http://a", "readSlots": 2}')
    assert settings.size == 0


def test_a_large_registration_is_cut_in_the_order_of_its_application(tmp_path: Path) -> None:
    """Removed handles first, then created, updated and upgraded ones; the other members are in every part."""
    count = BATCH + 1
    ids = [f"h{n}" for n in range(count)]
    body = {
        "upgradedCmHandles": {"cmHandles": ids, "moduleSetTag": "t"},
        "updatedCmHandles": [handle(n) for n in range(count)],
        "createdCmHandles": [handle(n) for n in range(count)],
        "removedCmHandles": ids,
        "dmiPlugin": PLUGIN,
        "readSlots": 2,
    }
    parts = registrations(tmp_path, json.dumps(body))
    lists = ("removedCmHandles", "createdCmHandles", "updatedCmHandles", "upgradedCmHandles")
    assert [next(name for name in lists if name in part) for part in parts] == [
        name for name in lists for _ in range(2)
    ]
    assert all((part["dmiPlugin"], part["readSlots"]) == (PLUGIN, 2) for part in parts)
    assert [each for part in parts for each in part.get("createdCmHandles", ())] == body["createdCmHandles"]
    upgrades = [part["upgradedCmHandles"] for part in parts if "upgradedCmHandles" in part]
    assert [each["moduleSetTag"] for each in upgrades] == ["t", "t"]
    assert [len(each["cmHandles"]) for each in upgrades] == [BATCH, 1]


def test_registrations_stand_one_a_line_or_in_a_list(tmp_path: Path) -> None:
    """Several registrations, of different plugins, keep their order; so do handles between them."""
    bodies = [{"dmiPlugin": f"http://{name}", "createdCmHandles": [handle(1)]} for name in "ab"]
    lines = "".join(json.dumps(body) + "\n" for body in bodies)
    assert registrations(tmp_path, lines) == bodies
    assert registrations(tmp_path, "\ufeff" + lines + "\n \n") == bodies
    assert registrations(tmp_path, json.dumps(bodies, indent=1)) == bodies
    mixed = registrations(tmp_path, json.dumps([bodies[0], handle(2), handle(3), bodies[1]]))
    assert [[each["cmHandle"] for each in body["createdCmHandles"]] for body in mixed] == [
        ["h1"],
        ["h2", "h3"],
        ["h1"],
    ]


def test_handles_of_a_search_get_their_plugin(tmp_path: Path) -> None:
    """Members that a registration lacks are left out; properties are an object or a list of objects."""
    found = handle(1) | {
        "publicCmHandleProperties": [{"a": "1"}, {"b": 2}],
        "cmHandleProperties": {"secret": "s"},
        "state": {"cmHandleState": "READY"},
        "trustLevel": "COMPLETE",
        "moduleSetTag": None,
    }
    wanted = handle(1) | {
        "trustLevel": "COMPLETE",
        "publicCmHandleProperties": {"a": "1", "b": 2},
        "cmHandleProperties": {"secret": "s"},
    }
    assert registrations(tmp_path, json.dumps([found])) == [
        {"dmiPlugin": PLUGIN, "createdCmHandles": [wanted]}
    ]
    one_a_line = "\n".join(json.dumps(handle(n)) for n in range(BATCH + 1))
    assert [len(body["createdCmHandles"]) for body in registrations(tmp_path, one_a_line)] == [BATCH, 1]
    with refused(tmp_path, "1:2: a CM handle without its plugin: give --plugin URL"):
        batches(tmp_path, json.dumps([found]), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: got the end of the file"),
        ("{", "1:2: got the end of the file"),
        ("[7]", "1:2: #/0: needed a registration, a CM handle, or a list of them"),
        ('{"a": "\ud800"}'.encode("utf-8", "surrogatepass"), "1:8: got the byte 0xed, which is not UTF-8"),
        ('{"dmiPlugin": "http://a"}'.encode("utf-16"), "1:1: the file must be UTF-8, and it is UTF-16 LE"),
        ('[{"cmHandle": "a"},\n {"cmHandle": 7}]', "2:15: #/1/cmHandle: must be a string"),
        ('{"cmHandle": "a"}\n{"cmHandle": 7}', "2:14: #/cmHandle: must be a string"),
        (
            '\ufeff{"dmiPlugin": "http://a", "createdCmHandles": [{"cmHandle": 7}]}',
            "1:61: #/createdCmHandles/0/cmHandle: must be a string",
        ),
        (
            '\n[{"dmiPlugin": "http://a", "updatedCmHandles": 7}]',
            "2:48: #/0/updatedCmHandles: must be a list",
        ),
        ('{"dmiPlugin": "http://a"}\n{"x": }', "2:7: got '}'"),
        ("[" * 100_000, "1:1: is nested too deeply"),
    ],
)
def test_a_fault_in_json_has_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    """Line and column, whichever form the file has, then the pointer into its JSON document."""
    with refused(tmp_path, message):
        batches(tmp_path, text)


def test_a_fault_behind_the_first_part_has_its_place_in_the_file(tmp_path: Path) -> None:
    """The pointer counts from the beginning of the list in the file, not of the part that was sent."""
    handles = [handle(n) for n in range(2 * BATCH)] + [{"cmHandle": 7}]
    with refused(tmp_path, f"{2 * BATCH + 3}:14: #/createdCmHandles/{2 * BATCH}/cmHandle: "):
        lines = ",\n".join(json.dumps(each) for each in handles)
        batches(tmp_path, f'{{"dmiPlugin": "http://a",\n"createdCmHandles": [\n{lines}]}}')


def test_a_csv_has_a_handle_in_each_row(tmp_path: Path) -> None:
    """An empty cell names nothing, an apostrophe guards, ``~`` removes; rows are grouped by plugins."""
    text = (
        "cmHandle,alternateId,dmiPlugin,dmiDatajobsWritePlugin,public.site,public.note,private.key,moduleSetTag\n"
        'h1,/A=1,http://a,,Cork,"two\nlines",s3cret,t\n'
        "h2,/A=2,http://b,http://w,,~,'=1,\n"
        "\n"
        "h3,/A=3,http://a,,'~,,,\n"
        "h4,,,,',,,\n"
    )
    assert registrations(tmp_path, text) == [
        {
            "dmiPlugin": "http://a",
            "createdCmHandles": [
                handle(1)
                | {
                    "moduleSetTag": "t",
                    "publicCmHandleProperties": {"site": "Cork", "note": "two\nlines"},
                    "cmHandleProperties": {"key": "s3cret"},
                },
                handle(3) | {"publicCmHandleProperties": {"site": "~"}},
            ],
        },
        {
            "dmiPlugin": "http://b",
            "dmiDatajobsWritePlugin": "http://w",
            "createdCmHandles": [
                handle(2) | {"publicCmHandleProperties": {"note": None}, "cmHandleProperties": {"key": "=1"}}
            ],
        },
        {
            "dmiPlugin": PLUGIN,
            "createdCmHandles": [{"cmHandle": "h4", "publicCmHandleProperties": {"site": ""}}],
        },
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_of_a_spreadsheet_is_read(tmp_path: Path, separator: str) -> None:
    """A byte order mark, line ends of Windows, and the separator of the reader's country."""
    text = f"\ufeffalternateId{separator}cmHandle\r\n/A=1{separator}h1\r\n"
    assert registrations(tmp_path, text) == [{"dmiPlugin": PLUGIN, "createdCmHandles": [handle(1)]}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense\n", "1: there is no column 'nonsense': the columns are cmHandle, alternateId"),
        ("cmHandel\n", "1: there is no column 'cmHandel': did you mean cmHandle?"),
        ("cmHandle,cmHandle\n", "1: the column cmHandle occurs twice"),
        ("alternateId\n", "1: the column cmHandle is missing"),
        ('cmHandle\nh1\n"h2\n', "3: unexpected end of data"),
        ("cmHandle,trustLevel\nh1\n", "2: has 1 cells, and the first line has 2"),
        ('cmHandle,trustLevel\n"h\n1",\nh2,LOW\n', "4: trustLevel: must be one of"),
        (b"cmHandle\nh1\nh\xff\n", "3:2: got the byte 0xff, which is not UTF-8"),
    ],
)
def test_a_fault_in_a_csv_has_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    """And its column by name."""
    with refused(tmp_path, message):
        batches(tmp_path, text)


def test_a_row_without_a_plugin_is_refused(tmp_path: Path) -> None:
    """Unless the command line names one."""
    with refused(tmp_path, "2: dmiPlugin: which plugin?"):
        batches(tmp_path, "cmHandle\nh1\n", None)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_cell_is_read_back(value: str) -> None:
    """Any value survives, and no cell is a formula to a spreadsheet."""
    cell = handle_csv.cell(value)
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r", "")
    text = io.StringIO(newline="")
    csv.writer(text).writerow([cell, "x"])
    text.seek(0)
    assert next(csv.reader(text))[0] == cell
    assert handle_csv.value_of(cell) == value


@given(st.lists(st.sampled_from("abc")), st.integers(1, 5))
def test_groups_have_one_plugin_and_a_limited_size(plugins: list[str], size: int) -> None:
    """Nothing is lost, and the order within a plugin stays."""
    entries = [((name,), number) for number, name in enumerate(plugins)]
    found = list(in_batches(entries, size))
    assert all(0 < len(group) <= size for _, group in found)
    for name in set(plugins):
        numbers = [number for key, group in found if key == (name,) for number in group]
        assert numbers == [number for number, each in enumerate(plugins) if each == name]
