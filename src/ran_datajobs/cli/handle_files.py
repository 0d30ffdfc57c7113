# SPDX-License-Identifier: Apache-2.0
"""Files of CM handles: JSON or CSV, read as registrations of a limited size.

JSON is ONAP's: registrations (``POST /ncmpInventory/v1/ch``), alone, in a list or one a line; or handle
objects as ONAP's searches return them, without their plugin. A file is mapped into memory, not read.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import mmap
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from ran_datajobs.cli import documents
from ran_datajobs.cli.handle_csv import FIELDS, PLUGINS, PROPERTIES, Plugins, column_of, read_rows
from ran_datajobs.errors import InvalidRequest, RefusedRequest, UsageError
from ran_datajobs.http.json_body import elements_decoder, json_text
from ran_datajobs.inventory.registration import Registration, read_registration

BATCH: Final = 2000
"""Maximum number of changes in a registration."""

LISTS: Final = ("removedCmHandles", "createdCmHandles", "updatedCmHandles")
"""Members of a registration that list changes, in the order in which they are applied; upgrades are last."""

UPGRADED: Final = "upgradedCmHandles"
_WAITING: Final = 5 * BATCH
"""Maximum number of handles in memory while those of one plugin are collected."""

_members: Final = msgspec.json.Decoder(dict[str, Raw])
_check: Final = msgspec.json.Decoder(Raw)
_Entry = TypeVar("_Entry")
_BLANKS: Final = re.compile(rb"[ \t\r\n]*")
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Batch(Struct, frozen=True):
    """A registration of ``size`` changes that is a part of a file.

    ``place`` maps a JSON pointer into ``body`` to the place in the file: ``FILE:LINE:COLUMN: POINTER``, or
    ``FILE:LINE: COLUMN`` in a CSV.
    """

    body: bytes
    size: int
    place: Callable[[str], str]

    def checked(self) -> Registration:
        """The registration. Raises UsageError, with the place in the file, for a wrong shape or type."""
        try:
            return read_registration(self.body)
        except RefusedRequest as error:
            raise self.located(error.problems or (("#", str(error)),)) from error

    def located(self, faults: Iterable[tuple[str, str]]) -> UsageError:
        """The error for faults in ``body``: pairs of a JSON pointer and a description."""
        return UsageError(*(f"{self.place(pointer)}: {fault}" for pointer, fault in faults))


class _Item(Struct, frozen=True):
    """A registration or a handle object: its text, and where it is in which JSON document of the file."""

    text: Raw
    start: int
    document: Raw
    pointer: str


class HandleFile:
    """A file of CM handles. ``plugin``: address of the plugin of handles for which the file names none."""

    def __init__(self, name: str, text: mmap.mmap | bytes, plugin: str | None) -> None:
        self._name = name
        self._text = text
        self._plugin = plugin
        head = bytes(text[:4])
        self._start = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
        at = self._after_blanks(self._start)
        first = text[at : at + 1]
        self._is_json = first in (b"", b"{", b"[") or b"\0" in head or head.startswith(_UTF_16)

    def batches(self) -> Iterator[Batch]:
        """The changes of the file in its order, as registrations of at most :data:`BATCH` changes each.

        Raises UsageError, with the place in the file, for a fault.
        """
        return self._of_json() if self._is_json else self._of_csv()

    # --- JSON ------------------------------------------------------------------------------------------

    def _documents(self) -> Iterator[tuple[int, Raw]]:
        """Offset and text of each JSON document of the file: one, or one in each line."""
        view = memoryview(self._text)
        end_of_first = self._text.find(b"\n", self._start) + 1
        if end_of_first == 0 or not _is_document(view[self._start : end_of_first]):
            start = self._after_blanks(self._start)
            yield start, self._checked_json(view[start:], start)
            return
        for start, end in _lines(self._text, self._start):
            start = min(self._after_blanks(start), end)
            if start < end:
                yield start, self._checked_json(view[start:end], start)

    def _after_blanks(self, at: int) -> int:
        found = _BLANKS.match(self._text, at)
        return found.end() if found else at

    def _checked_json(self, text: memoryview, start: int) -> Raw:
        """``text``, if it is JSON in UTF-8. Raises UsageError with the place of the fault."""
        try:
            json_text(bytes(text[:4]))
            document = _check.decode(text)
            _check_utf_8(text)
        except InvalidRequest as error:
            raise UsageError(f"{self._name}:1:1: {error}".replace("the body", "the file")) from error
        except UnicodeDecodeError as error:
            what = f"got the byte 0x{text[error.start]:02x}, which is not UTF-8: save the file as UTF-8"
            raise UsageError(f"{self._position(start + error.start)}: {what}") from error
        except msgspec.DecodeError as error:
            at, what = documents.fault(bytes(text), str(error))
            raise UsageError(f"{self._position(start + at)}: {what}") from error
        except RecursionError as error:
            raise UsageError(f"{self._position(start)}: is nested too deeply") from error
        return document

    def _position(self, at: int) -> str:
        return documents.position(self._name, bytes(self._text[self._start :]), at - self._start)

    def _of_json(self) -> Iterator[Batch]:
        handles: list[_Item] = []
        for item in self._items():
            if not _is(item.text, b"{"):
                what = "needed a registration, a CM handle, or a list of them"
                raise UsageError(f"{self._place_in(item, '')}: {what}")
            members = _members.decode(item.text)
            is_handle = "cmHandle" in members
            if is_handle:
                handles.append(item)
            if len(handles) == BATCH or (handles and not is_handle):
                yield self._of_handles(handles)
                handles = []
            if not is_handle:
                yield from self._of_registration(item, members)
        if handles:
            yield self._of_handles(handles)

    def _items(self) -> Iterator[_Item]:
        for start, document in self._documents():
            if _is(document, b"["):
                for number, element in enumerate(elements_decoder.decode(document)):
                    yield _Item(element, start, document, f"#/{number}")
            else:
                yield _Item(document, start, document, "#")

    def _place_in(self, item: _Item, pointer: str) -> str:
        """``FILE:LINE:COLUMN: POINTER`` of what ``pointer`` names in an item."""
        whole = item.pointer + pointer
        offset = item.start + documents.offset_of(bytes(item.document), whole)
        return f"{self._position(offset)}: {whole}"

    def _of_handles(self, items: Sequence[_Item]) -> Batch:
        """The registration of handle objects that ONAP's searches return."""
        if self._plugin is None:
            place = self._place_in(items[0], "").rpartition(": ")[0]
            raise UsageError(f"{place}: a CM handle without its plugin: give --plugin URL")

        def place_of(pointer: str) -> str:
            _, _, number, *steps = pointer.split("/") if pointer.count("/") > 1 else ("", "", "0")
            return self._place_in(items[int(number)], "".join(f"/{step}" for step in steps))

        created = [_as_registered(_members.decode(item.text)) for item in items]
        body = msgspec.json.encode({"dmiPlugin": self._plugin, "createdCmHandles": created})
        return Batch(body, len(created), place_of)

    def _of_registration(self, item: _Item, members: Mapping[str, Raw]) -> Iterator[Batch]:
        """The registration as it is if it is small, else its parts, in the order of their application."""
        lists = {name: _elements(members.get(name)) for name in LISTS}
        upgrade = _members.decode(members[UPGRADED]) if _is(members.get(UPGRADED), b"{") else {}
        upgraded = _elements(upgrade.get("cmHandles"))
        size = sum(map(len, lists.values())) + len(upgraded)
        if size <= BATCH:
            yield Batch(bytes(item.text), size, lambda pointer: self._place_in(item, pointer[1:]))
            return
        rest = {name: raw for name, raw in members.items() if not lists.get(name) and name != UPGRADED}

        def parts(entries: list[Raw], depth: int, change: Callable[[list[Raw]], Any]) -> Iterator[Batch]:
            for first in range(0, len(entries), BATCH):
                some = entries[first : first + BATCH]

                def place(pointer: str, first: int = first) -> str:
                    steps = pointer.split("/")[1:]
                    if len(steps) > depth and steps[depth].isdecimal():
                        steps[depth] = str(int(steps[depth]) + first)
                    return self._place_in(item, "".join(f"/{step}" for step in steps))

                yield Batch(msgspec.json.encode(rest | change(some)), len(some), place)

        for name, entries in lists.items():
            yield from parts(entries, 1, lambda some, name=name: {name: some})  # type: ignore[misc]
        yield from parts(upgraded, 2, lambda some: {UPGRADED: upgrade | {"cmHandles": some}})

    # --- CSV -------------------------------------------------------------------------------------------

    def _of_csv(self) -> Iterator[Batch]:
        rows = read_rows(self._name, self._texts(), self._plugin)
        for plugins, group in in_batches((row.plugins, row) for row in rows):
            named = {name: plugin for name, plugin in zip(PLUGINS, plugins, strict=True) if plugin}
            body = msgspec.json.encode(named | {"createdCmHandles": [row.handle for row in group]})
            yield Batch(body, len(group), self._place_of([row.line for row in group]))

    def _place_of(self, lines: Sequence[int]) -> Callable[[str], str]:
        def place(pointer: str) -> str:
            steps = pointer.split("/")[1:]
            if len(steps) < 2:  # a plugin, which every line of the group has
                return f"{self._name}:{lines[0]}: {'/'.join(steps)}"
            return f"{self._name}:{lines[int(steps[1])]}: {column_of(steps[2:])}"

        return place

    def _texts(self) -> Iterator[str]:
        for number, (start, end) in enumerate(_lines(self._text, self._start), 1):
            line = bytes(self._text[start:end])
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                what = f"got the byte 0x{line[error.start]:02x}, which is not UTF-8: save the file as UTF-8"
                raise UsageError(f"{self._name}:{number}:{error.start + 1}: {what}") from error


