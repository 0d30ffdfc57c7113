# SPDX-License-Identifier: Apache-2.0
"""Searches, lists and look-ups of CM handles over HTTP, with the handles of ONAP's load test.

``python -m bench searches[=HANDLES]`` (default: 50,000, then 500,000 in the same database). For each call the
least and the median of :data:`RUNS` repetitions, in milliseconds from the request to the last byte, the mean
processor time of the service and its database, which depends less on what else the machine does, and the
number of items; then the peak memory of the processes. The client reads each answer and decodes none while
it measures.
"""

from __future__ import annotations

import statistics
import time

import asyncpg
import msgspec

from bench.machine import Machine, answers, running_machine
from ran_datajobs.http.ports import free_port

HANDLES = (50_000, 500_000)
RUNS = 7
_JSON = {"Content-Type": "application/json"}


def alternate_id(number: int) -> str:
    """The alternate id of a handle of the load test; a subnetwork has 1,000 nodes."""
    node = f"MeContext=MyRadioNode{number}/ManagedElement=MyManagedElement{number}"
    return f"/SubNetwork=Europe/SubNetwork=Region{number // 1000}/{node}"


_ADD_HANDLES = """
insert into cm_handle (cm_handle, alternate_id, alternate_key, plugin_id, module_set_tag, data_producer_id,
                       trust_level, private_properties, public_properties, version)
select 'ch-' || n, '/' || name, name, (select min(plugin_id) from dmi_plugin), tag, 'producer-' || n % 100,
       case when n % 1000 = 1 then 'NONE' else '' end,
       jsonb_build_object(
           'segmentId', (n + 1)::text, 'networkSegment', 'Region=NorthAmerica,Segment=' || n % 10 + 1,
           'deviceIdentifier', 'Element=RadioBaseStation_5G_' || n + 1000, 'hardwareVersion', 'HW-' || tag,
           'softwareVersion', 'Firmware_' || tag, 'syncStatus', 'ACTIVE', 'nodeCategory', 'VirtualNode'),
       jsonb_build_object('systemId', (n + 1)::text, 'systemName', 'ncmp')
           || case when n % 1000 = 0 then '{"Color": "yellow"}' else '{}' end::jsonb,
       (select max(version) from cm_handle)
from generate_series($1::integer, $2::integer) n
cross join lateral (
    select 'SubNetwork=Europe/SubNetwork=Region' || n / 1000 || '/MeContext=MyRadioNode' || n
               || '/ManagedElement=MyManagedElement' || n as name,
           'tag' || substr('ABCDE', n % 5 + 1, 1) as tag) l
"""
"""The handles from $1 to $2 with the properties of the load test; one in a thousand has a colour."""


def condition(name: str, **parameter: str) -> bytes:
    """The body of a search with one condition."""
    one = {"conditionName": name, "conditionParameters": [parameter]}
    return msgspec.json.encode({"cmHandleQueryParameters": [one]})


def path_condition(path: str) -> bytes:
    """The body of a search by a CPS path."""
    return condition("cmHandleWithCpsPath", cpsPath=path)


