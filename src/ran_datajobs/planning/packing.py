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
        """Compress ``before``, all ``pieces`` separated by commas, and ``after`` into one zstd frame. Each
        piece is one element of a JSON array, or several separated by commas."""
        size = sum(map(len, pieces)) + max(0, len(pieces) - 1) + len(before) + len(after)
        if size < _LARGE:
            return self._compressor.compress(b"%b%b%b" % (before, b",".join(pieces), after))
        # A second thread compresses while this one passes on the next piece.
        stream = zstandard.ZstdCompressor(level=_LEVEL, threads=1).compressobj(size=size)
        packs: list[bytes] = []
        for piece in pieces:
            packs += (stream.compress(before), stream.compress(piece))
            before = b","
        packs += (stream.compress(after), stream.flush())
        return b"".join(packs)


class PackedArray:
    """A growing JSON array that is compressed in successive frames to save memory."""

    def __init__(self) -> None:
        self.size = 0
        """Uncompressed bytes of the array so far, without the closing bracket."""
        self._frames: list[bytes] = []
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Add one element, or several separated by commas."""
        self._pieces.append(piece)
        self.size += len(piece) + 1

    def pack(self, packer: ZstdEncoder) -> None:
        """Compress the elements added since the last call."""
        if self._pieces:
            self._frames.append(packer.packed(self._pieces, b"," if self._frames else b"[", b""))
            self._pieces.clear()

    def whole(self, packer: ZstdEncoder) -> bytes:
        """Return the whole array, compressed."""
        if self._pieces or not self._frames:
            before = b"," if self._frames else b"["
            self._frames.append(packer.packed(self._pieces, before, b"]"))
        else:
            self._frames.append(packer.packed((), b"", b"]"))
        return b"".join(self._frames)


def unpacked(body: bytes) -> bytes:
    """Decompress a packed JSON array of one or several frames."""
    return zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(body)
