// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Lies} from "./Lies.sol";
import {vm} from "./Vm.sol";

/// @title A community in which every account has money and the coordinator a bond; how it pays out
abstract contract Leaving is Lies {
    uint256 internal constant DEPOSIT = 1e9;
    Book internal _none;

    function setUp() public {
        _found(6, 0);
        vm.deal(coordinator, 100 ether);
        vm.deal(watcher, 100 ether);
        token.mint(watcher, 1e18);
        vm.startPrank(watcher);
        token.approve(address(vault), type(uint256).max);
        for (uint256 slot = 0; slot < FIRST_MEMBER + MEMBERS; ++slot) {
            vault.deposit(slot, DEPOSIT);
        }
        vm.stopPrank();
        vm.prank(coordinator);
        clearingHouse.postBond{value: BOND_WEI}();
    }

    function settle() internal returns (Book memory book) {
        Book memory none = _none;
        book = build(none, none, 1);
        submit(book);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
    }

    /// @dev Everything the slot has according to `book`, which is final.
    function mostOf(Book memory book, uint256 slot) internal view returns (uint256) {
        return vault.withdrawable(slot, book.leaves[slot].sums.cumulative(), book.header.ledgerHead());
    }

    function withdrawAs(address sender, uint256 tokens, Book memory book, uint256 slot) internal {
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        vm.prank(sender);
        vault.withdraw(tokens, book.header.ledgerHead(), book.leaves[slot], proof);
    }

    function withdrawalRefused(bytes4 why, address sender, uint256 tokens, Book memory book, uint256 slot) internal {
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        vm.prank(sender);
        vm.expectPartialRevert(why);
        vault.withdraw(tokens, book.header.ledgerHead(), book.leaves[slot], proof);
    }

    function announceAs(address sender, uint256 tokens, Book memory book, uint256 slot) internal {
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        vm.prank(sender);
        vault.announceWithdrawal(tokens, book.header.ledgerHead(), book.leaves[slot], proof);
    }

    /// @dev A batch, or a correction of `corrected`, in which a member pays; its deposit covers that many times over.
    function indebted(Book memory previous, Book memory corrected, uint256 from)
        internal
        returns (Book memory book, uint256 slot)
    {
        for (uint256 seed = 2;; ++seed) {
            book = build(previous, corrected, seed);
            for (slot = from; slot < FIRST_MEMBER + MEMBERS; ++slot) {
                if (book.leaves[slot].sums.amount() >= 0) continue;
                if (corrected.header.number == 0) submit(book);
                else submitCorrection(book, corrected);
                return (book, slot);
            }
        }
    }
}
