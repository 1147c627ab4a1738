// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Leaving} from "./support/Leaving.sol";
import {vm} from "./support/Vm.sol";

/// @title What the contracts do not prevent yet
/// @dev Each test shows a gap as it is; mending it makes the test fail, and then it moves to where the promise is tested.
contract KnownGapsTest is Leaving {
    /// @dev A membership that is over and settled is paid at once, although a correction of a period it took part in is open.
    function test_DebtOfACorrectionIsLeftBehindByAMemberThatHasLeft() public {
        // Slot 5 leaves after the first period.
        uint256 slot = FIRST_MEMBER + 2;
        vm.prank(accountOf(slot));
        registry.depart(slot, uint32(FIRST_PERIOD + 1));
        Book memory first = settle();
        (Book memory correction, uint256 owing) = indebted(first, first, slot);
        vm.assertEq(owing, slot, "who pays");
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS - 1);
        withdrawAs(watcher, mostOf(first, slot), first, slot);
        vm.warp(vm.getBlockTimestamp() + 1);
        vm.assertTrue(clearingHouse.isFinal(2), "final");
        int256 equityNano = vault.equityNano(slot, correction.leaves[slot].sums.cumulative());
        vm.assertTrue(equityNano + int256(vault.creditNano(slot)) < 0, "uncovered in a final batch");
    }

    /// @dev What was announced counts as gone, and what was withdrawn as well: the same money twice, and no batch is covered any more.
    function test_MoneyWithdrawnAtOnceStaysAnnounced() public {
        Book memory first = settle();
        uint256 slot = FIRST_MEMBER;
        uint256 most = mostOf(first, slot);
        announceAs(accountOf(slot), most, first, slot);
        withdrawAs(accountOf(slot), most, first, slot);
        Book memory second = _creditor(first, slot);
        vm.assertTrue(vault.equityNano(slot, second.leaves[slot].sums.cumulative()) >= 0, "owes nothing");
        _falls(second, slot);
    }

    /// @dev A batch that was covered when it was submitted falls, with half of its bond to whoever asks, because the member announces
    /// after that.
    function test_AnAnnouncementTakesCoverFromABatchSubmittedBefore() public {
        Book memory first = settle();
        (Book memory second, uint256 slot) = indebted(first, _none, FIRST_MEMBER);
        vm.assertTrue(vault.coverNano(slot, second.leaves[slot].sums.cumulative()) >= 0, "covered");
        announceAs(accountOf(slot), mostOf(first, slot), first, slot);
        _falls(second, slot);
    }

    /// @dev A batch that takes nothing from `slot`.
    function _creditor(Book memory first, uint256 slot) private returns (Book memory second) {
        for (uint256 seed = 2;; ++seed) {
            second = build(first, _none, seed);
            if (second.leaves[slot].sums.amount() < 0) continue;
            submit(second);
            return second;
        }
    }

    function _falls(Book memory book, uint256 slot) private {
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        challenges.demandCover(book.header, book.leaves[slot], proof);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS / 3 + 1);
        vm.prank(watcher);
        challenges.voidUncovered(book.header, book.leaves[slot], proof);
        vm.assertEq(uint256(clearingHouse.headNumber()), book.header.number - 1, "an honest batch fell");
    }
}
