// docs/protocol.md once more, for the browser: hashes, trees, clearing check, prices and a member's amount. Written from that
// page alone, so that what a member sees does not rest on the program that made its bill. Money, energy and numbers of the chain
// are BigInt; bytes are text, 0x and lower-case hex.

import { AbiCoder, keccak256, toUtf8Bytes, TypedDataEncoder } from "./vendor/ethers.min.js";

export const EMPTY = `0x${"00".repeat(32)}`;
export const READINGS_DEPTH = 20;
export const TRADES_DEPTH = 32;
export const SYSTEM_SLOTS = ["supplierNano", "networkFeesNano", "fundNano"];
const MILLION = 1_000_000n;
const MISSING = 2n;
const coder = AbiCoder.defaultAbiCoder();

/** The data do not have the form that the protocol gives them. */
export class ProtocolError extends Error {}

/** Every field of a batch header with its type, in order. */
export const HEADER_FIELDS = [
  ["number", "uint64"],
  ["period", "uint64"],
  ["version", "uint32"],
  ["firstInterval", "uint64"],
  ["intervalCount", "uint32"],
  ["nextPeriod", "uint64"],
  ["nextInterval", "uint64"],
  ["previousBatch", "bytes32"],
  ["correctedBatch", "bytes32"],
  ["reportHash", "bytes32"],
  ["readingsRoot", "bytes32"],
  ["tariffHash", "bytes32"],
  ["pricesHash", "bytes32"],
  ["ledgerRoot", "bytes32"],
  ["ledgerDepth", "uint8"],
  ["tradesRoot", "bytes32"],
  ["bundleHash", "bytes32"],
  ["supplierNano", "int128"],
  ["networkFeesNano", "int128"],
  ["fundNano", "int128"],
];

/** Name and fields of what is signed (EIP-712). */
export const SIGNED_TYPES = {
  Membership: [
    { name: "slot", type: "uint256" },
    { name: "account", type: "address" },
    { name: "fromPeriod", type: "uint32" },
    { name: "node", type: "uint16" },
    { name: "tariffClass", type: "uint8" },
    { name: "collateralSteps", type: "uint8" },
  ],
  Departure: [
    { name: "slot", type: "uint256" },
    { name: "untilPeriod", type: "uint32" },
  ],
};

// --- Bytes and numbers

/** JSON with every integer as a BigInt; a Number would round what is larger than 2^53. */
export function parseExactly(text) {
  const marked = text.replace(/"(?:[^"\\]|\\.)*"|-?\d+(?![\d.eE])/g, (token) =>
    token.startsWith('"') ? token.replace(/^"#/, '"##') : `"#${token}"`,
  );
  return JSON.parse(marked, (_, value) => {
    if (typeof value !== "string" || !value.startsWith("#")) return value;
    return value.startsWith("##") ? value.slice(1) : BigInt(value.slice(1));
  });
}

/** JSON as bundles write it. */
export function canonicalJson(value) {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const keys = Object.keys(value).sort(byCodePoint);
    return `{${keys.map((key) => `${canonicalJson(key)}:${canonicalJson(value[key])}`).join(",")}}`;
  }
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "string") return escaped(value);
  if (value === null || typeof value === "boolean") return String(value);
  throw new ProtocolError("a bundle has whole numbers only");
}

function escaped(text) {
  const code = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replace(/[\u007f-\uffff]/g, code);
}

function byCodePoint(left, right) {
  const a = Array.from(left, (character) => character.codePointAt(0));
  const b = Array.from(right, (character) => character.codePointAt(0));
  const at = a.findIndex((point, index) => point !== b[index]);
  return at < 0 ? a.length - b.length : a[at] - (b[at] ?? -1);
}

/** keccak256 of a text's UTF-8. */
export const hashText = (text) => keccak256(toUtf8Bytes(text));

const tags = new Map();

/** The hash that a kind of preimage begins with. */
export function tag(name) {
  if (!tags.has(name)) tags.set(name, hashText(name));
  return tags.get(name);
}

const tagged = (name, types, values) =>
  keccak256(coder.encode(["bytes32", ...types], [tag(name), ...values]));

const joined = (...parts) => `0x${parts.map((part) => part.slice(2)).join("")}`;

/** Bytes of a length, or any number of them. */
export function bytes(value, length = null) {
  const isBytes = typeof value === "string" && /^0x(?:[0-9a-fA-F]{2})*$/.test(value);
  if (!isBytes || (length !== null && value.length !== 2 + 2 * length)) {
    throw new ProtocolError(length === null ? "not bytes" : `not ${length} bytes`);
  }
  return value.toLowerCase();
}

const unsigned = (value, bits) => BigInt.asUintN(bits, value);
const signed = (value, bits) => BigInt.asIntN(bits, value);

