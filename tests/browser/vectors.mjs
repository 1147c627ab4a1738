// Recomputes tests/vectors with the browser's own code: `node vectors.mjs STATIC_FOLDER VECTORS_FOLDER`. Prints, by file, how many
// values it compared and which differ.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [statics, vectors] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(join(statics, name)).href);
const protocol = await load("protocol.js");
const { checkClearing } = await load("clearing.js");
const { TypedDataEncoder, recoverAddress, keccak256 } = await load("vendor/ethers.min.js");

const found = {};
let current;

function same(what, computed, expected) {
  current.compared += 1;
  const shown = (value) => (typeof value === "bigint" ? value.toString() : String(value).toLowerCase());
  if (shown(computed) !== shown(expected)) {
    current.wrong.push(`${what}: ${shown(computed)} instead of ${shown(expected)}`);
  }
}

function refused(what, attempt) {
  current.compared += 1;
  try {
    attempt();
    current.wrong.push(`${what}: was accepted`);
  } catch (error) {
    if (!(error instanceof protocol.ProtocolError)) throw error;
  }
}

function check(name, compare) {
  current = { compared: 0, wrong: [] };
  const file = protocol.parseExactly(readFileSync(join(vectors, `${name}.json`), "utf8"));
  file.cases.forEach((item, number) => compare(item, number));
  found[name] = current;
}

const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
const inCamel = (data) =>
  Object.fromEntries(Object.entries(data).map(([name, value]) => [camel(name), value]));

const tariffs = [];
const domains = new Map();

check("domain", ({ chain_id, verifying_contract, domain_separator }) => {
  const domain = protocol.signingDomain(chain_id, verifying_contract);
  domains.set(domain_separator, domain);
  same("separator", TypedDataEncoder.hashDomain(domain), domain_separator);
});

check("canonical-json", ({ value, canonical, hash }) => {
  same("canonical", protocol.canonicalJson(value), canonical);
  same("hash", protocol.hashText(canonical), hash);
});

for (const [name, type] of [
  ["membership", "Membership"],
  ["departure", "Departure"],
]) {
  check(name, ({ message, digest, signer, signature, domain_separator }) => {
    const domain = domains.get(domain_separator);
    same("digest", protocol.signedDigest(domain, type, message), digest);
    same("signer", recoverAddress(digest, signature), signer);
  });
}

check("readings-vector", ({ readings, traded_nano, packed, hash }) => {
  const read = protocol.unpackReadings(packed, readings.length);
  readings.forEach((reading, at) => {
    same("import", read.intervals[at].importWh, reading.import_wh);
    same("export", read.intervals[at].exportWh, reading.export_wh);
    same("missing", read.intervals[at].isMissing, reading.quality === 2n);
  });
  same("traded", read.traded, traded_nano ?? 0n);
  same("hash", keccak256(packed), hash);
});

check("readings-leaf", ({ slot, packed, salt, leaf }) =>
  same("leaf", protocol.readingsLeaf(slot, packed, salt), leaf),
);

check("positional-tree", ({ depth, leaves, root, proofs }) => {
  for (const [position, proof] of Object.entries(proofs)) {
    const whole = protocol.untrimmed(proof, Number(depth));
    const leaf = leaves[position] ?? protocol.EMPTY;
    same("root", protocol.plainRootAbove(leaf, BigInt(position), whole), root);
  }
});

check("tariff", (item) => {
  const groups = item.group_words;
  const edges = item.edge_words;
  const tariff = { ...inCamel(item), groups, edges };
  tariffs.push(tariff);
  same("hash", protocol.tariffHash(tariff), item.tariff_hash);
  item.groups.forEach((group, g) => {
    const read = protocol.unpackGroup(groups[g]);
    same("import price", read.importPrice, group.import_price_nano_per_wh);
    same("export price", read.exportPrice, group.export_price_nano_per_wh);
    same("access fee", read.accessFee, item.access_fee_nano_per_wh[Number(group.node)]);
    same("node", read.node, group.node);
    same("class", read.tariffClass, group.tariff_class);
  });
});

check("savings-share", (item) => {
  const given = [item.savings_nano, item.demand_wh, item.supply_wh, item.share_millionths];
  const steps = protocol.savingsShare(...given);
  same("discount", steps.discount, item.discount_nano_per_wh);
  same("premium", steps.premium, item.premium_nano_per_wh);
});

check("prices", ({ steps, packed, prices_hash }) => {
  const read = protocol.unpackPrices(packed, steps.length);
  steps.forEach((step, at) => {
    same("discount", read[at].discount, step.discount_nano_per_wh);
    same("premium", read[at].premium, step.premium_nano_per_wh);
  });
  same("packed", protocol.packPrices(read), packed);
  same("hash", keccak256(packed), prices_hash);
});