def in_batches(
    entries: Iterable[tuple[Plugins, _Entry]], size: int = BATCH
) -> Iterator[tuple[Plugins, list[_Entry]]]:
    """Group entries by their plugins, at most ``size`` in a group, in bounded memory: entries of one plugin
    that are far apart get into different groups."""
    groups: dict[Plugins, list[_Entry]] = {}
    waiting = 0
    for plugins, entry in entries:
        group = groups.setdefault(plugins, [])
        group.append(entry)
        waiting += 1
        if len(group) == size:
            yield plugins, groups.pop(plugins)
            waiting -= size
        elif waiting >= _WAITING:
            yield from groups.items()
            groups, waiting = {}, 0
    yield from groups.items()


@contextlib.contextmanager
def open_handles(file: str, plugin: str | None) -> Iterator[HandleFile]:
    """Open a file of CM handles, or standard input for ``-``. ``plugin``: address for handles without one.

    Raises UsageError when it is unreadable, or not JSON and not CSV.
    """
    with contextlib.ExitStack() as stack:
        name = "<stdin>" if file == "-" else file
        try:
            source: IO[bytes]
            if file != "-":
                source = stack.enter_context(Path(file).open("rb"))
            elif sys.stdin is None:
                raise UsageError("standard input is closed: name a file, or pipe the handles in")
            else:
                source = sys.stdin.buffer
            if file == "-" or not source.seekable():
                spool = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(source, spool)
                spool.flush()
                source = spool
            text: mmap.mmap | bytes = b""
            if source.seek(0, io.SEEK_END):
                text = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            what = "standard input" if file == "-" else file
            raise UsageError(f"{what} cannot be read: {error.strerror or error}") from error
        yield HandleFile(name, text, plugin)


