"use strict";
// Names on this page are other people's: they become text nodes and attribute values, never markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const QUADRANTS = ["internal-learned", "internal-fixed", "external-learned", "external-fixed"];
const FILTERS = { task: (g) => g.task, model: (g) => g.model, L: (g) => String(g.prefix) };
const [N, TOKENS, CONS, LOW, HIGH] = [0, 1, 2, 3, 4]; // a curve's point
const DASHES = ["", "6 3", "2 2.5", "9 3 2 3", "12 4", "5 2 1 2 1 2"];
const BLANK = "–";
let view = new URLSearchParams(); // everything that a link restores

function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const unique = (values) => [...new Set(values)];

function number(value, digits) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** "0.5 [0.4, 0.6]" with the interval muted. */
function withInterval(text) {
  const at = text.indexOf(" [");
  return at < 0 ? [text] : [text.slice(0, at), el("small", {}, text.slice(at))];
}

// ---- the view and its link

function change(edit) {
  edit(view);
  for (const [key, value] of [...view]) if (value === "") view.delete(key);
  // Only the fragment changes, which a browser allows for files too.
  history.replaceState(null, "", "#" + view);
  render();
}

function toggle(key, value) {
  change((v) => {
    const others = v.getAll(key).filter((other) => other !== value);
    const had = others.length < v.getAll(key).length;
    v.delete(key);
    for (const kept of had ? others : [...others, value]) v.append(key, kept);
  });
}

function restore() {
  view = new URLSearchParams(location.hash.slice(1));
  render();
}

const gamma = () => (gammas.includes(view.get("gamma")) ? view.get("gamma") : gammas[0]);

// ---- filters

function choice(key, label) {
  const options = unique(DATA.tables.map(FILTERS[key])).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const select = el("select", { name: key, onchange: () => change((v) => v.set(key, select.value)) }, el("option", { value: "" }, "all"),
    ...options.map((option) => el("option", { value: option }, option)));
  return el("label", {}, label, select);
}

function buildFilters() {
  const kinds = unique([...QUADRANTS, ...DATA.tables.flatMap((g) => g.rows.map((r) => r.texts[1]))]);
  const text = el("input", { type: "search", name: "q", placeholder: "name of a pruner", oninput: () => change((v) => v.set("q", text.value)) });
  const chips = kinds.map((kind) => el("button", { type: "button", class: "chip", "data-q": kind, "data-type": kind, onclick: () => toggle("type", kind) }, kind));
  const all = el("button", { type: "button", id: "columns", onclick: () => toggle("columns", "all") }, "all columns");
  const reset = el("button", { type: "button", id: "reset", onclick: () => change((v) => [...v.keys()].forEach((key) => v.delete(key))) }, "reset");
  const form = document.getElementById("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.append(choice("task", "task"), choice("model", "model"), choice("L", "L"), el("label", { class: "grow" }, "pruner", text),
    el("div", { class: "chips", role: "group", "aria-label": "type of pruner" }, ...chips), el("div", { class: "tools" }, all, reset, el("output", { id: "count" })));
}

function syncFilters() {
  for (const key of Object.keys(FILTERS)) document.querySelector(`#filters [name=${key}]`).value = view.get(key) || "";
  const text = document.querySelector("#filters [name=q]");
  if (text.value !== (view.get("q") || "")) text.value = view.get("q") || "";
  for (const chip of document.querySelectorAll("#filters .chip")) chip.setAttribute("aria-pressed", view.getAll("type").includes(chip.dataset.type));
  document.getElementById("columns").setAttribute("aria-pressed", view.has("columns"));
  document.getElementById("reset").disabled = !view.size;
}

const matches = (group) => Object.entries(FILTERS).every(([key, of]) => !view.get(key) || view.get(key) === of(group));

function passes(row) {
  const [name, kind] = row.texts, kinds = view.getAll("type");
  return (!kinds.length || kinds.includes(kind)) && name.toLowerCase().includes((view.get("q") || "").toLowerCase());
}

// ---- tables

