// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {OracleConfig, OracleReport} from "./OracleReport.sol";
import {Sums} from "./Sums.sol";
import {Tariff} from "./Tariff.sol";

/// @notice What a batch commits to. The chain stores its hash; whoever challenges or withdraws brings the header.
/// @param number consecutive number of the batch, from 1.
/// @param period the period it settles.
/// @param version 0, or one more for each correction of the period.
/// @param firstInterval index since the Unix epoch of the period's first interval.
/// @param intervalCount number of intervals.
/// @param nextPeriod first period that no batch up to this one settles.
/// @param nextInterval first interval of that period.
/// @param previousBatch hash of the batch with the number before (of the community's genesis for the first).
/// @param correctedBatch hash of the batch of the same period and the version before; zero for version 0.
/// @param reportHash EIP-712 struct hash of the oracle report.
/// @param readingsRoot root of the oracle's readings tree.
/// @param tariffHash hash of the tariff the period was cleared with.
/// @param pricesHash keccak256 of the prices: per interval, discount uint64 then premium uint64, in nano per Wh.
/// @param ledgerRoot root of the Merkle-sum tree of the accounts.
/// @param ledgerDepth levels of that tree.
/// @param tradesRoot root of the positional tree of salted trade leaves.
/// @param bundleHash keccak256 of the published data bundle.
/// @param supplierNano what the outside supplier receives (negative: pays) for the residual, over the period.
/// @param networkFeesNano what the DSO receives for the use of the network, over the period.
/// @param fundNano what integer division left over, for the community fund.
struct BatchHeader {
    uint64 number;
    uint64 period;
    uint32 version;
    uint64 firstInterval;
    uint32 intervalCount;
    uint64 nextPeriod;
    uint64 nextInterval;
    bytes32 previousBatch;
    bytes32 correctedBatch;
    bytes32 reportHash;
    bytes32 readingsRoot;
    bytes32 tariffHash;
    bytes32 pricesHash;
    bytes32 ledgerRoot;
    uint8 ledgerDepth;
    bytes32 tradesRoot;
    bytes32 bundleHash;
    int128 supplierNano;
    int128 networkFeesNano;
    int128 fundNano;
}

/// @notice The two children of the ledger tree's root; their sums must cancel.
/// @param depth levels of the tree.
struct LedgerRoot {
    uint8 depth;
    bytes32 left;
    Sums leftSums;
    bytes32 right;
    Sums rightSums;
}

/// @notice What the coordinator submits for one period.
/// @param report what the oracle's signers state.
/// @param config who the signers are.
/// @param signatures theirs, in ascending order of their addresses.
/// @param tariff the tariff in force.
/// @param clearing group totals and certificates of all intervals (docs/protocol.md, "Clearing").
/// @param ledger the top of the accounts' tree.
/// @param tradesRoot root of the trades.
/// @param bundleHash hash of the published data bundle.
/// @param previousBatch hash of the batch that the ledger goes on from (of the community's genesis for the first).
struct Submission {
    OracleReport report;
    OracleConfig config;
    bytes[] signatures;
    Tariff tariff;
    bytes clearing;
    LedgerRoot ledger;
    bytes32 tradesRoot;
    bytes32 bundleHash;
    bytes32 previousBatch;
}

/// @notice As much of a batch as a proof of an account needs: whoever withdraws brings five words and not twenty.
/// @param number number of the batch.
/// @param nextPeriod first period that no batch up to this one settles.
/// @param ledgerRoot root of the accounts' tree.
/// @param ledgerDepth levels of that tree.
/// @param contentsHash hash of the whole header.
struct LedgerHead {
    uint64 number;
    uint64 nextPeriod;
    bytes32 ledgerRoot;
    uint8 ledgerDepth;
    bytes32 contentsHash;
}

using {hash, ledgerHead} for BatchHeader global;
using {batchHash} for LedgerHead global;

bytes32 constant CONTENTS_TAG = keccak256("peerwatt.batch.contents.v2");
bytes32 constant BATCH_TAG = keccak256("peerwatt.batch.v2");
/// @dev Leaves room for the time of submission, so that a batch takes one word of storage.
uint256 constant TIME_BITS = 40;

/// @return the batch hash: that of the header's ledger head.
function hash(BatchHeader memory self) pure returns (bytes32) {
    return self.ledgerHead().batchHash();
}

/// @dev The contents' hash is keccak256 over tag and fields, a word each.
function ledgerHead(BatchHeader memory self) pure returns (LedgerHead memory) {
    bytes32 contentsTag = CONTENTS_TAG;
    bytes32 contentsHash;
    // SAFETY: a struct of value types lies in memory as its fields' words, as `abi.encode` would write them; the copy goes behind
    // the free memory pointer, where nothing is in use.
    assembly ("memory-safe") {
        let free := mload(0x40)
        mstore(free, contentsTag)
        mcopy(add(free, 0x20), self, 0x280)
        contentsHash := keccak256(free, 0x2a0)
    }
    return LedgerHead(self.number, self.nextPeriod, self.ledgerRoot, self.ledgerDepth, contentsHash);
}

/// @return 27 bytes of keccak256 over tag and fields, a word each, then five zero bytes.
function batchHash(LedgerHead memory self) pure returns (bytes32) {
    return (keccak256(abi.encode(BATCH_TAG, self)) >> TIME_BITS) << TIME_BITS;
}
