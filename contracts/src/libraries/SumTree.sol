// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SumOverflow, Sums} from "../types/Sums.sol";

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
        bytes32 nodeTag = NODE_TAG;
        Sums siblingSums;
        uint256 overflows;
        // SAFETY: as `hashNode` and the addition of sums, level by level; all reads stay inside the proof, whose length is checked above.
        assembly ("memory-safe") {
            let pair := add(mload(0x40), 0x20)
            mstore(sub(pair, 0x20), nodeTag)
            let position := proof.offset
            let end := add(position, shl(5, proof.length))
            // Where all is empty below and beside, so is it above.
            for {}
            and(
                lt(position, end),
                iszero(or(or(node, sums), or(calldataload(position), calldataload(add(position, 0x20)))))
            ) {} {
                position := add(position, 0x40)
                index := shr(1, index)
            }
            for {} lt(position, end) {} {
                siblingSums := calldataload(add(position, 0x20))
                let side := shl(6, and(index, 1))
                index := shr(1, index)
                let own := add(pair, side)
                mstore(own, node)
                mstore(add(own, 0x20), sums)
                let others := add(pair, xor(side, 0x40))
                mstore(others, calldataload(position))
                mstore(add(others, 0x20), siblingSums)
                position := add(position, 0x40)
                node := keccak256(sub(pair, 0x20), 0xa0)
                let total :=
                    or(
                        shl(128, add(shr(128, sums), shr(128, siblingSums))),
                        and(add(sums, siblingSums), 0xffffffffffffffffffffffffffffffff)
                    )
                // Two numbers of one sign whose sum has the other one.
                overflows := and(
                    and(xor(total, sums), xor(total, siblingSums)),
                    0x8000000000000000000000000000000080000000000000000000000000000000
                )
                if overflows { break }
                sums := total
            }
        }
        if (overflows != 0) revert SumOverflow(sums, siblingSums);
        return node;
    }
}
