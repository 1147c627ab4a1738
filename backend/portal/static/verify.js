// Checks a member's statement against the chain, step by step. Nothing that the site says is believed: what it gives are documents
// to be proved, and hints where to look. A step is green, red, or unknown where what it needs is missing or not proved itself.

import { ABI } from "./abi.js";
import { NodeFailure } from "./chain.js";
import * as protocol from "./protocol.js";
import { NotKnown, Settlement } from "./settlement.js";

export const STEPS = [
  "node",
  "record",
  "published",
  "prices",
  "readings",
  "amount",
  "proof",
  "balance",
  "trades",
];

const TRADE_FIELDS = {
  interval: "interval",
  sellerSlot: "seller_slot",
  buyerSlot: "buyer_slot",
  energyWh: "energy_wh",
  feeNano: "fee_nano",
  salt: "salt",
};

const tuple = (header) => protocol.HEADER_FIELDS.map(([name]) => header[name]);

/**
 * Verifies a statement.
 *
 * @param claim what the site says: `chainId`, `clearingHouse`, `slot`, `number`, `batchHash`, `amountNano` as shown on the page, and
 *   `documents`: by batch hash, the texts `personal` and `public`.
 * @param chain a `Chain`.
 * @param report called with every step when it is known: `{ id, state, why, facts }`.
 * @returns `{ steps, challenge, deadline }`; the challenge is a transaction, or null.
 * @throws {NodeFailure} the node does not answer: then nothing is known.
 */
export async function verifyStatement(claim, chain, report = () => {}) {
  return new Verification(claim, chain, report).run();
}

class Red extends Error {
  constructor(why, facts = {}) {
    super(why);
    this.why = why;
    this.facts = facts;
  }
}

class Verification {
  constructor(claim, chain, report) {
    this.claim = claim;
    this.chain = chain;
    this.report = report;
    this.slot = BigInt(claim.slot);
    this.steps = [];
  }

  async run() {
    for (const id of STEPS) await this.step(id);
    const challenge = await this.challenge();
    return { steps: this.steps, challenge, finalAt: this.finalAt ?? null };
  }

  async step(id) {
    let found;
    try {
      found = { state: "green", why: "", facts: (await this[id]()) ?? {} };
    } catch (error) {
      if (error instanceof NodeFailure) throw error;
      if (error instanceof NotKnown) found = { state: "unknown", why: error.why, facts: {} };
      else if (error instanceof Red) found = { state: "red", why: error.why, facts: error.facts };
      // Whatever a false document makes the code stumble over is the document's fault.
      else found = { state: "red", why: "malformed", facts: { detail: String(error.message) } };
    }
    const step = { id, ...found };
    this.steps.push(step);
    this.report(step);
  }

  stateOf(id) {
    return this.steps.find((step) => step.id === id)?.state;
  }

  needs(...ids) {
    if (ids.some((id) => this.stateOf(id) !== "green")) throw new NotKnown("needs_earlier");
  }

  async open(hash, number = null) {
    const found = await this.chain.header(hash, number);
    return found && new Settlement(this.chain, found, this.claim.documents[hash], this.slot);
  }

  // --- The steps

  /** The node is one of the community's chain. */
  async node() {
    const chainId = await this.chain.chainId();
    if (chainId !== BigInt(this.claim.chainId)) throw new Red("other_chain", { chainId });
  }

  /** The batch of this statement is the one on record. */
  async record() {
    this.needs("node");
    const { number, batchHash } = this.claim;
    const [recorded, submittedAt] = await this.chain.read("ClearingHouse", "recordOf", number);
    if (recorded !== batchHash) throw new Red("not_on_record", { recorded });
    this.target = await this.open(batchHash, number);
    if (this.target === null) throw new Red("no_header");
    const { header } = this.target;
    const [parameters] = await this.chain.read("ClearingHouse", "parameters");
    this.parameters = parameters;
    const [isFinal] = await this.chain.read("ClearingHouse", "isFinal", number);
    this.finalAt = isFinal ? null : submittedAt + parameters.challengeSeconds;
    if (header.number > 1n) this.previous = await this.open(header.previousBatch);
    if (header.version > 0n) this.corrected = await this.open(header.correctedBatch);
    return { number: header.number, submittedAt, isFinal, finalAt: this.finalAt };
  }

