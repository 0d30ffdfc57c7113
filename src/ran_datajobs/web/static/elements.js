// SPDX-License-Identifier: Apache-2.0
// Elements. Whatever comes from the service is put in as text; nothing is ever parsed as markup.

/** An element. `on…` properties are listeners, `null`/`false` attributes are left out, children are nodes or text. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Makes `parent` hold `nodes`, keeping every child that already looks the same (and with it the focus). */
export function settle(parent, nodes) {
  const wanted = nodes.flat().filter((node) => node !== null && node !== undefined && node !== false);
  wanted.forEach((node, index) => {
    const present = parent.childNodes[index];
    const next = typeof node === "string" ? document.createTextNode(node) : node;
    if (!present) parent.append(next);
    else if (present !== next && !present.isEqualNode(next)) present.replaceWith(next);
  });
  while (parent.childNodes.length > wanted.length) parent.lastChild.remove();
}

/**
 * A table whose rows follow a list. Columns: `{label, cell(row) → node or text, kind?}`.
 * `key(row)` tells rows apart, so that an update touches only the cells that changed.
 * Roles are written out because the narrow layout turns rows into blocks, which would drop them.
 */
export function table(caption, columns, key) {
  const body = h("tbody", { role: "rowgroup" });
  const head = columns.map((column) =>
    h("th", { role: "columnheader", scope: "col", class: column.kind }, column.label));
  const element = h("table", { role: "table" },
    h("caption", { class: "unseen" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)), body);
  const cells = (row) => columns.map((column) =>
    h("td", { role: "cell", class: column.kind, "data-label": column.label }, column.cell(row)));
  return {
    element,
    show(rows) {
      const present = new Map([...body.children].map((line) => [line.dataset.key, line]));
      const wanted = rows.map((row) => {
        const line = present.get(String(key(row))) ?? h("tr", { role: "row", "data-key": key(row) });
        settle(line, cells(row));
        return line;
      });
      settle(body, wanted);
    },
  };
}

/** A table of a list that can be long: the first `step` rows, and a button for `step` more. */
export function longTable(caption, columns, rows, step = 100) {
  const { element, show } = table(caption, columns, (row) => rows.indexOf(row));
  const more = h("button", { type: "button", class: "quiet" });
  let shown = 0;
  const grow = () => {
    shown = Math.min(shown + step, rows.length);
    show(rows.slice(0, shown));
    more.textContent = `Show ${Math.min(step, rows.length - shown)} more of ${rows.length - shown}`;
    more.hidden = shown === rows.length;
  };
  more.addEventListener("click", grow);
  grow();
  return h("div", {}, element, more);
}

/** A line that tells what is going on where there is nothing to show: loading, empty, or an error. */
export function notice(text, kind = "empty") {
  return h("p", { class: `notice ${kind}`, role: kind === "error" ? "alert" : "status" }, text);
}

/** Offers bytes to the reader as a file. */
export function saveAs(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = h("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
