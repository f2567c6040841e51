// The live page: wires the stream to what is shown, and the controls to both.
import { setAttribute, setText } from "./dom.js";
import { clock, number, plural, seconds } from "./format.js";
import { repaint } from "./charts.js";
import { showPools } from "./pools.js";
import { showHolders, showRoutes, showWaiters } from "./tables.js";
import { showConfiguration, showFindings } from "./findings.js";
import { Stream } from "./stream.js";

const at = (id) => document.getElementById(id);
const LINKS = { connecting: "Connecting", live: "Live", paused: "Paused", hidden: "Paused while hidden", gone: "Server gone" };
let shownAt = 0;

function show(state, all) {
  at("waiting").hidden = true;
  at("rest").hidden = false;
  shownAt = state.at;
  showPools(at("pools"), state, all);
  setText(at("holders-count"), number(showHolders(at("holders"), state)));
  const waiters = showWaiters(at("waiters"), state);
  setText(at("waiters-count"), number(waiters));
  setText(at("findings-count"), number(showFindings(at("findings"), state)));
  setText(at("routes-count"), `${showRoutes(at("routes"), state)}, last ${seconds(Math.max(1, state.window_seconds))}`);
  showConfiguration(at("configuration"), state);
  const overall = at("overall");
  overall.hidden = false;
  setText(overall, state.verdict.text);
  setAttribute(overall, "data-level", state.verdict.level);
  document.title = `${state.verdict.text} · dbwatch`;
  const late = state.workers.filter((worker) => worker.late);
  const silent = late.length ? ` (no news of ${late.map((worker) => worker.pid).join(", ")})` : "";
  setText(at("about"), `dbwatch ${state.dbwatch} · ${plural(state.workers.length, "worker")}: ${state.workers.map((worker) => worker.pid).join(", ")}${silent}`);
}

function showLink(link) {
  const text = link === "live" ? `Live ${clock(shownAt || Date.now() / 1e3)}` : LINKS[link];
  setText(at("link-text"), text);
  setAttribute(at("link"), "data-link", link);
  document.body.classList.toggle("stale", link === "gone");
  const gone = at("gone");
  gone.hidden = link !== "gone";
  if (link === "gone") setText(gone, `The server does not answer${shownAt ? ` since ${clock(shownAt)}` : ""}. What you see is the last it said. Reconnecting …`);
}

const stream = new Stream((state, all) => {
  show(state, all);
  showLink("live");
}, showLink);

at("pause").addEventListener("click", () => {
  stream.paused = !stream.paused;
  setText(at("pause"), stream.paused ? "Resume" : "Pause");
  at("pause").setAttribute("aria-pressed", String(stream.paused));
});

const THEMES = ["auto", "light", "dark"];

function remembered() {
  try {
    return localStorage.getItem("dbwatch-theme");
  } catch {
    return null; // storage is forbidden here
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  setText(at("theme"), `Theme: ${theme}`);
  try {
    localStorage.setItem("dbwatch-theme", theme);
  } catch {
    // then it lasts as long as the page
  }
  repaint();
}

at("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme;
  setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
});
setTheme(THEMES.includes(remembered()) ? remembered() : "auto");
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
