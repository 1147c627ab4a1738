// Texts in the page's language, and the small things that all elements need to show themselves.

const page = globalThis.document?.getElementById("texts");
const known = page ? JSON.parse(page.textContent) : {};
const code = globalThis.document?.documentElement.lang || "en";
// As the pages do: English with the day before the month.
const language = code === "en" ? "en-GB" : code;

/** A text of backend/portal/wallet_texts.py in the page's language, its placeholders filled in. */
export function text(message, values = {}) {
  return (known[message] ?? message).replace(/%\((\w+)\)s/g, (_, name) => String(values[name] ?? ""));
}

/** Money in nano currency units, to the nano: what is checked is not rounded. */
export function money(nano, currency) {
  const value = BigInt(nano);
  const size = value < 0n ? -value : value;
  const digits = String(size % 1_000_000_000n).padStart(9, "0").replace(/0{1,7}$/, "");
  const number = `${value < 0n ? "-" : ""}${size / 1_000_000_000n}.${digits}`;
  const style = { style: "currency", currency, minimumFractionDigits: 2, maximumFractionDigits: 9 };
  // No line ends between a sign and its currency.
  return new Intl.NumberFormat(language, style).format(number).replace(/^([-+\u2212])(?=\D)/, "$1\u2060");
}

/** Energy in kWh. */
export function kwh(wh) {
  const style = { minimumFractionDigits: 3, maximumFractionDigits: 3 };
  return `${new Intl.NumberFormat(language, style).format(Number(wh) / 1000)}\u00a0kWh`;
}

/** Native coins. */
export const coins = (wei) => `${Number(BigInt(wei)) / 1e18}`;

/** A moment of the chain's, in seconds since 1970. */
export function moment(seconds) {
  const style = { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(language, style).format(new Date(Number(seconds) * 1000));
}

/** An address short enough for a line. */
export const short = (address) => `${address.slice(0, 6)}…${address.slice(-4)}`;

/** A new element: attributes by name (`on...` are listeners), then its content. Texts never become HTML. */
export function element(name, attributes = {}, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...content.filter((part) => part !== null && part !== undefined));
  return made;
}

/** A line drawing of 24 by 24; what it says stands beside it in words. */
export function icon(path) {
  const make = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const line = { fill: "none", stroke: "currentColor", "stroke-width": 2, "stroke-linecap": "round" };
  const picture = make("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" });
  picture.append(make("path", { d: path, "stroke-linejoin": "round", ...line }));
  return picture;
}

/** Why something failed, in words: of our own errors what and what to do, of a wallet's what people did. */
export function failure(error) {
  // EIP-1193: the user said no.
  if (error?.code === 4001) return text("You declined in your wallet. Nothing was sent.");
  return [error?.message, error?.remedy].filter(Boolean).join(" ") || String(error);
}
