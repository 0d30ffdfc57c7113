// SPDX-License-Identifier: Apache-2.0
// The operations that did not succeed, grouped by reason. The list can be long: it is read as it streams.

import { addresses, call } from "./api.js";
import { h, notice, saveAs, settle, table } from "./elements.js";
import { number, path, plural } from "./format.js";

const FIRST = 10; // shown of each reason
const MOST = 200_000; // counted at most
const MOST_REASONS = 200;

const MEANINGS = {
  UNMATCHED: "no CM handle owns the object",
  NO_DATA_PRODUCER: "the CM handle has no data producer",
  DMI_UNREACHABLE: "the DMI plugin was not reached, or stopped answering",
  DMI_LOST_JOB: "the DMI plugin lost a job that it had accepted",
  OUTCOME_UNKNOWN: "may have been executed: nobody can tell",
  RESULT_INCOMPLETE: "fewer results came than were announced",
  MODE_NOT_SUPPORTED: "the DMI plugin does not stop at the first error",
  CANCELLED: "a cancel came first",
  NOT_STARTED: "an earlier failure stopped the sub-job",
};

const columns = [
  { label: "Operation", kind: "narrow", cell: (failure) => String(failure.operationId ?? "") },
  { label: "Op", kind: "narrow", cell: (failure) => String(failure.op ?? "") },
  { label: "Path", kind: "path wide", cell: (failure) => path(failure.path) },
  { label: "State", kind: "narrow", cell: (failure) => String(failure.state ?? "").toLowerCase().replace("_", " ") },
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

/** `{groups, total, complete}`: per reason how many, and the first few. */
export async function groupByReason(body) {
  const groups = new Map();
  let total = 0;
  for await (const line of lines(body)) {
    if (!line.trim()) continue;
    if (total === MOST) return { groups, total, complete: false };
    const failure = JSON.parse(line);
    const named = String(failure.reason || "no reason given");
    const reason = groups.has(named) || groups.size < MOST_REASONS ? named : "other reasons";
    const group = groups.get(reason) ?? { count: 0, first: [] };
    group.count += 1;
    if (group.first.length < FIRST) group.first.push(failure);
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
  const trouble = h("div", {});
  const shown = new Map(); // reason → its parts on the page, kept open or closed as the reader left them

  async function save() {
    download.disabled = true;
    try {
      const answer = await call(addresses.failures(jobId), { headers: { Accept: "text/csv" }, signal });
      saveAs(await answer.blob(), `failures-${jobId}.csv`);
      trouble.replaceChildren();
    } catch (error) {
      if (!signal.aborted) trouble.replaceChildren(notice(`No CSV: ${error.message}`, "error"));
    }
    download.disabled = false;
  }

  function group(reason) {
    const list = table(`Operations with ${reason}`, columns, (failure) => failure.operationId);
    const count = h("span", { class: "count figure" });
    const more = h("p", { class: "hint" });
    const element = h("details", { class: "group" },
      h("summary", {}, count, h("code", {}, reason), h("span", { class: "hint" }, MEANINGS[reason] ?? "")),
      list.element, more);
    return { element, count, more, list };
  }

  async function load() {
    let answer;
    try {
      const headers = { Accept: "application/x-ndjson" };
      answer = await groupByReason((await call(addresses.failures(jobId), { headers, signal })).body);
    } catch (error) {
      if (!signal.aborted) trouble.replaceChildren(notice(`The failures cannot be shown: ${error.message}`, "error"));
      return;
    }
    trouble.replaceChildren();
    const ordered = [...answer.groups].sort(([, one], [, other]) => other.count - one.count);
    const unread = shown.size === 0;
    for (const [reason, { count, first }] of ordered) {
      const parts = shown.get(reason) ?? group(reason);
      shown.set(reason, parts);
      if (unread && shown.size === 1) parts.element.open = true;
      parts.count.textContent = number(count);
      parts.list.show(first);
      parts.more.textContent = count > first.length
        ? `The first ${number(first.length)} of ${number(count)}. The CSV has them all.` : "";
      parts.more.hidden = count <= first.length;
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
    trouble, place);
  return { element, load, showNone };
}
