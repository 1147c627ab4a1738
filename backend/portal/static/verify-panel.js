// <pw-verify data-community="NAME" data-evidence="/api/v1/..." data-currency="EUR">: the button that checks a statement in the
// browser and against the chain, and what is to be done about a red step.

import { communityOf, get } from "./api.js";
import { Chain, NodeFailure, httpNode } from "./chain.js";
import { coins, element, failure, icon, kwh, moment, money, text } from "./texts.js";
import { carryOut, confirmed } from "./transactions.js";
import { STEPS, verifyStatement } from "./verify.js";
import { reconnect, signedInWallet } from "./wallet.js";

const NAMES = {
  node: "The node is one of this community's chain",
  record: "The batch of this statement is on record",
  published: "What you were given is what the batch commits to",
  prices: "The prices follow from the clearing on the chain",
  readings: "The readings are those that the oracle signed",
  amount: "The amount follows from readings, prices and tariff",
  proof: "The amount is a leaf of the ledger that all accounts share",
  balance: "The balance continues the one before",
  trades: "Your trades are among those on record",
};

const REASONS = {
  malformed: "What was given is not in the form that the protocol asks for.",
  other_chain: "It is another chain.",
  not_on_record: "No such batch stands: it was overturned, replaced, or never submitted.",
  no_header: "The node shows no batch with that hash.",
  other_bundle: "The published data have another hash.",
  other_personal_part: "Your data have another hash than the batch names.",
  other_prices: "The prices shown are not the ones that follow.",
  other_readings: "The readings shown do not lead to what the oracle signed.",
  other_amount: "Booked are %(booked)s, due are %(due)s.",
  page_differs: "The page shows %(booked)s, due and booked are %(due)s.",
  ledger_has_other_amount: "The ledger has the right amount, %(due)s; only what was shown to you is wrong.",
  not_in_ledger: "It does not lead to the ledger's root.",
  other_balance: "The balance is %(cumulative)s; it should be %(expected)s.",
  other_trades: "The trades shown are not the ones on record.",
  needs_earlier: "This cannot be checked while an earlier step is not green.",
  no_personal_part: "Your data were not shown.",
  no_public_part: "The published data were not shown.",
  no_readings: "No readings were shown.",
  no_tariff: "The tariff was not found on the chain.",
  no_corrected_batch: "The corrected batch was not found.",
  no_previous_batch: "The batch before was not found.",
  previous_not_in_ledger: "The balance before was not proved.",
};

const STATES = { green: "Right", red: "Wrong", unknown: "Not known" };

const ICONS = {
  green: "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20zM7 12.5l3.3 3.3L17 9",
  red: "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20zM8.5 8.5l7 7M15.5 8.5l-7 7",
  unknown: "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20zM7.5 12h9",
  waiting: "M12 2a10 10 0 0 1 10 10",
};

const ADVICE = {
  challengeAmount: "One transaction overturns this batch and pays you a reward. It publishes your readings of this day.",
  challengeCorrectedAmount: "One transaction overturns this batch and pays you a reward. It publishes your readings of this day.",
  challengeSystemAmount: "One transaction overturns this batch and pays you a reward.",
  challengeInactive: "One transaction overturns this batch and pays you a reward.",
  challengeCumulative: "One transaction overturns this batch and pays you a reward.",
  demandData: "The coordinator owes you the proof. Demand it on the chain: if it is not shown in time, the batch falls.",
  voidUnanswered: "The proof was demanded and not shown in time. One transaction overturns this batch and pays you a reward.",
};

const PUBLISHES = new Set(["challengeAmount", "challengeCorrectedAmount"]);

/** The claim as the verifier takes it. */
export function claimOf(evidence, receipt = null) {
  const documents = structuredClone(evidence.documents);
  if (receipt) documents[evidence.batch_hash] = { ...documents[evidence.batch_hash], receipt };
  return {
    chainId: evidence.chain_id,
    clearingHouse: evidence.clearing_house,
    slot: evidence.slot,
    number: evidence.number,
    batchHash: evidence.batch_hash,
    amountNano: evidence.amount_nano,
    documents,
  };
}

