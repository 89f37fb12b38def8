"use strict";
// Names on this page are other people's: they become text nodes and attribute values, never markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const QUADRANTS = ["internal-learned", "internal-fixed", "external-learned", "external-fixed"];
const [N, TOKENS, CONS, LOW, HIGH] = [0, 1, 2, 3, 4]; // a curve's point
const DASHES = ["", "6 3", "2 2.5", "9 3 2 3", "12 4", "5 2 1 2 1 2"];
const BLANK = "–";
const ACROSS = { tokens: (unit) => `${unit} per problem (log scale)`, serial: (unit) => `serial ${unit} per problem, a proxy of latency (log scale)` };
const UP = { cons: "majority vote of the kept paths (cons)", avg: "mean accuracy of the kept paths (avg)" };
const EXACT = { "all (no pruning)": "all", "random (expected)": "random" }; // looks of their own
const WHICH = ["all", "kept", "dropped", "right", "wrong"];
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
const byId = (id) => document.getElementById(id);
const same = (text) => text;

function number(value, digits) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** "0.5 [0.4, 0.6]" with the interval muted. */
function withInterval(text) {
  const at = text.indexOf(" [");
  return at < 0 ? [text] : [text.slice(0, at), el("small", {}, text.slice(at))];
}

/** Buttons of which one is pressed. */
function choice(label, options, current, pick, shown = same) {
  return el("div", { class: "shares", role: "group", "aria-label": label },
    ...options.map((option) => el("button", { type: "button", "data-option": option, "aria-pressed": String(option === current), onclick: () => pick(option) }, shown(option))));
}

// ---- what the file holds, as the page uses it

/** A number, or a mean with its interval, in its column's form; harness.report.page.written says the same. */
function written(value, form) {
  if (!Array.isArray(value)) return fixed(value, form);
  const [mean, low, high, rule] = value, bare = form.replace("+", "");
  return `${rule ? `${rule} ` : ""}${fixed(mean, form)} [${low === null ? "n/a" : `${fixed(low, bare)}, ${fixed(high, bare)}`}]`;
}

function fixed(value, form) {
  const percent = form.endsWith("%"), text = (percent ? value * 100 : value).toFixed(Number(form.at(-2)));
  const grouped = form.startsWith(",") ? text.replace(/\B(?=(\d{3})+(?!\d))/g, ",") : text;
  return (form.startsWith("+") && !text.startsWith("-") ? "+" : "") + grouped + (percent ? "%" : "");
}

DATA.tables.forEach((group) => {
  group.columns = DATA.columns.map(([key, numeric, brief, form], i) => ({ key, form, numeric: Boolean(numeric), brief: Boolean(brief), label: DATA.heads[group.heads][i] }));
  group.rows.forEach((row) => {
    const words = row.words.values(), values = row.values.values();
    row.values = group.columns.map((c) => (c.numeric ? values.next().value : words.next().value));
    row.texts = row.values.map((value, i) => row.said?.[i] ?? (!group.columns[i].numeric ? value : value === null ? BLANK : written(value, group.columns[i].form)));
    row.line ??= null;
    row.family ??= row.texts[0];
  });
  group.origin = [group.task, group.model, group.engine].join("\n");
});
const MODELS = unique(DATA.tables.map((g) => g.origin)).map((origin) => DATA.tables.filter((g) => g.origin === origin));
const at = (group, key) => group.columns.findIndex((c) => c.key === key);
const mean = (group, row, key) => row.values[at(group, key)]?.[0] ?? null;

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
  if (view.has("at")) byId(view.get("at"))?.scrollIntoView();
}

const gamma = () => (gammas.includes(view.get("gamma")) ? view.get("gamma") : gammas[0]);
const current = () => DATA.tables.find((g) => g.slug === view.get("table")) || DATA.tables[0];
const open = (group) => change((v) => (group === DATA.tables[0] ? v.delete("table") : v.set("table", group.slug)));
const across = () => (view.get("x") === "serial" ? "serial" : "tokens");
const up = () => (view.get("y") === "avg" ? "avg" : "cons");

// ---- tabs of models, and the tables of a model

