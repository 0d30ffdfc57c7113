# SPDX-License-Identifier: Apache-2.0
"""JSON arrays, compressed for the store. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import zstandard

_LEVEL: Final = 1
_LARGE: Final = 1024 * 1024


class Packer:
    """Compresses one array after the other."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)

    def packed(self, pieces: Sequence[bytes]) -> bytes:
        """The JSON array of all ``pieces``, zstd; each is one element, or several with commas between."""
        size = sum(map(len, pieces)) + len(pieces) + 1
        if size < _LARGE:
            return self._compressor.compress(b"[%b]" % b",".join(pieces))
        # The second thread compresses while this one hands out the next piece.
        stream = zstandard.ZstdCompressor(level=_LEVEL, threads=1).compressobj(size=size)
        packs: list[bytes] = []
        before = b"["
        for piece in pieces:
            packs += (stream.compress(before), stream.compress(piece))
            before = b","
        packs += (stream.compress(b"]"), stream.flush())
        return b"".join(packs)


def unpacked(body: bytes) -> bytes:
    """The JSON array that was :meth:`~Packer.packed`."""
    return zstandard.ZstdDecompressor().decompress(body)
