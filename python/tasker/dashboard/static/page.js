// Fills the page from the events of the server: one a second, each with the figures of one runner.
//
// What is shown gets into the page as text alone, by textContent or as an attribute that is no
// code, so that a name is a name whatever stands in it.

import { Chart } from "./charts.js";
import { NONE, count, rate, seconds, share } from "./format.js";

const SPAN = 300; // seconds that the charts show
const SILENCE = 4; // seconds without an event after which the page says so
const AGAIN = 2; // seconds before the next attempt, where the browser makes none by itself

const at = (id) => document.getElementById(id);

function put(element, text) {
  // Nothing is touched that stays as it is: a selection lasts, and readers are not disturbed.
  if (element.textContent !== text) element.textContent = text;
}

function make(name, className = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  return element;
}

// Tiles

const TILES = [
  // what it is called, its value, what stands below, whether it is a bad sign
  ["Workers", (v) => count(v.workers_alive), (v) => `${v.workers_base} base, ${v.workers_max} at most` + (v.workers_starting ? `, ${v.workers_starting} starting` : "")],
  ["Running", (v) => count(v.running), (v) => (v.overdue ? `${count(v.overdue)} past their limit` : "none past its limit"), (v) => v.overdue > 0],
  ["Waiting", (v) => count(v.queued), (v) => `${v.queue_limit === null ? "no limit" : `of ${count(v.queue_limit)} at most`}; ` + ["high", "normal", "low"].map((each) => `${count(v.queued_by_priority[each])} ${each}`).join(", "), (v) => v.queue_limit !== null && v.queued >= v.queue_limit],
  ["Oldest waits", (v) => seconds(v.oldest_wait), (v) => (v.wait === null ? "" : `95 % at most ${seconds(v.wait.p95)} in the last minute`)],
  ["Accepted", (v) => `${rate(v.rates.accepted)} /s`, (v) => `${count(v.accepted)} in all` + ["refused", "cancelled", "dropped"].filter((each) => v[each]).map((each) => `, ${count(v[each])} ${each}`).join(""), (v) => v.rates.refused > 0],
  ["Completed", (v) => `${rate(v.rates.completed)} /s`, (v) => `${count(v.completed)} in all`],
  ["Failed", (v) => `${rate(v.rates.failed)} /s`, (v) => `${count(v.failed)} in all` + (v.error_share === null ? "" : `; with time-outs ${share(v.error_share)} of the last minute`), (v) => v.rates.failed > 0],
  ["Timed out", (v) => `${rate(v.rates.timed_out)} /s`, (v) => `${count(v.timed_out)} in all`, (v) => v.rates.timed_out > 0],
  ["Busy", (v) => share(v.busy_share), () => "of the last minute"],
  ["Interpreter", (v) => share(v.attach_share), (v) => `of task time waits for it; ${v.free_threaded ? "free-threaded" : "with the GIL"}`],
];

const tiles = TILES.map(([title, value, below, bad]) => {
  const tile = make("div", "tile");
  const term = make("dt");
  const number = make("dd", "number");
  const note = make("dd", "note");
  term.textContent = title;
  tile.append(term, number, note);
  at("tiles").append(tile);
  return (view) => {
    put(number, value(view));
    put(note, below(view));
    tile.classList.toggle("bad", Boolean(bad && bad(view)));
  };
});

// Findings

function showFindings(view) {
  const list = at("findings");
  const found = view.findings.length
    ? view.findings.map((each) => [each.severity, each.text, `for ${seconds(each.since)}`])
    : [["fine", "Nothing is wrong.", ""]];
  while (list.children.length > found.length) list.lastChild.remove();
  while (list.children.length < found.length) {
    const item = make("li");
    item.append(make("strong"), make("span"), make("small"));
    list.append(item);
  }
  found.forEach(([severity, text, since], index) => {
    const item = list.children[index];
    item.className = `finding ${severity}`;
    [severity === "fine" ? "" : severity, text, since].forEach((each, cell) => put(item.children[cell], each));
  });
}

// Who listens hears what is new, and no figures that change every second.
let heard = "";
function say(view) {
  const codes = view.findings.map((each) => each.code);
  const now = [view.number, view.state, ...codes].join();
  if (now === heard) return;
  heard = now;
  const found = view.findings.map((each) => `${each.severity}: ${each.text}.`).join(" ");
  put(at("said"), `${view.name} is ${view.state}. ${found || "Nothing is wrong."}`);
}

// Charts

// The columns of a point, in the order of the server.
const [TIME, ACCEPTED, COMPLETED, FAILED, TIMED_OUT, QUEUED, RUNNING, OLDEST, WAIT, RUN] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 11];

const QUANTILES = [
  { name: "p50", colour: "first" },
  { name: "p95", colour: "second" },
  { name: "p99", colour: "third" },
];

