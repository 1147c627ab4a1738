// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Sums, makeSums} from "../types/Sums.sol";

/// @title Positional Merkle-sum tree of fixed depth
/// @notice A node commits to both children's hashes and both children's sums; an empty subtree is the zero hash
/// with zero sums, so that a small community pays calldata only for the levels it uses.
library SumTree {
    uint256 internal constant DEPTH = 20;
    bytes32 internal constant NODE_TAG = keccak256("peerwatt.ledger.node.v1");

    /// @notice A proof has a hash and a sum for each level, from the leaf up.
    error WrongProofLength(uint256 length, uint256 expected);
    error SlotOutsideTree(uint256 slot);

    function hashNode(bytes32 left, Sums leftSums, bytes32 right, Sums rightSums) internal pure returns (bytes32) {
        if (left == 0 && right == 0 && Sums.unwrap(leftSums) == 0 && Sums.unwrap(rightSums) == 0) return 0;
        return keccak256(abi.encode(NODE_TAG, left, leftSums, right, rightSums));
    }

    /// @notice The root that `leaf` with `sums` at `slot` has together with its siblings.
    /// @param proof sibling hash, sibling sums, alternating, from the leaf's level upwards.
    function rootOf(bytes32 leaf, Sums sums, uint256 slot, bytes32[] calldata proof) internal pure returns (bytes32) {
        return nodeRootOf(leaf, sums, slot, 0, proof);
    }

    /// @notice As `rootOf`, for a node `level` levels above the leaves, at `index` within its level.
    function nodeRootOf(bytes32 node, Sums sums, uint256 index, uint256 level, bytes32[] calldata proof)
        internal
        pure
        returns (bytes32)
    {
        uint256 levels = DEPTH - level;
        if (proof.length != 2 * levels) revert WrongProofLength(proof.length, 2 * levels);
        if (index >> levels != 0) revert SlotOutsideTree(index);
        for (uint256 i = 0; i < levels; ++i) {
            bytes32 sibling = proof[2 * i];
            Sums siblingSums = Sums.wrap(proof[2 * i + 1]);
            node = (index >> i) & 1 == 0
                ? hashNode(node, sums, sibling, siblingSums)
                : hashNode(sibling, siblingSums, node, sums);
            sums = sums + siblingSums;
        }
        return node;
    }
}
