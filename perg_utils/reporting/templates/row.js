/* One row in full: question, options, preferences, both responses, rating, status. */

/** A new element; children are elements or texts, never markup. */
function make(tag, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const soft = (text) => make("span", { className: "soft" }, text);

/** What became of the row, coloured. */
function badge(read, row) {
  const { kind, text } = read.verdict(row);
  return make("span", { className: `verdict ${kind.replace(" ", "-")}` }, text);
}

/** The elements that show `row` beside its baseline `base`; `own` and `without` are their texts, `without` may be null. */
function described(data, read, row, own, base, without) {
  const { word, example } = read, said = (name) => word(name, row);
  const place = [read.source(row), example("subject", row), example("example_id", row)].filter(Boolean).join(" · ");
  return [
    make("h3", {}, `${said("model")} · ${said("method")} · ${said("setting")} `, badge(read, row)),
    make("p", { className: "soft" }, place),
    make("p", { className: "question" }, example("question", row)),
    options(read, row, without ? base : null),
    ...preferences(data, read, row, own.shown),
    make("div", { className: "arms" }, without && arm(read, "Without preference", base, without),
      arm(read, without ? "With" : "Response", row, own)),
    ...rating(read, row, own.explanation),
    make("h4", {}, "Status"),
    make("p", { className: "soft" }, statuses(read, row)),
  ];
}

function options({ word, example }, row, base) {
  const gold = example("gold", row), own = word("answer", row), before = base === null ? null : word("answer", base);
  const marks = (letter) => [
    letter === gold && "gold", letter === before && "without", letter === own && (base === null ? "answer" : "with"),
  ].filter(Boolean).map((name) => make("span", { className: `tag ${name}` }, name));
  const items = example("options", row).map((option, i) => make("li", {}, `${option} `, ...marks(String.fromCharCode(65 + i))));
  return make("ol", { className: "options" }, ...items);
}

function preferences({ index }, read, row, shown) {
  if (read.word("setting", row) === "placebo") return [make("p", {}, soft("A neutral sentence stood in place of the preference."))];
  if (!shown.length) return [];
  const { text, category } = index.preferences;
  const items = shown.map((p) => (read.isShown(row, p)
    ? make("li", { className: "relevant" }, `${text[p]} (${category[p]})`) : make("li", {}, text[p] ?? p))); // p: an unknown id
  return [make("h4", {}, shown.length > 1 ? "Preferences shown" : "Preference shown"), make("ul", {}, ...items)];
}

function arm({ word, ownLetters }, title, row, { response, stages }) {
  const how = [word("layer", row), word("how", row), word("answer_status", row), ownLetters(row)].filter((s) => s && s !== "ok").join(", ");
  const staged = stages.length > 1 || (stages.length === 1 && stages[0] !== response);
  const steps = stages.map((text, i) => make("div", { className: "text stage" }, make("b", {}, `${i + 1} `), text));
  return make("section", {},
    make("h4", {}, `${title}: ${word("answer", row) ?? "no letter"} `, soft(how ? `(${how})` : "")),
    make("div", { className: "text" }, response ?? `no response (${word("status", row)})`),
    staged ? make("details", { open: true }, make("summary", {}, "Stages"), ...steps) : null);
}

function rating({ word }, row, explanation) {
  if (!["relevant", "mixed"].includes(word("setting", row))) return [];
  const value = word("rating", row), status = word("judgement_status", row), judge = word("judge", row);
  const said = value ? `${value} of 5` : `none${status ? ` (${status})` : ""}`;
  return [make("h4", {}, `Rating: ${said} `, soft(judge ? `by ${judge}` : "")), make("p", {}, explanation ?? "")];
}

function statuses({ word, verdict }, row) {
  const pairs = {
    outcome: verdict(row).text, response: word("status", row), letter: word("answer_status", row),
    score: word("score_status", row), "finish reason": word("finish_reason", row),
    fallback: word("fallback", row) ? "second stage unreadable, the first stands" : null,
  };
  return Object.entries(pairs).filter(([, value]) => value).map(([name, value]) => `${name}: ${value}`).join("; ");
}
