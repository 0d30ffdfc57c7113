# SPDX-License-Identifier: Apache-2.0
"""Reads the zip of a module set in a process of its own, with limits: it comes from outside.

Some YANG texts keep any reader busy or fill its memory. The process has one input and one output, no
environment, at most :data:`MOST_SECONDS` of processor time and :data:`MOST_MEMORY`, and ends with its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import lzma
import os
import resource
import signal
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final, NoReturn

import msgspec
from msgspec import Struct

from ran_datajobs.errors import InvalidModules, InvalidRequest

MAX_ZIP: Final = 8 << 20
"""Maximum size of a zip in bytes."""

MAX_FILES: Final = 2000
"""Maximum number of modules in a zip."""

MAX_ENTRIES: Final = 10_000
"""Maximum number of entries of a zip, with those that are no modules."""

MAX_FILE: Final = 4 << 20
MAX_TEXT: Final = 32 << 20
"""Maximum sizes in bytes of a module, and of all modules together."""

MOST_SECONDS: Final = 60
"""Maximum processor time to read a module set."""

READ_WITHIN: Final = 180.0
"""Timeout in seconds: a busy machine gives a process only a part of a processor."""

MOST_MEMORY: Final = 1 << 30
"""Maximum address space in bytes of the process."""

MAX_STORED: Final = 16 << 20
"""Maximum size in bytes of the stored form of a module set."""

_MAX_NAME: Final = 255
_PR_SET_PDEATHSIG: Final = 1
_DONE, _INVALID = 0, 3


class _Fault(Struct, frozen=True):
    """Why a zip is refused, as :class:`InvalidModules`."""

    detail: str
    file: str
    line: int


class ModuleReader:
    """Reads one module set at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def read(self, zipped: bytes) -> bytes:
        """The stored form of the module set in a zip (:func:`ran_datajobs.nrm.module_set.encode`).

        Raises InvalidRequest with file and line of the first fault.
        """
        async with self._turn:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-m", __name__, str(os.getpid())),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={},
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(READ_WITHIN):
                    output, _ = await process.communicate(zipped)
            except TimeoutError:
                raise InvalidRequest(_too_long()) from None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode == _DONE:
            return output
        if process.returncode == _INVALID:
            fault = msgspec.json.decode(output, type=_Fault)
            where = f"{fault.file}:{fault.line}" if fault.line else fault.file
            raise InvalidRequest.at(where, fault.detail) if where else InvalidRequest(fault.detail)
        if process.returncode == -signal.SIGXCPU:
            raise InvalidRequest(_too_long())
        raise InvalidRequest("the modules cannot be read: their reader ended without an answer")


def _too_long() -> str:
    return f"the modules cannot be read within {MOST_SECONDS} s of processor time"


# --- the process ----------------------------------------------------------------------------------------


def read_zip(zipped: bytes) -> dict[str, str]:
    """The texts of the modules in a zip by entry; other files, hidden files and folders are left out.

    Raises InvalidModules.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(zipped)) as opened:
            return dict(_texts(opened))
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,  # it is cut
        NotImplementedError,  # an unknown compression
        RuntimeError,  # it is encrypted
        ValueError,
        OSError,
    ) as error:
        raise InvalidModules(f"the body is not a zip that can be read: {error}") from None


def _texts(opened: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    if len(opened.infolist()) > MAX_ENTRIES:
        raise InvalidModules(f"the zip has more than {MAX_ENTRIES} entries")
    modules = [each for each in opened.infolist() if _is_module(each.filename)]
    if not modules:
        raise InvalidModules("the zip has no .yang file")
    if len(modules) > MAX_FILES:
        raise InvalidModules(f"the zip has more than {MAX_FILES} .yang files")
    total, seen = 0, set[str]()
    for each in modules:
        name = each.filename
        if len(name) > _MAX_NAME or not name.isprintable():
            raise InvalidModules(
                "the zip has a name that is too long or has characters that cannot be printed"
            )
        if name in seen:
            raise InvalidModules("stands twice in the zip", name)
        seen.add(name)
        with opened.open(each) as file:
            data = file.read(MAX_FILE + 1)
        total += len(data)
        if len(data) > MAX_FILE:
            raise InvalidModules(f"is larger than {MAX_FILE} bytes", name)
        if total > MAX_TEXT:
            raise InvalidModules(f"the .yang files have more than {MAX_TEXT} bytes together")
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise InvalidModules("is not UTF-8", name, line) from None
        yield name, text


def _is_module(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix == ".yang" and not path.name.startswith(".") and not name.endswith("/")


def _limit(parent: int) -> None:
    """Apply the limits to this process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    for none in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(none, (0, 0))


def _stored(zipped: bytes) -> bytes:
    files = read_zip(zipped)
    from ran_datajobs.nrm import yang  # only this process needs it
    from ran_datajobs.nrm.module_set import decode, encode

    found = encode(yang.read(files))
    decode(found)  # so will every API and worker
    if len(found) > MAX_STORED:
        raise InvalidModules(f"the classes of the modules have more than {MAX_STORED} bytes")
    return found


def _main() -> NoReturn:
    _limit(int(sys.argv[1]))
    try:
        status, output = _DONE, _stored(sys.stdin.buffer.read(MAX_ZIP + 1))
    except InvalidModules as error:
        status = _INVALID
        output = msgspec.json.encode(_Fault(error.detail, error.file, error.line))
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()
    os._exit(status)  # frees nothing piece by piece


if __name__ == "__main__":
    _main()
