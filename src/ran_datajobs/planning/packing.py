# SPDX-License-Identifier: Apache-2.0
"""JSON arrays, compressed for the store. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import zstandard

_LEVEL: Final = 1
_LARGE: Final = 1024 * 1024


class ZstdEncoder:
    """Compresses one array after the other."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)

    def packed(self, pieces: Sequence[bytes], before: bytes = b"[", after: bytes = b"]") -> bytes:
        """One frame, zstd: ``before``, all ``pieces`` with commas between, ``after``. Each piece is one
        element of a JSON array, or several with commas between."""
        size = sum(map(len, pieces)) + max(0, len(pieces) - 1) + len(before) + len(after)
        if size < _LARGE:
            return self._compressor.compress(b"%b%b%b" % (before, b",".join(pieces), after))
        # The second thread compresses while this one hands out the next piece.
        stream = zstandard.ZstdCompressor(level=_LEVEL, threads=1).compressobj(size=size)
        packs: list[bytes] = []
        for piece in pieces:
            packs += (stream.compress(before), stream.compress(piece))
            before = b","
        packs += (stream.compress(after), stream.flush())
        return b"".join(packs)


class PackedArray:
    """A JSON array that grows, and of which what is packed takes little room: one frame after the other."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes of the array so far, uncompressed and without its end."""
        self._frames: list[bytes] = []
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Add one element, or several with commas between."""
        self._pieces.append(piece)
        self.size += len(piece) + 1

    def pack(self, packer: ZstdEncoder) -> None:
        """Pack what was added since."""
        if self._pieces:
            self._frames.append(packer.packed(self._pieces, b"," if self._frames else b"[", b""))
            self._pieces.clear()

    def whole(self, packer: ZstdEncoder) -> bytes:
        """The array, packed."""
        if self._pieces or not self._frames:
            before = b"," if self._frames else b"["
            self._frames.append(packer.packed(self._pieces, before, b"]"))
        else:
            self._frames.append(packer.packed((), b"", b"]"))
        return b"".join(self._frames)


def unpacked(body: bytes) -> bytes:
    """The JSON array that was packed, in one frame or several."""
    return zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(body)
