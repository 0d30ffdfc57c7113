// SPDX-License-Identifier: Apache-2.0
// The list of data jobs, newest first, kept up to date by itself.

import { addresses, getJson } from "./api.js";
import { h, notice, settle, table } from "./elements.js";
import {
  isTerminal, jobLink, jobTitle, moment, notSucceeded, number, percent, progressBar, readStatus, statusMark, STATES,
} from "./format.js";
import { pause } from "./pace.js";
import { stale } from "./problems.js";
import { waitMark } from "./waits.js";

const PAGE = 50;
const BUSY = 1_500; // while a shown job is open
const CALM = 3_000; // else: a new one shows up soon

const columns = [
  { label: "Status", kind: "narrow", cell: (job) => h("div", {}, statusMark(job.status), waitMark(job)) },
  {
    label: "Job", kind: "name",
    cell: (job) => h("div", {}, h("a", { class: "job", href: jobLink(job.jobId), title: jobTitle(job) }, jobTitle(job)),
      h("span", { class: "id" }, String(job.jobId))),
  },
  { label: "Type", kind: "narrow", cell: (job) => String(job.type ?? "").toLowerCase() },
  {
    label: "Progress", kind: "bar",
    cell: (job) => h("div", { class: "bar-cell" }, progressBar(job, `Progress of ${jobTitle(job)}`),
      h("span", { class: "figure" }, `${percent(job)} %`)),
  },
  { label: "Operations", kind: "figure", cell: (job) => number(job.operations?.total) },
  {
    label: "Not succeeded", kind: "figure",
    cell: (job) => {
      const count = notSucceeded(job.operations);
      return h("span", { class: count ? "bad" : "none" }, number(count));
    },
  },
  { label: "Created", kind: "narrow", cell: (job) => moment(job.createdAt) },
];

function selection(name, label, options, chosen, changed) {
  const select = h("select", { id: `filter-${name}`, onchange: changed },
    h("option", { value: "" }, "all"),
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  return [select, h("div", { class: "field" }, h("label", { for: select.id }, label), select)];
}

/** Shows the list; `query` has `status`, `type` and `cursor` of the address. */
export async function showJobList(main, query, { signal, linkState }) {
  const chosen = readStatus(query.get("status"));
  const filtered = chosen !== "" || query.has("type");
  const changed = () => {
    const next = new URLSearchParams();
    if (status.value) next.set("status", status.value);
    if (type.value) next.set("type", type.value);
    location.hash = `#/jobs${next.size ? `?${next}` : ""}`;
  };
  const [status, statusField] = selection("status", "Status", STATES, chosen, changed);
  const types = [["WRITE", "write"], ["READ", "read"], ["PREVIEW", "preview"]];
  const [type, typeField] = selection("type", "Type", types, query.get("type") ?? "", changed);
  const list = table("Data jobs, newest first", columns, (job) => job.jobId);
  const place = h("div", { class: "sheet", "aria-busy": "true" }, notice("Loading the jobs …", "loading"));
  const errorBox = h("div", {});
  const pages = h("nav", { class: "pages", "aria-label": "Pages" });
  main.replaceChildren(
    h("div", { class: "head" }, h("h1", {}, "Data jobs"), h("div", { class: "filters" }, statusField, typeField)),
    errorBox, place, pages);

  const turn = (cursor) => {
    const next = new URLSearchParams(query);
    if (cursor) next.set("cursor", cursor);
    else next.delete("cursor");
    return `#/jobs${next.size ? `?${next}` : ""}`;
  };
  const url = addresses.jobs({
    // the wire has FINSHED; both spellings are read
    status: chosen === "FINISHED" ? "FINSHED" : chosen,
    type: query.get("type"), limit: PAGE, cursor: query.get("cursor"),
  });

  while (!signal.aborted) {
    let open = true;
    try {
      const answer = await getJson(url, signal);
      if (signal.aborted) return;
      const jobs = answer.items ?? [];
      open = jobs.some((job) => !isTerminal(job.status));
      linkState("live");
      errorBox.replaceChildren();
      place.removeAttribute("aria-busy");
      if (jobs.length) {
        list.show(jobs);
        if (place.firstChild !== list.element) place.replaceChildren(list.element);
      } else {
        place.replaceChildren(filtered
          ? notice("No job matches this filter.")
          : h("div", { class: "notice empty" }, h("p", {}, "No job yet."),
            h("p", {}, h("a", { href: "#/submit", class: "button primary" }, "Submit the first one"))));
      }
      settle(pages, [
        query.has("cursor") ? h("a", { href: turn(null) }, "⇤ Newest") : null,
        answer.next ? h("a", { href: turn(answer.next), rel: "next" }, "Older →") : null,
      ]);
    } catch (error) {
      if (signal.aborted) return;
      linkState("lost");
      settle(errorBox, [notice(stale(error), "error")]);
      if (list.element.parentNode !== place) place.replaceChildren();
      if (error.status >= 400 && error.status < 500 && error.status !== 429) return;
    }
    do await pause(open ? BUSY : CALM, signal); while (document.hidden && !signal.aborted);
  }
}
