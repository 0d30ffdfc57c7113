// SPDX-License-Identifier: Apache-2.0
// One data job, followed until it has ended.

import { addresses, getJson } from "./api.js";
import { h, notice, settle } from "./elements.js";
import { follow } from "./events.js";
import { failuresSection } from "./failures.js";
import {
  COUNTS, duration, ignoredKeys, isTerminal, jobLink, jobTitle, moment, notSucceeded, number, percent, plural, progressBar, statusMark,
  warnings,
} from "./format.js";
import { jobActions } from "./job-actions.js";
import { paced, pause } from "./pace.js";
import { stale } from "./problems.js";
import { resultsSection } from "./result-objects.js";
import { subJobsSection } from "./sub-jobs.js";
import { waits } from "./waits.js";

const REPORTED = ["status", "progressPercentage", "operations", "subJobs", "startedAt", "endedAt", "deliveryState", "reason"];
const LOOK_EVERY = 10; // seconds: what a job waits for is reported by no event
const MANY = 10_000; // above this many, failures are read once, at the end

function facts(job) {
  const counts = job.operations ?? {};
  const done = (counts.total ?? 0) - (counts.pending ?? 0);
  const seconds = (Date.parse(job.endedAt ?? new Date()) - Date.parse(job.startedAt)) / 1000;
  const rate = done > 0 && seconds >= 0.1 ? `${number(Math.round(done / seconds))} operations/s` : "–";
  const rows = [
    ["Type", String(job.type ?? "–").toLowerCase()],
    ["Priority", String(job.priority ?? "–")],
    ["Destination", job.destination ? h("code", {}, String(job.destination)) : "the service’s own bucket"],
    ["Delivery", [
      h("span", { class: "delivery", "data-delivery": job.deliveryState }, String(job.deliveryState ?? "–").toLowerCase()),
      job.deliveryDetail ? h("span", { class: "cause" }, `: ${job.deliveryDetail}`) : "",
    ]],
    ["Created", moment(job.createdAt)],
    ["Started", moment(job.startedAt)],
    ["Ended", moment(job.endedAt)],
    [job.endedAt ? "Took" : "Running for", job.startedAt ? duration(job.startedAt, job.endedAt) : "–"],
    ["Throughput", rate],
  ];
  if (job.cancelledAt) {
    rows.push(["Cancelled", moment(job.cancelledAt)], ["Ended after the cancel", plural(job.endedAfterCancel ?? 0, "operation")]);
  }
  for (const [label, counts] of [["Effects", job.preview], ["Reach", job.reach]]) {
    if (counts) rows.push([label, inWords(counts)]);
  }
  if (job.retryOf) rows.push(["Retry of", h("a", { href: jobLink(job.retryOf) }, String(job.retryOf).slice(0, 8))]);
  return rows.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, ...[value].flat())));
}

