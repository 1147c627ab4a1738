// Keeps the live parts of a page up to date: the site's stream says that something has changed, htmx fetches the part again.
// Where no stream gets through, the parts are fetched every now and then.

const POLL_MILLISECONDS = 10_000;

const parts = () => [...document.querySelectorAll("[data-live]")];

let source;
let shown;
let opened = [];

/** Fetches the live parts again. */
export function refresh() {
  for (const part of parts()) window.htmx?.trigger(part, "peerwatt:changed");
}

function listen() {
  source = new EventSource(parts()[0].dataset.live);
  source.addEventListener("changed", ({ data }) => {
    // The first event says what the page shows already, unless something has changed since.
    if (data === shown) {
      shown = undefined;
      return;
    }
    shown = undefined;
    refresh();
  });
  source.addEventListener("error", () => {
    // Refused for good: the session has ended, and fetching a part will say so.
    if (source.readyState === EventSource.CLOSED) refresh();
  });
}

/** Only pages that are looked at hold a stream: a browser has few connections to a site. */
function look() {
  if (document.hidden) source?.close();
  else listen();
}

export function keepLive() {
  const [first] = parts();
  if (!first) return;
  shown = first.dataset.news;
  if (!document.hidden) listen();
  document.addEventListener("visibilitychange", look);
  setInterval(() => {
    if (document.hidden || source?.readyState === EventSource.OPEN) return;
    if (!source || source.readyState === EventSource.CLOSED) listen();
    refresh();
  }, POLL_MILLISECONDS);
  addEventListener("pagehide", () => source?.close());
  document.addEventListener("htmx:responseError", ({ detail }) => {
    // Signed out meanwhile: the whole page says so, and how to go on.
    if (detail.xhr.status === 401) location.reload();
  });
  document.addEventListener("htmx:beforeSwap", ({ target }) => {
    target.dataset.refreshed = "yes";
    opened = [...target.querySelectorAll("details[id][open]")].map((item) => item.id);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  });
}
