# SPDX-License-Identifier: Apache-2.0
"""A script of k6 under the runtime of ``bench/k6_runtime``: what it calls, and what is counted."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from bench.k6 import Check, counts, execute

from tests.peers.program import not_installed

_SCRIPT = """
import http from 'k6/http';
import { check, sleep } from 'k6';
import { Trend } from 'k6/metrics';
import { NUMBERS, URL } from './common/numbers.js';

const took = new Trend('took', true);
export const options = {
  scenarios: {
    steady: { executor: 'constant-arrival-rate', exec: 'steady', rate: 20, timeUnit: '1s', duration: '1m',
              preAllocatedVUs: 2, maxVUs: 4 },
    slow: { executor: 'constant-arrival-rate', exec: 'slow', rate: 20, timeUnit: '1s', duration: '1m',
            preAllocatedVUs: 1, startTime: '100ms' },
    left_out: { executor: 'constant-arrival-rate', exec: 'nothing', rate: 1, duration: '1m',
                preAllocatedVUs: 1 },
  },
  thresholds: { took: ['avg <= 1000'], silent: ['avg <= 1'] },
};
export function setup() {
  check(http.post(`${URL}/setup`, '{}', { headers: { 'Content-Type': 'application/json' } }),
        { 'set up': (response) => response.json().ok });
  return { word: 'from setup' };
}
export function steady(data) {
  const response = http.request('PATCH', `${URL}/steady`, data.word, {});
  if (check(response, { list: () => response.json('#') === NUMBERS.length, held: () => false })) {
    throw new Error('one of the two has failed');
  }
  took.add(response.timings.duration);
}
export function slow() {
  check(http.get(`${URL}/absent`), { absent: (response) => response.error_code === 1404 });
  sleep(0.3);
}
export function teardown() {
  http.get('http://127.0.0.1:1/');
}
"""


@pytest.mark.nightly
async def test_a_script_runs_as_it_is_written(tmp_path: Path) -> None:
    """Its modules and files are found, setup hands its data over, and iterations begin at the given rate. A
    due iteration for which no virtual user is free is dropped. Each request that fails is counted."""
    if shutil.which("node") is None:
        not_installed("Node.js")
    seen: Counter[tuple[str, str, str]] = Counter()

    async def answer(request: web.Request) -> web.Response:
        seen[request.method, request.path, await request.text()] += 1
        if request.path == "/absent":
            raise web.HTTPNotFound
        return web.json_response([1, 2, 3] if request.path == "/steady" else {"ok": True})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    (tmp_path / "common").mkdir()
    (tmp_path / "script.js").write_text(_SCRIPT)
    (tmp_path / "numbers.json").write_text("[1, 2, 3]")
    (tmp_path / "common" / "numbers.js").write_text(
        "export const NUMBERS = JSON.parse(open('../numbers.json')); export const URL = __ENV.SERVER;"
    )
    async with TestServer(app, host="127.0.0.1") as server:
        variables = {"SERVER": str(server.make_url("")).rstrip("/")}
        summary = await execute(tmp_path / "script.js", variables, ["left_out"], 1.0)
    steady, slow = seen["PATCH", "/steady", "from setup"], seen["GET", "/absent", ""]
    assert steady + summary.scenarios["steady"].dropped == 20
    assert slow + summary.scenarios["slow"].dropped == 20
    assert 0 < slow <= 5
    assert seen == {
        ("POST", "/setup", "{}"): 1,
        ("PATCH", "/steady", "from setup"): steady,
        ("GET", "/absent", ""): slow,
    }
    assert Check("list", "steady", steady, 0) in summary.root_group.checks
    assert counts(summary, ["steady"]) == (steady, steady)
    assert counts(summary, ["setup", "slow", "left_out"]) == (1 + slow, 0)
    assert summary.metrics["took"].scenarios == ["steady"]
    assert summary.metrics["took"].values["count"] == steady
    assert summary.metrics["silent"].values["count"] == 0
    assert summary.metrics["http_req_failed"].values["passes"] == slow + 1
    assert summary.errors == 0
