// A pool at a glance: verdict, numbers, charts, where the time goes, sizing.
import { h, keyed, setAttribute, setText } from "./dom.js";
import { limit, number, seconds } from "./format.js";
import { ConnectionsChart, TimesChart } from "./charts.js";

const PHASES = [["wait", "waiting in the queue"], ["connect", "opening a connection"], ["ping", "pre-ping"], ["other", "SQLAlchemy itself"]];
const ACTIVITIES = [["executing", "executing SQL"], ["idle", "idle"], ["unknown", "streaming or unknown"]];
const made = new WeakMap();

function tile(label, title) {
  const value = h("dd");
  return { value, element: h("div", { class: "tile", title }, h("dt", {}, label), value) };
}

function bar(title, parts) {
  const shares = h("div", { class: "shares", "aria-hidden": "true" });
  const list = h("ul", { class: "legend" });
  const rows = parts.map(([name, label]) => {
    const share = h("span", { "data-colour": name });
    const value = h("b");
    shares.append(share);
    const item = h("li", {}, h("i", { class: "key area", "data-colour": name, "aria-hidden": "true" }), `${label} `, value);
    list.append(item);
    return { name, share, value, item };
  });
  const none = h("p", { class: "quiet" }, "Nothing in the window yet.");
  return {
    element: h("div", { class: "block" }, h("h3", {}, title), shares, list, none),
    show(values) {
      const total = Object.values(values).reduce((sum, value) => sum + value, 0);
      none.hidden = total > 0;
      shares.hidden = list.hidden = total === 0;
      for (const { name, share, value, item } of rows) {
        const part = total ? (values[name] ?? 0) / total : 0;
        share.style.flexGrow = String(part);
        share.hidden = part === 0;
        item.classList.toggle("quiet", part === 0);
        setText(value, part > 0 && part < 0.01 ? "<1 %" : `${Math.round(part * 100)} %`);
      }
    },
  };
}

// Two labels that would lie on each other become one.
function join(lower, upper, low, high) {
  const near = low !== null && high !== null && Math.abs(parseFloat(upper.mark.style.insetInlineStart) - parseFloat(lower.mark.style.insetInlineStart)) < 14;
  lower.label.hidden = near;
  if (near) setText(upper.label, `${lower.name} ${number(low)}, ${upper.name} ${number(high)}`);
}

function sizing() {
  const text = h("p", { class: "advice" });
  const arithmetic = h("p", { class: "arithmetic" });
  const scale = h("div", { class: "scale", "aria-hidden": "true" });
  const marks = ["p99", "peak", "size", "limit"].map((name) => {
    const label = h("span");
    const mark = h("div", { class: `mark ${name}` }, label);
    scale.append(mark);
    return { name, mark, label };
  });
  const fill = h("div", { class: "fill" });
  scale.prepend(fill);
  return {
    element: h("div", { class: "block sizing" }, h("h3", {}, "Connections needed against configured"), scale, text, arithmetic),
    show(advice, share) {
      setText(text, advice.text);
      setText(arithmetic, advice.arithmetic);
      setAttribute(text, "data-action", advice.action);
      const values = { p99: advice.p99_needed, peak: advice.peak_needed, size: share.size, limit: share.limit };
      const most = Math.max(1, ...Object.values(values).filter((value) => value !== null)) * 1.04;
      for (const { name, mark, label } of marks) {
        mark.hidden = values[name] === null;
        mark.style.insetInlineStart = `${((values[name] ?? 0) / most) * 100}%`;
        const place = (values[name] ?? 0) / most;
        label.dataset.side = place > 0.8 ? "end" : place < 0.15 ? "start" : "middle";
        setText(label, `${name} ${number(values[name])}`);
      }
      join(marks[0], marks[1], values.p99, values.peak);
      join(marks[2], marks[3], values.size, values.limit);
      fill.style.inlineSize = `${((values.p99 ?? 0) / most) * 100}%`;
    },
  };
}