class Verify extends HTMLElement {
  connectedCallback() {
    this.button = element(
      "button",
      { type: "button", class: "main", onclick: () => this.verify() },
      text("Verify"),
    );
    this.choice = element("select", { id: "verify-node" });
    const label = element("label", { for: "verify-node" }, text("Ask"));
    const node = element("span", { class: "node" }, label, this.choice);
    this.controls = element("div", { class: "controls" }, this.button, node);
    this.list = element("ol", { class: "steps" });
    this.status = element("p", { role: "status", class: "status" });
    this.remedy = element("div", { class: "remedy" });
    this.replaceChildren(this.controls, this.list, this.status, this.remedy);
    this.ready = this.begin();
  }

  async begin() {
    const site = element("option", { value: "site" }, text("this site's node"));
    this.choice.append(site);
    try {
      this.community = await communityOf(this.dataset.community);
      this.wallet = await reconnect(this.community);
      if (this.wallet && !this.wallet.isDemo && (await this.wallet.isOnChain())) {
        this.choice.append(element("option", { value: "wallet" }, text("my wallet's node")));
        this.choice.value = "wallet";
      }
    } catch (error) {
      this.say(failure(error), "error");
    }
  }

  say(message, kind = "") {
    this.status.textContent = message;
    this.status.className = `status ${kind}`;
  }

  node() {
    const { community, wallet } = this;
    return this.choice.value === "wallet" ? wallet.provider : httpNode(`/rpc/${community.name}`);
  }

  async verify() {
    this.button.disabled = true;
    this.dataset.result = "";
    this.remedy.replaceChildren();
    this.list.replaceChildren(...STEPS.map((id) => this.line({ id, state: "waiting" })));
    this.say(text("Checking…"));
    await this.ready;
    try {
      this.community ??= await communityOf(this.dataset.community);
      const evidence = await get(this.dataset.evidence);
      if (this.dataset.amountNano) evidence.amount_nano = this.dataset.amountNano;
      const { clearing_house: house } = trusted(this.community);
      const chain = new Chain(this.node(), house, evidence.first_block);
      const claim = { ...claimOf(evidence, this.receipt), clearingHouse: house };
      const found = await verifyStatement(claim, chain, (step) => this.show(step));
      this.conclude(found);
    } catch (error) {
      const known = error instanceof NodeFailure;
      this.say(known ? text("The node does not answer: nothing is known.") : failure(error), "error");
      this.dataset.result = "failed";
    } finally {
      this.button.disabled = false;
    }
  }

  line({ id, state, why, facts }) {
    const known = state === "waiting" ? "" : `${text(STATES[state])}: `;
    const proved = state === "green" ? this.proved(id, facts) : "";
    const parts = [
      element("span", { class: "name" }, element("span", { class: "hidden" }, known), text(NAMES[id])),
    ];
    if (why) parts.push(element("span", { class: "reason" }, this.reason(why, facts)));
    if (proved) parts.push(element("span", { class: "fact" }, proved));
    const attributes = { class: state, "data-step": id, "data-state": state };
    return element("li", attributes, icon(ICONS[state]), element("div", {}, ...parts));
  }

  show(step) {
    this.list.querySelector(`[data-step="${step.id}"]`).replaceWith(this.line(step));
  }

  amount(nano) {
    return nano === undefined ? "" : money(nano, this.dataset.currency ?? this.community.currency);
  }

  reason(why, facts = {}) {
    return text(REASONS[why] ?? REASONS.malformed, {
      booked: this.amount(facts.bookedNano),
      due: this.amount(facts.dueNano),
      cumulative: this.amount(facts.cumulativeNano),
      expected: this.amount(facts.expectedNano),
    });
  }