/** For example "12 change, 3 no change": the counts that are not 0. */
function inWords(counts) {
  const words = (name) => name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`).replace("dmi", "DMI");
  return Object.entries(counts).filter(([, count]) => count)
    .map(([name, count]) => `${number(count)} ${words(name)}`).join(", ") || "none";
}

function countTiles(counts = {}) {
  const tile = (name, label, hint) => h("div", { class: "tile", "data-count": name, title: hint, "data-zero": !counts[name] },
    h("dt", {}, label), h("dd", {}, number(counts[name] ?? 0)));
  return [tile("total", "Operations", "in the request"), ...COUNTS.map((one) => tile(...one))];
}

/** Shows the job and keeps it up to date until the signal is aborted. */
export async function showJob(main, jobId, { signal, linkState, title }) {
  main.replaceChildren(notice("Loading the job …", "loading"));
  let job = null;
  try {
    job = await getJson(addresses.job(jobId), signal);
  } catch (error) {
    if (signal.aborted) return;
    main.replaceChildren(h("p", { class: "crumb" }, h("a", { href: "#/jobs" }, "← All jobs")),
      notice(error.status === 404 ? "There is no such job, or it belongs to another client." : stale(error), "error"));
    if (error.status === 0 || error.status >= 500) {
      await pause(3_000, signal);
      if (!signal.aborted) return showJob(main, jobId, { signal, linkState, title });
    }
    return;
  }
  if (signal.aborted) return;

  const heading = h("h1", {});
  const state = h("div", { class: "state" });
  const bar = h("div", {});
  const reason = h("p", { class: "reason" });
  const waiting = h("p", { class: "reason waiting", role: "status" });
  const ignored = h("div", {});
  const tiles = h("dl", { class: "tiles" });
  const list = h("dl", { class: "facts" });
  const errorBox = h("div", {});
  const actions = jobActions(jobId, (answer) => { if (answer) merge(answer); ask(); }, signal);
  const subJobs = subJobsSection(jobId, signal);
  const failures = failuresSection(jobId, signal);
  const results = resultsSection(signal);
  main.replaceChildren(
    h("p", { class: "crumb" }, h("a", { href: "#/jobs" }, "← All jobs")),
    h("div", { class: "head" }, h("div", {}, heading, h("p", { class: "id" }, jobId)), state),
    bar, reason, waiting, ignored, tiles, actions.element, errorBox, list, failures.element, subJobs.element, results.element);

  let failed = null; // how many failures there were when they were last read
  const ended = () => isTerminal(job.status);
  const askSubJobs = paced(() => subJobs.load(), 1_000, signal);
  const askFailures = paced(() => failures.load(), 3_000, signal);
  const ask = paced(load, 1_000, signal);

  function merge(news) {
    for (const name of REPORTED) if (news[name] !== undefined) job = { ...job, [name]: news[name] };
    show();
  }

  function show() {
    settle(heading, [jobTitle(job)]);
    settle(state, [h("span", { class: "figure big" }, `${percent(job)} %`), statusMark(job.status)]);
    settle(bar, [progressBar(job, "Progress of this job")]);
    settle(reason, [h("strong", {}, "Reason: "), String(job.reason ?? "")]);
    reason.hidden = !job.reason;
    settle(waiting, waits(job));
    waiting.hidden = !job.waitingFor;
    settle(ignored, [ignoredKeys(job), warnings(job)]);
    settle(tiles, countTiles(job.operations));
    settle(list, facts(job));
    actions.show(job);
    subJobs.showCounts(job.subJobs);
    title(`${ended() ? "" : `${percent(job)} % · `}${jobTitle(job)}`);
    const now = notSucceeded(job.operations);
    const due = ended() ? `${now} at the end` : now;
    if (now === 0 && failed === null) failures.showNone(ended());
    else if (due !== failed && (ended() || now <= MANY)) {
      failed = due;
      askFailures();
    }
    if (ended()) results.load(job);
  }

  async function load() {
    try {
      const latest = await getJson(addresses.job(jobId), signal);
      if (signal.aborted) return;
      job = latest;
      errorBox.replaceChildren();
      if (ended()) linkState("live");
      show();
    } catch (error) {
      if (signal.aborted) return;
      linkState("lost");
      settle(errorBox, [notice(stale(error), "error")]);
    }
  }

  show();
  askSubJobs();
  let seconds = 0;
  ticking(() => {
    if (ended()) return;
    settle(list, facts(job));
    if (++seconds % LOOK_EVERY === 0) ask();
  }, signal);
  await follow(jobId, {
    signal, over: ended, state: linkState,
    tick(type, data) {
      if (type === "status" || type === "progress") merge(data);
      if (type === "subjob" || type === "poll") askSubJobs();
      if (type !== "subjob") ask();
    },
  });
  while (!signal.aborted) {
    await load();
    askSubJobs();
    if (ended() && job.deliveryState !== "PENDING") linkState("");
    do await pause(ended() && job.deliveryState !== "PENDING" ? 15_000 : 3_000, signal); while (document.hidden && !signal.aborted);
  }
}

/** Calls `work` every second until the signal is aborted. */
async function ticking(work, signal) {
  while (!signal.aborted) {
    await pause(1_000, signal);
    work();
  }
}
