// SPDX-License-Identifier: Apache-2.0
// The operations that did not succeed, grouped by reason. The list can be long: it is read as it streams.

import { addresses, call } from "./api.js";
import { h, notice, saveAs, settle, table } from "./elements.js";
import { number, path, plural } from "./format.js";
import { explanations } from "./reasons.js";

const FIRST = 10; // operations of a reason that are shown at first
const STEP = 50; // shown more on each wish
const KEPT = 500; // of each reason; the CSV has them all
const MOST = 200_000; // counted at most
const MOST_REASONS = 200;

const REST = "other reasons"; // the group of every reason beyond MOST_REASONS

const stateLabel = (state) => String(state ?? "").toLowerCase().replace("_", " ");

const columns = [
  { label: "Operation", kind: "narrow", cell: (failure) => String(failure.operationId ?? "") },
  { label: "Op", kind: "narrow", cell: (failure) => String(failure.op ?? "") },
  { label: "Path", kind: "path wide", cell: (failure) => path(failure.dataNodeSelector ?? failure.path) },
  { label: "State", kind: "narrow", cell: (failure) => stateLabel(failure.state) },
  { label: "Detail", kind: "wide", cell: (failure) => String(failure.detail ?? "") },
];

/** Lines of text out of a body, one at a time. */
async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      yield* parts;
    }
    if (rest) yield rest;
  } finally {
    await reader.cancel();
  }
}

/** `{groups, total, complete}`: per reason how many, how many in which state, and the first ones. */
export async function groupByReason(body) {
  const groups = new Map();
  let total = 0;
  for await (const line of lines(body)) {
    if (!line.trim()) continue;
    if (total === MOST) return { groups, total, complete: false };
    const failure = JSON.parse(line);
    const named = String(failure.reason);
    const reason = groups.has(named) || groups.size < MOST_REASONS ? named : REST;
    const group = groups.get(reason) ?? { count: 0, states: new Map(), first: [] };
    group.count += 1;
    group.states.set(failure.state, (group.states.get(failure.state) ?? 0) + 1);
    if (group.first.length < KEPT) group.first.push(failure);
    groups.set(reason, group);
    total += 1;
  }
  return { groups, total, complete: true };
}

/** `{element, load, showNone}`: `load` reads the failures again; `showNone` says that there is none. */
export function failuresSection(jobId, signal) {
  const summary = h("p", { class: "summary" });
  const place = h("div", { class: "groups" });
  const download = h("button", { type: "button", class: "quiet", hidden: true, onclick: save }, "Download as CSV");
  const errorBox = h("div", {});
  const shown = new Map(); // reason → its part of the page, kept open or closed as the reader left it
  let explain = null;

  async function save() {
    download.disabled = true;
    try {
      const answer = await call(addresses.failures(jobId), { headers: { Accept: "text/csv" }, signal });
      saveAs(await answer.blob(), `failures-${jobId}.csv`);
      errorBox.replaceChildren();
    } catch (error) {
      if (!signal.aborted) errorBox.replaceChildren(notice(`No CSV: ${error.message}`, "error"));
    }
    download.disabled = false;
  }

  function group(reason) {
    const list = table(`Operations with ${reason}`, columns, (failure) => failure.operationId);
    const states = h("summary", {});
    const words = h("div", {});
    const rest = h("span", { class: "hint" });
    const more = h("button", { type: "button", class: "quiet", onclick: () => { limit += STEP; fill(); } });
    const operations = h("details", {}, states, list.element, h("div", { class: "more" }, more, rest));
    const element = h("article", { class: "group", "data-reason": reason }, words, operations);
    let limit = FIRST;
    let all = null;

    function fill() {
      const here = Math.min(limit, all.first.length);
      list.show(all.first.slice(0, here));
      const left = all.first.length - here;
      more.textContent = `Show ${number(Math.min(STEP, left))} more`;
      more.hidden = left === 0;
      rest.textContent = here < all.count ? `${number(here)} of ${number(all.count)} are shown; the CSV has them all.` : "";
      more.parentElement.hidden = here === all.count;
    }

    return {
      element, operations,
      show(found) {
        all = found;
        const count = h("span", { class: "count figure", "data-state": [...all.states.keys()].sort().join(" ") }, number(all.count));
        const meant = reason === REST ? null : explain?.(reason);
        settle(words, [
          h("h3", {}, count, h("span", {}, meant?.title ?? ""), h("code", {}, reason)),
          meant && h("p", { class: "meaning" }, meant.meaning),
          meant && h("p", { class: "advice" }, h("strong", {}, "What to do: "), meant.advice),
        ]);
        states.textContent = `Operations: ${[...all.states].map(([state, times]) => `${number(times)} ${stateLabel(state)}`).join(", ")}`;
        fill();
      },
    };
  }

  async function load() {
    let answer;
    try {
      const headers = { Accept: "application/x-ndjson" };
      answer = await groupByReason((await call(addresses.failures(jobId), { headers, signal })).body);
    } catch (error) {
      if (!signal.aborted) errorBox.replaceChildren(notice(`The failures cannot be shown: ${error.message}`, "error"));
      return;
    }
    explain ??= await explanations(signal).catch(() => null);
    if (signal.aborted) return;
    errorBox.replaceChildren();
    const ordered = [...answer.groups].sort(([, one], [, other]) => other.count - one.count);
    for (const [reason, found] of ordered) {
      const isNew = !shown.has(reason);
      const part = shown.get(reason) ?? group(reason);
      shown.set(reason, part);
      if (ordered.length === 1 && isNew) part.operations.open = true;
      part.show(found);
    }
    const elements = ordered.map(([reason]) => shown.get(reason).element);
    const same = elements.length === place.children.length && elements.every((one, at) => place.children[at] === one);
    if (elements.length === 0) showNone(true);
    else if (!same) place.replaceChildren(...elements);
    download.hidden = answer.total === 0;
    summary.textContent = answer.total === 0 ? ""
      : `${answer.complete ? "" : "more than "}${plural(answer.total, "operation")} · ${plural(ordered.length, "reason")}`;
  }

  function showNone(ended) {
    settle(place, [ended ? notice("Every operation has succeeded.", "good") : notice("None so far.")]);
  }

  const element = h("section", { "aria-labelledby": "failures-title" },
    h("div", { class: "head" }, h("h2", { id: "failures-title" }, "Failures by reason"), summary, download),
    errorBox, place);
  return { element, load, showNone };
}
