// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {PositionalTree} from "../src/libraries/PositionalTree.sol";
import {SumTree} from "../src/libraries/SumTree.sol";
import {Sums, makeSums} from "../src/types/Sums.sol";
import {bound, vm} from "./support/Vm.sol";

/// @title Paths lead to the root of the whole tree, and only the right ones do
contract TreesTest {
    uint256 private constant DEPTH = 4;
    uint256 private constant SLOTS = 1 << DEPTH;

    struct Tree {
        bytes32[2 * SLOTS] hashes;
        Sums[2 * SLOTS] sums;
    }

    function sumRootOf(bytes32 node, Sums sums, uint256 index, uint256 levels, bytes32[] calldata proof)
        external
        pure
        returns (bytes32)
    {
        return SumTree.rootOf(node, sums, index, levels, proof);
    }

    function positionalRootOf(bytes32 leaf, uint256 slot, bytes32[] calldata proof) external pure returns (bytes32) {
        return PositionalTree.rootOf(leaf, slot, proof);
    }

    function testFuzz_EveryNodeHasAPathToTheRoot(uint256 seed, uint256 index) external view {
        Tree memory tree = _tree(seed);
        index = bound(index, 1, 2 * SLOTS - 1);
        bytes32[] memory proof = _proof(tree, index);
        uint256 levels = proof.length / 2;
        bytes32 root = this.sumRootOf(tree.hashes[index], tree.sums[index], index - (1 << levels), levels, proof);
        vm.assertEq(root, tree.hashes[1], "root");
    }

    function testFuzz_NothingElseLeadsToTheRoot(uint256 seed, uint256 index, uint256 where, uint256 change)
        external
        view
    {
        Tree memory tree = _tree(seed);
        index = bound(index, 2, 2 * SLOTS - 1);
        change = bound(change, 1, type(uint128).max);
        bytes32[] memory proof = _proof(tree, index);
        uint256 levels = proof.length / 2;
        uint256 position = index - (1 << levels);
        bytes32 node = tree.hashes[index];
        bytes32 sums = Sums.unwrap(tree.sums[index]);
        where = bound(where, 0, proof.length + 2);
        if (where < proof.length) proof[where] ^= bytes32(change);
        else if (where == proof.length) node ^= bytes32(change);
        else if (where == proof.length + 1) sums ^= bytes32(change);
        else position ^= 1;
        // In two equal halves it does not matter which one is meant.
        vm.assume(where != proof.length + 2 || tree.hashes[index] != tree.hashes[index ^ 1]);
        try this.sumRootOf(node, Sums.wrap(sums), position, levels, proof) returns (bytes32 root) {
            vm.assertTrue(root != tree.hashes[1], "another tree with the same root");
        } catch {
            // Sums that do not fit 128 bits.
        }
    }

    function testFuzz_ProofsOfAnotherLengthAreRefused(uint8 levels, uint8 length) external {
        vm.assume(length != 2 * uint256(levels));
        vm.expectRevert(abi.encodeWithSelector(SumTree.WrongProofLength.selector, uint256(length), 2 * uint256(levels)));
        this.sumRootOf(0, Sums.wrap(0), 0, levels, new bytes32[](length));
        vm.assume(length != PositionalTree.DEPTH);
        vm.expectRevert(
            abi.encodeWithSelector(PositionalTree.WrongProofLength.selector, uint256(length), PositionalTree.DEPTH)
        );
        this.positionalRootOf(0, 0, new bytes32[](length));
    }

    function testFuzz_SlotsOutsideAreRefused(uint256 slot, uint256 levels) external {
        levels = bound(levels, 0, 20);
        slot = bound(slot, 1 << levels, type(uint256).max);
        vm.expectRevert(abi.encodeWithSelector(SumTree.SlotOutsideTree.selector, slot));
        this.sumRootOf(0, Sums.wrap(0), slot, levels, new bytes32[](2 * levels));
        slot = bound(slot, 1 << PositionalTree.DEPTH, type(uint256).max);
        vm.expectRevert(abi.encodeWithSelector(PositionalTree.SlotOutsideTree.selector, slot));
        this.positionalRootOf(0, slot, new bytes32[](PositionalTree.DEPTH));
    }

    function testFuzz_SumsAddUp(int128 amount, int128 cumulative, int128 otherAmount, int128 otherCumulative)
        external
        view
    {
        Sums left = makeSums(amount, cumulative);
        vm.assertEq(int256(left.amount()), int256(amount), "amount");
        vm.assertEq(int256(left.cumulative()), int256(cumulative), "cumulative");
        int256 amountSum = int256(amount) + otherAmount;
        int256 cumulativeSum = int256(cumulative) + otherCumulative;
        bool fits = int128(amountSum) == amountSum && int128(cumulativeSum) == cumulativeSum;
        try this.sum(left, makeSums(otherAmount, otherCumulative)) returns (Sums added) {
            vm.assertTrue(fits, "overflow not seen");
            vm.assertEq(int256(added.amount()), amountSum, "sum of amounts");
            vm.assertEq(int256(added.cumulative()), cumulativeSum, "sum of cumulative amounts");
        } catch {
            vm.assertTrue(!fits, "refused for nothing");
        }
    }

    function sum(Sums left, Sums right) external pure returns (Sums) {
        return left + right;
    }

    function testFuzz_PositionalPath(uint256 seed, uint256 slot) external view {
        slot = bound(slot, 0, (1 << PositionalTree.DEPTH) - 1);
        bytes32 leaf = keccak256(abi.encode(seed));
        bytes32[] memory proof = new bytes32[](PositionalTree.DEPTH);
        bytes32 node = leaf;
        for (uint256 i = 0; i < PositionalTree.DEPTH; ++i) {
            if ((seed >> i) % 2 == 0) proof[i] = keccak256(abi.encode(seed, i));
            node = (slot >> i) % 2 == 0
                ? keccak256(abi.encode(keccak256("peerwatt.tree.node.v1"), node, proof[i]))
                : keccak256(abi.encode(keccak256("peerwatt.tree.node.v1"), proof[i], node));
        }
        vm.assertEq(this.positionalRootOf(leaf, slot, proof), node, "root");
        vm.assertEq(this.positionalRootOf(0, slot, new bytes32[](PositionalTree.DEPTH)), bytes32(0), "empty");
    }

    function test_NothingHasNoHashAndMoneyHas() external pure {
        Sums none = Sums.wrap(0);
        vm.assertEq(SumTree.hashNode(0, none, 0, none), bytes32(0), "empty");
        vm.assertTrue(SumTree.hashNode(0, makeSums(0, 1), 0, makeSums(0, -1)) != 0, "money in empty slots");
        vm.assertTrue(SumTree.hashNode(0, none, 0, makeSums(1, 0)) != 0, "money on the right");
    }

    function _tree(uint256 seed) private pure returns (Tree memory tree) {
        for (uint256 slot = 0; slot < SLOTS; ++slot) {
            uint256 random = uint256(keccak256(abi.encode(seed, slot)));
            if (random % 3 == 0) continue;
            tree.hashes[SLOTS + slot] = bytes32(random);
            tree.sums[SLOTS + slot] = makeSums(int96(int256(random)), int96(int256(random >> 96)));
        }
        for (uint256 i = SLOTS - 1; i != 0; --i) {
            tree.sums[i] = tree.sums[2 * i] + tree.sums[2 * i + 1];
            bytes32 any = tree.hashes[2 * i] | tree.hashes[2 * i + 1];
            if (any != 0) tree.hashes[i] = _node(tree, 2 * i);
        }
    }

    function _node(Tree memory tree, uint256 left) private pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("peerwatt.ledger.node.v1"),
                tree.hashes[left],
                tree.sums[left],
                tree.hashes[left + 1],
                tree.sums[left + 1]
            )
        );
    }

    function _proof(Tree memory tree, uint256 index) private pure returns (bytes32[] memory proof) {
        uint256 levels = 0;
        while (index >> (levels + 1) != 0) ++levels;
        proof = new bytes32[](2 * levels);
        for (uint256 i = 0; i < levels; ++i) {
            proof[2 * i] = tree.hashes[(index >> i) ^ 1];
            proof[2 * i + 1] = Sums.unwrap(tree.sums[(index >> i) ^ 1]);
        }
    }
}