function buildTabs() {
  const tab = (groups, i) => el("button", { type: "button", role: "tab", id: `tab-${i}`, "aria-controls": "tables", onclick: () => open(groups[0]), onkeydown: (event) => walkTabs(event, i) },
    el("b", {}, groups[0].task), el("small", {}, `${groups[0].model}, ${groups[0].engine}`));
  const tabs = MODELS.map(tab);
  const bar = (real) => tabs.filter((_, i) => MODELS[i][0].real === real);
  const titled = (title, part) => (part.length ? el("div", { role: "presentation", "data-title": title }, ...part) : null);
  fill(byId("models"), {}, [titled("testbed", bar(false)), titled("real models", bar(true))]);
}

/** Arrow keys move between tabs in the order in which they stand. */
function walkTabs(event, i) {
  const tabs = [...document.querySelectorAll("[role=tab]")], here = tabs.indexOf(byId(`tab-${i}`));
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const next = event.key === "Home" ? tabs[0] : event.key === "End" ? tabs.at(-1) : step && tabs[(here + step + tabs.length) % tabs.length];
  if (!next) return;
  event.preventDefault();
  next.click();
  next.focus();
}

function syncTabs(group) {
  MODELS.forEach((groups, i) => {
    const mine = groups.includes(group), tab = byId(`tab-${i}`);
    tab.setAttribute("aria-selected", mine);
    tab.tabIndex = mine ? 0 : -1;
    if (mine) byId("tables").setAttribute("aria-labelledby", tab.id);
  });
  const mine = [...MODELS.find((groups) => groups.includes(group))].sort((a, b) => a.prefix - b.prefix);
  const held = byId("lengths").contains(document.activeElement) ? document.activeElement.dataset.slug : null;
  byId("lengths").replaceChildren(...mine.map((one) => buildCard(one, one === group)));
  [...byId("lengths").children].find((card) => card.dataset.slug === held)?.focus();
}

function best(group) {
  const i = at(group, "gain");
  return group.rows.filter((r) => r.competes && !r.stale && r.values[i]).sort((a, b) => b.values[i][0] - a.values[i][0])[0];
}

function buildCard(group, pressed) {
  const first = best(group), i = at(group, "gain");
  const gain = first ? el("span", { class: "best" }, el("b", {}, first.texts[0]), " ", ...withInterval(first.texts[i])) : null;
  return el("button", { type: "button", class: "card", "data-slug": group.slug, "aria-pressed": String(pressed), onclick: () => open(group) },
    el("span", { class: "what" }, `L = ${group.prefix}`), el("small", {}, `${group.share} of a path, ${group.rows.length} rows`), gain);
}

// ---- filters

function buildFilters() {
  const kinds = unique([...QUADRANTS, ...DATA.tables.flatMap((g) => g.rows.map((r) => r.texts[1]))]);
  const text = el("input", { type: "search", name: "q", placeholder: "name of a pruner", oninput: () => change((v) => v.set("q", text.value)) });
  const chips = kinds.map((kind) => el("button", { type: "button", class: "chip", "data-q": kind, "data-type": kind, onclick: () => toggle("type", kind) }, kind));
  const all = el("button", { type: "button", id: "columns", onclick: () => toggle("columns", "all") }, "all columns");
  const variants = el("button", { type: "button", id: "variants", onclick: () => toggle("variants", "all") }, "all variants");
  const reset = el("button", { type: "button", id: "reset", onclick: () => change((v) => [...v.keys()].forEach((key) => v.delete(key))) }, "reset");
  const form = byId("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.append(el("label", { class: "grow" }, "pruner", text), el("div", { class: "chips", role: "group", "aria-label": "type of pruner" }, ...chips),
    el("div", { class: "tools" }, variants, all, reset, el("output", { id: "count" })));
}

function syncFilters() {
  const text = document.querySelector("#filters [name=q]");
  if (text.value !== (view.get("q") || "")) text.value = view.get("q") || "";
  for (const chip of document.querySelectorAll("#filters .chip")) chip.setAttribute("aria-pressed", view.getAll("type").includes(chip.dataset.type));
  byId("columns").setAttribute("aria-pressed", view.has("columns"));
  byId("variants").setAttribute("aria-pressed", view.has("variants"));
  byId("reset").disabled = !view.size;
}

function passes(row) {
  const [name, kind] = row.texts, kinds = view.getAll("type");
  return (!kinds.length || kinds.includes(kind)) && name.toLowerCase().includes((view.get("q") || "").toLowerCase());
}

// ---- tables

