// SPDX-License-Identifier: Apache-2.0
// Executes a k6 script: setup, the scenarios of its options at their rates, teardown, handleSummary.
//
//   node --no-warnings --experimental-vm-modules main.mjs SCRIPT RUN.json
//
// RUN.json: {env: variables of the script, without: names of scenarios that are not executed, seconds: duration
// in place of the scenarios' own, or null, summary: file that receives the summary}. The summary has the form
// of k6's, and for each check and trend the scenarios that made it. This is no k6: it knows the executor
// constant-arrival-rate alone, and calls no address but 127.0.0.1.

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { MessageChannel, Worker } from 'node:worker_threads';

const REQUEST_WITHIN = 60_000; // k6's default
const GRACEFUL_STOP = 30_000; // k6's default
const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

const script = path.resolve(process.argv[2]);
const run = JSON.parse(fs.readFileSync(process.argv[3], 'utf8'));

/** Milliseconds of a duration such as 1h15m5s. */
function milliseconds(text) {
  const parts = [...text.matchAll(/([\d.]+)(ms|s|m|h)/g)];
  if (parts.map(([part]) => part).join('') !== text) {
    throw new Error(`no duration: ${text}`);
  }
  return parts.reduce((sum, [, number, unit]) => sum + number * UNITS[unit], 0);
}

/** Perform one request. error_code as in k6's documentation: 1000 + status, 1050 for a timeout, 1000 else. */
function exchange({ method, url, body, headers }, agent) {
  const target = new URL(url);
  if (target.hostname !== '127.0.0.1') {
    throw new Error(`a request to ${target.host}: only 127.0.0.1 is called`);
  }
  const bytes = Buffer.from(body);
  return new Promise((resolve) => {
    let began = performance.now();
    const fail = (code, error) =>
      resolve({
        url, status: 0, error, error_code: code, body: null, timings: { duration: performance.now() - began },
      });
    const sent = { ...headers, ...(bytes.length ? { 'Content-Length': bytes.length } : {}) };
    const request = http.request(target, { method, agent, headers: sent });
    const timer = setTimeout(() => {
      fail(1050, 'request timeout');
      request.destroy();
    }, REQUEST_WITHIN);
    request.on('socket', (socket) => {
      const connected = () => (began = performance.now());
      socket.connecting ? socket.once('connect', connected) : connected();
    });
    request.on('error', (error) => {
      clearTimeout(timer);
      fail(1000, error.message);
    });
    request.on('response', (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', (error) => fail(1000, error.message));
      response.on('end', () => {
        clearTimeout(timer);
        const duration = performance.now() - began;
        const whole = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
        let at = 0;
        for (const chunk of chunks) {
          whole.set(chunk, at);
          at += chunk.length;
        }
        const status = response.statusCode;
        const code = status >= 400 ? 1000 + status : 0;
        resolve({ url, status, error: '', error_code: code, body: whole, timings: { duration } });
      });
    });
    request.end(bytes);
  });
}

const totals = { checks: new Map(), trends: new Map(), durations: [], failed: 0, dropped: {}, errors: 0 };

/** Add the samples of one call of a scenario, or of setup or teardown. */
function count(by, { checks, trends, requests }) {
  for (const [name, passed] of checks) {
    const key = `${by}\0${name}`;
    const counted = totals.checks.get(key) ?? { name, scenario: by, passes: 0, fails: 0 };
    counted[passed ? 'passes' : 'fails'] += 1;
    totals.checks.set(key, counted);
  }
  for (const [name, value] of trends) {
    const trend = totals.trends.get(name) ?? { values: [], scenarios: new Set() };
    trend.values.push(value);
    trend.scenarios.add(by);
    totals.trends.set(name, trend);
  }
  for (const [failed, duration] of requests) {
    totals.failed += failed;
    totals.durations.push(duration);
  }
}

class VirtualUser {
  #worker;
  #next;
  #knows = false;

  constructor() {
    const { port1, port2 } = new MessageChannel();
    const answered = new Int32Array(new SharedArrayBuffer(4));
    const agent = new http.Agent({ keepAlive: true });
    port1.on('message', async (asked) => {
      const response = await exchange(asked, agent);
      port1.postMessage(response, response.body ? [response.body.buffer] : []);
      Atomics.store(answered, 0, 1);
      Atomics.notify(answered, 0);
    });
    this.#worker = new Worker(new URL('vu.mjs', import.meta.url), {
      workerData: { script, env: run.env, port: port2, answered },
      transferList: [port2],
    });
    this.#worker.on('message', (message) => this.#next.resolve(message));
    this.#worker.on('error', (error) => this.#next.reject(error));
    this.loaded = this.#message();
  }

  #message() {
    return new Promise((resolve, reject) => {
      this.#next = { resolve, reject };
    });
  }

  /** Call a function of the script; return its result as JSON. Its samples count for `by`. */
  async call(name, by, argument) {
    const { loaded } = await this.loaded;
    const news = loaded.takes.includes(name) && !this.#knows ? { setup: setupData } : {};
    this.#knows ||= 'setup' in news;
    const answer = this.#message();
    this.#worker.postMessage({ call: name, argument, ...news });
    const { result, error, samples } = await answer;
    count(by, samples);
    if (error) {
      totals.errors += 1;
      console.error(`${by}: ${error}`);
    }
    return result;
  }

  end() {
    return this.#worker.terminate();
  }
}

