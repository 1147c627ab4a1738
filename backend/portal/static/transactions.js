// <pw-transaction>: something that moves money or rights. The site prepares it, this page shows what it is, the member's own wallet
// signs it, and either the site's relay sends it (no gas for the member) or the wallet does.
//
//   <pw-transaction data-community="NAME" data-prepare="/api/v1/communities/NAME/members/SLOT/withdrawals" data-currency="EUR">
//     <form> <input name="amount_nano" data-scale="1000000000"> <button>Withdraw</button> </form>
//   </pw-transaction>
//
// Fields of the form are what is sent; `data-scale` says by what a decimal number is multiplied to be a whole one. An element
// without a form gets a button. `pw-done` is fired when it is through.

import { decodedCall, revertName } from "./abi.js";
import { communityOf, get, post } from "./api.js";
import { Chain, NodeFailure, httpNode } from "./chain.js";
import { coins, element, failure, moment, money, short, text } from "./texts.js";
import { signedInWallet } from "./wallet.js";

const POLL_MILLISECONDS = 1500;

const TITLES = {
  withdrawal: "Withdraw money",
  announcement: "Announce a withdrawal",
  deposit: "Deposit money",
  departure: "Leave the community",
  membership: "Join the community",
  admission: "Admit a member",
  "announced admission": "Announce an admission",
  wishes: "My wishes",
  challengeAmount: "Challenge this bill",
  challengeCorrectedAmount: "Challenge this correction",
  challengeSystemAmount: "Challenge this account",
  challengeInactive: "Challenge this account",
  challengeCumulative: "Challenge this balance",
  demandData: "Demand the data",
  voidUnanswered: "Overturn the batch",
};

const LABELS = {
  amount_nano: "Amount",
  account: "Account",
  slot: "Slot",
  batch: "Batch",
  until_day: "Member until",
  from_day: "Member from",
  node: "Place in the network",
  tariff_class: "Tariff class",
  collateral_nano: "Collateral",
  deadline_at: "Good until",
  ready_at: "Can be made from",
  reward_wei: "Your reward",
  bond_wei: "Your bond, returned if nobody answers",
  publishes: "Becomes public",
};

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** A number as people write it, times a scale, as a whole number. */
export function scaled(written, scale) {
  const match = /^\s*(\d+)(?:[.,](\d+))?\s*$/.exec(written);
  const places = String(scale).length - 1;
  if (!match || (match[2] ?? "").length > places) {
    throw new Error(text("Give a number with at most %(places)s decimals.", { places }));
  }
  return Number(BigInt(match[1] + (match[2] ?? "").padEnd(places, "0")));
}

/** Fields of a form as a request's body; a file is one by itself, as it was given. */
export async function bodyOf(form) {
  const body = {};
  for (const field of form.elements) {
    if (field.type === "file") return JSON.parse(await field.files[0].text());
    if (!field.name || field.value === "") continue;
    const { scale } = field.dataset;
    if (scale) body[field.name] = scaled(field.value, scale);
    else body[field.name] = field.type === "number" ? Number(field.value) : field.value;
  }
  return body;
}

function shownFact(name, value, currency) {
  if (name.endsWith("_nano")) return money(value, currency);
  if (name.endsWith("_wei")) return coins(value);
  if (name.endsWith("_at")) return moment(value);
  return name === "publishes" ? text(value) : String(value);
}

/** Shows what is about to be signed and asks; resolves to whether to go on. */
export function confirmed(prepared, currency) {
  const { promise, resolve } = withResolvers();
  const facts = Object.entries(prepared.facts ?? {}).flatMap(([name, value]) => [
    element("dt", {}, text(LABELS[name] ?? name)),
    element("dd", {}, shownFact(name, value, currency)),
  ]);
  const answer = (yes) => () => {
    dialog.close();
    resolve(yes);
  };
  const dialog = element(
    "dialog",
    { class: "transaction", "aria-labelledby": "transaction-title" },
    element("h2", { id: "transaction-title" }, text(TITLES[prepared.what] ?? prepared.what)),
    element("dl", { class: "facts" }, ...facts),
    element("p", { class: "soft" }, who(prepared)),
    element(
      "details",
      {},
      element("summary", {}, text("What exactly is signed")),
      element("pre", { tabindex: "0" }, exactly(prepared)),
    ),
    element(
      "div",
      { class: "actions" },
      element("button", { type: "button", class: "main", onclick: answer(true) }, text("Go on")),
      element("button", { type: "button", onclick: answer(false) }, text("Cancel")),
    ),
  );
  dialog.addEventListener("cancel", () => resolve(false));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return promise;
}