const built = new Map();
const tableOf = (group) => built.get(group.slug) || built.set(group.slug, buildTable(group)).get(group.slug);

function buildTable(group) {
  const table = { group, active: null, spots: [] };
  // The scale is that of the methods: an oracle's bar may end at its edge.
  const i = at(group, "gain"), gains = group.rows.flatMap((r) => (r.muted || !r.values[i] ? [] : r.values[i]));
  const reach = [Math.min(0, ...gains), Math.max(0, ...gains)];
  table.rows = group.rows.map((data) => ({ data, ...buildRow(table, data, reach) }));
  table.heads = group.columns.map((c) => el("th", { scope: "col", class: cellClass(c), "data-key": c.key },
    el("button", { type: "button", onclick: () => sortBy(table, c) }, c.label)));
  table.body = el("tbody");
  const grid = el("table", {}, el("caption", {}, `${heading(group)}, ${origin(group)}`), el("thead", {}, el("tr", {}, ...table.heads)), table.body);
  table.grid = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `table ${heading(group)}, ${origin(group)}` }, grid);
  const facts = [["sampling", group.sampling], ["seed", group.seed],
    ["L", `${group.prefix} ${group.unit}, ${group.share} of the mean length`], ["pool", `${group.problems} problems × ${group.n} paths`]];
  const download = el("button", { type: "button", class: "csv", onclick: () => save(table) }, "Download CSV");
  table.section = el("section", { "data-slug": group.slug },
    el("div", { class: "head" }, el("h2", { tabindex: "-1" }, heading(group), " ", el("small", {}, origin(group))), download),
    el("dl", { class: "facts" }, ...facts.map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, String(value))))),
    ...group.warnings.map((text) => el("p", { class: "warning", role: "note" }, text)),
    table.grid, el("p", { class: "about" }, group.about), buildFrontier(table), buildChart(table));
  return table;
}

const heading = (group) => `${group.task} · L = ${group.prefix}`;
const origin = (group) => `model ${group.model}, engine ${group.engine}`;
const cellClass = (c) => (c.numeric ? "number" : "text") + (c.brief ? "" : " wide");

function buildRow(table, row, reach) {
  const { columns } = table.group;
  const name = row.line === null ? el("span", { class: "name" }, row.texts[0])
    : el("button", { type: "button", class: "name", title: "show or hide its line in the chart" }, row.texts[0]);
  const stale = row.stale ? el("mark", { class: "stale", title: "made by older code" }, "stale") : null;
  const more = el("button", { type: "button", class: "more", hidden: "", onclick: (event) => { event.stopPropagation(); toggle("open", row.family); } });
  const first = el("th", { scope: "row", "data-q": EXACT[row.texts[0]] || row.texts[1], "data-type": row.texts[1] }, name, stale, more);
  const cells = columns.slice(1).map((c, i) => buildCell(c, row.texts[i + 1], row.values[i + 1], reach));
  const tr = el("tr", { class: [row.muted ? "muted" : "", row.stale ? "old" : ""].join(" ").trim() || null }, first, ...cells);
  if (row.line !== null) tr.addEventListener("click", () => toggle(`line.${table.group.slug}`, row.line));
  return { tr, more };
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
  const [key, way] = (view.get(`sort.${table.group.slug}`) || "").split("."), i = at(table.group, key);
  if (i < 0) return [table.rows, -1, ""];
  const value = (row) => { const cell = row.data.values[i]; return Array.isArray(cell) ? cell[0] : cell; };
  const missing = (row) => value(row) === null || value(row) === "";
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  const rows = [...table.rows].sort((a, b) => missing(a) - missing(b) || (missing(a) ? 0 : (way === "down" ? -1 : 1) * compare(value(a), value(b))));
  return [rows, i, way];
}

/** One row per method, each with its variants behind it where they are asked for. What stands for a method is the one without options,
    or the first of the table: never the one that is best on these problems, if there is another. */
function folded(rows) {
  const families = new Map();
  for (const row of rows) families.set(row.data.family, [...(families.get(row.data.family) || []), row]);
  const out = [];
  for (const [family, members] of families) {
    const plain = members.filter((row) => row.data.texts[0].split(" = ").includes(family));
    const head = plain[0] || [...members].sort((a, b) => a.data.texts[0].length - b.data.texts[0].length)[0];
    const variants = members.filter((row) => row !== head), wanted = view.has("variants") || view.getAll("open").includes(family) || Boolean(view.get("q"));
    out.push({ row: head, variants, wanted });
  }
  return out.sort((a, b) => rows.indexOf(a.row) - rows.indexOf(b.row));
}

