// SPDX-License-Identifier: Apache-2.0
// How numbers, times and states are written for people.

import { h } from "./elements.js";

const LABELS = {
  NOT_STARTED: "not started",
  RUNNING: "running",
  FINISHED: "finished",
  PARTIALLY_FAILED: "partially failed",
  FAILED: "failed",
  CANCELLING: "cancelling",
  CANCELLED: "cancelled",
};
const TERMINAL = new Set(["FINISHED", "PARTIALLY_FAILED", "FAILED", "CANCELLED"]);

/** [state, label] of every state. */
export const STATES = Object.entries(LABELS);

/** The state that the service wrote: 3GPP spells it FINSHED, people read "finished". */
export const readStatus = (written) => (written === "FINSHED" ? "FINISHED" : String(written ?? ""));
export const isTerminal = (written) => TERMINAL.has(readStatus(written));
export const statusLabel = (written) => LABELS[readStatus(written)] ?? readStatus(written);

/** A state as a small mark with its word; the colour is never alone. */
export function statusMark(written) {
  return h("span", { class: "status", "data-status": readStatus(written) }, statusLabel(written));
}

/** 1234567 → "1 234 567" with narrow no-break spaces. */
export function number(value) {
  if (!Number.isFinite(value)) return "–";
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

export const plural = (count, one, many = `${one}s`) => `${number(count)}\u00a0${count === 1 ? one : many}`;

export function bytes(count) {
  if (!Number.isFinite(count)) return "–";
  if (count < 1000) return `${count} B`;
  const [unit, size] = count < 1e6 ? ["kB", 1e3] : count < 1e9 ? ["MB", 1e6] : ["GB", 1e9];
  return `${(count / size).toFixed(1)} ${unit}`;
}

const two = (part) => String(part).padStart(2, "0");

/** A moment in the reader's own time zone; the title has it in UTC. */
export function moment(written) {
  const at = new Date(written ?? NaN);
  if (Number.isNaN(at.getTime())) return "–";
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return h("time", { datetime: at.toISOString(), title: `${at.toISOString()} (UTC)` }, `${day} ${clock}`);
}

/** Time between two moments, or since the first one: "0.84 s", "3 min 05 s", "2 h 07 min". */
export function duration(from, to) {
  const start = Date.parse(from ?? "");
  const end = to ? Date.parse(to) : Date.now();
  if (Number.isNaN(start) || Number.isNaN(end)) return "–";
  const seconds = Math.max(0, (end - start) / 1000);
  if (seconds < 10 && to) return `${seconds.toFixed(2)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(Math.floor(seconds % 60))} s`;
  return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} min`;
}

/** A path that breaks between its parts first. Copied, it is the same text. */
export function path(text) {
  const parts = String(text ?? "").split(/(?<=\/)/);
  return h("span", {}, parts.flatMap((part, at) => (at ? [h("wbr"), part] : [part])));
}

/** The keys of a request that the service ignored, as one paragraph; null when there are none. */
export function ignoredKeys(answer) {
  const keys = Array.isArray(answer.ignored) ? answer.ignored : [];
  if (!keys.length) return null;
  const said = keys.flatMap((key, at) => [at ? ", " : "", h("code", {}, String(key.pointer ?? key.name ?? "")),
    key.pointer === undefined ? ` in ${plural(Number(key.count), "operation")}` : ""]);
  const more = (answer.ignoredCount ?? keys.length) - keys.length;
  return h("p", { class: "ignored" }, h("strong", {}, "Ignored, because these keys are unknown: "), said,
    more > 0 ? ` and ${number(more)} more` : "");
}

/** What the validation warns of, as one paragraph; null when there is nothing. */
export function warnings(answer) {
  const listed = Array.isArray(answer.warnings) ? answer.warnings : [];
  if (!listed.length) return null;
  const count = answer.warningCount ?? listed.length;
  return h("p", { class: "ignored" }, h("strong", {}, `${plural(count, "warning")} of the validation: `),
    `operation ${listed[0].operationId}: ${listed[0].detail}`, count > 1 ? ` and ${number(count - 1)} more` : "");
}

export const jobTitle = (job) => job.name || `Data job ${String(job.jobId).slice(0, 8)}`;
export const jobLink = (jobId) => `#/jobs/${encodeURIComponent(jobId)}`;

/** Name, label and hint of every count of operations; disjoint, they add up to the total. */
export const COUNTS = [
  ["succeeded", "Succeeded", "executed"],
  ["failed", "Failed", "refused by the service, the plugin or the element"],
  ["unmatched", "Unmatched", "no CM handle owns the object"],
  ["notStarted", "Not started", "never sent, or never reached"],
  ["unknown", "Unknown", "may have been executed: the outcome is unknown"],
  ["pending", "Pending", "still to be done"],
];

/** Operations that are settled and did not succeed. */
export const notSucceeded = (counts = {}) =>
  (counts.failed ?? 0) + (counts.unmatched ?? 0) + (counts.notStarted ?? 0) + (counts.unknown ?? 0);

/** Per cent, rounded down: 100 is only shown when all is done. */
export function percent(job) {
  if (isTerminal(job.status)) return 100;
  const counts = job.operations ?? {};
  const reported = Number(job.progressPercentage);
  const own = counts.total ? (100 * (counts.total - (counts.pending ?? 0))) / counts.total : 0;
  return Math.min(99, Math.floor(Number.isFinite(reported) ? reported : own));
}

/** A bar whose parts are the counts. */
export function progressBar(job, label) {
  const counts = job.operations ?? {};
  const total = counts.total || 1;
  const parts = COUNTS.filter(([name]) => name !== "pending" && counts[name] > 0).map(([name]) => {
    const part = h("span", { class: "part", "data-count": name });
    part.style.flexGrow = String(counts[name] / total);
    return part;
  });
  const rest = h("span", { class: "part", "data-count": "pending" });
  rest.style.flexGrow = String((counts.pending ?? 0) / total);
  const value = percent(job);
  return h("div", {
    class: "progress", role: "progressbar", "aria-label": label,
    "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": value,
    "aria-valuetext": `${value} %, ${number(notSucceeded(counts))} not succeeded`,
  }, parts, rest);
}
