# SPDX-License-Identifier: Apache-2.0
"""Pagination cursors, opaque to clients and validated on return: a position that grants no access."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from litestar.exceptions import ValidationException

_PLACE: Final = re.compile(rb"([a-z]):(0|[1-9][0-9]{0,17})")


def cursor(kind: str, place: int) -> str:
    """The cursor for position ``place`` (from 0) in a list of ``kind``, one lower-case letter."""
    return base64.urlsafe_b64encode(f"{kind}:{place}".encode()).decode().rstrip("=")


def place_of(kind: str, text: str | None) -> int | None:
    """The position in a cursor, ``None`` for no cursor. Raises ValidationException (400)."""
    if text is None:
        return None
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        plain = b""
    found = _PLACE.fullmatch(plain)
    if found is None or found[1].decode() != kind:
        raise ValidationException(
            extra=[
                {
                    "key": "cursor",
                    "message": f"{text[:64]!r} is not a cursor of this list: take it from 'next'",
                }
            ]
        )
    return int(found[2])