function syncRow({ row, variants, wanted }) {
  row.tr.classList.remove("variant");
  row.more.hidden = !variants.length;
  row.more.textContent = `${wanted ? "−" : "+"}${variants.length}`;
  row.more.setAttribute("aria-expanded", wanted);
  row.more.setAttribute("aria-label", `${variants.length} variants of ${row.data.family}`);
  for (const other of variants) {
    other.more.hidden = true;
    other.tr.classList.add("variant");
  }
  return wanted ? [row, ...variants] : [row];
}

function renderTable(table) {
  const [rows, i, way] = sorted(table);
  table.heads.forEach((th, j) => (i === j ? th.setAttribute("aria-sort", way === "down" ? "descending" : "ascending") : th.removeAttribute("aria-sort")));
  const passing = rows.filter((row) => passes(row.data));
  table.shown = folded(passing).flatMap(syncRow);
  table.grid.classList.toggle("brief", !view.has("columns"));
  // Rows that stay where they are are not moved: a moved element loses the focus.
  if (table.shown.some((row, j) => table.body.children[j] !== row.tr) || table.shown.length !== table.body.children.length) {
    const held = document.activeElement;
    table.body.replaceChildren(...table.shown.map((row) => row.tr));
    if (table.body.contains(held)) held.focus();
  }
  const lines = chosen(table).map((line) => line.name);
  for (const { data, tr } of table.rows) if (data.line !== null) tr.querySelector(".name").setAttribute("aria-pressed", lines.includes(data.line));
  drawFrontier(table);
  draw(table);
  const rest = passing.length - table.shown.length;
  byId("count").textContent = `${table.shown.length} of ${table.rows.length} rows` + (rest ? `, ${rest} variants folded` : "");
}

