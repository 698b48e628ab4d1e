// Charts of the last minute or the last five, drawn by uPlot.
//
// Colours are variables of page.css, read whenever a chart is drawn, so that they follow the
// theme. A chart is a picture: what it says now stands beside it as text, for those who do not see.

import { NONE } from "./format.js";

const SPANS = [60, 300]; // seconds: the first until there is more
const HEIGHT = 170;

const style = getComputedStyle(document.documentElement);
const colour = (name) => style.getPropertyValue(`--${name}`).trim();

const axis = {
  stroke: () => colour("quiet"),
  grid: { stroke: () => colour("line"), width: 1 },
  ticks: { stroke: () => colour("line"), width: 1, size: 4 },
  font: "12px system-ui, sans-serif",
};

function span(min, max) {
  return SPANS.find((each) => max - min <= each) ?? SPANS.at(-1);
}

function ago(plot, splits) {
  const newest = splits.at(-1);
  return splits.map((time, index) => {
    const seconds = Math.round(newest - time);
    if (seconds === 0) return "now";
    // Where it is narrow, every second one.
    if (plot.width < 420 && (splits.length - 1 - index) % 2) return null;
    return seconds < 60 || newest - splits[0] <= 60 ? `−${seconds} s` : `−${seconds / 60} min`;
  });
}

// A range with two powers of ten at least, since these alone have lines and labels.
function decades(_plot, min, max) {
  if (min === null || max === null) return [0.001, 1];
  const low = 10 ** Math.floor(Math.log10(min) + 1e-9);
  const high = 10 ** Math.ceil(Math.log10(max) - 1e-9);
  return [low, high > low ? high : low * 10];
}

function powers(_plot, _axis, min, max) {
  const first = Math.round(Math.log10(min));
  const last = Math.round(Math.log10(max));
  return Array.from({ length: last - first + 1 }, (_, index) => 10 ** (first + index));
}

export class Chart {
  // lines: [{name, colour, dash}], of which `update` gets the values; format makes texts of them.
  constructor(parent, { title, lines, format, log }) {
    this.lines = lines;
    this.format = format;
    this.log = log;
    this.columns = [[], ...lines.map(() => [])];

    const section = document.createElement("section");
    const heading = document.createElement("h2");
    heading.textContent = title;
    const picture = document.createElement("div");
    picture.className = "picture";
    picture.setAttribute("aria-hidden", "true");
    const legend = document.createElement("dl");
    legend.className = "legend";
    this.values = lines.map((line) => {
      const item = document.createElement("div");
      const term = document.createElement("dt");
      term.textContent = line.name;
      term.className = `key ${line.colour}${line.dash ? " dash" : ""}`;
      const value = document.createElement("dd");
      item.append(term, value);
      legend.append(item);
      return value;
    });
    section.append(heading, legend, picture);
    parent.append(section);

    this.plot = new uPlot(this.options(picture.clientWidth || 300), this.columns, picture);
    new ResizeObserver(() => {
      if (picture.clientWidth) this.plot.setSize({ width: picture.clientWidth, height: HEIGHT });
    }).observe(picture);
    // The colours of the other theme.
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.plot.redraw());
  }

  options(width) {
    return {
      width,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      hooks: { setCursor: [() => this.tell()] },
      scales: {
        x: { range: (_plot, min, max) => [(max ?? 0) - span(min ?? 0, max ?? 0), max ?? 0] },
        y: this.log
          ? { distr: 3, range: decades }
          : { range: (_plot, _min, max) => [0, max > 0 ? max * 1.1 : 1] },
      },
      axes: [
        {
          ...axis,
          size: 28,
          splits: (_plot, _axis, min, max) => {
            const parts = max - min > 60 ? 5 : 6;
            return Array.from({ length: parts + 1 }, (_, index) => max - ((max - min) * (parts - index)) / parts);
          },
          values: ago,
        },
        {
          ...axis,
          size: 60,
          ...(this.log ? { splits: powers } : {}),
          values: (_plot, splits) => splits.map((value) => (value === null ? null : this.format(value))),
        },
      ],
      series: [
        {},
        ...this.lines.map((line) => ({
          stroke: () => colour(line.colour),
          width: 2,
          dash: line.dash,
          // A lone point between two gaps is no line, and would not be seen.
          points: { show: false },
        })),
      ],
    };
  }

  // columns: times in seconds, then the values of each line; null where there is none.
  update(columns) {
    const lines = columns.slice(1);
    // No logarithm of 0.
    const shown = this.log ? lines.map((line) => line.map((value) => value || null)) : lines;
    this.columns = columns;
    this.plot.setData([columns[0], ...shown]);
    this.tell();
  }

  // The values under the pointer, or the newest.
  tell() {
    const index = this.plot?.cursor.idx ?? this.columns[0].length - 1;
    this.values.forEach((element, line) => {
      const value = this.columns[line + 1][index] ?? null;
      element.textContent = value === null ? NONE : this.format(value);
    });
  }
}