  /** What was published is what the batch commits to, and the member's own part belongs to it. */
  async published() {
    this.needs("record");
    const { texts, header } = this.target;
    const { open } = this.target;
    if (protocol.hashText(texts.public) !== header.bundleHash) throw new Red("other_bundle");
    if (texts.personal === null || texts.personal === undefined) throw new NotKnown("no_personal_part");
    if (protocol.hashText(texts.personal) !== open.personal_hashes[this.slot.toString()]) {
      throw new Red("other_personal_part");
    }
  }

  /** The prices shown are those of the clearing that was submitted, which is checked on the way. */
  async prices() {
    this.needs("record");
    const prices = await this.target.prices();
    const shown = this.target.open.prices;
    if (shown !== prices) {
      const at = [...Array(this.target.intervalCount).keys()].find(
        (index) => shown.substr(2 + 32 * index, 32) !== prices.substr(2 + 32 * index, 32),
      );
      throw new Red("other_prices", { interval: at ?? 0 });
    }
    return { intervals: this.target.intervalCount };
  }

  /** The readings lead to what the oracle signed. */
  async readings() {
    this.needs("record");
    if (!(await this.target.isMetered())) return { importWh: 0n, exportWh: 0n };
    const root = await this.target.readings().catch((error) => {
      if (error instanceof protocol.ProtocolError) throw new Red("other_readings");
      throw error;
    });
    const { intervals } = protocol.unpackReadings(root.readings, this.target.intervalCount);
    const sum = (name) => intervals.reduce((total, interval) => total + interval[name], 0n);
    return { importWh: sum("importWh"), exportWh: sum("exportWh") };
  }

  /** The amount follows from readings, prices and tariff; and it is the one that the page shows. */
  async amount() {
    this.needs("record", "readings");
    const due = await this.due();
    const booked = this.target.own.amount_nano;
    if (booked !== due) throw new Red("other_amount", { bookedNano: booked, dueNano: due });
    const shown = this.claim.amountNano;
    if (shown !== undefined && shown !== null && BigInt(shown) !== due) {
      throw new Red("page_differs", { bookedNano: BigInt(shown), dueNano: due });
    }
    return { dueNano: due };
  }

  async due() {
    const { due } = await this.target.due();
    if (this.target.header.version === 0n) return due;
    if (!this.corrected) throw new NotKnown("no_corrected_batch");
    return due - (await this.corrected.due()).due;
  }

  /** The account is a leaf of the ledger that all accounts share. */
  async proof() {
    this.needs("record", "readings");
    const { own } = this.target;
    const leaf = await this.target.leaf();
    if (this.target.leads(leaf)) return { levels: this.target.header.ledgerDepth };
    // The page may lie where the ledger does not.
    const due = await this.due().catch(() => own.amount_nano);
    for (const cumulative of [own.cumulative_nano, own.cumulative_nano - own.amount_nano + due]) {
      const honest = await this.target.leaf(due, cumulative);
      if (this.target.leads(honest)) throw new Red("ledger_has_other_amount", { dueNano: due });
    }
    throw new Red("not_in_ledger");
  }

  /** The balance is the one before plus this amount. */
  async balance() {
    this.needs("record", "proof");
    const before = await this.balanceBefore();
    const { amount_nano: amount, cumulative_nano: cumulative } = this.target.own;
    const facts = { beforeNano: before, cumulativeNano: cumulative };
    if (cumulative !== before + amount) {
      throw new Red("other_balance", { ...facts, expectedNano: before + amount });
    }
    return facts;
  }

  async balanceBefore() {
    if (!(await this.carries())) return 0n;
    const leaf = await this.previous.leaf();
    if (!this.previous.leads(leaf)) throw new NotKnown("previous_not_in_ledger");
    return leaf.cumulative;
  }

  /** Whether the account was there in the batch before. */
  async carries() {
    if (this.target.header.number === 1n) return false;
    if (!this.previous) throw new NotKnown("no_previous_batch");
    const { fromPeriod } = await this.target.member();
    return fromPeriod < this.previous.header.nextPeriod;
  }