function render() {
  if (DATA.tables.length) {
    const group = current(), table = tableOf(group);
    syncFilters();
    syncTabs(group);
    if (byId("tables").firstElementChild !== table.section) byId("tables").replaceChildren(table.section);
    renderTable(table);
  }
  renderExamples();
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

// ---- the frontier: every row of a table at its cost

function buildFrontier(table) {
  const { group } = table, front = { group, spots: [], active: null };
  front.tip = el("div", { class: "tip", role: "status", hidden: "" });
  front.svg = svg("svg", { class: "chart front", tabindex: "0", role: "group", "aria-label": `Frontier of ${heading(group)}: accuracy against cost; arrow keys move between methods`,
    onpointermove: (event) => hoverDot(front, event), onpointerdown: (event) => hoverDot(front, event), onpointerleave: (event) => event.pointerType === "touch" || mark(front, null),
    onblur: () => mark(front, null), onkeydown: (event) => walkDots(front, event) });
  front.plot = el("div", { class: "plot" }, front.svg, front.tip);
  front.choices = el("span", { class: "choices" });
  new ResizeObserver(() => drawFrontier(table)).observe(front.plot);
  table.front = front;
  return el("figure", { class: "frontier" }, el("figcaption", {}, el("h3", {}, "Frontier"), front.choices,
    el("p", { class: "about" }, `A dot is a row of the table. The line joins rows that no other row beats at less cost: they were found on the problems that are shown.
      pathprune frontier compares policies whose settings are chosen on other problems.`)), front.plot);
}

/** [x, y, low, high] of a row, or null where it has none of them. */
function dot(group, row) {
  const x = mean(group, row, across()), y = row.values[at(group, up())];
  return x > 0 && y ? { row, x, y: y[0], low: y[1], high: y[2] } : null;
}

/** Dots that no other one beats: the cheapest first, each better than all before. */
function undominated(dots) {
  const out = [];
  for (const one of dots.filter((d) => !d.row.beyond && !d.row.stale).sort((a, b) => a.x - b.x || b.y - a.y)) if (!out.length || one.y > out.at(-1).y) out.push(one);
  return out;
}

function drawFrontier({ group, front, shown }) {
  if (!shown) return;
  const options = [["cost", ["tokens", "serial"], across(), "x", (o) => (o === "serial" ? "latency" : group.unit)],
    ["accuracy", ["cons", "avg"], up(), "y", (o) => (o === "avg" ? "of the kept paths" : "of their vote")]];
  const held = front.choices.contains(document.activeElement) ? document.activeElement.dataset.option : null;
  front.choices.replaceChildren(...options.map(([label, all, now, key, told]) => choice(label, all, now, (o) => change((v) => v.set(key, o === all[0] ? "" : o)), told)));
  front.choices.querySelector(held ? `[data-option="${held}"]` : "#none")?.focus();
  const width = front.plot.clientWidth;
  if (!width) return;
  const rows = unique([...shown.map((row) => row.data), ...group.rows.filter((row) => row.muted && !row.beyond && row.texts[1] === "control")]);
  const dots = rows.map((row) => dot(group, row)).filter(Boolean), best = undominated(dots);
  const height = Math.round(Math.min(440, Math.max(280, width * 0.48)));
  const xs = dots.map((d) => d.x), ys = dots.map((d) => d.y);
  const s = scale(xs, [Math.min(...ys, 1), Math.max(...ys, 0)], width, height);
  front.scale = s;
  const place = (d) => ({ ...d, cx: s.x(d.x), cy: s.y(d.y), on: best.includes(d) });
  front.spots = dots.map(place).sort((a, b) => a.on - b.on || a.cx - b.cx);
  const line = front.spots.filter((d) => d.on).sort((a, b) => a.cx - b.cx);
  fill(front.svg, { viewBox: `0 0 ${width} ${height}`, width, height }, []).replaceChildren(axes(s, width, ACROSS[across()](group.unit), UP[up()]),
    svg("polyline", { class: "best", points: line.map((d, i) => (i ? `${d.cx},${line[i - 1].cy} ` : "") + `${d.cx},${d.cy}`).join(" ") }),
    svg("line", { class: "spread", hidden: "" }), ...front.spots.map(drawDot), ...labels(front.spots, s));
  mark(front, null);
}

function drawDot({ row, cx, cy, on }) {
  return svg("circle", { class: ["dot", on ? "on" : "", row.beyond ? "beyond" : ""].join(" ").trim(), "data-q": EXACT[row.texts[0]] || row.texts[1], "data-name": row.texts[0], cx, cy, r: on ? 5.5 : 4 });
}

const short = (name) => (name.length > 26 ? name.slice(0, 25) + "…" : name);

/** Names beside the dots of the frontier, the references and the best of each quadrant, where there is room for them. */
function labels(spots, s) {
  const first = QUADRANTS.map((kind) => spots.filter((d) => d.row.texts[1] === kind).sort((a, b) => b.y - a.y)[0]).filter(Boolean);
  const wanted = unique([...spots.filter((d) => d.row.muted), ...spots.filter((d) => d.on).reverse(), ...first]), taken = spots.map((d) => [d.cx - 4, d.cy - 4, d.cx + 4, d.cy + 4]);
  return wanted.map((d) => {
    const text = short(d.row.texts[0].split(" = ")[0]), w = text.length * 6.4, sides = [[8, 4], [-8 - w, 4], [-w / 2, -9], [-w / 2, 18], [6, -8], [6, 16], [-6 - w, -8]];
    const boxes = sides.map(([dx, dy]) => [d.cx + dx, d.cy + dy - 10, d.cx + dx + w, d.cy + dy + 2]);
    const free = boxes.find((b) => b[0] > s.left && b[2] < s.right + 4 && b[1] > s.top - 6 && b[3] < s.bottom && taken.every((t) => b[2] < t[0] || t[2] < b[0] || b[3] < t[1] || t[3] < b[1]));
    if (!free) return null;
    taken.push(free);
    return svg("text", { class: "label", x: free[0], y: free[3] - 2 }, text);
  }).filter(Boolean);
}

function mark(front, spot) {
  front.active = spot;
  const spread = front.svg.querySelector(".spread"), held = spot && spot.low !== null;
  spread?.toggleAttribute("hidden", !held);
  for (const circle of front.svg.querySelectorAll(".dot")) circle.classList.toggle("lit", Boolean(spot) && circle.dataset.name === spot.row.texts[0]);
  front.tip.hidden = !spot;
  if (!spot) return;
  if (held) {
    const inside = (v) => Math.max(front.scale.top, Math.min(front.scale.bottom, front.scale.y(v)));
    fill(spread, { x1: spot.cx, x2: spot.cx, y1: inside(spot.low), y2: inside(spot.high), "data-q": spot.row.texts[1] }, []);
  }
  const facts = [[up(), spot.row.texts[at(front.group, up())]], [front.group.unit, spot.row.texts[at(front.group, "tokens")]], ["serial", spot.row.texts[at(front.group, "serial")]]];
  showTip(front, spot.row.texts[0], spot.row.texts[1], facts, spot.cx, spot.cy);
}

function hoverDot(front, event) {
  const box = front.svg.getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const far = (d) => Math.hypot(d.cx - x, d.cy - y);
  const near = front.spots.reduce((found, d) => (!found || far(d) < far(found) ? d : found), null);
  mark(front, near && far(near) < 28 ? near : null);
}

/** Left and right move by cost, up and down by accuracy. */
function walkDots(front, event) {
  if (event.key === "Escape") mark(front, null);
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!step || !front.spots.length) return;
  event.preventDefault();
  const line = [...front.spots].sort(event.key.endsWith("t") ? (a, b) => a.cx - b.cx : (a, b) => a.cy - b.cy);
  const here = front.active ? line.findIndex((d) => d.row === front.active.row) + step : 0;
  mark(front, line[Math.max(0, Math.min(line.length - 1, here))]);
}

