// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {LedgerLeaf} from "./LedgerLeaf.sol";

/// @notice What a slot holds in a batch's ledger tree, with its proof.
/// @param isEmpty whether the tree has nothing there; `leaf` then counts for nothing but its slot.
/// @param leaf the account.
/// @param proof sibling hash, sibling sums, alternating, from the leaf's level upwards.
struct LedgerEntry {
    bool isEmpty;
    LedgerLeaf leaf;
    bytes32[] proof;
}

/// @notice A member's readings of a period, with the proof that they are the oracle's, and the period's prices.
/// @param readings 16 bytes an interval; empty if the oracle reported nothing of this member.
/// @param salt salt of the member's readings leaf.
/// @param proof path of that leaf (or of its emptiness) in the readings tree.
/// @param prices 16 bytes an interval.
struct ReadingsEvidence {
    bytes readings;
    bytes32 salt;
    bytes32[] proof;
    bytes prices;
}
