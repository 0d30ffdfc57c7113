// SPDX-License-Identifier: Apache-2.0
// The manifest of a job and its result objects.

import { addresses, call, token } from "./api.js";
import { h, longTable, notice, saveAs } from "./elements.js";
import { bytes, number, plural } from "./format.js";

const lastPart = (key) => String(key).split("/").slice(1).join("/");

/** A link that opens an object; with a token it is fetched and saved, because a link cannot send one. */
function objectLink(url, text, name) {
  const open = async (event) => {
    if (token.get() === null) return;
    event.preventDefault();
    try {
      saveAs(await (await call(url)).blob(), name);
    } catch (error) {
      event.target.after(notice(error.message, "error"));
    }
  };
  return h("a", { href: url.href, target: "_blank", rel: "noopener noreferrer", onclick: open }, text);
}

/** `{element, load}`: `load(job)` shows the manifest of an ended job. */
export function resultsSection(signal) {
  const place = h("div", { class: "sheet" }, notice("The results are listed when the job has ended.", "empty"));
  const summary = h("p", { class: "summary" });
  const element = h("section", { "aria-labelledby": "results-title" },
    h("div", { class: "head" }, h("h2", { id: "results-title" }, "Results"), summary), place);
  let done = false;

  async function load(job) {
    if (done || !job.resultsuri) return;
    const url = addresses.manifest(job.resultsuri);
    try {
      const manifest = await (await call(url, { signal })).json();
      const objects = manifest.objects ?? [];
      const columns = [
        {
          label: "Object", kind: "path wide",
          cell: (object) => objectLink(addresses.object(url, object.key), lastPart(object.key),
            String(object.key).replaceAll("/", "_")),
        },
        { label: "Operations", kind: "figure", cell: (object) => number(object.operations) },
        {
          label: "Not succeeded", kind: "figure",
          cell: (object) => h("span", { class: object.failed ? "bad" : "none" }, number(object.failed ?? 0)),
        },
        { label: "Size", kind: "figure", cell: (object) => bytes(object.bytes) },
        { label: "SHA-256", kind: "path digest", cell: (object) => String(object.sha256 ?? "–") },
      ];
      summary.replaceChildren(objectLink(url, "Manifest", `manifest-${job.jobId}.json`),
        ` · ${plural(objects.length, "object")} · ${bytes(objects.reduce((sum, object) => sum + (object.bytes ?? 0), 0))}`);
      place.replaceChildren(objects.length ? longTable("Result objects", columns, objects, 25)
        : notice("The manifest names no object."));
      done = true;
    } catch (error) {
      if (signal.aborted) return;
      place.replaceChildren(error.status === 404 ? notice("The manifest is not written yet.")
        : notice(`The results cannot be listed: ${error.message}`, "error"));
    }
  }
  return { element, load };
}
