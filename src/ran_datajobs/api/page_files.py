# SPDX-License-Identifier: Apache-2.0
"""The files of the page, read once: names in requests are never used as paths of files."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ran_datajobs.api.cacheable import CacheableBody

# The response adds the charset of text types.
_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


def static_files(folder: Path | None) -> dict[str, CacheableBody]:
    """The files of ``folder``, without its subfolders, by name; none without a folder."""
    if folder is None:
        return {}
    return {path.name: _static_file(path) for path in sorted(folder.iterdir()) if path.is_file()}


def _static_file(path: Path) -> CacheableBody:
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return CacheableBody.of(path.read_bytes(), media_type)
