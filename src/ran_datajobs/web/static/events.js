// SPDX-License-Identifier: Apache-2.0
// A job's events as they come. Read with fetch, because EventSource cannot send an Authorization header.

import { addresses, call } from "./api.js";
import { isTerminal } from "./format.js";
import { pause } from "./pace.js";

const SILENCE = 45_000; // a stream without a byte for so long is taken as dead
const POLL = 3_000; // while there is no stream
const LONGEST_WAIT = 15_000;

/** Cuts Server-Sent Events out of text that arrives in pieces; yields `{type, id, data}`. */
export function eventParser() {
  let rest = "";
  let event = { type: "message", data: [] };
  let id = "";
  return function* feed(text) {
    rest += text;
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (event.data.length) yield { type: event.type, id, data: event.data.join("\n") };
        event = { type: "message", data: [] };
        continue;
      }
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (field === "data") event.data.push(value);
      else if (field === "event") event.type = value;
      else if (field === "id") id = value;
    }
  };
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** Reads one stream to its end. `seen.id` is where a next one resumes; true when the job is at its end. */
async function readStream(jobId, seen, tick, up, signal) {
  const stop = new AbortController();
  const quit = () => stop.abort();
  signal.addEventListener("abort", quit);
  document.addEventListener("visibilitychange", quit);
  let watchdog = setTimeout(quit, SILENCE);
  try {
    const headers = { Accept: "text/event-stream" };
    if (seen.id) headers["Last-Event-ID"] = seen.id;
    const response = await call(addresses.events(jobId), { headers, signal: stop.signal });
    up();
    const feed = eventParser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return false;
      clearTimeout(watchdog);
      watchdog = setTimeout(quit, SILENCE);
      for (const { type, id, data } of feed(value)) {
        seen.id = id || seen.id;
        const body = parsed(data);
        tick(type, body);
        if (type === "status" && isTerminal(body.status)) return true;
      }
    }
  } finally {
    clearTimeout(watchdog);
    stop.abort();
    signal.removeEventListener("abort", quit);
    document.removeEventListener("visibilitychange", quit);
  }
}

/**
 * Calls `tick(type, data)` for every event until the job has ended or the signal is aborted. A lost stream is
 * opened again where it stopped. While there is none, and while the page is in the background (a browser
 * has few connections to spare), `tick("poll", {})` comes every few seconds. `state` hears `live` or `polling`.
 * `over()` says that the job has ended.
 */
export async function follow(jobId, { tick, state, over, signal }) {
  const seen = { id: "" };
  let wait = 500;
  let nextTry = 0;
  while (!signal.aborted && !over()) {
    if (!document.hidden && Date.now() >= nextTry) {
      try {
        if (await readStream(jobId, seen, tick, () => { wait = 500; state("live"); }, signal)) return;
      } catch (error) {
        if (error.status === 404 || error.status === 401 || error.status === 403) return;
      }
      nextTry = Date.now() + wait * (0.5 + Math.random());
      wait = Math.min(wait * 2, LONGEST_WAIT);
    }
    if (signal.aborted) return;
    state("polling");
    tick("poll", {});
    await pause(document.hidden ? POLL : Math.min(POLL, Math.max(200, nextTry - Date.now())), signal);
  }
}
