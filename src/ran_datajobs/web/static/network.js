// SPDX-License-Identifier: Apache-2.0
// The network: a tree of managed objects by FDN, a search over the CM handles, and the owner of one object.

import { addresses, getJson } from "./api.js";
import { h, notice, settle } from "./elements.js";
import { path, plural } from "./format.js";
import { ownerPanel } from "./owner.js";
import { pause } from "./pace.js";
import { stale } from "./problems.js";
import { lazyTree } from "./tree.js";

const LEVEL = 100; // objects of a level that are loaded at once
const FOUND = 50; // handles of a search that are loaded at once
const TYPING = 250; // ms without a key after which a search is sent
const KEPT_OPEN = 40; // opened objects that the address keeps

const NARROW = "(max-width: 42rem)"; // as in the style sheet: the owner is below the tree

const field = (text) => String(text ?? "");

/** Shows the view; `query` has `q`, `fdn` and the opened objects of the address. */
export async function showNetwork(main, query, { signal, linkState, title }) {
  let fdn = query.get("fdn") ?? "";
  const opened = query.getAll("open");
  const search = h("input", {
    type: "search", id: "network-search", autocomplete: "off", spellcheck: "false", autocapitalize: "off",
    placeholder: "FDN or CM handle, or a part of it", value: query.get("q") ?? "", oninput: typing,
  });
  const form = h("form", { class: "search", role: "search", onsubmit: (event) => { event.preventDefault(); find(); } },
    h("label", { for: search.id, class: "unseen" }, "Search the network"), search);
  const status = h("p", { class: "hint", role: "status" });
  const treeBox = h("div", { class: "tree-box", "aria-busy": "true" }, notice("Loading the network …", "loading"));
  const results = h("ul", { class: "found", "aria-label": "CM handles found" });
  const more = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => find(next) }, `Show ${FOUND} more`);
  const resultBox = h("div", { hidden: true }, results, h("div", { class: "more", hidden: true }, more));
  const owner = ownerPanel({ signal, linkState, back: () => tree.focus() });
  const finder = h("section", { class: "sheet finder", "aria-label": "Managed objects" }, treeBox, resultBox);
  main.replaceChildren(
    h("div", { class: "head" }, h("h1", {}, "Network"), form, status),
    h("div", { class: "network" }, finder, owner.element));

  const tree = lazyTree({
    label: "Managed objects",
    load: async (parent, cursor) => {
      const answer = await getJson(addresses.children(parent, cursor, LEVEL), signal);
      linkState("live");
      return { ...answer, items: (answer.items ?? []).map((item) => ({ ...item, below: item.handles - (item.cmHandle ? 1 : 0) })) };
    },
    chosen: (chosen, below) => choose(chosen, below),
    changed: () => keep("replaceState"),
  });

  /** The address says what is shown. */
  function keep(how) {
    const next = new URLSearchParams();
    if (search.value.trim()) next.set("q", search.value.trim());
    if (fdn) next.set("fdn", fdn);
    for (const one of tree.opened().slice(0, KEPT_OPEN)) next.append("open", one);
    const address = `#/network${next.size ? `?${next}` : ""}`;
    if (address !== location.hash) history[how](null, "", address);
    title(fdn ? `${fdn.slice(fdn.lastIndexOf("/") + 1)} · Network` : "Network");
  }

  function choose(chosen, below = 0) {
    fdn = chosen;
    keep("pushState");
    for (const link of results.querySelectorAll("a")) mark(link);
    owner.show(fdn, below);
    if (below === 0 && matchMedia(NARROW).matches) owner.element.scrollIntoView();
  }

  /** Opens the tree at the chosen object, or at its owner if the object is below it. */
  async function reveal() {
    const handle = fdn ? await owner.handle() : null;
    if (fdn && !signal.aborted) await tree.reveal(handle?.alternateId || fdn, handle?.cmHandle);
  }

  const mark = (link) => {
    if (link.dataset.fdn === fdn) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  };

  // --- the search ---------------------------------------------------------------------------------------

  let asked = new AbortController();
  let next = null;

  async function typing() {
    asked.abort();
    asked = new AbortController();
    const turn = asked;
    await pause(search.value.trim() ? TYPING : 0, turn.signal);
    if (!turn.signal.aborted && !signal.aborted) find();
  }

  async function find(cursor = null) {
    asked.abort();
    asked = new AbortController();
    const turn = asked;
    signal.addEventListener("abort", () => turn.abort(), { signal: turn.signal });
    const text = search.value.trim();
    keep("replaceState");
    resultBox.hidden = text === "";
    treeBox.hidden = text !== "";
    status.textContent = "";
    if (text === "") {
      results.replaceChildren();
      reveal();
      return;
    }
    if (cursor === null) results.replaceChildren();
    resultBox.setAttribute("aria-busy", "true");
    status.textContent = "Searching …";
    try {
      const answer = await getJson(addresses.handles({ search: text, limit: FOUND, cursor }), turn.signal);
      linkState("live");
      const found = (answer.items ?? []).map(line);
      if (cursor === null) results.replaceChildren(...objectLine(text), ...found);
      else results.append(...found);
      next = answer.next ?? null;
      const count = results.querySelectorAll("[data-handle]").length;
      status.textContent = count === 0 ? "" : `${next === null ? "" : "the first "}${plural(count, "CM handle")}`;
      if (count === 0) results.append(h("li", {}, notice("No CM handle has this text in its id or its FDN. Upper and lower case matter.")));
      if (cursor !== null) found[0]?.querySelector("a").focus();
    } catch (error) {
      if (turn.signal.aborted) return;
      linkState("lost");
      status.textContent = "";
      next = null;
      results.replaceChildren(h("li", {}, notice(`The search has failed: ${stale(error)}`, "error"),
        h("button", { type: "button", class: "quiet", onclick: () => find() }, "Try again")));
    }
    more.hidden = next === null;
    more.parentElement.hidden = more.hidden;
    resultBox.removeAttribute("aria-busy");
  }

  function link(target, ...content) {
    const address = new URLSearchParams({ q: search.value.trim(), fdn: target });
    const element = h("a", {
      href: `#/network?${address}`, "data-fdn": target,
      onclick: (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        choose(target);
      },
    }, ...content);
    mark(element);
    return element;
  }

  /** One handle that was found. A handle without an FDN owns nothing and leads nowhere. */
  function line(handle) {
    const words = [
      h("span", { class: "first" }, h("span", { class: "strong" }, field(handle.cmHandle)), h("span", { class: "hint" }, field(handle.dataProducerId))),
      h("span", { class: "id" }, path(handle.alternateId || "no alternate id")),
    ];
    return h("li", { "data-handle": handle.cmHandle }, handle.alternateId ? link(handle.alternateId, ...words) : h("span", {}, ...words));
  }

  /** A text that may be an FDN: whose object it is can be asked for, even where no handle has it. */
  function objectLine(text) {
    return text.includes("=") ? [h("li", {}, link(text, h("span", { class: "ask" }, "Who owns ", path(text), "?")))] : [];
  }

  // --- the start ----------------------------------------------------------------------------------------

  title("Network");
  if (fdn) owner.show(fdn);
  else owner.clear();
  if (search.value) find();
  const count = await tree.start(opened);
  if (signal.aborted) return;
  treeBox.removeAttribute("aria-busy");
  if (count === 0 && !tree.failed()) {
    settle(treeBox, [h("div", { class: "notice empty" }, h("p", {}, "No CM handle is registered."),
      h("p", {}, h("code", {}, "datajobs inventory load FILE"), " registers some."))]);
    return;
  }
  treeBox.replaceChildren(tree.element);
  await reveal();
  keep("replaceState");
}