function withResolvers() {
  let resolve;
  const promise = new Promise((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

function who(prepared) {
  if (prepared.kind === "signature") return text("Your wallet signs a text. You pay no gas.");
  if (prepared.submit) return text("The site sends it for you. You pay no gas.");
  return text("Your wallet signs and sends a transaction. You pay its gas.");
}

const plain = (_, value) => (typeof value === "bigint" ? value.toString() : value);

function exactly({ typed_data: typed, transaction }) {
  if (typed) return JSON.stringify({ domain: typed.domain, message: typed.message }, plain, 2);
  const call = decodedCall(transaction.data);
  if (!call) throw new Error(text("This transaction calls something unknown. It is not sent."));
  const announced = call.name === "schedule" ? { announced: decodedCall(call.values.data) } : {};
  return JSON.stringify({ to: transaction.to, ...call, ...announced }, plain, 2);
}

/** Carries out what was prepared, to the end; returns the transaction's hash, or null where there is none. */
export async function carryOut(first, wallet, say) {
  let prepared = first;
  while (prepared) {
    if (prepared.kind === "signature") {
      say(text("Sign in your wallet."));
      const signature = await wallet.signTyped(prepared.typed_data);
      prepared = await post(prepared.submit, { ...prepared.body, signature }, key());
    } else if (prepared.kind === "transaction" && prepared.submit) {
      prepared = await post(prepared.submit, prepared.body, key());
    } else if (prepared.kind === "transaction") {
      return sendItself(prepared.transaction, wallet, say);
    } else if (prepared.kind === "relayed") {
      return untilMined(prepared, say);
    } else if (prepared.kind === "file") {
      download(prepared.name, JSON.stringify(prepared.file, null, 2));
      return null;
    } else {
      return null;
    }
  }
  return null;
}

function download(name, content) {
  const href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  element("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}

const key = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16)).join("");

async function sendItself(transaction, wallet, say) {
  await checkTarget(transaction, wallet.community);
  const node = httpNode(`/rpc/${wallet.community.name}`);
  const call = { ...transaction, value: `0x${BigInt(transaction.value ?? 0).toString(16)}` };
  try {
    await node.request({ method: "eth_call", params: [{ ...call, from: wallet.address }, "latest"] });
  } catch (error) {
    if (!(error instanceof NodeFailure)) throw error;
    const name = revertName(error.data) ?? error.message;
    throw new Error(text("The contract would refuse it: %(why)s. Nothing was sent.", { why: name }));
  }
  say(text("Confirm in your wallet."));
  const hash = await wallet.send(call);
  say(text("Sent. Waiting for the chain."));
  for (;;) {
    const receipt = await node.request({ method: "eth_getTransactionReceipt", params: [hash] });
    if (receipt) {
      if (BigInt(receipt.status) !== 1n) throw new Error(text("The contract refused it."));
      return hash;
    }
    await pause(POLL_MILLISECONDS);
  }
}

/** That a transaction goes to one of the community's contracts is looked up on the chain. */
async function checkTarget({ to, data }, community) {
  const call = decodedCall(data);
  const chain = new Chain(httpNode(`/rpc/${community.name}`), community.clearing_house);
  if (!call || (await chain.address(call.contract)).toLowerCase() !== to.toLowerCase()) {
    throw new Error(text("This transaction calls something unknown. It is not sent."));
  }
  // What is announced is called later, and may be as little unknown.
  if (call.name === "schedule") await checkTarget({ to: call.values.target, data: call.values.data }, community);
}

async function untilMined(relayed, say) {
  let progress = relayed;
  while (progress.state === "pending") {
    say(text("Sent. Waiting for the chain."));
    await pause(POLL_MILLISECONDS);
    progress = await get(progress.status);
  }
  if (!progress.succeeded) throw new Error(text("The contract refused it."));
  return progress.transaction_hash;
}

class Transaction extends HTMLElement {
  connectedCallback() {
    this.form = this.querySelector("form");
    if (!this.form) {
      const label = this.dataset.label ?? text("Go on");
      this.form = element("form", {}, element("button", { type: "submit", class: "main" }, label));
      this.append(this.form);
    }
    this.status = element("p", { role: "status", class: "status" });
    this.append(this.status);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
  }

  say(message, isError = false) {
    this.status.textContent = message;
    this.status.classList.toggle("error", isError);
  }

  async start() {
    const buttons = [...this.form.querySelectorAll("button")];
    for (const button of buttons) button.disabled = true;
    try {
      this.say("");
      const community = await communityOf(this.dataset.community);
      const wallet = await signedInWallet(community);
      // A page may make the body of its form itself.
      const body = await (this.bodyOf ?? bodyOf)(this.form);
      const prepared = await post(this.dataset.prepare, body, key());
      if (!(await confirmed(prepared, this.dataset.currency ?? "EUR"))) return;
      const hash = await carryOut(prepared, wallet, (message) => this.say(message));
      this.say(hash ? text("Done: transaction %(hash)s.", { hash: short(hash) }) : text("Done."));
      this.dispatchEvent(new CustomEvent("pw-done", { bubbles: true, detail: { hash } }));
    } catch (error) {
      this.say(failure(error), true);
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  }
}

customElements.define("pw-transaction", Transaction);
