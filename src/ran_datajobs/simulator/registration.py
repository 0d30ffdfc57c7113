# SPDX-License-Identifier: Apache-2.0
"""The inventory of the simulated network as ONAP registers it: one CM handle per ManagedElement. Pure.

Source: ``POST /ncmpInventory/v1/ch`` of ONAP CPS-NCMP.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

from ran_datajobs.simulator import layout

MODULE_SET_TAG: Final = "nr-nrm-rel16"
"""The model that every element of the network has."""


def registration(seed: int, sites: int, dmi_url: str, **plugin_fields: Any) -> dict[str, Any]:
    """The body that registers every site behind the plugin at ``dmi_url``.

    ``plugin_fields`` stand beside it, for example ``idempotent=True``.
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
        "cmHandleProperties": {"elementPassword": _made_up_password(seed, number)},
    }


def _made_up_password(seed: int, number: int) -> str:
    """Opens nothing: it is there so that one can see that it is shown nowhere."""
    return f"simulated-{zlib.crc32(f'password/{seed}/{number}'.encode()):08x}"
