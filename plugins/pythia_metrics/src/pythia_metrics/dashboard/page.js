// Asks for the state each second and shows it. What messages and brokers say is only ever put in as text.
"use strict";

const EACH = 1000, HIDDEN = 5000, PATIENCE = 5000; // milliseconds
const SILENT = 10; // seconds after which a supervisor that answers but says nothing is worth a word
const KEPT = 300;
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
let rows = [], columns = [], seen = 0, lastAnswer = null, heard = false;

// -- elements -----------------------------------------------------------------------------------------------------

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function drawn(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function classed(node, name) {
  if (node.className !== name) node.className = name;
}

// Makes a parent's children be those of the items, each kept for as long as its key is there: focus and open details too.
function keyed(parent, items, key, make, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, index) => {
    const name = String(key(item));
    let child = old.get(name);
    old.delete(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] || null);
    if (update) update(child, item);
  });
  for (const child of old.values()) child.remove();
}

// -- words --------------------------------------------------------------------------------------------------------

const known = (value) => value !== null && value !== undefined;

function number(value) {
  if (!known(value)) return "–";
  if (value !== 0 && Math.abs(value) < 10 && !Number.isInteger(value)) return value.toFixed(1);
  if (Math.abs(value) >= 1e6) return (value / 1e6).toFixed(1) + " M";
  return Math.round(value).toLocaleString("en");
}

function duration(seconds) {
  if (!known(seconds)) return "–";
  if (seconds > 0 && seconds < 0.001) return Math.round(seconds * 1e6) + " µs";
  if (seconds > 0 && seconds < 1) return Math.round(seconds * 1000) + " ms";
  if (seconds < 10 && !Number.isInteger(seconds)) return seconds.toFixed(1) + " s";
  if (seconds < 120) return Math.round(seconds) + " s";
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return minutes + " min" + (minutes < 10 && seconds % 60 >= 1 ? " " + Math.floor(seconds % 60) + " s" : "");
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return hours + " h" + (minutes % 60 ? " " + (minutes % 60) + " min" : "");
  return Math.floor(hours / 24) + " days";
}

const bytes = (value) => known(value) ? number(value / 1048576) + " MiB" : "–";
const percent = (value) => known(value) ? Math.round(value * 100) + " %" : "–";
const words = (text) => text.replaceAll("_", " ");
const many = (count, one, more) => number(count) + " " + (count === 1 ? one : more);
const clock = (epoch) => new Date(epoch * 1000).toLocaleTimeString("en-GB");

// -- the top ------------------------------------------------------------------------------------------------------

function status(fleet) {
  if (fleet.stopping) return ["warn", "stopping: " + many(fleet.processes.length, "process drains", "processes drain")];
  if (!fleet.processes.length) return ["bad", "no process runs"];
  if (fleet.processes.every((one) => one.state === "starting")) return ["warn", "starting"];
  if (!fleet.ready) return ["bad", "0 of " + fleet.target + " ready"];
  if (fleet.ready < fleet.target) return ["warn", "degraded: " + fleet.ready + " of " + fleet.target + " ready"];
  if (fleet.processes.every((one) => one.paused.includes("paused by an operator"))) return ["warn", "paused by an operator"];
  return ["good", fleet.ready === 1 ? "ready" : "all " + fleet.ready + " ready"];
}

function showTop(fleet) {
  const [kind, text] = status(fleet);
  const name = fleet.title.split("/").pop();
  say(byId("title"), name);
  byId("title").title = fleet.title;
  if (document.title !== name + " – Pythia") document.title = name + " – Pythia";
  say(byId("subtitle"), "up for " + duration(Math.floor(fleet.uptime)) + (fleet.supervised ? "" : ", one process without a supervisor"));
  say(byId("status"), text);
  classed(byId("status"), "pill " + kind);
}

function sum(values) {
  const all = values.filter(known);
  return all.length ? all.reduce((a, b) => a + b, 0) : null;
}

