"use strict";
/* The rows of the run, as written by perg_utils/browser.py: codes at once, texts when they are asked for. */

const FOLDER = "responses", REMEMBERED = 150e6; // characters of text that stay in memory
const stamps = JSON.parse(document.getElementById("stamps").textContent);
const awaited = new Map(); // piece that was asked for -> what to do when it is there

/** Called by the files beside this page. */
function perg(name, stamp, payload) {
  const { resolve, reject } = awaited.get(name) ?? {};
  if (!resolve) return;
  if (stamp === stamps[name]) resolve(payload);
  else reject(new Error(`${FOLDER}/${name}.js is of another run than this page; render the report again.`));
}

/** The packed piece: from this page where it is small, else from the file beside it. */
function packed(name) {
  const own = document.getElementById(`part-${name}`);
  if (own) return Promise.resolve(own.textContent);
  return new Promise((resolve, reject) => {
    awaited.set(name, { resolve, reject });
    const script = document.createElement("script");
    script.onload = () => script.remove();
    script.onerror = () => {
      script.remove();
      reject(new Error(`${FOLDER}/${name}.js is not there. The folder "${FOLDER}" belongs beside this page.`));
    };
    script.src = `${FOLDER}/${name}.js`;
    document.head.append(script);
  }).finally(() => awaited.delete(name));
}

async function unpacked(name) {
  const text = atob(await packed(name));
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

const readJson = (buffer) => JSON.parse(new TextDecoder().decode(buffer));

/** Everything but the texts: {index, columns: {name: typed array}, n}. */
async function openRows() {
  const [head, block] = await Promise.all([unpacked("index"), unpacked("columns")]);
  const index = readJson(head), columns = {};
  let at = 0;
  for (const [name, width] of Object.entries(index.columns)) {
    columns[name] = new { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[width](block, at, index.rows);
    at += width * index.rows;
  }
  return { index, columns, n: index.rows };
}

/** What the codes of a row say: functions of the row's number, in the words of the tables. */
function reader({ index, columns }) {
  const { words, examples, preferences } = index;
  const choices = {
    model: words.model, method: words.method, setting: words.setting,
    source: [null, ...new Set(examples.source)],
    category: [null, ...new Set(preferences.category.filter(Boolean))],
  };
  // Source and category belong to the question and to the preference; position 0 stands for none.
  const sourceOf = Uint8Array.from([0, ...examples.source.map((s) => choices.source.indexOf(s))]);
  const categoryOf = Uint8Array.from([0, ...preferences.category.map((c) => (c ? choices.category.indexOf(c) : 0))]);
  const outcomes = Object.keys(index.outcomes);
  const bit = Object.fromEntries(outcomes.map((name, i) => [name, 1 << i]));
  const word = (name, row) => words[name][columns[name][row]];
  const example = (name, row) => examples[name][columns.example[row] - 1];

  function verdict(row) {
    const has = (name) => columns.outcome[row] & bit[name];
    const moved = ["broke", "fixed", "stayed right", "stayed wrong", "right", "wrong"].find(has);
    const missing = has("not scored") ? (moved ? "not rated" : "not scored") : null;
    const said = [moved, has("not followed") && "not followed", has("names no option") && "names no option", missing];
    return { kind: moved ?? "unknown", text: said.filter(Boolean).join(", ") || "not scored" };
  }

  function letters(row) {
    const base = columns.base[row], own = word("answer", row) ?? "–";
    return `${base ? `${word("answer", base - 1) ?? "–"} → ` : ""}${own} (gold ${example("gold", row)})`;
  }

  /** A released text names its options in the order of its own file. */
  function ownLetters(row) {
    const order = columns.order ? word("order", row) : null, own = word("answer", row);
    if (!order) return null;
    const said = own ? `; ${own} is ${String.fromCharCode(65 + order.indexOf(own))} there` : "";
    return `options in its own order: ${[...order].join(" ")}${said}`;
  }

  return {
    choices, sourceOf, categoryOf, bit, word, example, verdict, letters, ownLetters,
    source: (row) => choices.source[sourceOf[columns.example[row]]],
    category: (row) => choices.category[categoryOf[columns.preference[row]]],
    isShown: (row, preference) => preference + 1 === columns.preference[row],
  };
}

const pieces = new Map(); // number -> promise of {texts, sets, rows, size}; the latest last

/** The i-th piece of texts. Old ones are forgotten when many are in memory. */
function textsOf(i) {
  const known = pieces.get(i);
  pieces.delete(i);
  const piece = known ?? unpacked(String(i).padStart(4, "0")).then((buffer) => {
    const read = { ...readJson(buffer), size: buffer.byteLength };
    piece.size = read.size;
    let total = 0;
    for (const p of pieces.values()) total += p.size ?? 0;
    for (const [key, p] of pieces) {
      if (total <= REMEMBERED) break;
      if (p !== piece && p.size) { total -= p.size; pieces.delete(key); }
    }
    return read;
  });
  pieces.set(i, piece);
  piece.catch(() => pieces.delete(i));
  return piece;
}

/** The texts of one row: {response, explanation, shown: [preference], stages: [text]}. */
async function textsOfRow(data, row) {
  const { first } = data.index;
  let low = 0, high = first.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (first[middle] <= row) low = middle; else high = middle - 1;
  }
  const piece = await textsOf(low);
  const [response, explanation, shown, ...stages] = piece.rows[row - first[low]];
  const text = (code) => (code < 0 ? null : piece.texts[code]);
  return {
    response: text(response), explanation: text(explanation), shown: piece.sets[shown],
    stages: stages.filter((code) => code >= 0).map(text),
  };
}

/** Literal, letters of either case, any white space between words. */
function patternOf(words) {
  return new RegExp(words.trim().replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace(/\s+/g, "\\s+"), "iu");
}

/** Which rows have a response that matches, or null when `stopped()`; calls `progress(share)` on the way. */
async function searchResponses(data, pattern, progress, stopped) {
  const { first } = data.index, hits = new Uint8Array(data.n);
  for (let i = 0; i < first.length; i++) {
    const piece = await textsOf(i);
    if (stopped()) return null;
    if (i + 1 < first.length) textsOf(i + 1).catch(() => {}); // comes while this one is searched; awaited in its turn
    const found = piece.texts.map((text) => pattern.test(text));
    piece.rows.forEach((row, j) => { hits[first[i] + j] = row[0] >= 0 && found[row[0]] ? 1 : 0; });
    progress((i + 1) / first.length);
  }
  return hits;
}