check("clearing", (item) => {
  const tariff = tariffs[Number(item.tariff_case)];
  const attempt = () => checkClearing(item.clearing, tariff, item.intervals.length);
  if (item.verdict !== "optimal") {
    refused("not optimal", attempt);
    return;
  }
  attempt().forEach((result, at) => {
    const interval = item.intervals[at];
    same("supplier", result.supplier, interval.supplier_nano);
    same("fees", result.fees, interval.network_fees_nano);
    same("saved", result.saved, interval.savings_nano);
    same("discount", result.discount, interval.discount_nano_per_wh);
    same("premium", result.premium, interval.premium_nano_per_wh);
    same("fund", result.fund, interval.fund_nano);
  });
});

check("statement", ({ group_word, readings, prices, amount_nano }) => {
  const intervals = (prices.length - 2) / 32;
  same("amount", protocol.dueNano(readings, prices, group_word, intervals), amount_nano);
});

check("trades", ({ trades, tree }) => {
  const leaves = trades.map((trade) => {
    const leaf = protocol.tradeLeaf(inCamel(trade));
    same("leaf", leaf, trade.leaf);
    return leaf;
  });
  same("root", protocol.plainRoot(leaves, protocol.TRADES_DEPTH), tree.root);
});

check("sums", ({ amount_nano, cumulative_nano, sums }) => {
  same("packed", protocol.packSums(amount_nano, cumulative_nano), sums);
  same("amount", protocol.unpackSums(sums).amount, amount_nano);
  same("cumulative", protocol.unpackSums(sums).cumulative, cumulative_nano);
  refused("129 bits", () => protocol.packSums(1n << 127n, 0n));
});

check("ledger-leaf", (item) => {
  const given = [item.slot, item.amount_nano, item.cumulative_nano, item.readings_commitment];
  const leaf = protocol.ledgerLeaf(...given, item.salt);
  same("sums", leaf.sums, item.sums);
  same("leaf", leaf.hash, item.leaf);
});

check("ledger-tree", ({ depth, leaves, root, root_sums, proofs }) => {
  const nothing = { hash: protocol.EMPTY, amount: 0n, cumulative: 0n };
  const bySlot = new Map(
    leaves.map((item) => {
      const given = [item.slot, item.amount_nano, item.cumulative_nano, item.readings_commitment];
      return [String(item.slot), protocol.ledgerLeaf(...given, item.salt)];
    }),
  );
  for (const [slot, proof] of Object.entries(proofs)) {
    const whole = protocol.untrimmed(proof, 2 * Number(depth));
    const top = protocol.ledgerRootAbove(bySlot.get(slot) ?? nothing, BigInt(slot), whole);
    same("root", top.hash, root);
    same("sums", protocol.packSums(top.amount, top.cumulative), root_sums);
  }
});

check("genesis", (item) => {
  const given = [item.chain_id, item.clearing_house, item.first_period, item.first_interval];
  same("hash", protocol.genesisHash(...given), item.genesis_hash);
});

check("batch-header", ({ header, batch_hash }) =>
  same("hash", protocol.batchHash(inCamel(header)), batch_hash),
);

for (const name of ["example-period", "example-correction"]) {
  check(name, (item) => {
    const header = inCamel(item.header);
    const open = protocol.parseExactly(item.public);
    same("batch hash", protocol.batchHash(header), item.batch_hash);
    same("bundle hash", protocol.hashText(item.public), header.bundleHash);
    same("canonical", protocol.canonicalJson(open), item.public);
    same("prices hash", keccak256(open.prices), header.pricesHash);
    same("trades", protocol.plainRoot(open.trade_leaves, protocol.TRADES_DEPTH), header.tradesRoot);
    for (const [slot, text] of Object.entries(item.personal)) {
      const own = protocol.parseExactly(text);
      same("personal hash", protocol.hashText(text), open.personal_hashes[slot]);
      let commitment = protocol.EMPTY;
      if (own.readings !== undefined) {
        commitment = protocol.readingsLeaf(own.slot, own.readings, own.readings_salt);
        const path = protocol.untrimmed(own.readings_proof, protocol.READINGS_DEPTH);
        const root = protocol.plainRootAbove(commitment, own.slot, path);
        same("readings root", root, header.readingsRoot);
        for (const trade of own.trades) {
          const leaf = protocol.tradeLeaf(inCamel(trade));
          same("trade", leaf, open.trade_leaves[Number(trade.position)]);
        }
      }
      const given = [own.slot, own.amount_nano, own.cumulative_nano, commitment, own.ledger_salt];
      const path = protocol.untrimmed(own.ledger_proof, 2 * Number(header.ledgerDepth));
      const top = protocol.ledgerRootAbove(protocol.ledgerLeaf(...given), own.slot, path);
      same("ledger root", top.hash, header.ledgerRoot);
      same("sum", packed(top), protocol.EMPTY);
    }
  });
}

function packed(node) {
  return protocol.packSums(node.amount, node.cumulative);
}

console.log(JSON.stringify(found));