/** A field of a word or vector: `size` bytes behind `offset`. */
const field = (hex, offset, size) => BigInt(`0x${hex.substr(2 + 2 * offset, 2 * size)}`);

function fits(value, bits) {
  if (signed(value, bits) !== value) throw new ProtocolError(`needs more than ${bits} bits`);
  return value;
}

const digits = (value, size) => value.toString(16).padStart(2 * size, "0");

// --- Trees

/** A node of a tree without sums. */
function plainNode(left, right) {
  if (left === EMPTY && right === EMPTY) return EMPTY;
  return keccak256(joined(tag("peerwatt.tree.node.v1"), left, right));
}

/** Root of a positional tree over a leaf and its siblings. */
export function plainRootAbove(leaf, position, proof) {
  let node = leaf;
  let place = position;
  for (const sibling of proof) {
    node = place & 1n ? plainNode(sibling, node) : plainNode(node, sibling);
    place >>= 1n;
  }
  if (place !== 0n) throw new ProtocolError("the position is outside the tree");
  return node;
}

/** Root of a positional tree whose leaves stand at the first places. */
export function plainRoot(leaves, depth) {
  let row = [...leaves];
  for (let level = 0; level < depth; level += 1) {
    const above = [];
    for (let at = 0; at < row.length; at += 2) {
      above.push(plainNode(row[at], row[at + 1] ?? EMPTY));
    }
    row = above;
  }
  if (row.length > 1) throw new ProtocolError("more leaves than the tree has places");
  return row[0] ?? EMPTY;
}

/** Two sums in one word. */
export function packSums(amount, cumulative) {
  const halves = [fits(amount, 128), fits(cumulative, 128)];
  return `0x${halves.map((half) => digits(unsigned(half, 128), 16)).join("")}`;
}

/** The two sums of a word. */
export function unpackSums(word) {
  const whole = bytes(word, 32);
  return { amount: signed(field(whole, 0, 16), 128), cumulative: signed(field(whole, 16, 16), 128) };
}

/** A node with sums over two others: hash, amount and cumulative amount. */
function sumNode(left, right) {
  const amount = fits(left.amount + right.amount, 128);
  const cumulative = fits(left.cumulative + right.cumulative, 128);
  const sums = [left, right].map((side) => packSums(side.amount, side.cumulative));
  const nothing = [left.hash, right.hash, ...sums].every((word) => word === EMPTY);
  const parts = [tag("peerwatt.ledger.node.v1"), left.hash, sums[0], right.hash, sums[1]];
  return { hash: nothing ? EMPTY : keccak256(joined(...parts)), amount, cumulative };
}

/** Hash and sums of the ledger's root over a leaf or node and its siblings: hash, sums, alternating, from the bottom. */
export function ledgerRootAbove(leaf, slot, proof) {
  let node = leaf;
  let place = slot;
  for (let at = 0; at < proof.length; at += 2) {
    const sibling = { hash: bytes(proof[at], 32), ...unpackSums(proof[at + 1]) };
    node = place & 1n ? sumNode(sibling, node) : sumNode(node, sibling);
    place >>= 1n;
  }
  if (place !== 0n) throw new ProtocolError("the slot is outside the ledger");
  return node;
}

/** A proof as bundles trim it, filled up with what was left out. */
export function untrimmed(proof, length) {
  if (!Array.isArray(proof) || proof.length > length) throw new ProtocolError("a proof is too long");
  const words = proof.map((word) => bytes(word, 32));
  return [...words, ...Array(length - words.length).fill(EMPTY)];
}

// --- Leaves, header, what is signed

/** The leaf of a member's readings. */
export const readingsLeaf = (slot, readings, salt) =>
  tagged(
    "peerwatt.readings.leaf.v1",
    ["uint256", "bytes32", "bytes32"],
    [slot, keccak256(readings), salt],
  );

/** A trade's leaf. */
export function tradeLeaf(trade) {
  const values = [trade.interval, trade.sellerSlot, trade.buyerSlot, trade.energyWh, trade.feeNano];
  return tagged(
    "peerwatt.trade.leaf.v1",
    [...Array(values.length).fill("uint256"), "bytes32"],
    [...values, trade.salt],
  );
}

/** An account of the ledger with its hash. */
export function ledgerLeaf(slot, amount, cumulative, commitment, salt) {
  const sums = packSums(amount, cumulative);
  const hash = tagged(
    "peerwatt.ledger.leaf.v1",
    ["uint256", "bytes32", "bytes32", "bytes32"],
    [slot, sums, commitment, salt],
  );
  return { hash, amount, cumulative, sums, slot, commitment, salt };
}

