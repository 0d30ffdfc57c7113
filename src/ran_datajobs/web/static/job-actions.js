// SPDX-License-Identifier: Apache-2.0
// What the reader may do with a job: cancel, retry, redeliver.

import { addresses, post } from "./api.js";
import { h } from "./elements.js";
import { isTerminal, jobLink, notSucceeded, plural, readStatus } from "./format.js";
import { problemBox } from "./problems.js";

/** Resolves to true when the reader agrees; Escape and the second button mean no. */
function agreed(title, text, yes, no) {
  const dialog = h("dialog", { "aria-labelledby": "question-title" },
    h("form", { method: "dialog" }, h("h2", { id: "question-title" }, title), h("p", {}, text),
      h("div", { class: "actions" }, h("button", { value: "yes", class: "danger" }, yes),
        h("button", { value: "", autofocus: true }, no))));
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    });
    dialog.showModal();
  });
}

/** `{element, show}`: the buttons that are allowed for the job; `changed(job)` hears what an action answered. */
export function jobActions(jobId, changed, signal) {
  const errorBox = h("div", {});
  const button = (text, kind, act) => h("button", { type: "button", class: kind, hidden: true, onclick: act }, text);
  const includeUnknown = h("input", { type: "checkbox", id: "include-unknown" });
  const unknownText = h("span", {});
  const unknownField = h("label", { class: "check", hidden: true }, includeUnknown, unknownText);
  let job = {};

  async function act(pressed, work) {
    pressed.disabled = true;
    errorBox.replaceChildren();
    try {
      await work();
    } catch (error) {
      if (!signal.aborted) errorBox.replaceChildren(problemBox(error));
    }
    pressed.disabled = false;
    show(job);
  }

  const cancel = button("Cancel …", "danger", () => act(cancel, async () => {
    const sure = await agreed("Cancel this job?", "What was already executed stays executed.", "Cancel the job", "Let it run");
    if (sure) changed(await post(addresses.cancel(jobId)));
  }));
  const retry = button("Retry", "", () => act(retry, async () => {
    const answer = await post(addresses.retry(jobId, includeUnknown.checked));
    location.hash = jobLink(answer.jobId);
  }));
  const redeliver = button("Deliver again", "", () => act(redeliver, async () => {
    await post(addresses.redeliver(jobId));
    changed(null);
  }));
  includeUnknown.addEventListener("change", () => show(job));

  function show(latest) {
    job = latest;
    const ended = isTerminal(job.status);
    const unknown = job.operations?.unknown ?? 0;
    const again = notSucceeded(job.operations) - (includeUnknown.checked ? 0 : unknown);
    cancel.hidden = ended || readStatus(job.status) === "";
    cancel.disabled = readStatus(job.status) === "CANCELLING";
    retry.hidden = !ended || job.type === "PREVIEW" || notSucceeded(job.operations) === 0;
    retry.disabled = again === 0;
    retry.textContent = again ? `Retry ${plural(again, "operation")}` : "Retry";
    unknownField.hidden = retry.hidden || unknown === 0;
    unknownText.textContent = `with ${plural(unknown, "operation")} of unknown outcome (may be executed twice)`;
    redeliver.hidden = !ended || !["FAILED", "DELIVERED"].includes(job.deliveryState);
  }
  const element = h("div", {}, h("div", { class: "actions" }, cancel, retry, unknownField, redeliver), errorBox);
  return { element, show };
}
