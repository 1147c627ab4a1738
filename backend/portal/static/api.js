// Requests to the site's own API. A refusal becomes an error with code, message and remedy (RFC 9457).

import { text } from "./texts.js";

/** What the API refused. */
export class Refusal extends Error {
  constructor(problem, status) {
    super(problem.detail ?? problem.title ?? `HTTP ${status}`);
    this.reason = problem.code ?? "";
    this.remedy = problem.remedy ?? "";
    this.status = status;
  }
}

async function request(url, options) {
  const response = await fetch(url, { credentials: "same-origin", ...options });
  if (response.status === 204) return null;
  const isJson = /\bjson\b/.test(response.headers.get("Content-Type") ?? "");
  const body = isJson ? await response.json() : {};
  if (!response.ok) throw new Refusal(body, response.status);
  return body;
}

export const get = (url) => request(url, {});

/** Sends JSON; with a key the same request is done once, however often it is sent. */
export function post(url, body, key = null) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers["Idempotency-Key"] = key;
  return request(url, { method: "POST", headers, body: JSON.stringify(body) });
}

/** What the page needs to know of a community. */
export async function communityOf(name) {
  const listed = await get("/api/v1/communities");
  const community = listed.find((item) => item.name === name);
  if (!community) throw new Error(text("This community is not here."));
  return community;
}
