// SPDX-License-Identifier: Apache-2.0
// A virtual user: a thread that has loaded the script and executes its functions, one call at a time.
//
// It offers the part of k6's documented interface that ONAP's scenarios use: check, sleep, Trend, http, open,
// __ENV. A call of http is synchronous, as in k6: the main thread performs it, and this thread waits.
// Messages to this thread: {call, argument?}; from it: {loaded}, {result}, {error}, each with its samples.

import fs from 'node:fs';
import path from 'node:path';
import vm from 'node:vm';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';

const { script, env, port, answered } = workerData;
let samples = newSamples();
let folder = path.dirname(script);
let data;

function newSamples() {
  return { checks: [], trends: [], requests: [] };
}

function sleep(seconds) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000 * seconds);
}

function check(value, checks) {
  const outcomes = Object.entries(checks).map(([name, holds]) => [name, Boolean(holds(value))]);
  samples.checks.push(...outcomes);
  return outcomes.every(([, passed]) => passed);
}

class Trend {
  constructor(name) {
    this.name = name;
  }

  add(value) {
    samples.trends.push([this.name, Number(value)]);
  }
}

class Response {
  #bytes;
  #text;

  constructor({ body, ...fields }) {
    Object.assign(this, fields);
    this.#bytes = body;
  }

  get body() {
    this.#text ??= this.#bytes === null ? null : new TextDecoder().decode(this.#bytes);
    return this.#text;
  }

  json(selector) {
    const value = JSON.parse(this.body);
    if (selector === undefined) {
      return value;
    }
    if (selector === '#') {
      return Array.isArray(value) ? value.length : undefined;
    }
    throw new Error(`the selector ${selector} is not offered`);
  }
}

function request(method, url, body, params = {}) {
  Atomics.store(answered, 0, 0);
  port.postMessage({ method, url, body: body ?? '', headers: params.headers ?? {} });
  Atomics.wait(answered, 0, 0);
  const response = new Response(receiveMessageOnPort(port).message);
  samples.requests.push([response.error_code !== 0, response.timings.duration]);
  return response;
}

const http = {
  request,
  get: (url, params) => request('GET', url, '', params),
  post: (url, body, params) => request('POST', url, body, params),
};

/** What a script declares for Kafka exists; scenarios that use it are not executed. */
class NoKafka {
  close() {}

  produce() {
    throw new Error('Kafka is not offered');
  }

  consume() {
    throw new Error('Kafka is not offered');
  }

  serialize() {
    throw new Error('Kafka is not offered');
  }
}

const MODULES = {
  k6: { check, sleep },
  'k6/http': { default: http },
  'k6/metrics': { Trend },
  'k6/x/kafka': {
    Reader: NoKafka, Writer: NoKafka, SchemaRegistry: NoKafka, SCHEMA_TYPE_STRING: 'STRING',
  },
  'https://jslib.k6.io/k6-utils/1.2.0/index.js': {
    randomIntBetween: (least, most) => least + Math.floor(Math.random() * (most - least + 1)),
  },
};

globalThis.__ENV = env;
globalThis.open = (name) => fs.readFileSync(path.resolve(folder, name), 'utf8');

const files = new Map();

function offered(name) {
  const members = MODULES[name];
  return new vm.SyntheticModule(Object.keys(members), function () {
    Object.entries(members).forEach(([member, value]) => this.setExport(member, value));
  });
}

/** The module of a file, which is loaded once; `imports` are the files that it imports. */
function fromFile(file) {
  if (!files.has(file)) {
    const module = new vm.SourceTextModule(fs.readFileSync(file, 'utf8'), { identifier: file });
    files.set(file, { module, imports: [], evaluated: false });
  }
  return files.get(file).module;
}

function imported(name, by) {
  if (name in MODULES) {
    return offered(name);
  }
  if (!name.startsWith('.')) {
    throw new Error(`the module ${name} is not offered`);
  }
  const file = path.resolve(path.dirname(by.identifier), name);
  files.get(by.identifier).imports.push(file);
  return fromFile(file);
}

/** Evaluate depth first, so that open() finds files beside the module that calls it. */
async function evaluate(file) {
  const { module, imports, evaluated } = files.get(file);
  for (const name of imports) {
    await evaluate(name);
  }
  if (!evaluated) {
    files.get(file).evaluated = true;
    folder = path.dirname(file);
    await module.evaluate();
  }
}

const root = fromFile(script);
await root.link(imported);
await evaluate(script);
const exported = root.namespace;

function say(message) {
  parentPort.postMessage({ ...message, samples });
  samples = newSamples();
}

parentPort.on('message', ({ call, argument, setup }) => {
  if (setup !== undefined) {
    data = setup === '' ? undefined : JSON.parse(setup);
  }
  try {
    const result = exported[call]?.(argument ?? data);
    say({ result: result === undefined ? '' : JSON.stringify(result) });
  } catch (error) {
    say({ error: `${call}: ${error.stack}` });
  }
});

const takes = Object.entries(exported).filter(([, value]) => typeof value === 'function' && value.length > 0);
say({ loaded: { options: JSON.stringify(exported.options), takes: takes.map(([name]) => name) } });
