// The clearing check of docs/protocol.md: reads group totals and certificates, checks each, and derives prices and sums.

import { ProtocolError, bytes, savingsShare, unpackEdge, unpackGroup } from "./protocol.js";

const sum = (values) => values.reduce((total, value) => total + value, 0n);
const absolute = (value) => (value < 0n ? -value : value);
const positive = (value) => (value > 0n ? value : 0n);

/** Reads big-endian numbers one after the other. */
class Reader {
  constructor(hex) {
    this.hex = hex;
    this.at = 2;
  }

  unsigned(size) {
    const end = this.at + 2 * size;
    if (end > this.hex.length) throw new ProtocolError("the clearing is too short");
    const value = BigInt(`0x${this.hex.slice(this.at, end)}`);
    this.at = end;
    return value;
  }

  signed(size) {
    return BigInt.asIntN(8 * size, this.unsigned(size));
  }

  many(count, read) {
    return Array.from({ length: count }, read);
  }
}

/**
 * Checks a whole period.
 *
 * @param {string} clearing as submitted.
 * @param tariff groups and edges as words, `nodeCount`, `chordCount`, `shareMillionths`.
 * @param {number} intervalCount intervals of the period.
 * @returns per interval: discount, premium, supplier, fees, fund, saved, bound (all nano).
 * @throws {ProtocolError} what is wrong with it.
 */
export function checkClearing(clearing, tariff, intervalCount) {
  const reader = new Reader(bytes(clearing));
  const groups = tariff.groups.map(unpackGroup);
  const network = { ...tariff, edges: tariff.edges.map(unpackEdge) };
  const width = Number(reader.unsigned(1));
  if (width < 2 || width > 8) throw new ProtocolError("numbers of an impossible width");
  const pair = () => [reader.unsigned(width), reader.unsigned(width)];
  const totals = reader.many(intervalCount, () => reader.many(groups.length, pair));
  const intervals = totals.map((interval) => {
    const demand = interval.map(([wanted]) => wanted);
    const supply = interval.map(([, offered]) => offered);
    const traded = sum(demand) !== 0n && sum(supply) !== 0n;
    const certificate = traded ? readCertificate(reader, groups.length, network, pair) : null;
    return { demand, supply, certificate };
  });
  if (reader.at !== reader.hex.length) throw new ProtocolError("the clearing is too long");
  return intervals.map((interval) => settle(interval, groups, network));
}

function readCertificate(reader, groupCount, network, pair) {
  const matched = reader.many(groupCount, pair);
  return {
    bought: matched.map(([wanted]) => wanted),
    sold: matched.map(([, offered]) => offered),
    prices: reader.many(Number(network.nodeCount), () => reader.signed(6)),
    flows: reader.many(Number(network.chordCount), () => reader.signed(8)),
  };
}

function settle({ demand, supply, certificate }, groups, network) {
  const none = groups.map(() => 0n);
  const { bought, sold } = certificate ?? { bought: none, sold: none };
  const flows = certificate ? checkFlows(certificate, demand, supply, groups, network) : [];
  const edgeFees = sum(flows.map((flow, edge) => network.edges[edge].fee * absolute(flow)));
  const over = (amount) => sum(groups.map(amount));
  const fees = edgeFees + over((group, g) => group.accessFee * (bought[g] + sold[g]));
  const outside = over((group, g) => group.importPrice * demand[g] - group.exportPrice * supply[g]);
  const supplier = over(
    (group, g) =>
      group.importPrice * (demand[g] - bought[g]) - group.exportPrice * (supply[g] - sold[g]),
  );
  const saved = outside - supplier - fees;
  const bound = certificate ? upperBound(certificate, demand, supply, groups) : 0n;
  if (saved !== bound) throw new ProtocolError("a clearing that saves more would have been possible");
  const steps = savingsShare(saved, sum(demand), sum(supply), network.shareMillionths);
  return { ...steps, supplier, fees, saved, bound };
}

function upperBound({ prices }, demand, supply, groups) {
  return sum(
    groups.map(({ importPrice, exportPrice, accessFee, node }, g) => {
      const price = prices[Number(node)];
      const buyers = positive(importPrice - accessFee - price) * demand[g];
      return buyers + positive(price - exportPrice - accessFee) * supply[g];
    }),
  );
}

/** Flows by edge; chords as stated, tree edges as the balances leave them. */
function checkFlows({ bought, sold, prices, flows }, demand, supply, groups, network) {
  const balance = Array(Number(network.nodeCount)).fill(0n);
  groups.forEach(({ node }, g) => {
    if (bought[g] > demand[g] || sold[g] > supply[g]) {
      throw new ProtocolError("more was traded than was wanted or offered");
    }
    balance[Number(node)] += sold[g] - bought[g];
  });
  const found = network.edges.map(({ from, to, fee }, edge) => {
    const flow = edge < flows.length ? flows[edge] : balance[from];
    balance[from] -= flow;
    balance[to] += flow;
    if (absolute(prices[from] - prices[to]) > fee) {
      throw new ProtocolError("two nodes' prices differ by more than the way between them costs");
    }
    return flow;
  });
  if (balance.some((left) => left !== 0n)) throw new ProtocolError("energy is left over at a node");
  return found;
}