function showTip({ tip, plot }, name, kind, facts, x, y) {
  const list = facts.flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, String(value))]);
  tip.replaceChildren(el("b", { "data-q": kind }, name), el("dl", {}, ...list));
  const { offsetWidth: w, offsetHeight: h } = tip;
  tip.style.left = `${Math.max(0, Math.min(plot.clientWidth - w, x - w / 2))}px`;
  tip.style.top = `${y - h - 12 < 0 ? y + 12 : y - h - 12}px`;
}

// ---- curves: cons@N as N grows

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
  const label = `Chart of cons@N against ${group.unit}, ${heading(group)}; arrow keys move between points`;
  table.svg = svg("svg", { class: "chart", tabindex: "0", role: "group", "aria-label": label, onpointermove: near, onpointerdown: near,
    // A lifted finger leaves too, and its tooltip is still to be read.
    onpointerleave: (event) => event.pointerType === "touch" || none(), onblur: none, onkeydown: (event) => walk(table, event) });
  table.plot = el("div", { class: "plot" }, table.svg, table.tip);
  table.legend = el("div", { class: "legend", role: "group", "aria-label": "lines" });
  new ResizeObserver(() => draw(table)).observe(table.plot);
  const title = el("span", {}, el("h3", {}, `cons@N against ${group.unit} per problem`), "when the best", shares, "of N are finished");
  const hint = el("small", {}, " click a row of the table to add or remove its line");
  return el("figure", { class: "curves" }, el("figcaption", {}, title, hint), el("div", { class: "panel" }, table.plot, table.legend));
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

/** Places of values: x on a log scale, y with a little room around. */
function scale(xs, [bottomMost, topMost], width, height) {
  const [left, right, top, bottom] = [56, width - 12, 10, height - 40];
  const [least, most] = xs.length ? [Math.min(...xs) / 1.12, Math.max(...xs) * 1.12] : [10, 1000];
  const [low, high] = bottomMost <= topMost ? [Math.max(0, bottomMost - 0.02), Math.min(1, topMost + 0.02)] : [0, 1];
  const x = (v) => left + ((right - left) * Math.log(v / least)) / Math.log(most / least);
  const y = (v) => bottom - ((bottom - top) * (v - low)) / (high - low || 1);
  return { x, y, left, right, top, bottom, least, most, low, high };
}

function scales(lines, width, height) {
  const all = lines.flatMap(points), xs = all.map((p) => p[TOKENS]).filter((v) => v > 0);
  const ys = all.flatMap((p) => [p[CONS], p[LOW], p[HIGH]]).filter((v) => v !== null);
  return scale(xs, [Math.min(...ys), Math.max(...ys)], width, height);
}