  /** The member's trades are among those on record. */
  async trades() {
    this.needs("record", "published");
    const leaves = this.target.open.trade_leaves;
    const { tradesRoot } = this.target.header;
    if (protocol.plainRoot(leaves, protocol.TRADES_DEPTH) !== tradesRoot) throw new Red("other_trades");
    const own = this.target.own.trades ?? [];
    for (const trade of own) {
      const fields = Object.entries(TRADE_FIELDS).map(([name, key]) => [name, trade[key]]);
      const leaf = protocol.tradeLeaf(Object.fromEntries(fields));
      const isOwn = [trade.seller_slot, trade.buyer_slot].includes(this.slot);
      if (!isOwn || leaf !== leaves[Number(trade.position)]) throw new Red("other_trades");
    }
    return { count: own.length };
  }

  // --- What to do about it

  /** The transaction that a red step calls for; null if there is none, or it is too late. */
  async challenge() {
    const isRed = (id) => this.stateOf(id) === "red";
    if (this.stateOf("record") !== "green" || this.finalAt === null) return null;
    const isProved = this.stateOf("proof") === "green";
    if (isProved && isRed("amount") && (await this.isBookedWrong())) return this.againstAmount();
    if (isProved && isRed("balance")) return this.againstBalance();
    const proof = this.steps.find(({ id }) => id === "proof");
    // Where the ledger is right, a demand would bring to light what is known already.
    if (isProved || proof.why === "ledger_has_other_amount") return null;
    return this.demand();
  }

  /** The ledger itself is wrong, and not only the page. */
  async isBookedWrong() {
    return this.target.own.amount_nano !== (await this.due());
  }

  async transaction(name, values, valueWei = 0n) {
    const data = ABI.Challenges.encodeFunctionData(name, values);
    const value = `0x${valueWei.toString(16)}`;
    const rewardWei = name === "demandData" ? 0n : this.parameters.bondWei / 2n;
    return { name, to: await this.chain.address("Challenges"), data, value, rewardWei };
  }

  async againstAmount() {
    const { target, corrected } = this;
    const leaf = target.leafTuple(await target.leaf());
    const proved = [leaf, target.ledgerProof];
    const header = tuple(target.header);
    if (this.slot < BigInt(protocol.SYSTEM_SLOTS.length)) {
      const other = tuple((corrected ?? target).header);
      return this.transaction("challengeSystemAmount", [header, ...proved, other]);
    }
    if (!(await target.isActive())) {
      return this.transaction("challengeInactive", [header, ...proved]);
    }
    const { groups, edges, ...numbers } = await target.tariff();
    const tariff = [...Object.values(numbers), groups, edges];
    const given = [header, await target.evidence(), tariff, ...proved];
    if (!corrected) return this.transaction("challengeAmount", given);
    const before = [tuple(corrected.header), await corrected.evidence()];
    return this.transaction("challengeCorrectedAmount", [...given, ...before]);
  }

  async againstBalance() {
    const entry = async (settlement) => {
      const leaf = settlement.leafTuple(await settlement.leaf());
      return [false, leaf, settlement.ledgerProof];
    };
    const before = this.previous ?? this.target;
    const nothing = [false, [this.slot, protocol.EMPTY, protocol.EMPTY, protocol.EMPTY], []];
    return this.transaction("challengeCumulative", [
      tuple(this.target.header),
      await entry(this.target),
      tuple(before.header),
      (await this.carries()) ? await entry(before) : nothing,
    ]);
  }

  /** What the coordinator does not show can be demanded; what it does not answer voids the batch. */
  async demand() {
    const { header } = this.target;
    const here = ({ values }) => values.batchHash === this.claim.batchHash;
    const third = this.parameters.challengeSeconds / 3n;
    // Not of an earlier submission of the same batch, which was voided.
    const submittedAt = this.finalAt - this.parameters.challengeSeconds;
    const lately = ({ values }) => values.deadline - third >= submittedAt;
    const about = [header.period, this.slot];
    const asked = await this.chain.events("Challenges", "DataDemanded", ...about);
    const demanded = asked.filter(here).filter(lately).at(-1);
    const now = await this.chain.now();
    if (!demanded) {
      if (now > this.finalAt - 2n * third) return null;
      const bond = this.parameters.demandBondWei;
      return this.transaction("demandData", [tuple(header), this.slot], bond);
    }
    const answers = await this.chain.events("Challenges", "DemandAnswered", ...about);
    if (answers.filter(here).some(({ block }) => block >= demanded.block)) return null;
    const { deadline } = demanded.values;
    if (now <= deadline) return { name: "wait", until: deadline };
    return this.transaction("voidUnanswered", [tuple(header), this.slot]);
  }
}
