"use strict";
// Choose a setting, a metric and runs; sort a table by a column. Without this script every table stands open.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const choose = (id, kind) => {
    const select = document.getElementById(id);
    if (!select) return;
    const show = () => all(`[data-${kind}]`).forEach(block => { block.hidden = block.dataset[kind] !== select.value; });
    select.addEventListener("change", show);
    show();
  };
  choose("choose-setting", "setting");
  choose("choose-metric", "metric");
  all(".choose").forEach(one => { one.hidden = false; });
  const runs = all("input[name=run]");
  const filter = () => {
    const off = new Set(runs.filter(box => !box.checked).map(box => box.value));
    all("tr[data-run]").forEach(row => { row.hidden = off.has(row.dataset.run); });
  };
  runs.forEach(box => box.addEventListener("change", filter));
  filter();
  const value = (row, column) => {
    const text = row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
    const number = Number.parseFloat(text);
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    // What is not known stands last in either direction.
    const missing = [a, b].map(one => one === "–" || one === "");
    if (missing[0] || missing[1]) return missing[0] === missing[1] ? 0 : missing[0] ? Infinity : -Infinity;
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  };
  all("table thead button").forEach(button => button.addEventListener("click", () => {
    const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    const column = head.cellIndex, down = head.getAttribute("aria-sort") === "ascending";
    all("th", table.tHead).forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].map((row, place) => ({ row, place, key: value(row, column) }));
    rows.sort((a, b) => {
      const order = compare(a.key, b.key);
      return (Number.isFinite(order) ? (down ? -order : order) : Math.sign(order)) || a.place - b.place;
    });
    body.append(...rows.map(one => one.row));
  }));
})();