function axes(s, width, across, up) {
  const vertical = steps(s.least, s.most, width).map((v) => svg("g", {}, svg("line", { class: "grid", x1: s.x(v), x2: s.x(v), y1: s.top, y2: s.bottom }),
    svg("text", { x: s.x(v), y: s.bottom + 16, "text-anchor": "middle" }, v.toLocaleString("en"))));
  const level = levels(s.low, s.high).map((v) => svg("g", {}, svg("line", { class: "grid", x1: s.left, x2: s.right, y1: s.y(v), y2: s.y(v) }),
    svg("text", { x: s.left - 7, y: s.y(v) + 4, "text-anchor": "end" }, number(v, 2))));
  const names = [svg("text", { class: "axis", x: (s.left + s.right) / 2, y: s.bottom + 35, "text-anchor": "middle" }, across),
    svg("text", { class: "axis", transform: `translate(11 ${(s.top + s.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, up)];
  return svg("g", { class: "axes" }, ...vertical, ...level, ...names);
}

const ownRule = (line) => !line.points["1"] && "0" in line.points;
const cross = (x, y, more) => svg("path", { class: "cross", d: `M${x - 4} ${y - 4}l8 8m0-8l-8 8`, ...more });

/** The colour of its quadrant, and a dash that tells it from the others there: the usual line is solid. */
function style(table, line) {
  if (line.name === "no pruning") return { kind: "all", dash: null };
  if (line.name === "random") return { kind: "random", dash: "2 2.5" };
  const peers = unique([...usual(table.group), ...chosen(table)]).filter((l) => l.quadrant === line.quadrant && !ownRule(l));
  return { kind: line.quadrant, dash: DASHES[Math.max(0, peers.indexOf(line)) % DASHES.length] || null };
}

function draw(table) {
  const width = table.plot.clientWidth, lines = chosen(table);
  for (const button of table.section.querySelectorAll("[data-gamma]")) button.setAttribute("aria-pressed", button.dataset.gamma === gamma());
  drawLegend(table, lines);
  if (!width) return; // hidden; the observer draws it once it has a size
  const height = Math.round(Math.min(420, Math.max(260, width * 0.5))), s = scales(lines, width, height);
  fill(table.svg, { viewBox: `0 0 ${width} ${height}`, width, height }, []).replaceChildren(axes(s, width, ACROSS.tokens(table.group.unit), "cons@N"));
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
  const facts = [["N", p[N]], [table.group.unit, number(p[TOKENS], 0)], ["cons", number(p[CONS], 3) + interval]];
  showTip(table, line.name, line.quadrant, facts, spot.x, spot.y);
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

// ---- sections behind the tables

function section(id, title, ...children) {
  byId("more").append(el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title`, tabindex: "-1" }, title), ...children));
}

function plainTable(label, heads, rows) {
  const grid = el("table", {}, el("caption", {}, label), el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, el("span", {}, head))))), el("tbody", {}, ...rows));
  return el("div", { class: "scroll plain", tabindex: "0", role: "region", "aria-label": label }, grid);
}

function buildEvery() {
  for (const [id, title, real] of [["testbed", "All tables of the testbed", false], ["real", "All tables of real models", true]]) {
    const groups = DATA.tables.filter((g) => g.real === real);
    if (!groups.length) continue;
    section(id, title, plainTable(title, ["table", "model", "problems × paths", "rows", "best method by gain", "gain over random"], groups.map((g) => {
      const first = best(g), jump = () => { open(g); byId("tables").scrollIntoView(); byId("tables").querySelector("h2").focus({ preventScroll: true }); };
      return el("tr", {}, el("th", { scope: "row" }, el("button", { type: "button", class: "link", onclick: jump }, heading(g))), el("td", {}, `${g.model}, ${g.engine}`), el("td", { class: "number" }, `${g.problems} × ${g.n}`),
        el("td", { class: "number" }, String(g.rows.length)), el("td", {}, first ? el("span", { class: "kind", "data-q": first.texts[1] }, first.texts[0]) : BLANK), el("td", {}, ...(first ? withInterval(first.texts[at(g, "gain")]) : [BLANK])));
    })));
  }
}

const VERDICTS = [["not confirmed", "worse"], ["confirmed", "better"], ["undecided", "even"]];

function buildFindings() {
  if (!DATA.findings.length) return;
  section("findings", "Findings", ...DATA.findings.map((part) => {
    if (part.heading) return el("h3", {}, part.heading);
    if (part.text) return el("p", { class: "about" }, part.text);
    let before = null;
    return plainTable("Findings", part.head, part.rows.map((cells) => {
      const again = cells[0] === before;
      before = cells[0];
      return el("tr", { class: again ? "again" : null }, ...cells.map((cell, i) => el(i ? "td" : "th", i ? { "data-verdict": VERDICTS.find(([word]) => cell.startsWith(word))?.[1] } : { scope: "row" },
        i || !again ? cell : el("span", { class: "hush" }, cell))));
    }));
  }));
}