function make(pool) {
  const name = h("h2", {}, pool.name);
  const engine = h("p", { class: "engine" });
  const verdict = h("p", { class: "verdict" });
  const shares = h("ul", { class: "workers", "aria-label": "Workers" });
  const tiles = {
    used: tile("used", "Connections checked out now, of the limit"),
    idle: tile("idle", "Connections open and free"),
    overflow: tile("overflow", "Checked out above pool_size"),
    waiters: tile("waiters", "Checkouts waiting now"),
    oldest: tile("oldest wait", "How long the checkout that has waited longest has been waiting"),
    peak: tile("peak, 2 min", "Most connections out at once in the last two minutes"),
    rate: tile("checkouts/s", "Mean of the window"),
  };
  const chartBlock = h("div", { class: "block" }, h("h3", {}, "Connections, last ten minutes"));
  const times = h("div", { class: "block" }, h("h3", {}, "Checkout time"));
  const quantiles = ["p50", "p95", "p99"].map((label) => {
    const value = h("dd");
    return { label, value, element: h("div", {}, h("dt", {}, h("i", { class: "key solid", "data-colour": label, "aria-hidden": "true" }), label), value) };
  });
  times.append(h("dl", { class: "quantiles" }, ...quantiles.map((one) => one.element)));
  const phases = bar("Where checkout time goes", PHASES);
  const activity = bar("What holders do", ACTIVITIES);
  const needed = sizing();
  const grid = h(
    "div", { class: "grid" },
    h("div", { class: "stack" }, chartBlock, needed.element),
    h("div", { class: "stack" }, times, phases.element, activity.element),
  );
  const element = h(
    "section", { class: "pool" },
    h("div", { class: "pool-head" }, name, engine), verdict, shares,
    h("dl", { class: "tiles" }, ...Object.values(tiles).map((one) => one.element)), grid,
  );
  made.set(element, {
    engine, verdict, shares, tiles, quantiles, phases, activity, needed,
    // A chart needs its place in the document to know its width.
    charts: null, chartBlock, times,
  });
  return element;
}

function update(element, pool, state, all) {
  const parts = made.get(element);
  const { now, attributes } = pool;
  parts.charts ??= { connections: new ConnectionsChart(parts.chartBlock), times: new TimesChart(parts.times) };
  const driver = [attributes.dialect, attributes.driver].filter(Boolean).join("+");
  setText(parts.engine, [attributes.pool_class, driver, attributes.server].filter(Boolean).join(" · "));
  setText(parts.verdict, pool.verdict.text);
  setAttribute(element, "data-level", pool.verdict.level);
  const { tiles } = parts;
  setText(tiles.used.value, `${number(now.used)} / ${limit(now.limit)}`);
  setText(tiles.idle.value, number(now.idle));
  setText(tiles.overflow.value, number(now.overflow));
  setText(tiles.waiters.value, number(now.waiters));
  setText(tiles.oldest.value, seconds(now.oldest_waiter_seconds));
  setText(tiles.peak.value, number(now.used_peak));
  setText(tiles.rate.value, pool.checkout.count ? number(pool.checkout.per_second) : "0");
  setAttribute(tiles.waiters.element, "data-level", now.waiters ? "critical" : null);
  setAttribute(tiles.oldest.element, "data-level", now.oldest_waiter_seconds > 0.1 ? "critical" : null);
  setAttribute(tiles.overflow.element, "data-level", now.overflow ? "warning" : null);
  setAttribute(tiles.used.element, "data-level", now.limit !== null && now.used >= now.limit && now.used ? "warning" : null);
  parts.quantiles.forEach(({ label, value }) => setText(value, seconds(pool.checkout[label])));
  parts.charts.connections.show(pool.history, all, state.at);
  parts.charts.times.show(pool.checkout_history, all, state.at);
  parts.phases.show(pool.phases);
  parts.activity.show(pool.activity);
  parts.needed.show(pool.advice, pool.workers[0]);
  parts.shares.hidden = pool.workers.length < 2;
  keyed(parts.shares, pool.workers, (worker) => worker.pid, () => h("li"), (item, worker) => {
    const waiting = worker.waiters ? `, ${worker.waiters} waiting` : "";
    setText(item, `worker ${worker.pid}: ${worker.used} of ${limit(worker.limit)}${waiting}`);
    setAttribute(item, "data-level", worker.verdict.level);
    item.title = worker.verdict.text;
  });
}

export function showPools(target, state, all) {
  keyed(target, state.pools, (pool) => pool.name, make, (element, pool) => update(element, pool, state, all));
}
