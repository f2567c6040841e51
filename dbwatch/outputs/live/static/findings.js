// Findings, latest first, and the configuration of each engine with remarks.
import { h, keyed, setAttribute, setProse, setText } from "./dom.js";
import { ago, limit, place, seconds } from "./format.js";

const parts = new WeakMap();

function make(finding) {
  const title = h("h3");
  const badge = h("span", { class: "badge" });
  const back = h("span", { class: "badge", "data-state": "returned" });
  const when = h("span", { class: "when" });
  const where = h("p", { class: "where" });
  const lines = h("ol", { class: "lines" });
  const message = h("p", { class: "message" });
  const report = h("pre");
  const whole = h("details", {}, h("summary", {}, "Whole report"), report);
  const cause = h("dd");
  const fix = h("dd");
  // The address comes from the catalogue of the package; anything else is not made into a link.
  const link = /^https:\/\//.test(finding.page) ? h("a", { href: finding.page, rel: "noreferrer noopener", target: "_blank" }, "How to mend it, with code") : "";
  const element = h(
    "article", { class: "finding" },
    h("div", { class: "finding-head" }, title, badge, back, when), where, lines, message, whole,
    h("dl", { class: "why" }, h("dt", {}, "Cause"), cause, h("dt", {}, "Fix"), fix), link,
  );
  parts.set(element, { title, badge, back, when, where, lines, message, report, whole, cause, fix });
  return element;
}

function update(element, finding, now) {
  const one = parts.get(element);
  setText(one.title, finding.title);
  setText(one.badge, finding.count > 1 ? `${finding.finding} × ${finding.count}` : finding.finding);
  one.back.hidden = finding.returned === 0;
  setText(one.back, finding.returned === finding.count ? "came back" : `${finding.returned} of ${finding.count} came back`);
  element.classList.toggle("returned", finding.returned === finding.count);
  setText(one.when, finding.last_at - finding.first_at > 1 ? `last ${ago(finding.last_at, now)}, first ${ago(finding.first_at, now)}` : ago(finding.last_at, now));
  setText(one.where, `${place(finding.method, finding.route)}, pool ${finding.pool}`);
  keyed(one.lines, finding.lines, (line) => line, () => h("li"), (item, line) => setText(item, line));
  const [first, ...more] = finding.message.split("\n");
  setText(one.message, first);
  one.whole.hidden = more.length === 0;
  setText(one.report, finding.message);
  setProse(one.cause, finding.cause);
  setProse(one.fix, finding.fix);
}

const none = h("p", { class: "empty" }, "No findings: no mistake has been proven so far.");

export function showFindings(target, state) {
  if (!none.isConnected) target.after(none);
  none.hidden = state.findings.length > 0;
  const key = (one) => [one.finding, one.pool, one.method, one.route, one.lines[0]].join("\n");
  keyed(target, state.findings, key, make, (element, finding) => update(element, finding, state.at));
  return state.findings.reduce((sum, one) => sum + one.count, 0);
}

const SETTINGS = [
  ["Pool", (pool) => pool.attributes.pool_class],
  ["Server", (pool) => `${pool.attributes.dialect}+${pool.attributes.driver} ${pool.attributes.server}`],
  ["pool_size", (pool) => limit(pool.workers[0].size)],
  ["limit", (pool) => limit(pool.workers[0].limit)],
  ["pool_timeout", (pool) => (pool.now.timeout_seconds === null ? "none" : seconds(pool.now.timeout_seconds))],
  ["pre-ping", (pool) => ({ true: "on", false: "off" })[pool.attributes.pre_ping] ?? "unknown"],
  ["recycle", (pool) => (pool.attributes.recycle === "-1" ? "off" : `${pool.attributes.recycle} s`)],
  ["workers", (pool) => String(pool.workers.length)],
];

export function showConfiguration(target, state) {
  keyed(
    target, state.pools, (pool) => pool.name,
    (pool) => h("article", { class: "engine-card" }, h("h3", {}, pool.name), h("dl", { class: "settings" }), h("ul", { class: "remarks" }), h("p", { class: "quiet" }, "Nothing to remark.")),
    (element, pool) => {
      const [, settings, remarks, nothing] = element.children;
      keyed(settings, SETTINGS, ([label]) => label, ([label]) => h("div", {}, h("dt", {}, label), h("dd")), (row, [, read]) => setText(row.lastElementChild, read(pool)));
      keyed(
        remarks, pool.remarks, (remark) => remark.name,
        () => h("li", {}, h("code"), h("span")),
        (row, remark) => {
          setText(row.firstElementChild, remark.setting);
          setText(row.lastElementChild, remark.text);
          setAttribute(row, "data-level", remark.level);
        },
      );
      nothing.hidden = pool.remarks.length > 0;
    },
  );
}