let setupData = '';
const all = new Set();

function virtualUser() {
  const user = new VirtualUser();
  all.add(user);
  return user;
}

/** Start iterations at a constant rate. A due iteration is dropped where no virtual user is free. */
async function constantArrivalRate(name, scenario) {
  const every = milliseconds(scenario.timeUnit ?? '1s') / scenario.rate;
  const lasts = run.seconds === null ? milliseconds(scenario.duration) : 1000 * run.seconds;
  const most = scenario.maxVUs ?? scenario.preAllocatedVUs;
  const free = Array.from({ length: scenario.preAllocatedVUs }, virtualUser);
  let users = free.length;
  await Promise.all(free.map((user) => user.loaded));
  return async () => {
    const running = new Set();
    const start = performance.now() + milliseconds(scenario.startTime ?? '0s');
    for (let n = 0; n * every < lasts; n += 1) {
      await new Promise((due) => setTimeout(due, start + n * every - performance.now()));
      let user = free.pop();
      if (!user && users < most) {
        user = virtualUser();
        users += 1;
      }
      if (!user) {
        totals.dropped[name] = (totals.dropped[name] ?? 0) + 1;
        continue;
      }
      const iteration = user.call(scenario.exec, name).then(() => {
        running.delete(iteration);
        free.push(user);
      });
      running.add(iteration);
    }
    const stop = new Promise((over) => setTimeout(over, GRACEFUL_STOP).unref());
    await Promise.race([Promise.all(running), stop]);
    if (running.size) {
      console.error(`${name}: ${running.size} iterations were interrupted`);
    }
  };
}

function percentile(sorted, part) {
  const at = (sorted.length - 1) * part;
  const below = sorted[Math.floor(at)];
  return below + (sorted[Math.ceil(at)] - below) * (at % 1);
}

function trendOf(values, scenarios) {
  const sorted = Float64Array.from(values.length ? values : [0]).sort();
  return {
    type: 'trend',
    contains: 'default',
    scenarios: [...scenarios],
    values: {
      avg: sorted.reduce((sum, each) => sum + each, 0) / sorted.length,
      min: sorted[0],
      med: percentile(sorted, 0.5),
      max: sorted[sorted.length - 1],
      'p(90)': percentile(sorted, 0.9),
      'p(95)': percentile(sorted, 0.95),
      count: values.length,
    },
  };
}

/** What handleSummary gets. A trend that the options name and that has no sample is there with zeros. */
function summary(options, scenarios) {
  const { checks, trends, durations, failed } = totals;
  const metrics = {};
  for (const name of Object.keys(options.thresholds ?? {})) {
    metrics[name] = trendOf([], []);
  }
  for (const [name, trend] of trends) {
    metrics[name] = trendOf(trend.values, trend.scenarios);
  }
  metrics.http_req_duration = trendOf(durations, []);
  const rate = durations.length ? failed / durations.length : 0;
  metrics.http_req_failed = {
    type: 'rate', contains: 'default', values: { rate, passes: failed, fails: durations.length - failed },
  };
  const root = { name: '', path: '', groups: [], checks: [...checks.values()] };
  const executed = Object.fromEntries(scenarios.map((name) => [name, { dropped: totals.dropped[name] ?? 0 }]));
  return { root_group: root, metrics, scenarios: executed, errors: totals.errors };
}

const first = virtualUser();
const options = JSON.parse((await first.loaded).loaded.options);
const scenarios = Object.entries(options.scenarios).filter(([name]) => !run.without.includes(name));
for (const [name, { executor }] of scenarios) {
  if (executor !== 'constant-arrival-rate') {
    throw new Error(`${name}: the executor ${executor} is not offered`);
  }
}
const ready = await Promise.all(scenarios.map(([name, scenario]) => constantArrivalRate(name, scenario)));
setupData = await first.call('setup', 'setup');
console.error('setup is over');
await Promise.all(ready.map((start) => start()));
console.error('the scenarios are over');
await first.call('teardown', 'teardown');
const data = summary(options, scenarios.map(([name]) => name));
fs.writeFileSync(run.summary, JSON.stringify(data));
const reports = JSON.parse((await first.call('handleSummary', 'handleSummary', data)) || '{}');
process.stdout.write(reports.stdout ?? '');
await Promise.all([...all].map((user) => user.end()));
process.exit(0);
