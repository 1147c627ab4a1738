// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Positional Merkle tree of fixed depth
/// @notice Used for readings. An empty subtree is the zero hash.
library PositionalTree {
    uint256 internal constant DEPTH = 20;
    bytes32 internal constant NODE_TAG = keccak256("peerwatt.tree.node.v1");

    /// @notice A proof does not have an entry for every level.
    error WrongProofLength(uint256 length, uint256 expected);
    /// @notice A position does not fit the tree.
    error SlotOutsideTree(uint256 slot);

    function hashNode(bytes32 left, bytes32 right) internal pure returns (bytes32 nodeHash) {
        if (left == 0 && right == 0) return 0;
        bytes32 nodeTag = NODE_TAG;
        // SAFETY: writes behind the free memory pointer without moving it; nothing there is in use.
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, nodeTag)
            mstore(add(free, 0x20), left)
            mstore(add(free, 0x40), right)
            nodeHash := keccak256(free, 0x60)
        }
    }

    /// @notice The root that `leaf` at `slot` has together with its siblings.
    function rootOf(bytes32 leaf, uint256 slot, bytes32[] calldata proof) internal pure returns (bytes32 node) {
        if (proof.length != DEPTH) revert WrongProofLength(proof.length, DEPTH);
        if (slot >> DEPTH != 0) revert SlotOutsideTree(slot);
        node = leaf;
        // SAFETY: `i` stays below the proof's length.
        unchecked {
            for (uint256 i = 0; i < DEPTH; ++i) {
                bytes32 sibling;
                assembly ("memory-safe") {
                    sibling := calldataload(add(proof.offset, shl(5, i)))
                }
                node = (slot >> i) & 1 == 0 ? hashNode(node, sibling) : hashNode(sibling, node);
            }
        }
    }
}
