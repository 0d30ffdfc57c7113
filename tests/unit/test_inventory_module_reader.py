# SPDX-License-Identifier: Apache-2.0
"""The zip of a module set: what is in it, and what is refused."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest

from ran_datajobs.errors import InvalidModules
from ran_datajobs.inventory.module_reader import MAX_FILE, MAX_FILES, read_zip
from tests.kit.yang import modules, zipped


def test_a_zip_has_modules_in_any_folder() -> None:
    """Hidden files, folders and other files are left out."""
    more = {"README.md": "x", "more/": "", "more/a.yang": "module a;", "__MACOSX/._a.yang": b"\0\1\xff"}
    assert read_zip(zipped(modules() | more)) == modules() | {"more/a.yang": "module a;"}


def _encrypted() -> bytes:
    body = bytearray(zipped({"a.yang": "module a;"}))
    body[6] |= 1
    body[body.index(b"PK\1\2") + 8] |= 1  # the same flag in the directory
    return bytes(body)


def _small_size() -> bytes:
    """A large file whose stated size is 5."""
    body = bytearray(zipped({"a.yang": b" " * (MAX_FILE + 1)}))
    at = body.index(b"PK\1\2") + 24
    body[at : at + 4] = struct.pack("<I", 5)
    return bytes(body)


def _repeated() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for text in ("module a;", "module b;"):
            archive.writestr("a.yang", text)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "not a zip"),
        (b"module a;", "not a zip"),
        (zipped(modules())[:-30], "not a zip"),
        (zipped({"a.txt": "module a;"}), "no .yang file"),
        (_encrypted(), "encrypted"),
        (_small_size(), "not a zip"),
        (_repeated(), "a.yang:0: stands twice in the zip"),
        (zipped({f"{n}.yang": b" " * MAX_FILE for n in range(9)}), "bytes together"),
        (zipped({"a.yang": b" " * (MAX_FILE + 1)}), f"a.yang:0: is larger than {MAX_FILE} bytes"),
        (zipped({f"{number}.yang": "" for number in range(MAX_FILES + 1)}), "more than 2000 .yang files"),
        (zipped({"a.yang": b"module a {\n//\xff\n}"}), "a.yang:2: is not UTF-8"),
        (zipped({"a\n.yang": "module a;"}), "cannot be printed"),
        (zipped({"a" * 300 + ".yang": "module a;"}), "too long"),
    ],
)
def test_a_zip_that_is_refused(body: bytes, fault: str) -> None:
    """With words, and with file and line where there are any; nothing is read beyond the bounds."""
    with pytest.raises(InvalidModules) as raised:
        read_zip(body)
    assert fault in str(raised.value)
