# SPDX-License-Identifier: Apache-2.0
"""Two tiers of tests: ``make test`` runs a sample of everything, ``make nightly`` runs all.

A test or case marked ``nightly`` is left out of ``make test``; ``pytest -m nightly`` runs those alone,
``pytest -m ''`` all.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sampled(cases: Iterable[Any], usual: Collection[Any]) -> list[Any]:
    """All ``cases`` of a parametrised test; those that are not among the ``usual`` ones are ``nightly``."""
    return [case if case in usual else nightly(case) for case in cases]


def examples(number: int) -> int:
    """Examples of an expensive property: ``number`` in ``make nightly``, a quarter in ``make test``."""
    return number if "HYPOTHESIS_EXAMPLES" in os.environ else number // 4


def nightly(case: Any) -> Any:
    """One case of a parametrised test, marked ``nightly``."""
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.nightly)