def _is(raw: Raw | None, first: bytes) -> bool:
    return raw is not None and bytes(memoryview(raw)[:1]) == first


def _elements(raw: Raw | None) -> list[Raw]:
    """The elements of a list; none for anything else, whose type is checked later."""
    return elements_decoder.decode(raw) if raw is not None and _is(raw, b"[") else []


def _is_document(text: memoryview) -> bool:
    try:
        _check.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _lines(text: mmap.mmap | bytes, at: int) -> Iterator[tuple[int, int]]:
    """Start and end of each line from the offset ``at``."""
    while at < len(text):
        end = text.find(b"\n", at) + 1 or len(text)
        yield at, end
        at = end


def _check_utf_8(text: memoryview) -> None:
    """Raise UnicodeDecodeError, with the offset in ``text``, unless it is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    step = 1 << 20
    for start in range(0, len(text), step):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(text[start : start + step], start + step >= len(text))
        except UnicodeDecodeError as error:
            error.start += start - pending
            raise


def _as_registered(found: Mapping[str, Raw]) -> dict[str, Raw]:
    """The members of a handle object of a search that a registration has."""
    kept = {name: found[name] for name in FIELDS if name in found and not _is(found[name], b"n")}
    for name in PROPERTIES.values():
        raw = found.get(name)
        if _is(raw, b"["):  # NCMP of some versions returns a list of one object
            merged: dict[str, Raw] = {}
            for each in _elements(raw):
                merged |= _members.decode(each) if _is(each, b"{") else {}
            raw = Raw(msgspec.json.encode(merged))
        if raw is not None:
            kept[name] = raw
    return kept
