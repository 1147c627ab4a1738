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
        bytes32 nodeTag = NODE_TAG;
        // SAFETY: as `hashNode`, level by level; all reads stay inside the proof, whose length is checked above.
        assembly ("memory-safe") {
            let pair := add(mload(0x40), 0x20)
            mstore(sub(pair, 0x20), nodeTag)
            let position := proof.offset
            let end := add(position, shl(5, proof.length))
            // Where all is empty below and beside, so is it above.
            for {} and(lt(position, end), iszero(or(node, calldataload(position)))) {} {
                position := add(position, 0x20)
                slot := shr(1, slot)
            }
            for {} lt(position, end) {} {
                let side := shl(5, and(slot, 1))
                slot := shr(1, slot)
                mstore(add(pair, side), node)
                mstore(add(pair, xor(side, 0x20)), calldataload(position))
                position := add(position, 0x20)
                node := keccak256(sub(pair, 0x20), 0x60)
            }
        }
    }
}
