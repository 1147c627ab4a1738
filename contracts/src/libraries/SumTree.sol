// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Sums} from "../types/Sums.sol";

/// @title Positional Merkle-sum tree
/// @notice A node commits to both children's hashes and both children's sums; an empty subtree is the zero hash
/// with zero sums. Each batch names its tree's depth, so that a small community pays for a small tree.
library SumTree {
    uint256 internal constant MAX_DEPTH = 20;
    bytes32 internal constant NODE_TAG = keccak256("peerwatt.ledger.node.v1");

    /// @notice A proof has a hash and a sum for each level, from the leaf up.
    error WrongProofLength(uint256 length, uint256 expected);
    /// @notice A position does not fit the tree.
    error SlotOutsideTree(uint256 slot);

    function hashNode(bytes32 left, Sums leftSums, bytes32 right, Sums rightSums)
        internal
        pure
        returns (bytes32 nodeHash)
    {
        if (left == 0 && right == 0 && Sums.unwrap(leftSums) == 0 && Sums.unwrap(rightSums) == 0) return 0;
        bytes32 nodeTag = NODE_TAG;
        // SAFETY: writes behind the free memory pointer without moving it; nothing there is in use.
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, nodeTag)
            mstore(add(free, 0x20), left)
            mstore(add(free, 0x40), leftSums)
            mstore(add(free, 0x60), right)
            mstore(add(free, 0x80), rightSums)
            nodeHash := keccak256(free, 0xa0)
        }
    }

    /// @notice The root that a leaf or node with `sums` at `index` within its level has together with its siblings.
    /// @param levels how far below the root it is.
    /// @param proof sibling hash, sibling sums, alternating, from its level upwards.
    function rootOf(bytes32 node, Sums sums, uint256 index, uint256 levels, bytes32[] calldata proof)
        internal
        pure
        returns (bytes32)
    {
        if (proof.length != 2 * levels) revert WrongProofLength(proof.length, 2 * levels);
        if (index >> levels != 0) revert SlotOutsideTree(index);
        // SAFETY: `levels` is at most 255 and `2 * i + 1` below the proof's length.
        unchecked {
            for (uint256 i = 0; i < levels; ++i) {
                bytes32 sibling = _at(proof, 2 * i);
                Sums siblingSums = Sums.wrap(_at(proof, 2 * i + 1));
                node = (index >> i) & 1 == 0
                    ? hashNode(node, sums, sibling, siblingSums)
                    : hashNode(sibling, siblingSums, node, sums);
                sums = sums + siblingSums;
            }
        }
        return node;
    }

    /// @dev SAFETY: all callers stay inside `proof`.
    function _at(bytes32[] calldata proof, uint256 i) private pure returns (bytes32 word) {
        assembly ("memory-safe") {
            word := calldataload(add(proof.offset, shl(5, i)))
        }
    }
}
