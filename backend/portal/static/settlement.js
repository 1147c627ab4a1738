// One batch as the chain commits to it, and a member's documents of it held against that.

import { checkClearing } from "./clearing.js";
import { plainTariff } from "./chain.js";
import * as protocol from "./protocol.js";
import { keccak256 } from "./vendor/ethers.min.js";

const { EMPTY, ProtocolError, SYSTEM_SLOTS } = protocol;

/** Something cannot be checked because what it rests on is not there. `why` names a text. */
export class NotKnown extends Error {
  constructor(why) {
    super(why);
    this.why = why;
  }
}

/** A document of the coordinator's, read exactly; null if there is none. */
function read(text) {
  if (text === null || text === undefined) return null;
  try {
    return protocol.parseExactly(text);
  } catch {
    throw new ProtocolError("not readable");
  }
}

export class Settlement {
  /**
   * @param chain what to ask.
   * @param header the batch's header, which has the hash on record.
   * @param {string} transactionHash where it was submitted.
   * @param documents texts `personal` and `public`; either may be null.
   * @param {bigint} slot whose.
   */
  constructor(chain, { header, transactionHash }, documents, slot) {
    this.chain = chain;
    this.header = header;
    this.transactionHash = transactionHash;
    this.texts = documents ?? {};
    this.slot = slot;
    this.known = new Map();
  }

  get intervalCount() {
    return Number(this.header.intervalCount);
  }

  /** The member's own part. */
  get own() {
    const own = this.once("own", () => read(this.texts.personal));
    if (own === null) throw new NotKnown("no_personal_part");
    return own;
  }

  /** The part for everybody. */
  get open() {
    const open = this.once("open", () => read(this.texts.public));
    if (open === null) throw new NotKnown("no_public_part");
    return open;
  }

  once(name, make) {
    if (!this.known.has(name)) this.known.set(name, make());
    return this.known.get(name);
  }

  submission() {
    return this.once("submission", () => this.chain.submission(this.transactionHash));
  }

  /** The tariff that the batch was cleared with, as words. */
  tariff() {
    return this.once("tariff", async () => {
      const submitted = await this.submission();
      const announced = submitted
        ? []
        : await this.chain.events("TariffBook", "TariffAnnounced", this.header.tariffHash);
      const found = submitted ? submitted.tariff : announced[0]?.values.tariff;
      const tariff = found && plainTariff(found);
      if (!tariff || protocol.tariffHash(tariff) !== this.header.tariffHash) {
        throw new NotKnown("no_tariff");
      }
      return tariff;
    });
  }

  /** The prices that the batch commits to: from the clearing on chain, or else from the published part. */
  prices() {
    return this.once("prices", async () => {
      const submitted = await this.submission();
      const prices = submitted
        ? protocol.packPrices(
            checkClearing(submitted.clearing, await this.tariff(), this.intervalCount),
          )
        : protocol.bytes(this.open.prices);
      if (keccak256(prices) !== this.header.pricesHash) throw new ProtocolError("other prices");
      return prices;
    });
  }

  isActive() {
    return this.once("active", async () => {
      const [active] = await this.chain.read(
        "MemberRegistry",
        "isActive",
        this.slot,
        this.header.period,
      );
      return active;
    });
  }

  member() {
    return this.once("member", async () => {
      const [member] = await this.chain.read("MemberRegistry", "memberAt", this.slot);
      return member;
    });
  }

  /** Whether readings are what the account is billed by: slots 0 to 2 and who has left are not. */
  async isMetered() {
    return this.slot >= BigInt(SYSTEM_SLOTS.length) && (await this.isActive());
  }

  /** The member's readings with their path, proved to be the oracle's. */
  readings() {
    return this.once("readings", async () => {
      const candidates = this.candidates();
      if (candidates.length === 0) throw new NotKnown("no_readings");
      const proved = candidates.find(
        ({ leaf, proof }) =>
          protocol.plainRootAbove(leaf, this.slot, proof) === this.header.readingsRoot,
      );
      if (!proved) throw new ProtocolError("not the readings that the oracle signed");
      return proved;
    });
  }

  /** The readings as the coordinator shows them, and as the oracle's receipt does, where the member has brought one. */
  candidates() {
    const receipt = read(this.texts.receipt);
    const own = receipt === null ? this.own : read(this.texts.personal);
    const given = [];
    if (own?.readings !== undefined) {
      given.push([own.readings, own.readings_salt, own.readings_proof]);
    }
    if (receipt) given.push([receipt.vector, receipt.salt, receipt.proof]);
    return given.map(([vector, salt, trimmed]) => {
      const readings = protocol.bytes(vector);
      const leaf = protocol.readingsLeaf(this.slot, readings, protocol.bytes(salt, 32));
      return { readings, salt, leaf, proof: protocol.untrimmed(trimmed, protocol.READINGS_DEPTH) };
    });
  }

  /** What the account is owed for the period, and what its leaf must commit to. */
  due() {
    return this.once("due", async () => {
      const system = SYSTEM_SLOTS[Number(this.slot)];
      if (system) return { due: this.header[system], commitment: EMPTY };
      if (!(await this.isActive())) return { due: 0n, commitment: EMPTY };
      const { readings, leaf } = await this.readings();
      const group = await this.group();
      if (group === undefined) return { due: 0n, commitment: leaf };
      const prices = await this.prices();
      return {
        due: protocol.dueNano(readings, prices, group, this.intervalCount),
        commitment: leaf,
      };
    });
  }

  async group() {
    const { node, tariffClass } = await this.member();
    return (await this.tariff()).groups.find((word) => {
      const group = protocol.unpackGroup(word);
      return group.node === node && group.tariffClass === tariffClass;
    });
  }

  /** The account as the member's part tells it; it need not be in the ledger. */
  async leaf(amount = this.own.amount_nano, cumulative = this.own.cumulative_nano) {
    const commitment = (await this.isMetered()) ? (await this.readings()).leaf : EMPTY;
    const salt = protocol.bytes(this.own.ledger_salt, 32);
    return protocol.ledgerLeaf(this.slot, amount, cumulative, commitment, salt);
  }

  get ledgerProof() {
    return protocol.untrimmed(this.own.ledger_proof, 2 * Number(this.header.ledgerDepth));
  }

  /** Whether an account leads to the batch's ledger root. */
  leads(leaf) {
    return protocol.ledgerRootAbove(leaf, this.slot, this.ledgerProof).hash === this.header.ledgerRoot;
  }

  // --- As the contract takes them

  leafTuple(leaf) {
    return [leaf.slot, leaf.sums, leaf.commitment, leaf.salt];
  }

  async evidence() {
    const { readings, salt, proof } = await this.readings();
    return [readings, salt, proof, await this.prices()];
  }
}