const CHARTS = [
  [[ACCEPTED, COMPLETED, FAILED, TIMED_OUT], { title: "Tasks per second", format: rate, lines: [
    { name: "accepted", colour: "first" },
    { name: "completed", colour: "good", dash: [6, 4] },
    { name: "failed", colour: "bad" },
    { name: "timed out", colour: "third", dash: [3, 3] },
  ] }],
  [[QUEUED, RUNNING], { title: "Waiting and running tasks", format: rate, lines: [
    { name: "waiting", colour: "second" },
    { name: "running", colour: "first" },
  ] }],
  [[WAIT, WAIT + 1, WAIT + 2, OLDEST], { title: "Time in the queue", format: seconds, log: true, lines: [
    ...QUANTILES, { name: "oldest that waits", colour: "quiet", dash: [3, 3] },
  ] }],
  [[RUN, RUN + 1, RUN + 2], { title: "Time in task functions", format: seconds, log: true, lines: QUANTILES }],
];

let points = [];
let charts = null;

function showCharts(message) {
  points = message.since ? [...points, ...message.points] : message.points;
  const newest = points.length ? points[points.length - 1][TIME] : 0;
  points = points.filter((point) => point[TIME] >= newest - SPAN - 2);
  // Where nobody looked, there is no line.
  const rows = points.flatMap((point, index) => {
    const before = index ? points[index - 1][TIME] : point[TIME];
    return point[TIME] - before > 3.5 ? [[before + 1, ...point.slice(1).map(() => null)], point] : [point];
  });
  // Made when they can be seen, since what is hidden has no width.
  charts ??= CHARTS.map(([columns, options]) => [columns, new Chart(at("charts"), options)]);
  for (const [columns, chart] of charts) {
    chart.update([TIME, ...columns].map((column) => rows.map((row) => row[column])));
  }
}

// Tables

// columns: [title, the value of a row, "text" | "number" | "meter"]
class Table {
  constructor(id, empty, columns) {
    this.columns = columns;
    this.empty = empty;
    const table = at(id);
    const head = make("tr");
    for (const [title, , kind] of columns) {
      const cell = make("th", kind);
      cell.scope = "col";
      cell.textContent = title;
      head.append(cell);
    }
    this.body = make("tbody");
    const top = make("thead");
    top.append(head);
    table.append(top, this.body);
  }

  row() {
    const row = make("tr");
    this.columns.forEach(([title, , kind], index) => {
      const cell = make(index ? "td" : "th", kind);
      if (!index) cell.scope = "row";
      if (kind === "meter") {
        const meter = make("meter");
        meter.setAttribute("aria-label", title);
        cell.append(meter, make("span"));
      }
      row.append(cell);
    });
    return row;
  }

  show(rows, mark = () => "") {
    this.body.parentElement.hidden = rows.length === 0;
    let note = this.body.parentElement.nextElementSibling;
    if (!note) this.body.parentElement.after((note = make("p", "empty")));
    put(note, rows.length ? "" : this.empty);
    while (this.body.children.length > rows.length) this.body.lastChild.remove();
    while (this.body.children.length < rows.length) this.body.append(this.row());
    rows.forEach((each, index) => {
      const row = this.body.children[index];
      row.className = mark(each);
      this.columns.forEach(([, value, kind], column) => {
        const cell = row.children[column];
        if (kind === "meter") {
          cell.firstChild.value = value(each);
          put(cell.lastChild, share(value(each)));
        } else {
          put(cell, value(each));
        }
      });
    });
  }
}

const workers = new Table("workers", "No workers.", [
  ["Worker", (w) => w.name, "text"],
  ["State", (w) => (w.overdue ? "overdue" : w.state), "text"],
  ["Task", (w) => w.task ?? NONE, "text"],
  ["For", (w) => seconds(w.task_age), "number"],
  ["Busy, last minute", (w) => w.busy_share, "meter"],
  ["Done", (w) => count(w.tasks_done), "number"],
  ["Resource", (w) => `no. ${count(w.resource_generation)}`, "number"],
  ["Age", (w) => seconds(w.resource_age), "number"],
  ["Kind", (w) => w.kind, "text"],
]);

const tasks = new Table("tasks", "No task has ended yet.", [
  ["Name", (t) => t.name, "text"],
  ["Completed", (t) => count(t.completed), "number"],
  ["Failed", (t) => count(t.failed), "number"],
  ["Retried", (t) => count(t.retried), "number"],
  ["/s, 5 s", (t) => rate(t.rate_5s), "number"],
  ["/s, 1 min", (t) => rate(t.rate_1min), "number"],
  ["/s, 5 min", (t) => rate(t.rate_5min), "number"],
  ["Mean", (t) => seconds(t.mean), "number"],
  ["p95", (t) => seconds(t.p95), "number"],
  ["Total", (t) => seconds(t.total), "number"],
]);

const spread = (key) => [key, (t) => seconds(t.spread?.[key]), "number"];
const times = new Table("times", "", [
  ["Where", (t) => t.where, "text"],
  ["Now", (t) => count(t.now), "number"],
  ["Tasks", (t) => count(t.spread?.count ?? 0), "number"],
  spread("p50"),
  spread("p95"),
  spread("p99"),
]);

