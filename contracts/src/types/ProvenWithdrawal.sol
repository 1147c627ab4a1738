// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {LedgerLeaf} from "./LedgerLeaf.sol";

/// @notice One account's withdrawal with its proof, where several go in one transaction.
/// @param tokens in the token's smallest unit.
/// @param leaf the account's leaf in the last final batch.
/// @param ledgerProof the leaf's path to that batch's root.
struct ProvenWithdrawal {
    uint256 tokens;
    LedgerLeaf leaf;
    bytes32[] ledgerProof;
}
