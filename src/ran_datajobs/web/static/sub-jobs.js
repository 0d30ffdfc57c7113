// SPDX-License-Identifier: Apache-2.0
// The sub-jobs of one data job: what each data producer has of it.

import { addresses, getJson } from "./api.js";
import { h, notice, table } from "./elements.js";
import { notSucceeded, number, progressBar, percent, statusLabel, statusMark } from "./format.js";
import { waitMark } from "./waits.js";

const PAGE = 25;

const columns = [
  { label: "Status", kind: "narrow", cell: (subJob) => statusMark(subJob.status) },
  {
    label: "Data producer", kind: "name",
    cell: (subJob) => h("div", {}, h("span", { class: "strong" }, String(subJob.dataProducerId ?? "")),
      h("span", { class: "id" }, String(subJob.subJobId ?? ""))),
  },
  {
    label: "DMI plugin", kind: "name",
    cell: (subJob) => h("div", {}, h("span", {}, String(subJob.dmiServiceName ?? "")),
      h("span", { class: "id" }, String(subJob.dataProducerJobId ?? ""))),
  },
  {
    label: "Progress", kind: "bar",
    cell: (subJob) => h("div", { class: "bar-cell" },
      progressBar(subJob, `Progress of the sub-job for ${subJob.dataProducerId}`),
      h("span", { class: "figure" }, `${percent(subJob)} %`)),
  },
  { label: "Operations", kind: "figure", cell: (subJob) => number(subJob.operations?.total) },
  {
    label: "Not succeeded", kind: "figure",
    cell: (subJob) => {
      const count = notSucceeded(subJob.operations);
      return h("span", { class: count ? "bad" : "none" }, number(count));
    },
  },
  { label: "Sent", kind: "figure", cell: (subJob) => `${number(subJob.attempts ?? 0)}×` },
  {
    label: "Waits for, or last error", kind: "error",
    cell: (subJob) => h("div", {}, waitMark(subJob), String(subJob.lastError ?? (subJob.waitingFor ? "" : "–"))),
  },
];

/** `{element, load, showCounts}`: `load` asks for the page that is shown again. */
export function subJobsSection(jobId, signal) {
  const list = table("Sub-jobs", columns, (subJob) => subJob.subJobId);
  const summary = h("p", { class: "summary" });
  const place = h("div", { class: "sheet" }, notice("Loading the sub-jobs …", "loading"));
  const trail = [null]; // cursors of the pages up to the shown one
  let next = null;
  const turn = (step) => {
    step();
    return load();
  };
  const back = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => turn(() => trail.pop()) }, "← Previous");
  const on = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => turn(() => trail.push(next)) }, "Next →");
  const where = h("span", { class: "hint" });
  const element = h("section", { "aria-labelledby": "sub-jobs-title" },
    h("div", { class: "head" }, h("h2", { id: "sub-jobs-title" }, "Sub-jobs"), summary),
    place, h("nav", { class: "pages", "aria-label": "Pages of sub-jobs" }, back, where, on));

  async function load() {
    const cursor = trail.at(-1);
    try {
      const answer = await getJson(addresses.subJobs(jobId, { limit: PAGE, cursor }), signal);
      if (signal.aborted || cursor !== trail.at(-1)) return;
      const items = answer.items ?? [];
      next = answer.next ?? null;
      list.show(items);
      place.replaceChildren(items.length ? list.element
        : notice("No sub-job: the job is not planned yet, or none of its operations has a data producer."));
      back.hidden = trail.length === 1;
      on.hidden = next === null;
      where.textContent = trail.length === 1 && next === null ? "" : `Page ${number(trail.length)}`;
    } catch (error) {
      if (!signal.aborted) place.replaceChildren(notice(error.message, "error"));
    }
  }

  return {
    element,
    load,
    showCounts(counts = {}) {
      summary.textContent = Object.entries(counts).filter(([, count]) => count > 0)
        .map(([status, count]) => `${number(count)} ${statusLabel(status)}`).join(" · ");
    },
  };
}
