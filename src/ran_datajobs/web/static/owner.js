// SPDX-License-Identifier: Apache-2.0
// Who owns a managed object, and which open jobs it has.

import { addresses, getJson } from "./api.js";
import { h, notice, settle, table } from "./elements.js";
import { jobLink, jobTitle, number, path, statusMark } from "./format.js";
import { pause } from "./pace.js";
import { stale } from "./problems.js";

const LOOK_EVERY = 5_000; // ms: open jobs come and go

const jobColumns = [
  { label: "Status", kind: "narrow", cell: (job) => statusMark(job.status) },
  { label: "Job", kind: "name", cell: (job) => (job.jobId ? h("a", { href: jobLink(job.jobId) }, jobTitle(job)) : "a job of another client") },
  { label: "Type", kind: "narrow", cell: (job) => String(job.type ?? "").toLowerCase() },
];

const code = (text) => (text ? h("code", {}, path(text)) : "–");

function facts(owner, fdn) {
  const same = owner.readPlugin === owner.writePlugin;
  const rows = [
    ["CM handle", h("span", { class: "strong" }, String(owner.cmHandle))],
    ["Data producer", owner.dataProducerId || "none: it takes no data jobs"],
    ...(same ? [["DMI plugin", code(owner.readPlugin)]]
      : [["DMI plugin of reads", code(owner.readPlugin)], ["DMI plugin of writes", code(owner.writePlugin)]]),
    ["Trust level", owner.trustLevel ? String(owner.trustLevel) : "–"],
    ["Module set tag", owner.moduleSetTag ? String(owner.moduleSetTag) : "–"],
    ...Object.entries(owner.publicProperties ?? {}).map(([name, value]) => [name, String(value)]),
  ];
  return rows.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value))).concat(
    owner.alternateId === fdn ? [] : h("div", { class: "whole" }, h("dt", {}, "Owned as part of"), h("dd", {}, code(owner.alternateId))));
}

/** `{element, show, clear, handle}`: `show(fdn)` asks for an object's owner and follows its jobs until another is shown. */
export function ownerPanel({ signal, linkState, back }) {
  const heading = h("h2", { id: "owner-title", tabindex: "-1" });
  const whole = h("p", { class: "id" });
  const errorBox = h("div", {});
  const list = h("dl", { class: "facts" });
  const jobsTitle = h("h3", {}, "Open jobs");
  const jobs = table("Open jobs", jobColumns, (job) => job.jobId ?? "");
  const jobsSheet = h("div", { class: "sheet" }, jobs.element);
  const jobsBox = h("div", {});
  const toTree = h("button", { type: "button", class: "quiet to-tree", onclick: back }, "↑ Back to the tree");
  const element = h("section", { class: "owner", "aria-labelledby": "owner-title" });
  let shown = new AbortController();
  let answered = Promise.resolve(null);

  function put(owner, fdn) {
    settle(errorBox, []);
    settle(list, facts(owner, fdn));
    const open = owner.openJobs ?? [];
    const more = (owner.openJobCount ?? open.length) - open.length;
    jobsTitle.hidden = false;
    if (open.length) jobs.show(open);
    settle(jobsBox, open.length ? [jobsSheet, more > 0 && h("p", { class: "hint" }, `and ${number(more)} more`)]
      : [notice("No open job touches what this handle owns.")]);
  }

  let registered = {}; // what the list of handles has of the owner

  async function ask(fdn, turn) {
    const owner = await getJson(addresses.owner(fdn), turn.signal);
    if (registered.cmHandle !== owner.cmHandle) {
      const { items } = await getJson(addresses.handles({ cmHandle: owner.cmHandle, limit: 1 }), turn.signal);
      registered = items?.[0] ?? {};
    }
    linkState("live");
    put({ ...registered, ...owner }, fdn);
    return owner;
  }

  async function follow(fdn, turn, below) {
    for (;;) {
      do await pause(LOOK_EVERY, turn.signal); while (document.hidden && !turn.signal.aborted);
      if (turn.signal.aborted) return;
      try {
        await ask(fdn, turn);
      } catch (error) {
        if (turn.signal.aborted) return;
        if (error.status === 404) return missing(error, below);
        linkState("lost");
        settle(errorBox, [notice(stale(error), "error")]);
      }
    }
  }

  function missing(problem, below) {
    settle(list, []);
    settle(jobsBox, []);
    jobsTitle.hidden = true;
    const why = problem.detail || problem.message;
    settle(errorBox, [notice(problem.status === 404 && below
      ? `No CM handle owns this object itself. CM handles below it: ${number(below)}.` : why[0].toUpperCase() + why.slice(1))]);
  }

  return {
    element,
    async show(fdn, below = 0) {
      shown.abort();
      shown = new AbortController();
      const turn = shown;
      signal.addEventListener("abort", () => turn.abort(), { signal: turn.signal });
      registered = {};
      settle(heading, [fdn.slice(fdn.lastIndexOf("/") + 1)]);
      settle(whole, [path(fdn)]);
      settle(errorBox, [notice("Looking for the owner …", "loading")]);
      settle(list, []);
      settle(jobsBox, []);
      jobsTitle.hidden = true;
      if (!element.contains(heading)) element.replaceChildren(toTree, heading, whole, errorBox, list, jobsTitle, jobsBox);
      answered = ask(fdn, turn).catch((error) => {
        if (turn.signal.aborted) return null;
        if (error.status >= 400 && error.status < 500) missing(error, below);
        else {
          linkState("lost");
          settle(errorBox, [notice(stale(error), "error")]);
        }
        return error.status === 404 ? undefined : null;
      });
      const owner = await answered;
      if (owner !== undefined) follow(fdn, turn, below);
    },
    clear() {
      element.replaceChildren(notice("Choose an object to see who owns it, and its open jobs."));
    },
    /** The owner that is being asked for; null when there is none. */
    handle: () => answered,
  };
}
