// The contracts' functions and events that a browser reads, sends or decodes. Names and types are those of contracts/src;
// tests/browser compares every one with contracts/artifacts.

import { Interface } from "./vendor/ethers.min.js";
import { HEADER_FIELDS } from "./protocol.js";

const HEADER = `(${HEADER_FIELDS.map(([name, type]) => `${type} ${name}`).join(", ")})`;
const HEAD =
  "(uint64 number, uint64 nextPeriod, bytes32 ledgerRoot, uint8 ledgerDepth, bytes32 contentsHash)";
const LEAF = "(uint32 slot, bytes32 sums, bytes32 readingsCommitment, bytes32 salt)";
const ENTRY = `(bool isEmpty, ${LEAF} leaf, bytes32[] proof)`;
const EVIDENCE = "(bytes readings, bytes32 salt, bytes32[] proof, bytes prices)";
const TARIFF =
  "(uint32 shareMillionths, uint32 nodeCount, uint32 chordCount, bytes32[] groups, bytes32[] edges)";
const REPORT =
  "(uint64 period, uint32 version, uint64 firstInterval, uint32 intervalCount, bytes32 readingsRoot, bytes32 totalsHash, bytes32 configDigest)";
const SUBMISSION = `(${REPORT} report, (uint256 threshold, address[] signers) config, bytes[] signatures, ${TARIFF} tariff, bytes clearing, (uint8 depth, bytes32 left, bytes32 leftSums, bytes32 right, bytes32 rightSums) ledger, bytes32 tradesRoot, bytes32 bundleHash, bytes32 previousBatch)`;
const MEMBER =
  "(address account, uint32 fromPeriod, uint32 untilPeriod, uint16 node, uint8 tariffClass, uint8 collateralSteps)";
const PARAMETERS =
  "(uint64 firstPeriod, uint64 firstInterval, uint32 intervalSeconds, uint32 shortestPeriodSeconds, uint32 challengeSeconds, uint32 correctionSeconds, uint32 freezeSeconds, uint96 bondWei, uint96 demandBondWei)";

export const ABI = {
  ClearingHouse: new Interface([
    "function recordOf(uint64 number) view returns (bytes32 batchHash, uint64 submittedAt)",
    "function isFinal(uint64 number) view returns (bool)",
    `function parameters() view returns (${PARAMETERS} parameters)`,
    "function genesisHash() view returns (bytes32)",
    "function registry() view returns (address)",
    "function tariffBook() view returns (address)",
    "function challenges() view returns (address)",
    "function vault() view returns (address)",
    "function authority() view returns (address)",
    `function submitBatch(${SUBMISSION} submission) returns (bytes32 batchHash)`,
    `function submitCorrection(${SUBMISSION} submission, ${HEADER} corrected) returns (bytes32 batchHash)`,
    "error NoSuchBatch(uint256 number)",
    "error WrongHeader(bytes32 given, bytes32 recorded)",
    "error AlreadyFinal(uint256 number)",
    `event BatchSubmitted(uint64 indexed number, uint64 indexed period, bytes32 indexed batchHash, ${HEADER} header)`,
  ]),
  MemberRegistry: new Interface([
    `function memberAt(uint256 slot) view returns (${MEMBER} member)`,
    "function isActive(uint256 slot, uint256 period) view returns (bool)",
    `function admit(uint256 slot, ${MEMBER} member, bytes consent)`,
    "function depart(uint256 slot, uint32 untilPeriod)",
    "function departWithSignature(uint256 slot, uint32 untilPeriod, bytes signature)",
  ]),
  TariffBook: new Interface([
    `event TariffAnnounced(bytes32 indexed tariffHash, uint64 indexed fromPeriod, ${TARIFF} tariff)`,
  ]),
  Challenges: new Interface([
    `function challengeAmount(${HEADER} header, ${EVIDENCE} evidence, ${TARIFF} tariff, ${LEAF} leaf, bytes32[] ledgerProof)`,
    `function challengeCorrectedAmount(${HEADER} header, ${EVIDENCE} evidence, ${TARIFF} tariff, ${LEAF} leaf, bytes32[] ledgerProof, ${HEADER} corrected, ${EVIDENCE} correctedEvidence)`,
    `function challengeSystemAmount(${HEADER} header, ${LEAF} leaf, bytes32[] ledgerProof, ${HEADER} corrected)`,
    `function challengeInactive(${HEADER} header, ${LEAF} leaf, bytes32[] ledgerProof)`,
    `function challengeCumulative(${HEADER} header, ${ENTRY} entry, ${HEADER} previous, ${ENTRY} previousEntry)`,
    `function demandData(${HEADER} header, uint256 slot) payable`,
    `function voidUnanswered(${HEADER} header, uint256 slot)`,
    "error NothingIsWrong()",
    "error AlreadyDemanded(uint256 slot)",
    "error TooLateToDemand(uint256 deadline, uint256 blockTime)",
    "error StillTime(uint256 deadline, uint256 blockTime)",
    "event DataDemanded(uint64 indexed period, uint256 indexed slot, address indexed demander, uint64 number, bytes32 batchHash, uint256 deadline)",
    "event DemandAnswered(uint64 indexed period, uint256 indexed slot, address indexed answerer, uint64 number, bytes32 batchHash)",
  ]),
  AccessManager: new Interface([
    "function schedule(address target, bytes data, uint48 when) returns (bytes32 operationId, uint32 nonce)",
    "error AccessManagerNotReady(bytes32 operationId)",
    "error AccessManagerAlreadyScheduled(bytes32 operationId)",
  ]),
  Vault: new Interface([
    "function deposit(uint256 slot, uint256 tokens)",
    "function depositWithPermit(uint256 slot, uint256 tokens, uint256 deadline, uint8 v, bytes32 r, bytes32 s)",
    `function withdraw(uint256 tokens, ${HEAD} head, ${LEAF} leaf, bytes32[] ledgerProof)`,
    `function announceWithdrawal(uint256 tokens, ${HEAD} head, ${LEAF} leaf, bytes32[] ledgerProof)`,
    "error AboveWithdrawable(uint256 tokens, uint256 withdrawableTokens)",
    "error NotAnnounced(uint256 slot, uint256 announcedNano)",
  ]),
};

/** A call as its contract reads it: names of contract and function, and the arguments; null if none of them has it. */
export function decodedCall(data) {
  for (const [contract, abi] of Object.entries(ABI)) {
    const call = abi.parseTransaction({ data });
    if (call) return { contract, name: call.name, values: call.args.toObject(true) };
  }
  return null;
}

/** Name of the error that a contract reverted with; null if it is not known here. */
export function revertName(data) {
  if (typeof data !== "string" || data.length < 10) return null;
  for (const abi of Object.values(ABI)) {
    const error = abi.parseError(data);
    if (error) return error.name;
  }
  return null;
}