function figures(fleet) {
  const latest = (name) => rows.length ? rows[rows.length - 1][columns.indexOf(name)] : null;
  const queues = fleet.queues, totals = fleet.totals, scaling = fleet.scaling;
  const left = sum(queues.map((queue) => known(queue.backlog) ? queue.backlog + (queue.in_flight || 0) : null));
  const drains = queues.map((queue) => queue.drain_s).filter(known);
  const rate = sum(fleet.processes.map((one) => one.rate));
  const outlooks = queues.map((queue) => queue.outlook);
  const outlook = ["stalled", "worked on", "grows", "shrinks", "steady", "empty"].find((word) => outlooks.includes(word)) || "unknown";
  const arrivals = latest("arrivals");
  const range = scaling.policy ? ", " + scaling.min + " to " + scaling.max : "";
  return [
    { name: "Messages left", value: number(left), unit: queues.some((queue) => queue.at_least) ? " or more" : "",
      note: { stalled: "nothing is being settled", "worked on": "none has been settled lately", grows: "more come than go", shrinks: "more go than come", steady: "as many come as go", empty: "nothing is left", unknown: "" }[outlook],
      kind: outlook === "stalled" ? "bad" : outlook === "grows" ? "warn" : "", line: "backlog" },
    { name: "Oldest message", value: duration(latest("oldest")), note: known(latest("oldest")) ? "" : "not known", line: "oldest" },
    { name: "Time to drain", value: drains.length ? duration(Math.max(...drains)) : "–",
      note: drains.length ? "at the measured pace" : "not measured yet" },
    { name: "Done", value: number(rate), unit: " /s", note: known(arrivals) ? number(arrivals) + " /s come in" : number(totals.done) + " in all", line: "settled" },
    { name: "Processes", value: String(fleet.ready), unit: " of " + fleet.target + " ready", note: many(fleet.restarts, "restart", "restarts") + range,
      kind: fleet.ready ? fleet.ready < fleet.target ? "warn" : "" : "bad", line: "ready" },
    { name: "Dead letters", value: number(totals.dead_lettered), note: many(totals.failures, "failure", "failures") + ", " + many(totals.retried, "retry", "retries"),
      kind: totals.dead_lettered ? "warn" : "" },
  ];
}

function tile() {
  return element("div", { class: "tile" }, element("div", { class: "name" }), element("div", { class: "value" }), element("div", { class: "note" }));
}

function showTile(node, figure) {
  const [name, value, note] = node.children;
  say(name, figure.name);
  if (value.textContent !== figure.value + (figure.unit || "")) {
    value.replaceChildren(figure.value);
    if (figure.unit) value.append(element("small", {}, figure.unit));
  }
  classed(value, "value " + (figure.kind || ""));
  say(note, figure.note);
  if (!figure.line) return;
  if (node.children[3]) node.children[3].remove();
  node.append(spark(series(figure.line)));
}

