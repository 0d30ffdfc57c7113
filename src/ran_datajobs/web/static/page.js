// SPDX-License-Identifier: Apache-2.0
// The page: which view the address asks for, the state of the link, and the token.

import { onTokenNeeded, token } from "./api.js";
import { h, notice } from "./elements.js";
import { showJob } from "./job-detail.js";
import { showJobList } from "./job-list.js";
import { showNetwork } from "./network.js";
import { showSubmit } from "./submit.js";

const main = document.getElementById("main");
const linkMark = document.getElementById("link-state");
const forget = document.getElementById("forget-token");
const LINK = { live: "live", polling: "asking every few seconds", lost: "no connection" };

function linkState(state) {
  if (linkMark.dataset.state === state) return;
  linkMark.dataset.state = state;
  linkMark.textContent = LINK[state] ?? "";
}

const title = (text) => { document.title = `${text} · data jobs`; };

let current = new AbortController();

async function show() {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  const [, view = "", id = ""] = path.split("/");
  for (const link of document.querySelectorAll("nav [data-view]")) {
    if (link.dataset.view === (view || "jobs")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  forget.hidden = token.get() === null;
  const tools = { signal, linkState, title };
  try {
    if (view === "jobs" && id) await showJob(main, decodeURIComponent(id), tools);
    else if (view === "jobs" || view === "") {
      title("Jobs");
      await showJobList(main, new URLSearchParams(query), tools);
    } else if (view === "network") {
      title("Network");
      await showNetwork(main, new URLSearchParams(query), tools);
    } else if (view === "submit") {
      title("New job");
      showSubmit(main, tools);
    } else {
      title("Nothing here");
      main.replaceChildren(notice("There is nothing at this address.", "error"), h("p", {}, h("a", { href: "#/jobs" }, "All jobs")));
    }
  } catch (error) {
    if (signal.aborted) return;
    main.replaceChildren(notice(`This view cannot be shown: ${error.message}`, "error"));
  }
}

/** Asks for a token; resolves to it, or to null when the reader has none. */
onTokenNeeded((wasRefused) => {
  const dialog = document.getElementById("token-dialog");
  const field = document.getElementById("token");
  document.getElementById("token-title").textContent = wasRefused
    ? "The service refused this token" : "This service asks for a token";
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "use" ? field.value.trim() : "";
      field.value = "";
      if (given) token.set(given);
      else token.forget();
      forget.hidden = given === "";
      resolve(given || null);
    }, { once: true });
  });
});

forget.addEventListener("click", () => {
  token.forget();
  show();
});
// The skip link goes to the content, not to another view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => {
  show();
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
});
show();
