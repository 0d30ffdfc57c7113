# SPDX-License-Identifier: Apache-2.0
"""Inventory of the simulated network in ONAP's registration: one CM handle per ManagedElement (pure).

Source: ``POST /ncmpInventory/v1/ch`` of ONAP CPS-NCMP.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

from ran_datajobs.simulator import layout

MODULE_SET_TAG: Final = "nr-nrm-rel16"
"""Module set of every element of the network."""


def registration(seed: int, sites: int, dmi_url: str, **plugin_fields: Any) -> dict[str, Any]:
    """Body that registers every site with the plugin at ``dmi_url``.

    ``plugin_fields`` are added to the body, for example ``idempotent=True``.
    """
    return {
        "dmiPlugin": dmi_url,
        **plugin_fields,
        "createdCmHandles": [_handle(seed, number) for number in range(1, sites + 1)],
    }


def _handle(seed: int, number: int) -> dict[str, Any]:
    return {
        "cmHandle": f"gnb-{number:05d}",
        "alternateId": f"/{layout.element_key(number)}",
        "dataProducerIdentifier": layout.data_producer_of(number),
        "moduleSetTag": MODULE_SET_TAG,
        "trustLevel": "COMPLETE",
        "publicCmHandleProperties": {"region": layout.region_of(number).name},
        "cmHandleProperties": {"elementPassword": _fake_password(seed, number)},
    }


def _fake_password(seed: int, number: int) -> str:
    """A fake secret, for tests that it is never disclosed."""
    return f"simulated-{zlib.crc32(f'password/{seed}/{number}'.encode()):08x}"
