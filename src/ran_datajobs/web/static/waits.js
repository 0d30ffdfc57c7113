// SPDX-License-Identifier: Apache-2.0
// What a job or a sub-job waits for, in words.

import { h } from "./elements.js";
import { moment } from "./format.js";

/** Of each code: what it is, and what happens at `until`. */
const WAITS = {
  OBJECTS: ["the bucket of the results", "times out at"],
  AFTER: ["other jobs", ""],
  LANE_BUSY: ["a slot at the data producer", ""],
  QUARANTINE: ["the end of a quarantine", "over at the latest at"],
  CIRCUIT_OPEN: ["the next trial call to the DMI plugin", "called again at"],
  PLUGIN_UNAVAILABLE: ["the DMI plugin", "times out at"],
  LIMIT: ["a free worker slot", ""],
  BUS: ["the message bus", "times out at"],
};

const words = (code) => WAITS[code] ?? [String(code ?? ""), "until"];

/** The whole of it, as the children of a paragraph; empty when nothing is waited for. */
export function waits({ waitingFor }) {
  if (!waitingFor) return [];
  const [what, atTheEnd] = words(waitingFor.code);
  return [
    h("strong", {}, `Waits for ${what}: `), `${waitingFor.detail} (since `, moment(waitingFor.since),
    ...(waitingFor.until ? [`; ${atTheEnd} `, moment(waitingFor.until)] : []), ")",
  ];
}

/** A short line for a table, with the cause as its title; null when nothing is waited for. */
export function waitMark({ waitingFor }) {
  if (!waitingFor) return null;
  return h("span", { class: "waits", "data-wait": waitingFor.code, title: String(waitingFor.detail ?? "") },
    `waits for ${words(waitingFor.code)[0]}`);
}
