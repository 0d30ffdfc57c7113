# SPDX-License-Identifier: Apache-2.0
"""The page: static files that use the public API alone, like any client.

Serve :data:`STATIC` at ``/`` beside the API, with ``Content-Security-Policy: default-src 'self'`` or a
stricter one: the files hold no inline script or style and load nothing from another origin.
There is no build step; the browser reads the ES modules as they stand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

STATIC: Final = Path(__file__).parent / "static"
"""Folder of ``index.html`` and what it loads."""
