# SPDX-License-Identifier: Apache-2.0
"""Maps each dialect to its client."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.onap import OnapPlugin
from ran_datajobs.plugins.port import DmiPlugin, PluginProfile
from ran_datajobs.plugins.seed import SeedPlugin
from ran_datajobs.plugins.wire import Dialect

PluginOf = Callable[[PluginProfile], DmiPlugin]
"""Returns the client for a plugin. Dispatch takes it as an argument, so that tests can pass their own."""


class Peers:
    """All DMI plugins over one shared HTTP client. A :data:`PluginOf`; use as ``Peers(http).plugin``."""

    def __init__(self, http: PeerHttp) -> None:
        self._http = http

    def plugin(self, profile: PluginProfile) -> DmiPlugin:
        """Return the client for ``profile``; no connection is opened."""
        dialect = Dialect(profile.dialect)
        match dialect:
            case Dialect.SEED:
                return SeedPlugin(profile.url, self._http)
            case Dialect.ONAP:
                return OnapPlugin(profile.url, self._http)
            case _:
                assert_never(dialect)
