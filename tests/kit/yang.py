# SPDX-License-Identifier: Apache-2.0
"""A module set for tests, in the constructs of 3GPP TS 32.160, and zips of it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).resolve().parents[1] / "yang"


def modules() -> dict[str, str]:
    """The texts of the module set by file."""
    return {file.name: file.read_text(encoding="utf-8") for file in sorted(_FOLDER.glob("*.yang"))}


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """A zip of files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()
