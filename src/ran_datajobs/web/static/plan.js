// SPDX-License-Identifier: Apache-2.0
// What a dry run answered: who would get what, and which operations would not be sent.

import { h, longTable, notice } from "./elements.js";
import { ignoredKeys, number, path, plural, warnings } from "./format.js";
import { explanations } from "./reasons.js";

const producers = [
  { label: "Data producer", kind: "name", cell: (subJob) => String(subJob.dataProducerId ?? "") },
  { label: "DMI plugin", kind: "path wide", cell: (subJob) => String(subJob.dmiServiceName ?? "") },
  { label: "Operations", kind: "figure", cell: (subJob) => number(subJob.operations) },
];
const unmatchedColumns = [
  { label: "Operation", kind: "narrow", cell: (one) => String(one.operationId ?? "") },
  { label: "Path", kind: "path wide", cell: (one) => path(one.dataNodeSelector ?? one.path) },
  { label: "Reason", kind: "narrow", cell: (one) => h("code", {}, String(one.reason ?? "")) },
];
const detail = { label: "Detail", kind: "wide", cell: (one) => String(one.detail ?? "") };

const failing = (plan) => Math.max(plan.operations?.unmatched ?? 0, plan.unmatched?.length ?? 0);


/** Operations that would run. */
export const runnable = (plan) => (plan.operations?.total ?? 0) - failing(plan);

/** The reasons in words: a list that fills itself. */
function reasonsOf(unmatched) {
  const list = h("ul", { class: "reasons" });
  explanations().then((explain) => {
    const reasons = [...new Set(unmatched.map((one) => String(one.reason)))];
    list.replaceChildren(...reasons.map((reason) =>
      h("li", {}, h("code", {}, reason), `: ${explain(reason).meaning} ${explain(reason).advice}`)));
  }, () => {});
  return list;
}

export function planBox(plan) {
  const subJobs = plan.subJobs ?? [];
  const unmatched = plan.unmatched ?? [];
  const lost = failing(plan);
  const columns = unmatched.some((one) => one.detail) ? [...unmatchedColumns, detail] : unmatchedColumns;
  return h("section", { class: "plan", "aria-labelledby": "plan-title" },
    h("h2", { id: "plan-title", tabindex: "-1" }, "The plan"),
    h("p", {}, `${plural(runnable(plan), "operation")} of ${number(plan.operations?.total ?? 0)} would go to `,
      `${plural(subJobs.length, "data producer")}, each in the order of the request. Nothing was sent.`),
    subJobs.length ? h("div", { class: "sheet" }, longTable("Sub-jobs of the plan", producers, subJobs, 20))
      : notice("No data producer would receive an operation: every operation would fail.", "error"),
    ignoredKeys(plan),
    warnings(plan),
    lost ? h("div", {},
      h("h3", {}, `${plural(lost, "operation")} would fail`),
      h("p", { class: "hint" }, "The others are executed."),
      reasonsOf(unmatched),
      h("div", { class: "sheet" }, longTable("Operations that would fail", columns, unmatched, 20)))
      : notice("Every operation would be sent to a data producer.", "good"));
}
