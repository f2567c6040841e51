// Holders, waiters and routes.
import { h, keyed, setAttribute, setText } from "./dom.js";
import { number, place, plural, seconds } from "./format.js";

const IDLE_HOLD = 0.5; // seconds
const SHOWN_WAITERS = 10; // the oldest tell; hundreds would push the findings out of sight
const tables = new WeakMap();

// columns: { name, label, cell(td, row), number, sort(row) }. On a phone a row becomes a card with labelled lines.
function table(target, label, columns, empty) {
  const known = tables.get(target);
  if (known) return known;
  const body = h("tbody");
  const head = h("tr");
  const one = { columns, body, order: null, element: null, none: h("p", { class: "empty" }, empty), more: h("p", { class: "more", hidden: "" }) };
  for (const column of columns) {
    const th = h("th", { scope: "col", class: classes(column) });
    if (column.sort) {
      const button = h("button", { type: "button", title: `Sort by ${column.label}` }, column.label);
      button.addEventListener("click", () => {
        const same = one.order?.column === column;
        one.order = { column, descending: same ? !one.order.descending : Boolean(column.number) };
        showOrder(one);
        one.refresh();
      });
      th.append(button);
    } else th.append(column.label);
    column.th = th;
    head.append(th);
  }
  one.element = h("div", { class: columns.some((column) => column.sort) ? "scroll sortable" : "scroll", tabindex: "0", role: "region", "aria-label": label }, h("table", {}, h("thead", {}, head), body));
  target.append(one.element, one.none, one.more);
  tables.set(target, one);
  return one;
}

const classes = (column) => (column.number ? `${column.name} number` : column.name);

function showOrder(one) {
  for (const { th } of one.columns) {
    const sorted = one.order?.column.th === th;
    setAttribute(th, "aria-sort", sorted ? (one.order.descending ? "descending" : "ascending") : null);
  }
}

function fill(one, rows, keyOf) {
  one.none.hidden = rows.length > 0;
  one.element.hidden = rows.length === 0;
  keyed(
    one.body, rows, keyOf,
    () => {
      const row = h("tr");
      for (const column of one.columns) row.append(h("td", { class: classes(column), "data-label": column.label }));
      return row;
    },
    (row, item) => one.columns.forEach((column, i) => column.cell(row.children[i], item)),
  );
}

const say = (read) => (cell, row) => setText(cell, read(row));

function lines(cell, row) {
  if (!cell.firstElementChild) cell.append(h("span"), h("small"));
  const [taken, also] = cell.children;
  setText(taken, row.lines[0] ?? "–");
  const other = (line, words) => (line && line !== row.lines[0] ? `${words} ${line}` : "");
  setText(also, other(row.now_at, "now at") || other(row.made_at, "session made at"));
  cell.title = row.lines.join("\n");
}

function hideUnless(one, name, wanted) {
  one.element.classList.toggle(`without-${name}`, !wanted);
}

export function showHolders(target, state) {
  const one = table(target, "Holders now", [
    { name: "age", label: "Age", number: true, cell: say((row) => seconds(row.age_seconds)) },
    { name: "state", label: "State", cell: badge },
    { name: "route", label: "Route", cell: say((row) => place(row.method, row.route)) },
    { name: "line", label: "Code line", cell: lines },
    { name: "statement", label: "Last statement", cell: statement },
    { name: "executing-time", label: "Executing time", number: true, cell: say((row) => seconds(row.executing_seconds)) },
    { name: "pool-name", label: "Pool", cell: say((row) => row.pool) },
    { name: "worker", label: "Worker", number: true, cell: say((row) => String(row.worker)) },
  ], "Nobody holds a connection.");
  const rows = state.pools.flatMap((pool) => pool.holders.map((row) => ({ ...row, pool: pool.name })));
  rows.sort((a, b) => b.age_seconds - a.age_seconds);
  hideUnless(one, "pool-name", state.pools.length > 1);
  hideUnless(one, "worker", state.workers.length > 1);
  fill(one, rows, (_, index) => index);
  return rows.length;
}

