# SPDX-License-Identifier: Apache-2.0
"""A database in virtual time for the tests that compare the twin with PostgreSQL."""

from __future__ import annotations

from tests.machine.conftest import virtual as virtual
