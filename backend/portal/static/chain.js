// What a browser asks the chain. A node is anything with EIP-1193's `request({ method, params })`: the member's own wallet, or the
// site's door to a node. Who does not want to believe the site asks through the wallet.

import { ABI } from "./abi.js";
import { batchHash, HEADER_FIELDS } from "./protocol.js";

/** The node did not answer, or answered with an error; `data` is what a contract reverted with. */
export class NodeFailure extends Error {
  constructor(message, data = null) {
    super(message);
    this.data = data;
  }
}

/** A node behind a URL. */
export function httpNode(url) {
  let id = 0;
  return {
    async request({ method, params = [] }) {
      id += 1;
      const body = JSON.stringify({ jsonrpc: "2.0", id, method, params });
      const headers = { "Content-Type": "application/json" };
      let answer;
      try {
        const response = await fetch(url, { method: "POST", headers, body });
        answer = await response.json();
      } catch (error) {
        throw new NodeFailure(String(error.message ?? error));
      }
      if (answer.error) throw new NodeFailure(answer.error.message, answer.error.data);
      if (answer.result === undefined) throw new NodeFailure(answer.title ?? "no answer");
      return answer.result;
    },
  };
}

const hex = (number) => `0x${BigInt(number).toString(16)}`;

/** Values of a decoded tuple by name. */
const named = (tuple, names) => Object.fromEntries(names.map((name) => [name, tuple[name]]));

/** A community on a chain, as one node shows it. */
export class Chain {
  /**
   * @param node what to ask.
   * @param {string} clearingHouse the contract that names all others.
   * @param {number} firstBlock no event of the community is older.
   */
  constructor(node, clearingHouse, firstBlock = 0) {
    this.node = node;
    this.firstBlock = hex(firstBlock);
    this.addresses = new Map([["ClearingHouse", Promise.resolve(clearingHouse)]]);
  }

  ask(method, ...params) {
    return this.node.request({ method, params });
  }

  /** Where one of the contracts is. */
  address(name) {
    if (!this.addresses.has(name)) {
      const getter = { MemberRegistry: "registry", TariffBook: "tariffBook", AccessManager: "authority" }[name];
      const asked = this.read("ClearingHouse", getter ?? name.toLowerCase());
      this.addresses.set(
        name,
        asked.then(([address]) => address),
      );
    }
    return this.addresses.get(name);
  }

  /** What a view function returns. */
  async read(contract, name, ...values) {
    const { [contract]: abi } = ABI;
    const to = await this.address(contract);
    const data = abi.encodeFunctionData(name, values);
    return abi.decodeFunctionResult(name, await this.ask("eth_call", { to, data }, "latest"));
  }

  async chainId() {
    return BigInt(await this.ask("eth_chainId"));
  }

  /** Time of the newest block, in seconds since 1970. */
  async now() {
    return BigInt((await this.ask("eth_getBlockByNumber", "latest", false)).timestamp);
  }

  /** A community's events of a kind, oldest first; null stands for any value of an indexed field. */
  async events(contract, name, ...indexed) {
    const { [contract]: abi } = ABI;
    const topics = abi.encodeFilterTopics(name, indexed);
    const address = await this.address(contract);
    const filter = { address, topics, fromBlock: this.firstBlock, toBlock: "latest" };
    const logs = await this.ask("eth_getLogs", filter);
    return logs.map((log) => ({
      values: abi.decodeEventLog(name, log.data, log.topics),
      transactionHash: log.transactionHash,
      block: BigInt(log.blockNumber),
    }));
  }

  /** Header of a batch with a given hash, and the transaction that submitted it; null if there is none. */
  async header(hash, number = null) {
    const names = HEADER_FIELDS.map(([name]) => name);
    for (const { values, transactionHash } of await this.events(
      "ClearingHouse",
      "BatchSubmitted",
      number,
      null,
      hash,
    )) {
      const header = named(values.header, names);
      // The event is the node's word; the hash is not.
      if (batchHash(header) === hash) return { header, transactionHash };
    }
    return null;
  }

  /** Tariff and clearing as the coordinator submitted them; null if it did so through another contract. */
  async submission(transactionHash) {
    const transaction = await this.ask("eth_getTransactionByHash", transactionHash);
    const call = ABI.ClearingHouse.parseTransaction({ data: transaction?.input ?? transaction?.data });
    return call ? call.args.submission : null;
  }

  /** Whether a call would be taken now. */
  dryRun(transaction) {
    return this.ask("eth_call", transaction, "latest");
  }
}

/** A tariff's fields with plain lists, as `Tariff` in Tariff.sol. */
export const plainTariff = (tariff) => ({
  ...named(tariff, ["shareMillionths", "nodeCount", "chordCount"]),
  groups: [...tariff.groups],
  edges: [...tariff.edges],
});