  proved(id, facts) {
    if (id === "readings") {
      const energy = { import: kwh(facts.importWh), export: kwh(facts.exportWh) };
      return text("import %(import)s, export %(export)s", energy);
    }
    if (id === "amount") return this.amount(facts.dueNano);
    if (id === "balance") return this.amount(facts.cumulativeNano);
    if (id === "record" && facts.isFinal) return text("final");
    if (id === "record") return text("can be challenged until %(moment)s", { moment: moment(facts.finalAt) });
    return "";
  }

  conclude({ steps, challenge }) {
    const states = new Set(steps.map(({ state }) => state));
    const result = states.has("red") ? "red" : states.has("unknown") ? "unknown" : "green";
    this.dataset.result = result;
    const verdicts = {
      green: text("Everything is right: your browser has recomputed it."),
      red: text("Something is wrong."),
      unknown: text("Nothing is wrong, but not everything could be checked."),
    };
    this.say(verdicts[result], result);
    if (challenge) this.remedy.append(...this.offer(challenge));
    if (steps.some(({ id, state }) => id === "readings" && state !== "green")) this.remedy.append(this.receiptForm());
    if (result === "red" && !challenge) {
      this.remedy.append(element("p", {}, text("There is nothing to challenge on the chain, or it is too late. Tell the coordinator and an auditor.")));
    }
  }

  offer(challenge) {
    if (challenge.name === "wait") {
      const until = { moment: moment(challenge.until) };
      return [element("p", {}, text("The proof was demanded. The coordinator has until %(moment)s to show it.", until))];
    }
    const facts = {};
    if (challenge.rewardWei > 0n) facts.reward_wei = challenge.rewardWei;
    if (BigInt(challenge.value) > 0n) facts.bond_wei = BigInt(challenge.value);
    if (PUBLISHES.has(challenge.name)) facts.publishes = "your readings of this day";
    const { to, data, value } = challenge;
    const prepared = { what: challenge.name, kind: "transaction", transaction: { to, data, value }, facts };
    const label = challenge.name === "demandData" ? text("Demand the data") : text("Challenge it");
    const start = () => this.challenge(prepared);
    return [
      element("p", {}, text(ADVICE[challenge.name])),
      element("button", { type: "button", class: "danger", onclick: start }, label),
    ];
  }

  async challenge(prepared) {
    const buttons = this.querySelectorAll("button");
    try {
      this.wallet = await signedInWallet(this.community);
      if (!(await confirmed(prepared, this.community.currency))) return;
      for (const button of buttons) button.disabled = true;
      await carryOut(prepared, this.wallet, (message) => this.say(message));
      this.remedy.replaceChildren();
      const rewarded = prepared.facts.reward_wei;
      this.say(
        rewarded
          ? text("The batch is overturned. %(reward)s were paid to you.", { reward: coins(rewarded) })
          : text("The data are demanded."),
        "green",
      );
      this.dispatchEvent(new CustomEvent("pw-done", { bubbles: true }));
    } catch (error) {
      this.say(failure(error), "error");
    } finally {
      for (const button of this.querySelectorAll("button")) button.disabled = false;
    }
  }

  receiptForm() {
    const take = async ({ target }) => {
      this.receipt = await target.files[0].text();
      this.verify();
    };
    return element(
      "p",
      {},
      element("label", { for: "verify-receipt" }, text("If you have the oracle's receipt of this day, verify with it:"), " "),
      element("input", { type: "file", id: "verify-receipt", accept: "application/json,.json", onchange: take }),
    );
  }
}

/** The community's contract as this browser first saw it: a site cannot put another one in its place later. */
function trusted(community) {
  // A demonstration may be founded anew.
  if (community.demo) return community;
  const name = `peerwatt.community.${community.name}.${community.chain_id}`;
  const first = localStorage.getItem(name);
  if (first && first !== community.clearing_house) {
    throw new Error(text("This site now names another contract for this community than before. Ask the coordinator and an auditor why."));
  }
  localStorage.setItem(name, community.clearing_house);
  return community;
}

customElements.define("pw-verify", Verify);
