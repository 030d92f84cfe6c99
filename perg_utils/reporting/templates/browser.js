/* The response browser: filters are plain form controls, the list is SlickGrid, a row opens in a <dialog>. */

const byId = (id) => document.getElementById(id);

function browse(data) {
  const { index, columns, n } = data, read = reader(data);
  const { choices, sourceOf, categoryOf, bit, word, example } = read;

  /* Filters. */
  const filters = Object.fromEntries([...Object.keys(choices), "outcome"].map((name) => [name, byId(`filter-${name}`)]));
  for (const [name, own] of Object.entries(choices)) {
    own.forEach((choice, i) => { if (i) filters[name].append(new Option(choice, i)); });
  }
  const present = columns.outcome.reduce((all, bits) => all | bits, 0);
  for (const name of Object.keys(bit)) {
    if (present & bit[name]) filters.outcome.append(new Option(`${name}: ${index.outcomes[name]}`, bit[name]));
  }

  let view = new Uint32Array(0), asked = 0, found = null; // found: hits of the last search in responses, with its words
  let order = null; // {name, ascending}

  function chosen(questionHits, responseHits) {
    const { example, preference, model, method, setting, outcome } = columns, out = new Uint32Array(n);
    const at = Object.fromEntries(Object.entries(filters).map(([name, select]) => [name, Number(select.value)]));
    let count = 0;
    for (let row = 0; row < n; row++) {
      if ((at.model && model[row] !== at.model) || (at.method && method[row] !== at.method)
        || (at.setting && setting[row] !== at.setting) || (at.source && sourceOf[example[row]] !== at.source)
        || (at.category && categoryOf[preference[row]] !== at.category) || (at.outcome && !(outcome[row] & at.outcome))
        || (questionHits && !questionHits[example[row]] && !(responseHits && responseHits[row]))) continue;
      out[count++] = row;
    }
    return sorted(out.slice(0, count));
  }

  function sorted(rows) {
    if (!order) return rows;
    const key = {
      outcome: (row) => columns.outcome[row], question: (row) => columns.example[row],
      source: (row) => sourceOf[columns.example[row]], category: (row) => categoryOf[columns.preference[row]],
      answer: (row) => columns.answer[row],
    }[order.name] ?? ((row) => columns[order.name][row]);
    // One number a row, code before place: numbers sort without a comparing function, and ties keep their order.
    const keys = Float64Array.from(rows, (row) => key(row) * n + row).sort();
    const out = Uint32Array.from(keys, (value) => value % n);
    return order.ascending ? out : out.reverse();
  }

  async function refresh() {
    const mine = ++asked, typed = byId("search").value.trim(), began = performance.now();
    let questionHits = null, responseHits = null;
    byId("progress").hidden = true;
    if (typed) {
      const pattern = patternOf(typed);
      const ids = index.examples.example_id;
      questionHits = Uint8Array.from([0, ...index.examples.question.map((q, i) => pattern.test(q) || ids[i] === typed)]);
      if (byId("search-responses").checked) {
        const latest = found?.typed === typed ? found : await searching(pattern, typed, () => mine !== asked);
        if (mine !== asked) return;
        found = latest;
        responseHits = found?.hits;
      }
    }
    view = chosen(questionHits, responseHits);
    grid.resetActiveCell();
    grid.invalidateAllRows();
    grid.updateRowCount();
    grid.scrollRowToTop(0);
    grid.render();
    byId("empty").hidden = view.length > 0;
    byId("shown").textContent = `${view.length.toLocaleString("en")} of ${n.toLocaleString("en")} rows`;
    byId("browser").dataset.milliseconds = (performance.now() - began).toFixed(1);
  }

  async function searching(pattern, typed, stopped) {
    const bar = byId("progress");
    bar.hidden = false;
    bar.value = 0;
    try {
      const hits = await searchResponses(data, pattern, (share) => { bar.value = share; }, stopped);
      return hits && { typed, hits };
    } catch (error) {
      complain(error);
      return null;
    } finally {
      if (!stopped()) bar.hidden = true;
    }
  }

  /* The list. */
  const small = matchMedia("(max-width: 45rem)");
  const cell = (name, title, width, text) =>
    ({ id: name, name: title, field: name, width, sortable: true, formatter: (r, c, v, d, { row }) => text(row) });
  const question = (row) => example("question", row);
  const wide = [
    cell("outcome", "Outcome", 185, (row) => badge(read, row)),
    cell("question", "Question", 320, question),
    cell("answer", "Answer", 120, read.letters),
    cell("model", "Model", 110, (row) => word("model", row)),
    cell("method", "Method", 125, (row) => word("method", row)),
    cell("setting", "Setting", 85, (row) => word("setting", row)),
    cell("category", "Category", 90, (row) => read.category(row) ?? ""),
    cell("source", "Source", 75, read.source),
  ];
  const twoLines = (row) => make("div", { className: "two-lines" },
    make("div", {}, question(row)),
    make("div", {}, `${word("model", row)} · ${word("method", row)} · ${word("setting", row)} `, badge(read, row)));
  const narrow = [cell("question", "Question, model · method · setting, outcome", 300, twoLines)];
  const options = () => ({ rowHeight: small.matches ? 52 : 32 });
  const grid = new Slick.Grid("#grid", { getLength: () => view.length, getItem: (i) => ({ row: view[i] }) },
    small.matches ? narrow : wide,
    { ...options(), autosizeColsMode: "LFF", forceFitColumns: true, enableColumnReorder: false, enableHtmlRendering: false,
      multiColumnSort: false, headerRowHeight: 32, enableTextSelectionOnCells: true });
  grid.onSort.subscribe((event, args) => { order = { name: args.sortCol.id, ascending: args.sortAsc }; refresh(); });
  grid.onClick.subscribe((event, { row }) => open(row));
  grid.onKeyDown.subscribe((event, { row }) => { if (event.key === "Enter" && row !== undefined) open(row); });
  small.addEventListener("change", () => { grid.setOptions(options()); grid.setColumns(small.matches ? narrow : wide); });
  addEventListener("resize", () => grid.resizeCanvas());

  // SlickGrid takes Tab for going from cell to cell and makes every pane a stop: here the list is one stop.
  const frame = byId("grid"), stop = frame.firstElementChild;
  frame.setAttribute("aria-label", "Responses");
  frame.querySelectorAll("[tabindex]").forEach((element) => { if (element !== stop) element.tabIndex = -1; });
  frame.addEventListener("keydown", (event) => { if (event.key === "Tab") event.stopPropagation(); }, true);
  stop.addEventListener("focus", () => { if (!grid.getActiveCell() && view.length) grid.setActiveCell(0, 0); });

  /* One row. */
  const dialog = byId("row");
  let opened = 0;

  async function open(position) {
    opened = position;
    const row = view[position], base = columns.base[row];
    try {
      const [own, without] = await Promise.all([textsOfRow(data, row), base ? textsOfRow(data, base - 1) : null]);
      if (opened !== position) return;
      byId("row-body").replaceChildren(...described(data, read, row, own, base - 1, without));
    } catch (error) {
      byId("row-body").replaceChildren(make("p", { className: "warn" }, error.message));
    }
    byId("row-place").textContent = `${(position + 1).toLocaleString("en")} of ${view.length.toLocaleString("en")}`;
    byId("row-before").disabled = position === 0;
    byId("row-after").disabled = position === view.length - 1;
    if (!dialog.open) dialog.showModal();
    byId("row-body").scrollTop = 0;
    grid.setActiveCell(position, 0);
    grid.scrollRowIntoView(position, false);
  }

  const step = (by) => { if (view[opened + by] !== undefined) open(opened + by); };
  byId("row-before").addEventListener("click", () => step(-1));
  byId("row-after").addEventListener("click", () => step(1));
  byId("row-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });

  let pause;
  for (const select of Object.values(filters)) select.addEventListener("input", refresh);
  byId("search-responses").addEventListener("input", refresh);
  byId("search").addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(refresh, 150); });
  byId("filters").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(pause); refresh(); });
  byId("filters").addEventListener("reset", () => setTimeout(refresh));
  refresh();
}

function complain(error) {
  byId("trouble").textContent = error.message;
  byId("trouble").hidden = false;
}

openRows().then((data) => {
  byId("browser").hidden = false;
  browse(data);
  byId("loading").remove();
  byId("browser").dataset.ready = "yes";
}).catch((error) => { byId("loading").remove(); complain(error); });