// ---- paths of a problem: what was dropped, and was it right?

function buildExamples() {
  if (!DATA.examples.length) return;
  section("paths", "What was dropped, and was it right?", el("div", { id: "example" }));
}

function renderExamples() {
  const box = byId("example");
  if (!box) return;
  const found = DATA.examples.find((e) => e.problem === view.get("problem")) || DATA.examples[0];
  const used = found.choices.find((c) => c.name === view.get("method")) || found.choices[0];
  const which = WHICH.includes(view.get("which")) ? view.get("which") : "all";
  const held = box.contains(document.activeElement) ? document.activeElement.dataset.option : null;
  const pick = (key, first) => (option) => change((v) => v.set(key, option === first ? "" : option));
  box.replaceChildren(
    DATA.examples.length > 1 ? choice("problem", DATA.examples.map((e) => e.problem), found.problem, pick("problem", DATA.examples[0].problem)) : "",
    found.why ? el("p", { class: "why" }, found.why) : "",
    el("p", { class: "about" }, found.title), el("p", { class: "question" }, found.question || "(the question is not shown)"), el("p", {}, found.everyone),
    choice("method", found.choices.map((c) => c.name), used.name, pick("method", found.choices[0].name)), el("p", { class: "summary" }, used.summary),
    el("div", { class: "cells" }, choice("paths", WHICH, which, pick("which", "all"))), pathsOf(found, used, which),
    ...found.notes.map((note) => el("p", { class: "warning", role: "note" }, note)));
  [...box.querySelectorAll("[data-option]")].find((button) => button.dataset.option === held)?.focus();
}

function pathsOf(found, used, which) {
  const order = used.scores.map((_, i) => i).sort((a, b) => used.scores[b] - used.scores[a] || a - b), kept = new Set(used.kept), right = new Set(found.right);
  const tests = { all: () => true, kept: (i) => kept.has(i), dropped: (i) => !kept.has(i), right: (i) => right.has(i), wrong: (i) => !right.has(i) };
  const rows = order.filter(tests[which]).map((i) => el("tr", { class: kept.has(i) ? "kept" : "dropped", "data-q": used.quadrant, "data-path": i },
    el("th", { scope: "row" }, String(i)), el("td", { class: "number" }, number(used.scores[i], 3)), el("td", {}, kept.has(i) ? "kept" : fate(found, used, i)), el("td", {}, found.answers[i] ?? BLANK),
    el("td", { "data-verdict": right.has(i) ? "better" : "worse" }, right.has(i) ? "right" : "wrong"), el("td", { class: "number" }, number(found.lengths[i], 0)),
    found.prefixes.length ? el("td", { class: "prefix" }, found.prefixes[i]) : null));
  const heads = ["path", "score", "fate", "answer", "verdict", found.unit, ...(found.prefixes.length ? ["prefix"] : [])];
  return plainTable(`Paths of ${found.problem}, by the score of ${used.name}`, heads, rows);
}

const fate = (found, used, i) => (!used.spent ? "dropped" : used.spent[i] < found.lengths[i] ? `aborted at ${used.spent[i]}` : "no vote");

function buildSections() {
  const links = [["findings", "Findings"], ["paths", "Paths"], ["real", "Real models"], ["testbed", "All tables"]].filter(([id]) => byId(id));
  if (DATA.tables.length) byId("sections").append(...links.map(([id, title]) => el("a", { href: `#at=${id}`, onclick: (event) => jump(event, id) }, title)));
}

function jump(event, id) {
  event.preventDefault();
  change((v) => v.set("at", id));
  byId(id).scrollIntoView();
  byId(`${id}-title`).focus({ preventScroll: true });
}

if (DATA.tables.length) {
  buildTabs();
  buildFilters();
} else {
  document.body.classList.add("bare");
  document.title = "pathprune paths";
  document.querySelector("h1 span").textContent = "paths";
}
buildExamples();
buildFindings();
buildEvery();
buildSections();
window.addEventListener("hashchange", restore);
restore();