function buildTable(group) {
  const table = { group, active: null, spots: [] };
  // The scale is that of the methods: an oracle's bar may end at its edge.
  const at = column(group, "gain"), gains = group.rows.flatMap((r) => (r.muted || !r.values[at] ? [] : r.values[at]));
  const reach = [Math.min(0, ...gains), Math.max(0, ...gains)];
  table.rows = group.rows.map((data) => ({ data, tr: buildRow(table, data, reach) }));
  table.heads = group.columns.map((c) => el("th", { scope: "col", class: cellClass(c), "data-key": c.key },
    el("button", { type: "button", onclick: () => sortBy(table, c) }, c.label)));
  table.body = el("tbody");
  const grid = el("table", {}, el("caption", {}, `${heading(group)}, ${origin(group)}`), el("thead", {}, el("tr", {}, ...table.heads)), table.body);
  table.grid = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `table ${heading(group)}, ${origin(group)}` }, grid);
  const facts = [["sampling", group.sampling], ["seed", group.seed],
    ["L", `${group.prefix} tokens, ${group.share} of the mean length`], ["pool", `${group.problems} problems × ${group.n} paths`]];
  const download = el("button", { type: "button", class: "csv", onclick: () => save(table) }, "Download CSV");
  table.section = el("section", { "data-slug": group.slug },
    el("div", { class: "head" }, el("h2", { tabindex: "-1" }, heading(group), " ", el("small", {}, origin(group))), download),
    el("dl", { class: "facts" }, ...facts.map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, String(value))))),
    ...group.warnings.map((text) => el("p", { class: "warning", role: "note" }, text)),
    table.grid, buildChart(table), el("p", { class: "about" }, group.about));
  table.card = buildCard(table);
  return table;
}

const heading = (group) => `${group.task} · L = ${group.prefix}`;
const origin = (group) => `model ${group.model}, engine ${group.engine}`;
const column = (group, key) => group.columns.findIndex((c) => c.key === key);
const cellClass = (c) => (c.numeric ? "number" : "text") + (c.brief ? "" : " wide");

function buildCard(table) {
  const { group } = table, at = column(group, "gain");
  const first = group.rows.filter((r) => r.competes && r.values[at]).sort((a, b) => b.values[at][0] - a.values[at][0])[0];
  const best = first ? el("span", { class: "best" }, el("b", {}, first.texts[0]), " ", ...withInterval(first.texts[at])) : null;
  const jump = () => { table.section.scrollIntoView(); table.section.querySelector("h2").focus({ preventScroll: true }); };
  return el("button", { type: "button", class: "card", onclick: jump }, el("span", { class: "what" }, heading(group)),
    el("small", {}, `${group.model}, ${group.engine}`), best);
}

function buildRow(table, row, reach) {
  const { columns } = table.group;
  const name = row.line === null ? el("span", { class: "name" }, row.texts[0])
    : el("button", { type: "button", class: "name", title: "show or hide its line in the chart" }, row.texts[0]);
  const stale = row.stale ? el("mark", { class: "stale", title: "made by older code" }, "stale") : null;
  const first = el("th", { scope: "row", "data-q": row.texts[1] }, name, stale);
  const cells = columns.slice(1).map((c, i) => buildCell(c, row.texts[i + 1], row.values[i + 1], reach));
  const tr = el("tr", { class: [row.muted ? "muted" : "", row.stale ? "old" : ""].join(" ").trim() || null }, first, ...cells);
  if (row.line !== null) tr.addEventListener("click", () => toggle(`line.${table.group.slug}`, row.line));
  return tr;
}

function buildCell(c, text, value, reach) {
  const attributes = { class: cellClass(c), "data-key": c.key };
  if (value === null) return el("td", attributes, el("span", { role: "img", "aria-label": "n/a" }, BLANK));
  if (c.key === "type") return el("td", attributes, el("span", { class: "kind", "data-q": text }, text));
  if (!Array.isArray(value)) return el("td", attributes, text);
  const rule = value.length > 3 ? `${value[3]} ` : "";
  return el("td", attributes, c.key === "gain" ? bar(value, reach) : null, rule ? el("small", {}, rule) : null, ...withInterval(text.slice(rule.length)));
}

