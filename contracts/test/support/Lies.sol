// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {LedgerEntry} from "../../src/types/Evidence.sol";
import {Sums, makeSums} from "../../src/types/Sums.sol";
import {BatchBuilder} from "./BatchBuilder.sol";
import {vm} from "./Vm.sol";

/// @title Batches that pass submission and are false, and the challenge that each falls to
abstract contract Lies is BatchBuilder {
    enum Lie {
        None,
        Amount,
        Commitment,
        SystemAmount,
        Cumulative,
        LeafSum,
        TreeSum,
        EmptyWithMoney,
        Inactive,
        Missing,
        Phantom,
        Withheld
    }

    uint256 internal constant NO_MEMBER = 7;

    /// @dev Plants `lie` against member `slot`; `other` pays for it. Both are members that the batch settles.
    function lieIn(Book memory book, Lie lie, uint256 slot, uint256 other, int128 nano) internal view {
        if (lie == Lie.Amount) {
            alter(book, slot, nano, nano);
            alter(book, other, -nano, -nano);
        } else if (lie == Lie.Commitment) {
            book.leaves[slot].readingsCommitment = keccak256("other readings");
        } else if (lie == Lie.SystemAmount) {
            alter(book, slot % 3, nano, nano);
            alter(book, other, -nano, -nano);
        } else if (lie == Lie.Cumulative) {
            alter(book, slot, 0, nano);
            alter(book, other, 0, -nano);
        } else if (lie == Lie.Inactive) {
            book.present[NO_MEMBER] = true;
            alter(book, NO_MEMBER, nano, nano);
            alter(book, other, -nano, -nano);
        } else if (lie == Lie.Missing) {
            book.present[slot] = false;
            Sums sums = book.leaves[slot].sums;
            alter(book, other, sums.amount(), sums.cumulative());
            book.leaves[slot].sums = Sums.wrap(0);
        }
        plant(book);
        if (lie == Lie.LeafSum) {
            _shift(book, SLOTS + slot, nano);
            _shift(book, SLOTS + other, -nano);
        } else if (lie == Lie.EmptyWithMoney || lie == Lie.Phantom) {
            book.hashes[SLOTS + NO_MEMBER] = lie == Lie.Phantom ? keccak256("nobody's") : bytes32(0);
            _shift(book, SLOTS + NO_MEMBER, nano);
            _shift(book, SLOTS + other, -nano);
            // The other one's leaf says the same as the tree: the money is nowhere but in the empty slot.
            if (lie == Lie.Phantom) {
                alter(book, other, -nano, -nano);
                book.hashes[SLOTS + other] = book.leaves[other].hash();
            }
        }
        if (lie == Lie.LeafSum || lie == Lie.EmptyWithMoney || lie == Lie.Phantom) grow(book);
        if (lie == Lie.TreeSum) {
            _shift(book, 4, nano);
            _shift(book, 6, -nano);
            for (uint256 i = 3; i != 0; --i) {
                regrow(book, i);
            }
            book.header.ledgerRoot = book.hashes[1];
        }
    }

    /// @dev Sends the challenge as the watcher. With `Lie.None`'s book every kind of it must be refused.
    function challenge(Book memory book, Book memory previous, Book memory corrected, Lie lie, uint256 slot) internal {
        if (lie == Lie.Amount || lie == Lie.Commitment) {
            _challengeAmount(book, corrected, slot);
            return;
        }
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        if (lie == Lie.SystemAmount) {
            proof = ledgerProof(book, SLOTS + slot % 3);
            vm.prank(watcher);
            challenges.challengeSystemAmount(book.header, book.leaves[slot % 3], proof, corrected.header);
        } else if (lie == Lie.Cumulative) {
            LedgerEntry memory entry = entryOf(book, slot);
            LedgerEntry memory before = entryOf(previous, slot);
            vm.prank(watcher);
            challenges.challengeCumulative(book.header, entry, previous.header, before);
        } else if (lie == Lie.LeafSum) {
            vm.prank(watcher);
            challenges.challengeLeafSum(book.header, slot, book.leaves[slot], book.sums[SLOTS + slot], proof);
        } else if (lie == Lie.TreeSum || lie == Lie.EmptyWithMoney) {
            _challengeNode(book, lie == Lie.TreeSum ? 4 : (SLOTS + NO_MEMBER) / 2);
        } else if (lie == Lie.Inactive) {
            proof = ledgerProof(book, SLOTS + NO_MEMBER);
            vm.prank(watcher);
            challenges.challengeInactive(book.header, book.leaves[NO_MEMBER], proof);
        } else if (lie == Lie.Missing) {
            vm.prank(watcher);
            challenges.challengeMissing(book.header, slot, proof);
        } else if (lie == Lie.Phantom) {
            proof = ledgerProof(book, SLOTS + NO_MEMBER);
            (bytes32 node, Sums sums) = (book.hashes[SLOTS + NO_MEMBER], book.sums[SLOTS + NO_MEMBER]);
            vm.prank(watcher);
            challenges.challengeOutside(book.header, 0, NO_MEMBER, node, sums, proof);
        }
    }

    /// @dev As a member, who alone may ask.
    function demand(Book memory book, uint256 slot) internal {
        vm.prank(accountOf(FIRST_MEMBER));
        challenges.demandData{value: DEMAND_BOND_WEI}(book.header, slot);
    }

    function _challengeAmount(Book memory book, Book memory corrected, uint256 slot) private {
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        if (book.header.version == 0) {
            vm.prank(watcher);
            challenges.challengeAmount(
                book.header, evidenceOf(book, slot), tariffAt(book.header.period), book.leaves[slot], proof
            );
        } else {
            vm.prank(watcher);
            challenges.challengeCorrectedAmount(
                book.header,
                evidenceOf(book, slot),
                tariffAt(book.header.period),
                book.leaves[slot],
                proof,
                corrected.header,
                evidenceOf(corrected, slot)
            );
        }
    }

    /// @param i the node in the heap.
    function _challengeNode(Book memory book, uint256 i) private {
        uint256 level = i < 4 ? 2 : 1;
        bytes32[4] memory children = [
            book.hashes[2 * i], Sums.unwrap(book.sums[2 * i]), book.hashes[2 * i + 1], Sums.unwrap(book.sums[2 * i + 1])
        ];
        bytes32[] memory proof = ledgerProof(book, i);
        vm.prank(watcher);
        challenges.challengeTreeSum(book.header, level, i - (SLOTS >> level), book.sums[i], children, proof);
    }

    function _shift(Book memory book, uint256 i, int128 nano) private pure {
        book.sums[i] = book.sums[i] + makeSums(nano, nano);
    }
}
