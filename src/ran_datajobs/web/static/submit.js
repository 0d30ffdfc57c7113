// SPDX-License-Identifier: Apache-2.0
// A new job: a dry run first, then the submit of exactly what was planned.

import { addresses, post } from "./api.js";
import { h, notice } from "./elements.js";
import { bytes, jobLink, plural } from "./format.js";
import { planBox, runnable } from "./plan.js";
import { problemBox } from "./problems.js";

const EDITABLE = 1_000_000; // larger files are sent as they are, without passing through the text field
const EXAMPLE = `{"name": "label one cell",
 "data": [
  {"op": "merge", "operationId": "1",
   "path": "/SubNetwork=…/ManagedElement=…/GNBDUFunction=1/NRCellDU=1#/attributes",
   "value": {"userLabel": "north"}}
 ]}`;

/** A key that makes repeating one submit safe. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Shows the form. The submit button is armed by a dry run, for that text and that destination alone. */
export function showSubmit(main, { signal, linkState }) {
  linkState("");
  let file = null; // a file too large for the text field
  let armed = null; // {body, destination, key} of the last good dry run
  let asked = 0; // number of the last dry run: an answer to an earlier one is dropped

  const text = h("textarea", {
    id: "request", rows: 16, spellcheck: "false", autocomplete: "off", autocapitalize: "off", wrap: "off",
    placeholder: EXAMPLE, "aria-describedby": "request-hint",
  });
  const chooser = h("input", { type: "file", id: "file", accept: ".json,application/json", class: "unseen" });
  const chip = h("p", { class: "chip", hidden: true });
  const destination = h("input", {
    id: "destination", type: "text", autocomplete: "off", spellcheck: "false", autocapitalize: "off",
    placeholder: "the service’s own bucket", "aria-describedby": "destination-hint",
  });
  const dryRun = h("button", { type: "submit", class: "primary" }, "Dry run");
  const submit = h("button", { type: "button", disabled: true, onclick: send }, "Submit");
  const hint = h("p", { class: "hint", role: "status" });
  const outcome = h("div", { class: "outcome" });

  const body = () => file ?? text.value;
  function disarm() {
    asked += 1;
    armed = null;
    submit.disabled = true;
    submit.textContent = "Submit";
    submit.className = "";
    dryRun.className = "primary";
    dryRun.disabled = (file ? file.size : text.value.trim().length) === 0;
    hint.textContent = dryRun.disabled ? "Paste a request, or choose a file." : "The dry run shows the plan and sends nothing.";
    outcome.replaceChildren(notice("The plan is shown here after the dry run: which data producer gets which operations, and which operations have no owner."));
  }

  async function take(chosen) {
    if (!chosen) return;
    file = chosen.size > EDITABLE ? chosen : null;
    text.value = file ? "" : await chosen.text();
    text.hidden = file !== null;
    chip.hidden = file === null;
    chip.replaceChildren(h("span", {}, `${chosen.name} · ${bytes(chosen.size)} · sent as it is`),
      h("button", { type: "button", class: "quiet", onclick: drop }, "Remove"));
    disarm();
  }
  function drop() {
    file = null;
    chooser.value = "";
    text.hidden = false;
    chip.hidden = true;
    disarm();
    text.focus();
  }

  async function plan(event) {
    event.preventDefault();
    disarm();
    const turn = asked;
    const wanted = { body: body(), destination: destination.value.trim(), key: newKey() };
    dryRun.disabled = true;
    hint.textContent = "Planning …";
    try {
      const url = addresses.jobs({ destination: wanted.destination, dryRun: "true" });
      const answer = await post(url, { body: wanted.body, headers: { "Content-Type": "application/json" }, signal });
      if (turn !== asked) return;
      armed = wanted;
      outcome.replaceChildren(planBox(answer));
      submit.disabled = false;
      submit.className = "primary";
      dryRun.className = "";
      submit.textContent = `Submit ${plural(answer.operations?.total ?? 0, "operation")}`;
      hint.textContent = runnable(answer) ? "Read the plan, then submit. A change asks for a new dry run."
        : "Every operation would fail. It can still be submitted.";
      outcome.querySelector("#plan-title").focus();
    } catch (error) {
      if (signal.aborted || turn !== asked) return;
      hint.textContent = "The request was not accepted.";
      refuse(error, wanted);
    } finally {
      if (turn === asked) dryRun.disabled = false;
    }
  }

  function refuse(problem, request) {
    outcome.replaceChildren(problemBox(problem, typeof request.body === "string" ? request.body : null));
    outcome.scrollIntoView({ block: "nearest" });
  }

  async function send() {
    if (armed === null) return;
    const sent = armed;
    const turn = asked;
    submit.disabled = true;
    hint.textContent = "Submitting …";
    try {
      const answer = await post(addresses.jobs({ destination: sent.destination }), {
        body: sent.body, signal, headers: { "Content-Type": "application/json", "Idempotency-Key": sent.key },
      });
      if (!signal.aborted) location.hash = jobLink(answer.jobId);
    } catch (error) {
      if (signal.aborted || turn !== asked) return;
      refuse(error, sent);
      submit.disabled = false;
      hint.textContent = "Not confirmed. Submitting again is safe: the same request makes one job only.";
    }
  }

  text.addEventListener("input", disarm);
  destination.addEventListener("input", disarm);
  chooser.addEventListener("change", () => take(chooser.files[0]));
  const form = h("form", { class: "submit-form", onsubmit: plan },
    h("div", { class: "field" },
      h("div", { class: "label-line" }, h("label", { for: "request" }, "Request (JSON)"),
        h("span", { class: "choose" }, chooser, h("label", { for: "file", class: "button quiet" }, "Choose a file …"))),
      text, chip,
      h("p", { class: "hint", id: "request-hint" }, "Paste it, drop a file here, or choose one. It is sent with the bytes that are shown.")),
    h("div", { class: "field" }, h("label", { for: "destination" }, "Destination"), destination,
      h("p", { class: "hint", id: "destination-hint" }, "Where the results go: a Kafka topic or an S3 bucket, by name. ",
        h("code", {}, "kafka:NAME"), " and ", h("code", {}, "s3:NAME"), " say which.")),
    h("div", { class: "actions" }, dryRun, submit), hint);
  form.addEventListener("dragover", (event) => event.preventDefault());
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files[0]).catch((error) => outcome.replaceChildren(notice(error.message, "error")));
  });
  main.replaceChildren(h("div", { class: "head" }, h("h1", {}, "New data job")), h("div", { class: "new-job" }, form, outcome));
  disarm();
}