/** The five words of a header that a proof of an account needs. */
export function ledgerHead(header) {
  const values = HEADER_FIELDS.map(([name]) => header[name]);
  const types = HEADER_FIELDS.map(([, type]) => type);
  const contents = tagged("peerwatt.batch.contents.v2", types, values);
  return [header.number, header.nextPeriod, header.ledgerRoot, header.ledgerDepth, contents];
}

/** Hash of a batch; its last five bytes are zero. */
export function batchHash(header) {
  const types = ["uint64", "uint64", "bytes32", "uint8", "bytes32"];
  return `${tagged("peerwatt.batch.v2", types, ledgerHead(header)).slice(0, -10)}${"00".repeat(5)}`;
}

/** What the first batch names as the one before it. */
export const genesisHash = (chainId, clearingHouse, firstPeriod, firstInterval) =>
  tagged(
    "peerwatt.genesis.v2",
    ["uint256", "address", "uint256", "uint256"],
    [chainId, clearingHouse, firstPeriod, firstInterval],
  );

/** The EIP-712 domain of one of the community's contracts. */
export const signingDomain = (chainId, contract) => ({
  name: "Peerwatt",
  version: "1",
  chainId,
  verifyingContract: contract,
});

/** What a wallet signs of a message: its EIP-712 digest. */
export const signedDigest = (domain, type, message) =>
  TypedDataEncoder.hash(domain, { [type]: SIGNED_TYPES[type] }, message);

// --- Tariff

/** Hash of a tariff: share in millionths, numbers of nodes and chords, group and edge words. */
export const tariffHash = (tariff) =>
  tagged(
    "peerwatt.tariff.v2",
    ["uint256", "uint256", "uint256", "bytes32", "bytes32"],
    [
      tariff.shareMillionths,
      tariff.nodeCount,
      tariff.chordCount,
      keccak256(joined("0x", ...tariff.groups)),
      keccak256(joined("0x", ...tariff.edges)),
    ],
  );

/** A group's prices in nano per Wh, its node and its class. */
export const unpackGroup = (word) => ({
  importPrice: signed(field(word, 0, 8), 64),
  exportPrice: signed(field(word, 8, 8), 64),
  accessFee: field(word, 16, 8),
  node: field(word, 24, 4),
  tariffClass: field(word, 28, 4),
});

/** The two ends of an edge and the fee for crossing it in nano per Wh. */
export const unpackEdge = (word) => ({
  from: Number(field(word, 0, 4)),
  to: Number(field(word, 4, 4)),
  fee: field(word, 8, 8),
});

// --- Readings, prices, amount

/** Energy of every interval, and what trades before delivery brought. */
export function unpackReadings(readings, intervalCount) {
  const whole = bytes(readings);
  const extra = (whole.length - 2) / 2 - 16 * intervalCount;
  if (extra !== 0 && extra !== 16) throw new ProtocolError("readings of another length");
  const intervals = Array.from({ length: intervalCount }, (_, at) => {
    const isMissing = field(whole, 16 * at + 14, 2) === MISSING;
    return { importWh: field(whole, 16 * at, 7), exportWh: field(whole, 16 * at + 7, 7), isMissing };
  });
  const traded = extra ? signed(field(whole, 16 * intervalCount, 16), 128) : 0n;
  return { intervals, traded };
}

/** Discount and premium of every interval, nano per Wh. */
export function unpackPrices(prices, intervalCount) {
  const whole = bytes(prices, 16 * intervalCount);
  return Array.from({ length: intervalCount }, (_, at) => ({
    discount: field(whole, 16 * at, 8),
    premium: field(whole, 16 * at + 8, 8),
  }));
}

/** The prices as they are hashed. */
export function packPrices(steps) {
  return `0x${steps.map((step) => digits(step.discount, 8) + digits(step.premium, 8)).join("")}`;
}

/** What a member receives (negative: pays) for a period, in nano. */
export function dueNano(readings, prices, groupWord, intervalCount) {
  const { intervals, traded } = unpackReadings(readings, intervalCount);
  const steps = unpackPrices(prices, intervalCount);
  const { importPrice, exportPrice } = unpackGroup(groupWord);
  return intervals.reduce((sum, { importWh, exportWh, isMissing }, at) => {
    if (isMissing) return sum;
    const net = exportWh - importWh;
    const price = net < 0n ? importPrice - steps[at].discount : exportPrice + steps[at].premium;
    return sum + net * price;
  }, traded);
}

/** What a Wh bought costs less, what a Wh sold earns more, and what the divisions leave over. */
export function savingsShare(saved, demand, supply, shareMillionths) {
  const share = (part, total) => (total === 0n ? 0n : (saved * part) / (MILLION * total));
  const discount = share(shareMillionths, demand);
  const premium = share(MILLION - shareMillionths, supply);
  return { discount, premium, fund: saved - discount * demand - premium * supply };
}
