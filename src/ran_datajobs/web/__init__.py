# SPDX-License-Identifier: Apache-2.0
"""Static files of the web page, which calls only the public API.

Serve :data:`STATIC` at ``/`` of the API server, with ``Content-Security-Policy: default-src 'self'`` or a
stricter one: the files hold no inline script or style and load nothing from another origin.
There is no build step; the browser loads the ES modules unchanged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

STATIC: Final = Path(__file__).parent / "static"
"""Folder of ``index.html`` and the files that it loads."""