function badge(cell, row) {
  const mark = cell.firstElementChild ?? cell.appendChild(h("span", { class: "badge" }));
  setText(mark, row.state);
  // Idle between two statements is ordinary; idle for long is what empties pools.
  setAttribute(mark, "data-state", row.state === "idle" && row.age_seconds < IDLE_HOLD ? "brief" : row.state);
}

function statement(cell, row) {
  setText(cell, row.last_statement || "none yet");
  cell.title = row.last_statement;
  cell.classList.toggle("quiet", !row.last_statement);
}

export function showWaiters(target, state) {
  const one = table(target, "Waiters now", [
    { name: "age", label: "Waiting for", number: true, cell: say((row) => seconds(row.waited_seconds)) },
    { name: "route", label: "Route", cell: say((row) => place(row.method, row.route)) },
    { name: "pool-name", label: "Pool", cell: say((row) => row.pool) },
    { name: "worker", label: "Worker", number: true, cell: say((row) => String(row.worker)) },
  ], "Nobody waits.");
  const rows = state.pools.flatMap((pool) => pool.waiting.map((row) => ({ ...row, pool: pool.name })));
  rows.sort((a, b) => b.waited_seconds - a.waited_seconds);
  hideUnless(one, "worker", state.workers.length > 1);
  fill(one, rows.slice(0, SHOWN_WAITERS), (_, index) => index);
  one.more.hidden = rows.length <= SHOWN_WAITERS;
  if (!one.more.hidden) setText(one.more, `and ${rows.length - SHOWN_WAITERS} more: ${byRoute(rows)}`);
  return rows.length;
}

// "172 in GET /delivery/{product_id}, 3 in GET /orders": who they are, most of them first.
function byRoute(rows) {
  const counts = new Map();
  for (const row of rows) {
    const where = place(row.method, row.route);
    counts.set(where, (counts.get(where) ?? 0) + 1);
  }
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([where, count]) => `${count} in ${where}`);
  return `${parts.slice(0, 3).join(", ")}${parts.length > 3 ? ", …" : ""} in all`;
}

const perRequest = (row) => (row.requests ? row.statements / row.requests : 0);
const ROUTES = [
  { name: "route", label: "Route", sort: (row) => `${row.route} ${row.method}`, cell: say((row) => place(row.method, row.route)) },
  { name: "requests", label: "Requests", number: true, sort: (row) => row.requests, cell: say((row) => number(row.requests)) },
  { name: "connection", label: "Connection-seconds", number: true, sort: (row) => row.connection_seconds, cell: share },
  { name: "wait", label: "Wait", number: true, sort: (row) => row.wait_seconds, cell: say((row) => seconds(row.wait_seconds)) },
  { name: "executing", label: "Executing", number: true, sort: (row) => row.executing_seconds, cell: say((row) => seconds(row.executing_seconds)) },
  { name: "statements", label: "Statements/request", number: true, sort: perRequest, cell: say((row) => number(perRequest(row))) },
  { name: "held", label: "Held now", number: true, sort: (row) => row.connections, cell: say((row) => number(row.connections)) },
  { name: "found", label: "Findings", number: true, sort: (row) => row.findings, cell: say((row) => number(row.findings)) },
];

let mostSeconds = 1;

function share(cell, row) {
  if (!cell.firstElementChild) cell.append(h("span"), h("i", { class: "share", "aria-hidden": "true" }));
  setText(cell.firstElementChild, seconds(row.connection_seconds));
  cell.lastElementChild.style.inlineSize = `${(row.connection_seconds / mostSeconds) * 100}%`;
}

export function showRoutes(target, state) {
  const one = table(target, "Routes", ROUTES, "No request has used a connection yet.");
  if (!one.order) {
    one.order = { column: ROUTES[2], descending: true };
    showOrder(one);
  }
  one.refresh = () => {
    const { column, descending } = one.order;
    const rows = [...state.routes].sort((a, b) => {
      const [x, y] = [column.sort(a), column.sort(b)];
      return (x < y ? -1 : x > y ? 1 : 0) * (descending ? -1 : 1);
    });
    mostSeconds = Math.max(1e-9, ...rows.map((row) => row.connection_seconds));
    fill(one, rows, (row) => `${row.method} ${row.route}`);
  };
  one.refresh();
  return plural(state.routes.length, "route");
}
