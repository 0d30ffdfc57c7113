// SPDX-License-Identifier: Apache-2.0
// A tree whose levels are loaded page by page as they are opened. Roles and keys: WAI-ARIA, tree view pattern.

import { h } from "./elements.js";
import { number } from "./format.js";

const SPOKEN_AFTER = 700; // ms without a key after which a new word is typed

/** `/A=1/B=2` → `["/A=1", "/A=1/B=2"]`. */
export function lineage(fdn) {
  const parts = fdn.replace(/^\//, "").split("/").filter(Boolean);
  return parts.map((_part, at) => `/${parts.slice(0, at + 1).join("/")}`);
}

/**
 * `load(fdn, cursor)` resolves to `{items, next}`: the children of an object, `""` for the topmost ones. An item is
 * `{fdn, rdn, cmHandle, below}`; `below` is the number of handles below it. `chosen(fdn, below)` hears a choice, `changed()`
 * that a level was opened or closed. Answers: `{element, start, reveal, focus, failed, opened}`.
 */
export function lazyTree({ label, load, chosen, changed }) {
  const element = h("ul", { role: "tree", "aria-label": label, class: "tree", onkeydown: pressed, onclick: clicked });
  const items = new Map(); // fdn → its element
  const top = { list: element, fdn: "", level: 1, next: null, loaded: null };
  const levels = new Map([["", top]]); // fdn → the level below it
  let typed = "";
  let typedAt = 0;

  const visible = () => [...element.querySelectorAll('[role="treeitem"]')].filter((item) => !item.parentElement.closest("[hidden]"));
  const parentOf = (item) => item.parentElement.closest('[role="treeitem"]');
  const isOpen = (item) => item.getAttribute("aria-expanded") === "true";

  function itemOf(node, level) {
    const canOpen = node.below > 0;
    const name = [node.rdn, node.cmHandle ? `CM handle ${node.cmHandle}` : "", canOpen ? `${number(node.below)} below` : ""];
    const list = canOpen ? h("ul", { role: "group", hidden: true }) : null;
    const [kind, value] = [node.rdn.slice(0, node.rdn.indexOf("=") + 1), node.rdn.slice(node.rdn.indexOf("=") + 1)];
    const item = h("li", {
      role: "treeitem", tabindex: "-1", "data-fdn": node.fdn, "data-below": node.below, "aria-level": level, "aria-selected": "false",
      "aria-label": name.filter(Boolean).join(", "), "aria-expanded": canOpen ? "false" : null,
    }, h("div", { class: "node", "data-handle": node.cmHandle ? "yes" : null },
      h("span", { class: "rdn" }, h("span", { class: "kind" }, kind), value),
      canOpen ? h("span", { class: "figure hint" }, number(node.below)) : null), list);
    item.style.setProperty("--depth", String(level - 1));
    items.set(node.fdn, item);
    if (list) levels.set(node.fdn, { list, fdn: node.fdn, level: level + 1, next: null, loaded: null });
    return item;
  }

  /** The last line of a level: loading, an error, or the rest. */
  function lastLine(level, text, kind, act) {
    level.list.querySelector(":scope > .last")?.remove();
    if (text === null) return;
    const line = h("li", {
      role: "treeitem", tabindex: "-1", class: `last ${kind}`, "aria-level": level.level, "aria-label": text,
      "aria-disabled": act ? null : "true", "data-act": act ? "more" : null, "data-level": level.fdn,
    }, h("div", { class: "node" }, h("span", { class: "rdn" }, text)));
    line.style.setProperty("--depth", String(level.level - 1));
    level.list.append(line);
  }

  /** Loads the next page of a level; the first one only once. */
  function page(level) {
    level.loaded = (async () => {
      const hadFocus = level.list.querySelector(":scope > .last") === document.activeElement;
      lastLine(level, "Loading …", "hint");
      if (hadFocus) focus(level.list.lastElementChild);
      try {
        const answer = await load(level.fdn, level.next);
        const fresh = answer.items.filter((node) => !items.has(node.fdn)).map((node) => itemOf(node, level.level));
        const last = level.list.querySelector(":scope > .last");
        const focused = last === document.activeElement;
        last.before(...fresh);
        level.next = answer.next ?? null;
        lastLine(level, level.next === null ? null : "Show more", "more-line", true);
        if (focused) focus(fresh[0] ?? level.list.lastElementChild);
        level.failed = false;
      } catch (error) {
        if (error.name === "AbortError") return;
        level.failed = true;
        lastLine(level, `${error.message} – try again`, "bad", true);
        if (hadFocus) focus(level.list.lastElementChild);
      }
      if (!element.querySelector('[tabindex="0"]')) element.querySelector('[role="treeitem"]')?.setAttribute("tabindex", "0");
    })();
    return level.loaded;
  }

  async function open(item) {
    const level = levels.get(item.dataset.fdn);
    if (!level) return;
    item.setAttribute("aria-expanded", "true");
    level.list.hidden = false;
    await (level.loaded ?? page(level));
  }

  function close(item) {
    item.setAttribute("aria-expanded", "false");
    const { list } = levels.get(item.dataset.fdn);
    if (list.contains(document.activeElement)) focus(item);
    list.hidden = true;
  }

  function toggle(item) {
    if (isOpen(item)) close(item);
    else open(item);
    changed();
  }

  function focus(item) {
    element.querySelectorAll('[tabindex="0"]').forEach((one) => one.setAttribute("tabindex", "-1"));
    item.setAttribute("tabindex", "0");
    item.focus();
  }

  function select(fdn) {
    element.querySelectorAll('[aria-selected="true"]').forEach((one) => one.setAttribute("aria-selected", "false"));
    const item = items.get(fdn);
    if (!item) return;
    item.setAttribute("aria-selected", "true");
    element.querySelectorAll('[tabindex="0"]').forEach((one) => one.setAttribute("tabindex", "-1"));
    item.setAttribute("tabindex", "0");
  }

  function act(item) {
    if (item.dataset.act === "more") page(levels.get(item.dataset.level));
    else if (item.dataset.fdn !== undefined) {
      select(item.dataset.fdn);
      chosen(item.dataset.fdn, Number(item.dataset.below));
    }
  }

  function clicked(event) {
    const item = event.target.closest('[role="treeitem"]');
    const node = event.target.closest(".node");
    if (!item || !node) return;
    focus(item);
    const canOpen = item.hasAttribute("aria-expanded");
    // The arrow is the padding in front of the text.
    const onArrow = canOpen && event.clientX < node.querySelector(".rdn").getBoundingClientRect().left;
    if (onArrow) return toggle(item);
    act(item);
    if (canOpen && !isOpen(item)) toggle(item);
  }

  function pressed(event) {
    const item = event.target.closest('[role="treeitem"]');
    if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = visible();
    const at = all.indexOf(item);
    const canOpen = item.hasAttribute("aria-expanded");
    const moves = {
      ArrowDown: () => all[at + 1],
      ArrowUp: () => all[at - 1],
      Home: () => all[0],
      End: () => all.at(-1),
      ArrowRight: () => (canOpen && isOpen(item) ? all[at + 1] : canOpen && toggle(item)),
      ArrowLeft: () => (canOpen && isOpen(item) ? toggle(item) : parentOf(item)),
      Enter: () => act(item),
      " ": () => act(item),
    };
    if (moves[event.key]) {
      event.preventDefault();
      const next = moves[event.key]();
      if (next) focus(next);
    } else if (event.key.length === 1) {
      typed = event.timeStamp - typedAt > SPOKEN_AFTER ? event.key : typed + event.key;
      typedAt = event.timeStamp;
      const from = typed.length === 1 ? at + 1 : at;
      const word = typed.toLowerCase();
      const next = [...all.slice(from), ...all.slice(0, from)].find((one) => {
        const text = one.textContent.toLowerCase();
        return text.startsWith(word) || text.slice(text.indexOf("=") + 1).startsWith(word);
      });
      if (next) focus(next);
    }
  }

  /** Opens everything above an object and selects it. `known`: it is there, even if it is on no page that is loaded. */
  async function reveal(fdn, known) {
    let level = top;
    let found = null;
    for (const part of lineage(fdn)) {
      await (level.loaded ?? page(level));
      let item = items.get(part);
      if (!item) {
        if (!known || level.next === null) break;
        const rdn = part.slice(part.lastIndexOf("/") + 1);
        item = itemOf({ fdn: part, rdn, cmHandle: part === fdn ? known : null, below: part === fdn ? 0 : 1 }, level.level);
        level.list.lastElementChild.before(item);
      }
      found = part;
      if (part === fdn || !levels.has(part)) break;
      await open(item);
      level = levels.get(part);
    }
    if (found) select(found);
    items.get(found)?.scrollIntoView({ block: "nearest" });
  }

  return {
    element,
    reveal,
    /** Loads the topmost objects and opens those of the given ones that are there; resolves to how many there are. */
    async start(opened) {
      await page(top);
      for (const fdn of [...opened].sort((one, other) => one.length - other.length)) {
        const item = items.get(fdn);
        if (item) await open(item);
      }
      return items.size;
    },
    /** Puts the focus on the line that has it last. */
    focus: () => element.querySelector('[tabindex="0"]')?.focus(),
    failed: () => top.failed === true,
    opened: () => [...items.values()].filter(isOpen).map((item) => item.dataset.fdn),
  };
}
