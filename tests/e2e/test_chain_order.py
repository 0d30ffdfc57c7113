# SPDX-License-Identifier: Apache-2.0
"""Order and completeness through the whole chain: submit, plan, dispatch, a plugin behind HTTP, results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit.whole_service import Portal, service_in_thread
from tests.tiers import examples

PRODUCERS = ("ems-a", "ems-b", "ems-c")
ELEMENTS = {f"/SubNetwork=X/ManagedElement={n}": PRODUCERS[n % len(PRODUCERS)] for n in range(12)}

lines = st.lists(
    st.tuples(
        st.sampled_from([*ELEMENTS, "/SubNetwork=Y/ManagedElement=nowhere"]),
        st.sampled_from(["merge", "add", "remove"]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=60,
)


@pytest.fixture
async def portal(database_url: str, tmp_path: Path) -> Iterator[Portal]:
    with service_in_thread(database_url, tmp_path) as running:
        running.run(running.service.register, running.address, ELEMENTS)
        yield running


def operation(number: int, element: str, op: str, cell: int) -> dict[str, Any]:
    line: dict[str, Any] = {"op": op, "path": f"{element}/Cell={cell}", "operationId": number}
    if op != "remove":
        line["value"] = {"id": str(cell), "attributes": {"n": number}} if op == "add" else {"n": number}
    return line


@settings(
    max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines)
def test_operations_of_a_producer_arrive_in_order(portal: Portal, drawn: list[tuple[str, str, int]]) -> None:
    """For any request, each producer receives its operations in order, each once, and the rest is
    unmatched."""
    request = [operation(n, *line) for n, line in enumerate(drawn)]
    service, plugin = portal.service, portal.plugin
    job_id = portal.run(service.submit, request)
    job = portal.run(service.ended, job_id)

    wanted: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for line in request:
        producer = ELEMENTS.get(line["path"].rsplit("/", 1)[0])
        if producer is not None:
            wanted[producer].append((line["operationId"], line["path"]))
    got: dict[str, list[tuple[Any, str]]] = defaultdict(list)
    for executed in plugin.history:
        if executed.request_id == job_id:
            got[executed.data_producer_id] += [(o.operation_id, o.path) for o in executed.operations]
    assert got == wanted

    unmatched = len(request) - sum(map(len, wanted.values()))
    assert job["operations"]["unmatched"] == unmatched
    assert job["operations"]["succeeded"] == len(request) - unmatched
    failures = portal.run(service.failures, job_id)
    assert [f["reason"] for f in failures] == ["UNMATCHED"] * unmatched
    responses = portal.run(service.responses, job)
    assert sorted(r["operationId"] for r in responses) == list(range(len(request)))


@pytest.mark.nightly
def test_jobs_for_one_producer_run_in_order_of_submission(portal: Portal) -> None:
    """Thirty concurrent jobs for one producer are executed one after the other, in the order of
    submission."""
    submitted = [
        portal.run(portal.service.submit, [operation(n, "/SubNetwork=X/ManagedElement=0", "merge", 1)])
        for n in range(30)
    ]
    for job_id in submitted:
        assert portal.run(portal.service.ended, job_id)["status"] == "FINSHED"
    assert [e.request_id for e in portal.plugin.history if e.request_id in set(submitted)] == submitted