/** A gain's interval against zero. */
function bar([mean, low, high], [least, most]) {
  const x = (v) => Math.max(3, Math.min(101, 3 + (98 * (v - least)) / (most - least || 1)));
  const [from, to] = low === null ? [mean, mean] : [low, high];
  return svg("svg", { class: "bar " + (from > 0 ? "better" : to < 0 ? "worse" : "even"), width: 104, height: 16, "aria-hidden": "true" },
    svg("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: 16 }),
    svg("line", { x1: x(from), x2: x(to), y1: 8, y2: 8 }), svg("circle", { cx: x(mean), cy: 8, r: 3.5 }));
}

function sortBy(table, c) {
  const key = `sort.${table.group.slug}`, first = c.numeric ? "down" : "up";
  const other = first === "down" ? "up" : "down";
  change((v) => v.set(key, `${c.key}.${v.get(key) === `${c.key}.${first}` ? other : first}`));
}

function sorted(table) {
  const [key, way] = (view.get(`sort.${table.group.slug}`) || "").split("."), at = column(table.group, key);
  if (at < 0) return [table.rows, -1, ""];
  const value = (row) => { const cell = row.data.values[at]; return Array.isArray(cell) ? cell[0] : cell; };
  const missing = (row) => value(row) === null || value(row) === "";
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  const rows = [...table.rows].sort((a, b) => missing(a) - missing(b) || (missing(a) ? 0 : (way === "down" ? -1 : 1) * compare(value(a), value(b))));
  return [rows, at, way];
}

function renderTable(table) {
  const [rows, at, way] = sorted(table);
  table.heads.forEach((th, i) => (i === at ? th.setAttribute("aria-sort", way === "down" ? "descending" : "ascending") : th.removeAttribute("aria-sort")));
  table.shown = matches(table.group) ? rows.filter((row) => passes(row.data)) : [];
  table.section.hidden = table.card.hidden = !table.shown.length;
  table.grid.classList.toggle("brief", !view.has("columns"));
  // Rows that stay where they are are not moved: a moved element loses the focus.
  if (table.shown.some((row, i) => table.body.children[i] !== row.tr) || table.shown.length !== table.body.children.length) {
    table.body.replaceChildren(...table.shown.map((row) => row.tr));
  }
  const lines = chosen(table).map((line) => line.name);
  for (const { data, tr } of table.rows) if (data.line !== null) tr.querySelector(".name").setAttribute("aria-pressed", lines.includes(data.line));
  draw(table);
}

function render() {
  syncFilters();
  tables.forEach(renderTable);
  const visible = tables.filter((t) => t.shown.length), rows = visible.reduce((sum, t) => sum + t.shown.length, 0);
  document.getElementById("count").textContent = `${rows} rows in ${visible.length} of ${tables.length} tables`;
}

// ---- download

function csv(table) {
  const { columns } = table.group, all = view.has("columns");
  const wanted = columns.map((c, i) => i).filter((i) => all || columns[i].brief);
  const width = (i) => Math.max(...table.group.rows.map((row) => (Array.isArray(row.values[i]) ? row.values[i].length : 1)));
  const head = wanted.flatMap((i) => ["", " low", " high", " rule"].slice(0, width(i)).map((end) => columns[i].label + end));
  const line = (row) => wanted.flatMap((i) => {
    const cell = row.data.values[i], parts = Array.isArray(cell) ? cell : [cell];
    return Array.from({ length: width(i) }, (_, j) => parts[j] ?? "");
  });
  return [head, ...table.shown.map(line)].map((cells) => cells.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function quoted(value) {
  // A spreadsheet would run a name that begins like a formula.
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function save(table) {
  const url = URL.createObjectURL(new Blob([csv(table)], { type: "text/csv;charset=utf-8" }));
  el("a", { href: url, download: `${table.group.slug}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// ---- charts

const gammas = unique(DATA.tables.flatMap((g) => g.lines.flatMap((l) => Object.keys(l.points))))
  .filter((g) => Number(g) > 0 && Number(g) < 1).sort((a, b) => a - b);
const points = (line) => line.points[gamma()] || line.points["1"] || line.points["0"] || [];
const lastCons = (line) => points(line).at(-1)?.[CONS] ?? -1;

/** The lines shown without a choice: both controls, and the best of each quadrant at the smallest share finished. */
function usual({ lines }) {
  const end = (line) => line.points[gammas[0]]?.at(-1)?.[CONS] ?? -1;
  const best = QUADRANTS.map((kind) => lines.filter((l) => l.quadrant === kind && l.points[gammas[0]]).sort((a, b) => end(b) - end(a))[0]);
  return unique([...lines.filter((l) => l.name === "no pruning" || l.name === "random"), ...best.filter(Boolean)]);
}

function chosen({ group }) {
  const toggled = view.getAll(`line.${group.slug}`), standard = usual(group);
  return group.lines.filter((l) => standard.includes(l) !== toggled.includes(l.name));
}

function buildChart(table) {
  const { group } = table, shares = el("div", { class: "shares", role: "group", "aria-label": "share of the paths finished" });
  const pick = (g) => change((v) => v.set("gamma", g));
  shares.append(...gammas.map((g) => el("button", { type: "button", "data-gamma": g, onclick: () => pick(g) }, `1/${+(1 / g).toFixed(2)}`)));
  table.tip = el("div", { class: "tip", role: "status", hidden: "" });
  const near = (event) => hover(table, event), none = () => point(table, null);
  const label = `Chart of cons@N against tokens, ${heading(group)}; arrow keys move between points`;
  table.svg = svg("svg", { class: "chart", tabindex: "0", role: "group", "aria-label": label, onpointermove: near, onpointerdown: near,
    // A lifted finger leaves too, and its tooltip is still to be read.
    onpointerleave: (event) => event.pointerType === "touch" || none(), onblur: none, onkeydown: (event) => walk(table, event) });
  table.plot = el("div", { class: "plot" }, table.svg, table.tip);
  table.legend = el("div", { class: "legend", role: "group", "aria-label": "lines" });
  new ResizeObserver(() => draw(table)).observe(table.plot);
  const title = el("span", {}, el("b", {}, "cons@N against tokens per problem"), "when the best", shares, "of N are finished");
  const hint = el("small", {}, " click a row of the table to add or remove its line");
  return el("figure", {}, el("figcaption", {}, title, hint), el("div", { class: "panel" }, table.plot, table.legend));
}

function steps(low, high, width) {
  const marks = [], wide = Math.log10(high / low) < width / 180;
  for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) {
    for (const m of wide ? [1, 2, 5] : [1]) if (m * 10 ** e >= low && m * 10 ** e <= high) marks.push(m * 10 ** e);
  }
  return marks;
}

function levels(low, high) {
  const step = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2].find((s) => (high - low) / s <= 6) || 0.25;
  const from = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - from + 1 }, (_, i) => +((from + i) * step).toFixed(3));
}

function scales(lines, width, height) {
  const all = lines.flatMap(points), xs = all.map((p) => p[TOKENS]).filter((v) => v > 0);
  const ys = all.flatMap((p) => [p[CONS], p[LOW], p[HIGH]]).filter((v) => v !== null);
  const [left, right, top, bottom] = [56, width - 12, 10, height - 40];
  const [least, most] = xs.length ? [Math.min(...xs) / 1.12, Math.max(...xs) * 1.12] : [10, 1000];
  const [low, high] = ys.length ? [Math.max(0, Math.min(...ys) - 0.02), Math.min(1, Math.max(...ys) + 0.02)] : [0, 1];
  const x = (v) => left + ((right - left) * Math.log(v / least)) / Math.log(most / least);
  const y = (v) => bottom - ((bottom - top) * (v - low)) / (high - low || 1);
  return { x, y, left, right, top, bottom, least, most, low, high };
}

function axes(s, width) {
  const vertical = steps(s.least, s.most, width).map((v) => svg("g", {}, svg("line", { class: "grid", x1: s.x(v), x2: s.x(v), y1: s.top, y2: s.bottom }),
    svg("text", { x: s.x(v), y: s.bottom + 16, "text-anchor": "middle" }, v.toLocaleString("en"))));
  const level = levels(s.low, s.high).map((v) => svg("g", {}, svg("line", { class: "grid", x1: s.left, x2: s.right, y1: s.y(v), y2: s.y(v) }),
    svg("text", { x: s.left - 7, y: s.y(v) + 4, "text-anchor": "end" }, number(v, 2))));
  const names = [svg("text", { class: "axis", x: (s.left + s.right) / 2, y: s.bottom + 35, "text-anchor": "middle" }, "tokens per problem (log scale)"),
    svg("text", { class: "axis", transform: `translate(11 ${(s.top + s.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "cons@N")];
  return svg("g", { class: "axes" }, ...vertical, ...level, ...names);
}

const ownRule = (line) => !line.points["1"] && "0" in line.points;
const cross = (x, y, more) => svg("path", { class: "cross", d: `M${x - 4} ${y - 4}l8 8m0-8l-8 8`, ...more });

/** The colour of its quadrant, and a dash that tells it from the others there: the usual line is solid. */
function style(table, line) {
  if (line.name === "no pruning") return { kind: "all", dash: null };
  if (line.name === "random") return { kind: "control", dash: "2 2.5" };
  const peers = unique([...usual(table.group), ...chosen(table)]).filter((l) => l.quadrant === line.quadrant && !ownRule(l));
  return { kind: line.quadrant, dash: DASHES[Math.max(0, peers.indexOf(line)) % DASHES.length] || null };
}

function draw(table) {
  const width = table.plot.clientWidth, lines = chosen(table);
  for (const button of table.section.querySelectorAll(".shares button")) button.setAttribute("aria-pressed", button.dataset.gamma === gamma());
  drawLegend(table, lines);
  if (!width) return; // hidden; the observer draws it once it has a size
  const height = Math.round(Math.min(420, Math.max(260, width * 0.5))), s = scales(lines, width, height);
  fill(table.svg, { viewBox: `0 0 ${width} ${height}`, width, height }, []).replaceChildren(axes(s, width));
  table.spots = [];
  for (const line of lines) {
    const drawn = points(line).filter((p) => p[CONS] !== null && p[TOKENS] > 0);
    const spots = drawn.map((p) => ({ line, p, x: s.x(p[TOKENS]), y: s.y(p[CONS]) }));
    table.spots.push(...spots);
    table.svg.append(drawLine(style(table, line), line, spots, s));
  }
  point(table, null);
}

function drawLine({ kind, dash }, line, spots, s) {
  const path = (list) => list.map(([x, y]) => `${x},${y}`).join(" ");
  const banded = spots.filter(({ p }) => p[LOW] !== null);
  const band = [...banded.map(({ x, p }) => [x, s.y(p[HIGH])]), ...banded.map(({ x, p }) => [x, s.y(p[LOW])]).reverse()];
  return svg("g", { class: "line", "data-q": kind, "data-line": line.name }, svg("polygon", { class: "band", points: path(band) }),
    svg("polyline", { points: path(spots.map(({ x, y }) => [x, y])), "stroke-dasharray": dash }),
    ...spots.map(({ x, y, p }) => (ownRule(line) ? cross(x, y, { "data-n": p[N] }) : svg("circle", { class: "spot", "data-n": p[N], cx: x, cy: y, r: 3 }))));
}

function drawLegend(table, lines) {
  const held = table.legend.contains(document.activeElement) ? document.activeElement.dataset.line : null;
  const items = unique([...usual(table.group), ...lines]).sort((a, b) => lastCons(b) - lastCons(a));
  table.legend.replaceChildren(...items.map((line) => {
    const { kind, dash } = style(table, line);
    const sample = svg("svg", { width: 26, height: 10, "data-q": kind, "aria-hidden": "true" },
      ownRule(line) ? cross(13, 5) : svg("line", { x1: 1, x2: 25, y1: 5, y2: 5, "stroke-dasharray": dash }));
    return el("button", { type: "button", "data-line": line.name, "aria-pressed": lines.includes(line), onclick: () => toggle(`line.${table.group.slug}`, line.name),
      onpointerenter: () => light(table, line), onpointerleave: () => light(table, null) }, sample, line.name);
  }));
  [...table.legend.children].find((button) => button.dataset.line === held)?.focus();
}

function light(table, line) {
  table.svg.classList.toggle("lit", Boolean(line));
  for (const g of table.svg.querySelectorAll(".line")) g.classList.toggle("on", Boolean(line) && g.dataset.line === line.name);
}

function point(table, spot) {
  table.active = spot;
  light(table, spot && spot.line);
  table.tip.hidden = !spot;
  if (!spot) return;
  const { line, p } = spot, interval = p[LOW] === null ? "" : ` [${number(p[LOW], 3)}, ${number(p[HIGH], 3)}]`;
  const facts = [["N", p[N]], ["tokens", number(p[TOKENS], 0)], ["cons", number(p[CONS], 3) + interval]];
  const list = facts.flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, String(value))]);
  table.tip.replaceChildren(el("b", { "data-q": line.quadrant }, line.name), el("dl", {}, ...list));
  const { offsetWidth: w, offsetHeight: h } = table.tip;
  table.tip.style.left = `${Math.max(0, Math.min(table.plot.clientWidth - w, spot.x - w / 2))}px`;
  table.tip.style.top = `${spot.y - h - 12 < 0 ? spot.y + 12 : spot.y - h - 12}px`;
}

function hover(table, event) {
  const box = table.svg.getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const far = (spot) => Math.hypot(spot.x - x, spot.y - y);
  const near = table.spots.reduce((best, spot) => (!best || far(spot) < far(best) ? spot : best), null);
  point(table, near && far(near) < 28 ? near : null);
}

/** Left and right move along a line, up and down between lines. */
function walk(table, event) {
  const { spots, active } = table, along = { ArrowLeft: -1, ArrowRight: 1 }[event.key], across = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (event.key === "Escape") point(table, null);
  if ((!along && !across) || !spots.length) return;
  event.preventDefault();
  if (!active) return void point(table, spots[0]);
  const mine = spots.filter((spot) => spot.line === active.line), lines = unique(spots.map((spot) => spot.line));
  const other = lines[(lines.indexOf(active.line) + (across || 0) + lines.length) % lines.length];
  const there = spots.filter((spot) => spot.line === other), same = there.find((spot) => spot.p[N] === active.p[N]);
  point(table, (along ? mine[mine.indexOf(active) + along] : same || there[0]) || active);
}

const tables = DATA.tables.map(buildTable);
buildFilters();
document.getElementById("overview").append(...tables.map((table) => table.card));
document.getElementById("tables").append(...tables.map((table) => table.section));
window.addEventListener("hashchange", restore);
restore();
