# SPDX-License-Identifier: Apache-2.0
"""Paths of the northbound API, for the routes, the answers and the command line.

Path parameters have the router's syntax. Sources: ONAP CPS-NCMP data jobs (``/ranoam/cm/v1``),
ONAP's registration API (``/ncmpInventory/v1/ch``).
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from ran_datajobs.results import job_view

JOBS: Final = job_view.JOBS
JOB: Final = JOBS + "/{job_id:uuid}"
SUB_JOBS: Final = JOB + "/subJobs"
FAILURES: Final = JOB + "/failures"
OUTCOMES: Final = JOB + "/outcomes"
REQUEST: Final = JOB + "/request"
EVENTS: Final = JOB + "/events"
CANCEL: Final = JOB + "/cancel"
RETRY: Final = JOB + "/retry"
REDELIVER: Final = JOB + "/redeliver"
REASONS: Final = "/ranoam/cm/v1/reasons"
TOPIC_MESSAGES: Final = "/ranoam/cm/v1/topics/{topic:str}/messages"
BUCKET: Final = job_view.BUCKETS + "/{bucket_id:str}"
OBJECT: Final = BUCKET + "/{job_id:uuid}/{part:path}"
NCMP_ROOTS: Final = frozenset({"ncmp", "ncmpInventory", "do-not-use"})
"""First segments of the paths of ONAP CPS-NCMP."""

PROVMNS_ROOT: Final = "/ProvMnS/v1"
"""The NRM root of ProvMnS (3GPP TS 28.532), which is also the CM API of O-RAN R1."""

PROVMNS: Final = PROVMNS_ROOT + "/{dn:path}"
ACTIONS: Final = "/prov-mns-extensions/v1alpha1/actions"
ACTION: Final = ACTIONS + "/{dn_and_action:path}"
"""An action of ONAP's extensions of ProvMnS: the DN of the object, a slash and the name of the action."""

PROVMNS_ROOTS: Final = frozenset({"ProvMnS", "prov-mns-extensions"})
"""First segments of the paths of ProvMnS and of its extensions."""

INVENTORY: Final = "/ncmpInventory/v1/ch"
MODULE_SET: Final = "/ncmpInventory/v1/moduleSets/{tag:str}"
PLUGIN_HANDLES: Final = INVENTORY + "/cmHandles"
INVENTORY_ID_SEARCHES: Final = INVENTORY + "/searches"
INVENTORY_SEARCHES: Final = INVENTORY + "/searchCmHandles"
INVENTORY_SEARCHES_V2: Final = "/ncmpInventory/v2/ch/searches"
ID_SEARCHES: Final = "/ncmp/v1/ch/id-searches"
SEARCHES: Final = "/ncmp/v1/ch/searches"
SEARCHES_V2: Final = "/ncmp/v2/ch/searches"
ENCODED: Final = (b"/ncmp/", b"/do-not-use/", b"/ncmpInventory/v1/moduleSets/")
"""Beginnings of the paths with an alternate id, a tag, or NCMP's id of a data job, as one segment."""

HANDLE: Final = "/ncmp/v1/ch/{reference:str}"
HANDLE_V2: Final = "/ncmp/v2/ch/{reference:str}"
HANDLE_PROPERTIES: Final = HANDLE + "/properties"
HANDLE_STATE: Final = HANDLE + "/state"
HANDLE_MODULES: Final = HANDLE + "/modules"
CM_HANDLES: Final = "/ranoam/cm/v1/cmHandles"
CM_HANDLE_OWNER: Final = CM_HANDLES + "/owner"
CM_HANDLE_CHILDREN: Final = CM_HANDLES + "/children"
ONAP_TEST_WRITE: Final = "/do-not-use/dataJobs/{data_job_id:str}/write"
ONAP_TEST_READ: Final = "/do-not-use/dataJobs/read"
ONAP_TEST_BASE: Final = "/ncmp/v1"
"""The paths of ONAP's test interface are there without and with it."""

STATUS_PUSH: Final = "/ncmp/v1/subJobs/{sub_job_id:uuid}/status"
HEALTHZ: Final = "/healthz"
READYZ: Final = "/readyz"
METRICS: Final = "/metrics"
SCHEMA: Final = "/schema"
SCHEMA_FILE: Final = SCHEMA + "/openapi.json"
PAGE: Final = "/"
PAGE_FILE: Final = "/{file:str}"

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000

_PARAMETER: Final = re.compile(r"\{(\w+):\w+\}")


def fill(path: str, /, **values: object) -> str:
    """``path`` with its parameters replaced by percent-encoded values; slashes of a value are kept."""
    return _PARAMETER.sub(lambda found: quote(str(values[found[1]]), "/", None, "surrogateescape"), path)


def module_set(tag: str) -> str:
    """The path of the modules of a tag, whose slashes are encoded."""
    return MODULE_SET.replace("{tag:str}", quote(tag, "", None, "surrogateescape"))
