// SPDX-License-Identifier: Apache-2.0
// What the service refused, shown with the place in the request that is to blame.

import { h, longTable } from "./elements.js";
import { number } from "./format.js";

/** The value at a JSON pointer (`#/data/17/path`) of a request, as text; keys of the envelope match in any case. */
function found(request, pointer) {
  let value = request;
  const names = String(pointer ?? "").replace(/^#/, "").split("/").slice(1);
  for (const [depth, coded] of names.entries()) {
    if (value === null || typeof value !== "object") return "";
    const name = coded.replaceAll("~1", "/").replaceAll("~0", "~");
    const key = depth === 0 ? Object.keys(value).find((one) => one.toLowerCase() === name.toLowerCase()) : name;
    value = key !== undefined && Object.hasOwn(value, key) ? value[key] : undefined;
  }
  if (value === undefined) return "";
  const text = JSON.stringify(value);
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}

/** One line for a view that keeps what it shows and asks again by itself. */
export function stale(error) {
  if (error.status === 0) return `${error.title}. What is shown may be old; it is asked again by itself.`;
  return [error.title, error.detail || error.message].filter((part, at, all) => part && all.indexOf(part) === at).join(": ");
}

/** A refusal for people. `request` is the text that was sent, when it is at hand: its values stand beside the pointers. */
export function problemBox(problem, request = null) {
  const detail = problem.detail && problem.detail !== problem.title ? h("p", {}, problem.detail) : null;
  const later = problem.retryAfter && problem.status ? h("p", {}, `Try again in ${problem.retryAfter} s.`) : null;
  const title = problem.title || problem.message;
  let value = null;
  try {
    value = request === null ? null : JSON.parse(request);
  } catch {
    value = null; // then only the pointers are shown
  }
  const columns = [
    { label: "Where", kind: "path narrow", cell: (error) => String(error.pointer ?? "") },
    { label: "What is wrong", cell: (error) => String(error.detail ?? "") },
  ];
  if (value !== null) columns.push({ label: "Sent", kind: "path", cell: (error) => found(value, error.pointer) || "–" });
  const unseen = problem.errorCount - problem.errors.length;
  return h("section", { class: "problem", role: "alert" },
    h("h2", {}, problem.status ? `${title} ` : title, problem.status ? h("span", { class: "code" }, String(problem.status)) : null),
    detail, later,
    problem.errors.length ? longTable("Errors in the request", columns, problem.errors, 20) : null,
    unseen > 0 ? h("p", { class: "hint" }, `… and ${number(unseen)} more.`) : null);
}
