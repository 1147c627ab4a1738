// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Sums} from "./Sums.sol";

/// @notice One account in the ledger tree.
/// @param slot the account's position; the same in the member registry, the readings tree and every period.
/// @param sums this period's amount and the cumulative amount.
/// @param readingsCommitment the account's leaf in the oracle's readings tree; zero for an account without a meter.
/// @param salt 32 bytes that keep the leaf from being guessed; deleting them is the erasure.
struct LedgerLeaf {
    uint32 slot;
    Sums sums;
    bytes32 readingsCommitment;
    bytes32 salt;
}

using {hash} for LedgerLeaf global;

bytes32 constant LEDGER_LEAF_TAG = keccak256("peerwatt.ledger.leaf.v1");

function hash(LedgerLeaf memory self) pure returns (bytes32) {
    return keccak256(abi.encode(LEDGER_LEAF_TAG, self));
}