def searches(handles: int, plugin: str) -> dict[str, tuple[str, bytes]]:
    """Path and body of each search by its name."""
    ids, south = "/ncmp/v1/ch/id-searches", "/ncmpInventory/v1/ch/searches"
    middle = alternate_id(handles // 2)
    return {
        "ids of all": (ids, b"{}"),
        "alternate ids of all": (f"{ids}?outputAlternateId=true", b"{}"),
        "ids, READY by CPS path": (ids, path_condition("//state[@cm-handle-state='READY']")),
        "ids, property of all": (ids, condition("hasAllProperties", systemName="ncmp")),
        "ids, property of few": (ids, condition("hasAllProperties", Color="yellow")),
        "ids, private property of a tenth": (
            south,
            condition("hasAllAdditionalProperties", networkSegment="Region=NorthAmerica,Segment=7"),
        ),
        "ids, DMI plugin": (south, condition("cmHandleWithDmiPlugin", dmiPluginName=plugin)),
        "ids, trust level COMPLETE": (ids, condition("cmHandleWithTrustLevel", trustLevel="COMPLETE")),
        "ids, trust level NONE": (ids, condition("cmHandleWithTrustLevel", trustLevel="NONE")),
        "ids, module of none": (ids, condition("hasAllModules", moduleName="module100")),
        "ids, alternate id": (ids, path_condition(f"//cm-handles[@alternate-id='{middle}']")),
        "ids, contains(alternate id)": (
            ids,
            path_condition("//cm-handles[contains(@alternate-id,'Node499')]"),
        ),
        "handles, all": ("/ncmp/v1/ch/searches", b"{}"),
        "handles, all, v2": ("/ncmp/v2/ch/searches", b"{}"),
    }


def look_ups(handles: int) -> dict[str, str]:
    """Path of each look-up and page by its name."""
    middle, own = alternate_id(handles // 2), "/ranoam/cm/v1/cmHandles"
    return {
        "one handle by alternate id": f"/ncmp/v1/ch/{middle.replace('/', '%2F')}",
        "by distinguished name": f"/ncmpInventory/v1/ch?distinguishedName={middle}/GNBDUFunction=1",
        "owner": f"{own}/owner?fdn={middle}/GNBDUFunction=1",
        "no owner": f"{own}/owner?fdn=/SubNetwork=Europe/SubNetwork=Region7/MeContext=none",
        "page of the list": own,
        "page below a subnetwork": f"{own}?alternateIdPrefix=/SubNetwork=Europe/SubNetwork=Region7",
        "page of a producer": f"{own}?dataProducerId=producer-7",
        "text that many have": f"{own}?search=RadioNode7",
        "text that one has": f"{own}?search=RadioNode{handles - 1}/",
        "text that none has": f"{own}?search=nothing-like-it",
        "roots of the tree": f"{own}/children",
        "subnetworks": f"{own}/children?fdn=/SubNetwork=Europe",
        "nodes of a subnetwork": f"{own}/children?fdn=/SubNetwork=Europe/SubNetwork=Region7",
    }


async def _add(machine: Machine, first: int, end: int) -> None:
    database = await asyncpg.connect(machine.database_url())
    await database.execute(_ADD_HANDLES, first, end - 1)
    await database.execute("vacuum analyze cm_handle")
    await database.close()


async def _measure(machine: Machine, name: str, method: str, path: str, body: bytes | None) -> None:
    times = []
    answer = b""
    before = machine.processor_seconds()
    for _ in range(RUNS):
        started = time.perf_counter()
        async with machine.session.request(
            method, machine.root + path, data=body, headers=_JSON if body else {}
        ) as response:
            answer = await response.read()
            if response.status not in (200, 404):
                raise SystemExit(f"{name}: {response.status} {answer[:500]!r}")
        times.append(1000 * (time.perf_counter() - started))
    processor = 1000 * (machine.processor_seconds() - before) / RUNS
    decoded = msgspec.json.decode(answer)
    items = decoded if isinstance(decoded, list) else decoded.get("items", [None])
    least, median = min(times), statistics.median(times)
    print(
        f"  {name:>34} {least:9.1f} {median:9.1f} {processor:9.1f} {len(items):>9,} {len(answer) / 1e6:9.2f}",
        flush=True,
    )


async def run(handles: str = "") -> None:
    """Print the figures for each number of handles."""
    sizes = (int(handles),) if handles else HANDLES
    port = free_port()
    plugin = f"http://127.0.0.1:{port}"
    async with running_machine(("-m", "bench.plugin", str(port))) as machine:
        await answers(machine.session, plugin + "/acknowledged")
        await machine.register({"dmiPlugin": plugin, "createdCmHandles": [{"cmHandle": "ch-without-fdn"}]})
        added = 1
        for size in sizes:
            await _add(machine, added, size)
            added = size
            print(f"Searches and look-ups of {size:,} CM handles")
            print(f"  {'':>34} {'least ms':>9} {'median ms':>9} {'processor':>9} {'items':>9} {'MB':>9}")
            for name, (path, body) in searches(size, plugin).items():
                await _measure(machine, name, "POST", path, body)
            for name, path in look_ups(size).items():
                await _measure(machine, name, "GET", path.replace(" ", "%20"), None)
            peaks = ", ".join(f"{name} {mib} MiB" for name, mib in sorted(machine.peak_rss().items()))
            print(f"  peak memory: {peaks}")
