// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {OracleReport} from "./OracleReport.sol";
import {Sums} from "./Sums.sol";
import {Tariff} from "./Tariff.sol";

/// @notice What a batch commits to. The chain stores its hash; whoever challenges or withdraws brings the header.
/// @param previousBatch hash of the batch before this one (of the community's genesis for the first).
/// @param reportHash EIP-712 struct hash of the oracle report.
/// @param readingsRoot root of the oracle's readings tree.
/// @param tariffHash hash of the tariff the period was cleared with.
/// @param pricesHash keccak256 of the prices: per interval, discount uint64 then premium uint64, in nano per Wh.
/// @param ledgerRoot root of the Merkle-sum tree of the accounts.
/// @param tradesRoot root of the positional tree of salted trade leaves.
/// @param bundleHash keccak256 of the published data bundle.
/// @param supplierNano what the outside supplier receives (negative: pays) for the residual, over the period.
/// @param networkFeesNano what the DSO receives for the use of the network, over the period.
/// @param fundNano what integer division left over, for the community fund.
struct BatchHeader {
    uint64 period;
    uint32 version;
    uint64 firstInterval;
    uint32 intervalCount;
    bytes32 previousBatch;
    bytes32 reportHash;
    bytes32 readingsRoot;
    bytes32 tariffHash;
    bytes32 pricesHash;
    bytes32 ledgerRoot;
    bytes32 tradesRoot;
    bytes32 bundleHash;
    int128 supplierNano;
    int128 networkFeesNano;
    int128 fundNano;
}

/// @notice The two children of the ledger tree's root; their sums must cancel.
struct LedgerRoot {
    bytes32 left;
    Sums leftSums;
    bytes32 right;
    Sums rightSums;
}

/// @notice What the coordinator submits for one period.
/// @param intervals the certificates, one record per interval (layout in docs/protocol.md, "Interval record").
struct Submission {
    OracleReport report;
    bytes[] signatures;
    Tariff tariff;
    bytes intervals;
    LedgerRoot ledger;
    bytes32 tradesRoot;
    bytes32 bundleHash;
}

using {hash} for BatchHeader global;

bytes32 constant BATCH_TAG = keccak256("peerwatt.batch.v1");

function hash(BatchHeader memory self) pure returns (bytes32) {
    return keccak256(abi.encode(BATCH_TAG, self));
}
