// The two charts of a pool. Colours come from the style sheet, so that they follow the theme.
/* global uPlot */
import { h, setText, colour } from "./dom.js";
import { clock, number, seconds } from "./format.js";

const WINDOW = 600;
const charts = new Set();

// The last ten minutes, or as much of them as there is, but a minute at least.
function range(at, now) {
  return { min: Math.max(now - WINDOW, Math.min(at[0] ?? now, now - 60)), max: now };
}

export function repaint() {
  for (const chart of charts) chart.redraw(false, true);
}

function axes(format) {
  const shared = {
    stroke: () => colour("--muted"),
    grid: { stroke: () => colour("--line"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  };
  return [
    { ...shared, grid: { show: false }, size: 24, gap: 4, space: 64, values: (_, at) => at.map((one) => clock(one, at.length > 1 && at[1] - at[0] < 60)) },
    { ...shared, size: 44, gap: 6, space: 32, values: (_, values) => values.map(format) },
  ];
}

function make(target, height, options) {
  const chart = new uPlot(
    {
      width: Math.max(target.clientWidth, 100),
      height,
      padding: [8, 28, 0, 0], // on the right for the half of the last time that stands beyond its tick
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { show: false }, y: false },
      ...options,
    },
    options.series.map(() => []),
    target,
  );
  new ResizeObserver(() => {
    const width = target.clientWidth;
    if (width > 0 && width !== chart.width) chart.setSize({ width, height });
  }).observe(target);
  charts.add(chart);
  return chart;
}

function legend(items) {
  const list = h("ul", { class: "legend" });
  const values = items.map(({ name, kind, label }) => {
    const value = h("b");
    list.append(h("li", {}, h("i", { class: `key ${kind}`, "data-colour": name, "aria-hidden": "true" }), `${label} `, value));
    return value;
  });
  return { list, values };
}

// Connections over the last ten minutes, stacked: what rises above the limit is waiting.
export class ConnectionsChart {
  #history = { at: [], used: [], idle: [], overflow: [], waiters: [], size: [], limit: [] };

  constructor(target) {
    this.legend = legend([
      { name: "used", kind: "area", label: "used" },
      { name: "overflow", kind: "area", label: "of it overflow" },
      { name: "idle", kind: "area", label: "idle" },
      { name: "waiters", kind: "area", label: "waiters" },
      { name: "size", kind: "dashed", label: "size" },
      { name: "limit", kind: "solid", label: "limit" },
    ]);
    const plot = h("div", { class: "plot", "aria-hidden": "true" });
    target.append(plot, this.legend.list);
    const paths = uPlot.paths.stepped({ align: 1 });
    const area = (name) => ({ paths, stroke: () => colour(`--${name}`), fill: () => colour(`--${name}`), width: 0, points: { show: false } });
    const line = (dash) => ({ paths, stroke: () => colour("--mark"), width: 1.5, dash, points: { show: false } });
    this.chart = make(plot, 200, {
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(2, high * 1.08)] } },
      axes: axes((value) => (Number.isInteger(value) ? number(value) : "")),
      series: [{}, area("waiters"), area("idle"), area("overflow"), area("used"), line([5, 4]), line()],
      hooks: { setCursor: [() => this.#say()] },
    });
  }

  // `news` has all of the history, or its newest part.
  show(news, all, now) {
    const old = this.#history;
    if (all || old.at.length === 0) this.#history = news;
    else {
      const keep = old.at.findIndex((at) => at >= news.at[0]);
      const from = Math.max(0, old.at.length - WINDOW);
      for (const name of Object.keys(news)) {
        this.#history[name] = [...old[name].slice(from, keep < 0 ? undefined : keep), ...news[name]];
      }
    }
    const { at, used, idle, overflow, waiters, size, limit } = this.#history;
    this.chart.setData([
      at,
      at.map((_, i) => used[i] + idle[i] + waiters[i]),
      at.map((_, i) => used[i] + idle[i]),
      used,
      at.map((_, i) => used[i] - overflow[i]),
      size,
      limit,
    ], false);
    this.chart.setScale("x", range(at, now));
    this.#say();
  }

  #say() {
    const { at, used, idle, overflow, waiters, size, limit } = this.#history;
    const i = this.chart?.cursor.idx ?? at.length - 1;
    if (i < 0 || i >= at.length) return;
    [used, overflow, idle, waiters, size, limit].forEach((column, n) => {
      setText(this.legend.values[n], column[i] === null ? "none" : number(column[i]));
    });
  }
}

// Checkout time: median and the slow end, a point every ten seconds.
export class TimesChart {
  #history = { at: [], p50: [], p95: [], p99: [] };

  constructor(target) {
    const plot = h("div", { class: "plot", "aria-hidden": "true" });
    target.append(plot);
    const line = (name, width) => ({ stroke: () => colour(`--${name}`), width, points: { show: (_, i) => this.#history.at.length < 3 && i > 0, size: 5 } });
    this.chart = make(plot, 120, {
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(0.001, (high ?? 0) * 1.1)] } },
      axes: axes((value) => (value === 0 ? "0" : seconds(value))),
      series: [{}, line("p99", 1.5), line("p95", 1.5), line("p50", 2)],
    });
  }

  show(news, all, now) {
    const old = this.#history;
    if (all || old.at.length === 0) this.#history = news;
    else if (news.at.length) {
      const keep = old.at.findIndex((at) => at >= news.at[0]);
      for (const name of Object.keys(news)) {
        const kept = keep < 0 ? old[name] : old[name].slice(0, keep);
        this.#history[name] = [...kept.slice(-60), ...news[name]];
      }
    }
    const { at, p50, p95, p99 } = this.#history;
    this.chart.setData([at, p99, p95, p50], false);
    this.chart.setScale("x", range(at, now));
  }
}