function seen(ago) {
  if (ago === null) return NONE;
  return ago < 2 ? "now" : `${seconds(ago)} ago`;
}

const COUNTS = [
  ["Count", (e) => count(e.count), "number"],
  ["Last minute", (e) => count(e.last_minute), "number"],
  ["Last seen", (e) => seen(e.last_seen), "number"],
];
const errors = new Table("errors", "No task has failed.", [["Type", (e) => e.name, "text"], ...COUNTS]);
const replaced = new Table("replaced", "None.", [["Reason", (e) => e.name, "text"], ...COUNTS]);

function more(id, left) {
  at(id).hidden = left === 0;
  put(at(id), left ? `${count(left)} more` : "");
}

function showTables(view) {
  times.show([
    ...["high", "normal", "low"].map((each) => ({
      where: `queue, ${each}`,
      now: view.queued_by_priority[each],
      spread: view.wait_by_priority[each],
    })),
    { where: "queue, all", now: view.queued, spread: view.wait },
    { where: "task functions", now: view.running, spread: view.execution },
  ]);
  workers.show(view.workers, (worker) => (worker.overdue ? "overdue" : ""));
  more("workers-more", view.workers_left_out);
  tasks.show(view.tasks);
  more("tasks-more", view.tasks_left_out);
  errors.show(view.errors);
  more("errors-more", view.errors_left_out);
  replaced.show(view.replaced.filter((each) => each.count));
}

// Runners

// The one in the address, which a reload keeps.
let chosen = location.hash.slice(1);

function showChoice(message) {
  const select = at("runner");
  at("choice").hidden = message.runners.length < 2;
  while (select.options.length > message.runners.length) select.lastChild.remove();
  while (select.options.length < message.runners.length) select.append(make("option"));
  message.runners.forEach((each, index) => {
    const option = select.options[index];
    option.value = String(each.number);
    put(option, each.state === "running" ? each.name : `${each.name} (${each.state})`);
  });
  if (message.view && document.activeElement !== select) select.value = String(message.view.number);
}

at("runner").addEventListener("change", (event) => {
  chosen = event.target.value;
  history.replaceState(null, "", `#${chosen}`);
  open();
});

// Events

const STATES = {
  running: "",
  stopping: "The runner is stopping: it finishes what waits and takes no new tasks.",
  killed: "The runner was killed: what waited is dropped, what runs is told to end.",
  stopped: "The runner has stopped. These are its last figures.",
};

function show(message) {
  const view = message.view;
  showChoice(message);
  at("nothing").hidden = view !== null;
  at("view").hidden = view === null;
  put(at("name"), view ? view.name : "tasker");
  state = view ? view.state : "";
  showState();
  document.title = view ? `${view.name} – tasker` : "tasker";
  const notice = view ? STATES[view.state] : "";
  at("stopped").hidden = !notice;
  put(at("stopped"), notice);
  if (!view) return;
  for (const tile of tiles) tile(view);
  showFindings(view);
  showCharts(message);
  showTables(view);
  say(view);
}

// What is shown stays when no news comes, and is said to be old: that it runs is not known any more.
let state = "";
let stale = false;

function showState() {
  put(at("state"), stale && state ? `was ${state}` : state);
  at("state").className = `state ${state}`;
  document.body.classList.toggle("stale", stale);
  for (const word of document.querySelectorAll(".old")) word.hidden = !stale;
}

let source = null;
let paused = false;
let heardAt = 0;
let again = 0;

function tellConnection(kind, text) {
  at("connection").dataset.kind = kind;
  put(at("connection"), text);
  // A pause leaves it as it is.
  if (kind !== "wait") stale = kind === "gone";
  showState();
}

function close() {
  clearTimeout(again);
  source?.close();
  source = null;
}

function open() {
  close();
  // Whoever looks away or has paused costs the process nothing.
  if (paused || document.hidden) return;
  heardAt = performance.now();
  source = new EventSource(`events?runner=${encodeURIComponent(chosen)}`);
  source.onmessage = (event) => {
    heardAt = performance.now();
    tellConnection("live", "Live");
    show(JSON.parse(event.data));
  };
  source.onerror = () => {
    tellConnection("gone", "The server does not answer; trying again");
    // After an answer that is no stream of events the browser gives up.
    if (source?.readyState === EventSource.CLOSED) again = setTimeout(open, AGAIN * 1000);
  };
}

setInterval(() => {
  const silent = (performance.now() - heardAt) / 1000;
  if (source?.readyState === EventSource.OPEN && silent > SILENCE) {
    tellConnection("gone", `No news for ${Math.round(silent)} s`);
  }
}, 1000);

at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  if (paused) tellConnection("wait", "Paused");
  open();
});

document.addEventListener("visibilitychange", open);
// A page that the browser keeps for "back" holds no connection.
addEventListener("pagehide", close);
addEventListener("pageshow", (event) => event.persisted && open());
open();
