// What every page does: menu, signing out, charts, moving pictures with a pause. Pages say everything without it.

import { drawCharts } from "./charts.js";
import { playFeeders } from "./feeder.js";
import { keepLive, refresh } from "./live.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");
let paused = still.matches;

function begin(root) {
  if (window.echarts) drawCharts(root);
  playFeeders(root);
  for (const picture of root.querySelectorAll("svg.moving")) {
    if (paused) picture.pauseAnimations();
  }
}

document.addEventListener("click", async (event) => {
  for (const menu of document.querySelectorAll("details.account[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  const pause = event.target.closest("[data-pause]");
  if (pause) {
    paused = !paused;
    for (const picture of document.querySelectorAll("svg.moving")) {
      if (paused) picture.pauseAnimations();
      else picture.unpauseAnimations();
    }
    markPaused();
    if (!paused) refresh();
  }
  const out = event.target.closest("[data-sign-out]");
  if (out) {
    out.disabled = true;
    await fetch("/api/v1/session", { method: "DELETE" });
    location.assign(out.dataset.next);
  }
});

/** Whoever stops the moving picture does not want its figures to change either. */
function markPaused() {
  for (const button of document.querySelectorAll("[data-pause]")) button.setAttribute("aria-pressed", String(paused));
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.account[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

document.addEventListener("htmx:beforeRequest", (event) => {
  if (paused && !still.matches && event.target.matches("[data-live]")) event.preventDefault();
});
document.addEventListener("htmx:afterSettle", () => {
  begin(document);
  markPaused();
});

begin(document);
keepLive();
