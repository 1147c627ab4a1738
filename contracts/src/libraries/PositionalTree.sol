// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Positional Merkle tree of fixed depth
/// @notice Used for readings. An empty subtree is the zero hash.
library PositionalTree {
    uint256 internal constant DEPTH = 20;
    bytes32 internal constant NODE_TAG = keccak256("peerwatt.tree.node.v1");

    error WrongProofLength(uint256 length, uint256 expected);
    error SlotOutsideTree(uint256 slot);

    function hashNode(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return left == 0 && right == 0 ? bytes32(0) : keccak256(abi.encode(NODE_TAG, left, right));
    }

    /// @notice The root that `leaf` at `slot` has together with its siblings.
    function rootOf(bytes32 leaf, uint256 slot, bytes32[] calldata proof) internal pure returns (bytes32 node) {
        if (proof.length != DEPTH) revert WrongProofLength(proof.length, DEPTH);
        if (slot >> DEPTH != 0) revert SlotOutsideTree(slot);
        node = leaf;
        for (uint256 i = 0; i < DEPTH; ++i) {
            node = (slot >> i) & 1 == 0 ? hashNode(node, proof[i]) : hashNode(proof[i], node);
        }
    }
}