function spark(values) {
  const svg = drawn("svg", { viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true" });
  const top = Math.max(1e-9, ...values.filter(known));
  const points = values.map((value, index) => [100 * index / Math.max(1, values.length - 1), known(value) ? 26 - 23 * value / top : null]);
  svg.append(drawn("path", { class: "sparkfill", d: path(points, 28) }), drawn("path", { class: "spark", d: path(points) }));
  return svg;
}

// -- charts -------------------------------------------------------------------------------------------------------

function series(name) {
  const index = columns.indexOf(name);
  return rows.map((row) => row[index]);
}

// Returns a line through the points, interrupted where y is not known; with a floor, the area between line and floor.
function path(points, floor = null, stepped = false) {
  let made = "", open = null, last = null;
  const close = () => { if (floor !== null && open && last) made += `L${last[0].toFixed(1)},${floor}L${open[0].toFixed(1)},${floor}Z`; };
  for (const point of points) {
    if (point[1] === null) {
      close();
      open = null;
      continue;
    }
    const [x, y] = [point[0].toFixed(1), point[1].toFixed(1)];
    if (open) made += stepped ? `H${x}V${y}` : `L${x},${y}`;
    else {
      made += `M${x},${y}`;
      open = point;
    }
    last = point;
  }
  close();
  return made;
}

function nice(top) {
  if (!(top > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(top));
  return [1, 1.5, 2, 3, 4, 5, 8, 10, 15].map((step) => step * power).find((step) => step >= top * 1.02);
}

const CHARTS = {
  flow: { lines: [["arrivals", "in", "s-in"], ["settled", "out", "s-out"], ["capacity", "possible", "s-third dash"]], unit: " /s" },
  backlog: { lines: [["backlog", "left", "s-main"]], area: "backlog", unit: "" },
  fleet: { lines: [["ready", "ready", "s-out"], ["desired", "wanted", "s-main"], ["least", "min", "s-soft dash"], ["most", "max", "s-soft dash"]], area: "ready", stepped: true, whole: true, unit: "" },
};
const SPANS = [60, 120, 300, 600]; // seconds: as much as there is to show
const cursors = {};

function chart(id) {
  const spec = CHARTS[id], box = byId(id);
  if (!box.firstChild) {
    box.append(element("div", { class: "legend" }), drawn("svg", { role: "img" }));
    box.lastChild.addEventListener("pointermove", (event) => point(id, event));
    box.lastChild.addEventListener("pointerleave", () => { delete cursors[id]; chart(id); });
  }
  const [legend, svg] = box.children;
  const width = Math.max(120, box.clientWidth), height = 164, left = 40, right = width - 6, upper = 8, lower = height - 20;
  const lines = spec.lines.map(([name, label, style]) => ({ label, style, name, values: series(name) }));
  let top = nice(Math.max(0, ...lines.flatMap((line) => line.values.filter(known))));
  if (spec.whole) top = Math.max(2, Math.ceil(top / 2) * 2);
  const times = series("at"), now = times.length ? times[times.length - 1] : 0;
  const span = SPANS.find((seconds) => times.length && now - times[0] <= seconds) || 600;
  const x = (at) => right - (right - left) * (now - at) / span;
  const y = (value) => lower - (lower - upper) * value / top;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  const shown = lines.filter((line) => line.values.some(known));
  for (const share of [0, .5, 1]) {
    svg.append(drawn("line", { class: "grid", x1: left, x2: right, y1: y(top * share), y2: y(top * share) }));
    if (shown.length) svg.append(label(left - 6, y(top * share) + 4, number(top * share), "end"));
  }
  svg.append(label(left, height - 4, duration(span) + " ago", "start"), label((left + right) / 2, height - 4, duration(span / 2) + " ago", "middle"));
  svg.append(label(right, height - 4, "now", "end"));
  for (const line of lines) {
    const points = line.values.map((value, index) => [x(times[index]), known(value) ? y(value) : null]).filter((one) => one[0] >= left);
    if (line.name === spec.area) svg.append(drawn("path", { class: "area", d: path(points, lower, spec.stepped) }));
    svg.append(drawn("path", { class: "l " + line.style, d: path(points, null, spec.stepped) }));
  }
  const at = cursors[id] === undefined ? times.length - 1 : nearest(times, cursors[id], x);
  if (cursors[id] !== undefined && at >= 0) svg.append(drawn("line", { class: "cursor", x1: x(times[at]), x2: x(times[at]), y1: upper, y2: lower }));
  const said = shown.map((line) => [line, number(line.values[at]) + (known(line.values[at]) ? spec.unit : "")]);
  legend.replaceChildren(...said.map(([line, value]) => element("span", {}, element("i", { class: line.style }), line.label + " ", element("b", {}, value))));
  if (cursors[id] !== undefined && at >= 0) legend.append(element("span", {}, "at " + clock(times[at])));
  svg.setAttribute("aria-label", said.length ? said.map(([line, value]) => line.label + " " + value).join(", ") : "nothing is known yet");
  if (!shown.length) svg.append(label((left + right) / 2, height / 2 - 12, "nothing is known yet", "middle"));
}

function label(x, y, text, anchor) {
  const made = drawn("text", { class: "axis", x, y, "text-anchor": anchor });
  made.textContent = text;
  return made;
}

function nearest(times, place, x) {
  let best = -1;
  times.forEach((at, index) => { if (best < 0 || Math.abs(x(at) - place) < Math.abs(x(times[best]) - place)) best = index; });
  return best;
}

function point(id, event) {
  cursors[id] = event.clientX - event.currentTarget.getBoundingClientRect().left;
  chart(id);
}

// -- what is stuck ------------------------------------------------------------------------------------------------

const STATES = {
  running: "is being worked on", cancelled: "was cancelled and goes on all the same", parked: "waits for its next attempt",
  publishing: "waits for its outputs to be confirmed", held: "stops its partition",
};

function troubles(fleet) {
  const found = fleet.stuck.map((one) => ({
    kind: "bad", where: "process " + one.slot, what: (one.message || "a message of " + one.worker) + " " + (STATES[one.state] || one.state),
    long: duration(Math.floor(one.seconds)), why: one.why ? "last error: " + one.why : "",
  }));
  for (const queue of fleet.queues) {
    if (queue.outlook === "stalled") found.push({ kind: "bad", where: queue.destination, what: number(queue.backlog) + " messages wait and nothing is settled", long: "", why: "" });
    if (queue.held_s >= 60) found.push({ kind: "", where: queue.destination, what: "the committed position is held up by its first open message", long: duration(Math.floor(queue.held_s)), why: "" });
  }
  for (const one of fleet.processes) {
    const where = "process " + one.slot;
    if (one.state === "silent") found.push({ kind: "bad", where, what: "says nothing: its event loop hangs or it gets no processor", long: "", why: "" });
    for (const reason of one.reasons) if (reason !== one.state) found.push({ kind: one.state === "waiting" ? "bad" : "", where, what: reason, long: "", why: "" });
    for (const reason of one.paused) found.push({ kind: "", where, what: "intake is stopped: " + reason, long: "", why: "" });
  }
  return together(found);
}

// Makes one line of what several processes say alike.
function together(found) {
  const lines = new Map();
  for (const one of found) {
    const same = one.what + "\n" + one.why + "\n" + one.long, line = lines.get(same);
    if (!line) lines.set(same, { ...one });
    else if (line.where.startsWith("process") && one.where.startsWith("process ")) line.where = line.where.replace(/^process(es)? /, "processes ") + ", " + one.where.slice(8);
  }
  return [...lines.values()];
}

function trouble() {
  return element("li", {}, element("span", { class: "where" }), element("span", { class: "what" }), element("span", { class: "long" }));
}

function showTrouble(node, one) {
  classed(node, one.kind);
  say(node.children[0], one.where);
  const [what] = node.getElementsByClassName("what");
  if (what.dataset.text !== one.what + "\n" + one.why) {
    what.replaceChildren(one.what);
    if (one.why) what.append(element("div", { class: "why" }, one.why));
    what.dataset.text = one.what + "\n" + one.why;
  }
  say(node.children[2], one.long ? "for " + one.long : "");
}

function showAttention(fleet) {
  const found = troubles(fleet);
  keyed(byId("attention"), found, (one) => one.where + "\n" + one.what, trouble, showTrouble);
  const hidden = fleet.texts ? "" : " Messages and errors are shown only at the machine itself, at localhost: forward the port to read them.";
  say(byId("attention-empty"), (found.length ? "" : "Nothing is stuck, and nothing is stopped.") + hidden);
}

// -- tables -------------------------------------------------------------------------------------------------------

function row(labels, wide) {
  return element("tr", {}, ...labels.map((text, index) =>
    element("td", { "data-label": text, class: index === 0 ? "wide" : wide.includes(index) ? "" : "n" })));
}

const SOURCE = ["Source", "Waiting", "In flight", "Oldest", "In /s", "Out /s", "Drained in", "Outlook"];
const OUTLOOKS = { grows: "warn", stalled: "bad", "worked on": "", shrinks: "good", empty: "good", steady: "good", unknown: "" };

function showSource(node, queue) {
  const cells = node.children;
  const under = [queue.system, queue.group ? "group " + queue.group : "", known(queue.partitions) ? many(queue.partitions, "partition", "partitions") : ""];
  if (!cells[0].firstChild) cells[0].append(element("strong"), element("div", { class: "sub" }));
  say(cells[0].children[0], queue.destination);
  say(cells[0].children[1], under.filter(Boolean).join(" · ") + (queue.worker ? " · read by " + queue.worker : ""));
  const figures = [number(queue.backlog) + (queue.at_least ? "+" : ""), number(queue.in_flight), duration(queue.oldest_age_s), number(queue.arrival_rate), number(queue.ack_rate), duration(queue.drain_s)];
  figures.forEach((text, index) => say(cells[index + 1], text));
  if (!cells[7].firstChild) cells[7].append(element("span"));
  classed(cells[7].firstChild, "pill " + OUTLOOKS[queue.outlook]);
  say(cells[7].firstChild, queue.outlook);
}

function showSources(fleet) {
  const body = byId("sources").tBodies[0];
  keyed(body, fleet.queues, (queue) => [queue.system, queue.destination, queue.group].join("\n"), () => row(SOURCE, [7]), showSource);
  byId("sources").hidden = !fleet.queues.length;
  say(byId("sources-empty"), fleet.queues.length ? "" : "Nobody has said yet how much is left: one process asks the broker every two seconds once it is ready.");
  const split = fleet.queues.filter((queue) => queue.fullest.length);
  keyed(byId("partitions"), split, (queue) => queue.destination, () => element("details", { class: "parts", open: "" }, element("summary"), element("ol")), showPartitions);
}

function showPartitions(node, queue) {
  const [summary, list] = node.children;
  const top = Math.max(...queue.fullest.map((part) => part[1]));
  say(summary, queue.destination + ": " + number(queue.partitions_with_lag) + " of " + many(queue.partitions, "partition has", "partitions have") + " something left");
  keyed(list, queue.fullest, (part) => part[0], () => element("li", {}, element("span"), element("span", { class: "bar" }, element("span")), element("span")), (item, part) => {
    say(item.children[0], part[0]);
    item.children[1].firstChild.style.width = 100 * part[1] / top + "%";
    say(item.children[2], number(part[1]) + (known(part[2]) ? ", " + duration(part[2]) : ""));
  });
}

const PROCESS = ["Process", "State", "Busy", "Rate /s", "A message", "In flight", "Memory", "CPU", "Up for"];
const KINDS = { ready: "good", waiting: "warn", starting: "warn", draining: "warn", silent: "bad" };

function showProcess(node, one) {
  const cells = node.children;
  if (!cells[0].firstChild) cells[0].append(element("span"), element("div", { class: "sub" }));
  say(cells[0].children[0], "process " + one.slot);
  say(cells[0].children[1], one.full.length ? "has enough: " + one.full.join(", ") : "");
  if (!cells[1].firstChild) cells[1].append(element("span"));
  classed(cells[1].firstChild, "pill " + (KINDS[one.state] || ""));
  say(cells[1].firstChild, one.state);
  if (!cells[2].firstChild) cells[2].append(element("span", { class: "bar", "aria-hidden": "true" }, element("span")), element("span"));
  const busy = known(one.busy) ? one.busy : 0;
  classed(cells[2].firstChild, busy > .9 ? "bar hot" : "bar");
  cells[2].firstChild.firstChild.style.width = 100 * Math.min(1, busy) + "%";
  say(cells[2].lastChild, percent(one.busy));
  const figures = [number(one.rate), duration(one.service_s), number(one.in_flight) + (one.parked ? " + " + number(one.parked) + " parked" : ""), bytes(one.rss), percent(one.cpu), duration(known(one.age_s) ? Math.floor(one.age_s) : null)];
  figures.forEach((text, index) => say(cells[index + 3], text));
}

function showProcesses(fleet) {
  keyed(byId("processes").tBodies[0], fleet.processes, (one) => one.number, () => row(PROCESS, [1, 2]), showProcess);
  byId("processes").hidden = !fleet.processes.length;
  say(byId("processes-empty"), fleet.processes.length ? "" : "No process runs at the moment.");
}

// -- scaling ------------------------------------------------------------------------------------------------------

// Makes one of decisions in a row that changed nothing for the same reason; the latest comes first.
function merged(decisions) {
  const found = [];
  for (const one of decisions) {
    const last = found[found.length - 1];
    if (last && one.before === one.after && last.before === last.after && last.reason === one.reason && last.after === one.after) Object.assign(last, one, { times: last.times + 1 });
    else found.push({ ...one, times: 1 });
  }
  return found.reverse().map((one, index) => ({ ...one, key: index ? one.wall : "latest" }));
}

function decision() {
  return element("details", {}, element("summary", {}, element("time"), element("span", { class: "step" }), element("span"), element("span", { class: "times" })), element("dl"));
}

function showDecision(node, one) {
  if (node.dataset.wall === String(one.wall)) return;
  node.dataset.wall = one.wall;
  const [time, step, reason, times] = node.firstChild.children;
  say(time, clock(one.wall));
  const same = one.before === one.after;
  say(step, same ? one.after + " stay" : one.before + " → " + one.after);
  classed(step, "step " + (same ? "" : one.after > one.before ? "up" : "down"));
  say(reason, words(one.reason) + (one.confidence === "ok" ? "" : " (" + one.confidence + ")"));
  say(times, one.times > 1 ? one.times + " times" : "");
  const terms = [["wanted", number(one.raw)], ...Object.entries(one.inputs).sort().map(([name, value]) => [words(name), number(value)])];
  for (const queue of one.observed.queues || []) terms.push([queue.destination, number(queue.backlog) + " left, oldest " + duration(queue.oldest_age_s) + ", " + number(queue.arrival_rate) + " /s in, " + number(queue.ack_rate) + " /s out"]);
  if (known(one.observed.busy)) terms.push(["busy", percent(one.observed.busy)]);
  if ((one.observed.paused || []).length) terms.push(["stopped", one.observed.paused.join(", ")]);
  node.lastChild.replaceChildren(...terms.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

function showScaling(fleet) {
  const scaling = fleet.scaling, policy = scaling.policy;
  keyed(byId("decisions"), policy ? merged(scaling.decisions) : [], (one) => one.key, decision, showDecision);
  say(byId("scaling-summary"), policy ? policy + " keeps " + scaling.desired + ", from " + scaling.min + " to " + scaling.max + (known(scaling.true_rate) ? "; one process can do " + number(scaling.true_rate) + " /s, as measured" : "; what one process can do is not measured yet") : "");
  say(byId("decisions-empty"), !policy ? "The number of processes is fixed at " + scaling.desired + ". To have it follow the load: pythia run --min 1 --max 8 --policy drain" : scaling.decisions.length ? "" : "The first decision comes after five seconds.");
}

// -- the loop -----------------------------------------------------------------------------------------------------

function banner(text) {
  byId("banner").hidden = !text;
  say(byId("banner"), text);
  document.body.classList.toggle("stale", Boolean(text));
}

function take(said) {
  lastAnswer = said.at;
  say(byId("clock"), "updated " + clock(said.at));
  banner(said.silence > SILENT ? "The supervisor has said nothing for " + duration(Math.floor(said.silence)) + ": its loop hangs, or the machine is very busy." : "");
  if (!said.fleet) {
    say(byId("status"), "starting");
    say(byId("attention-empty"), "Nothing is known yet: the first process has not reported.");
    return;
  }
  heard = true;
  columns = said.fleet.history.columns;
  rows = rows.concat(said.fleet.history.rows).slice(-KEPT);
  if (rows.length) seen = rows[rows.length - 1][0];
  show(said.fleet);
}

function show(fleet) {
  showTop(fleet);
  keyed(byId("tiles"), figures(fleet), (figure) => figure.name, tile, showTile);
  showAttention(fleet);
  Object.keys(CHARTS).forEach(chart);
  showSources(fleet);
  showProcesses(fleet);
  showScaling(fleet);
}

function missing() {
  const since = lastAnswer ? "since " + clock(lastAnswer) + "; what is shown is of then" : "yet";
  banner("Nobody answers " + since + ". Either the fleet has ended, or it cannot be reached. Asking again…");
  say(byId("status"), "gone");
  classed(byId("status"), "pill bad");
  if (!heard) say(byId("subtitle"), "no figures");
}

async function state() {
  try {
    const answer = await fetch("api/state?since=" + seen, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

async function ask() {
  const said = await state();
  setTimeout(ask, document.hidden ? HIDDEN : EACH);
  if (said) take(said);
  else missing();
}

addEventListener("resize", () => { if (heard) Object.keys(CHARTS).forEach(chart); });
document.addEventListener("visibilitychange", () => { if (!document.hidden && heard) Object.keys(CHARTS).forEach(chart); });
ask();
