// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IVault} from "../src/interfaces/IVault.sol";
import {Leaving} from "./support/Leaving.sol";
import {vm} from "./support/Vm.sol";

/// @title Money leaves only if no open batch counts on it
contract WithdrawalsTest is Leaving {
    /// @dev Late in the challenge window, when cover can no longer be demanded: neither the owner nor anybody for it.
    function test_NoDebtIsLeftBehindByAWithdrawalLateInTheChallengeWindow() public {
        Book memory first = settle();
        (Book memory second, uint256 slot) = indebted(first, _none, FIRST_MEMBER);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS - 1);
        uint256 most = mostOf(first, slot);
        withdrawalRefused(IVault.NotAnnounced.selector, accountOf(slot), most, first, slot);
        withdrawalRefused(IVault.NotAnnounced.selector, watcher, most, first, slot);
        announceAs(accountOf(slot), most, first, slot);
        withdrawalRefused(IVault.StillTime.selector, accountOf(slot), most, first, slot);
        vm.warp(vm.getBlockTimestamp() + 1);
        vm.assertTrue(clearingHouse.isFinal(2), "final");
        uint256 left = mostOf(second, slot);
        vm.assertTrue(left < most, "has paid");
        withdrawAs(accountOf(slot), left, second, slot);
        int256 equityNano = vault.equityNano(slot, second.leaves[slot].sums.cumulative());
        vm.assertTrue(equityNano >= 0, "covered in a final batch");
    }

    /// @dev Batches may be open all the time; who has announced it gets the money nevertheless, whoever sends it.
    function test_AnnouncedMoneyLeavesWhileABatchIsOpen() public {
        Book memory first = settle();
        uint256 slot = FIRST_MEMBER;
        announceAs(accountOf(slot), 1000, first, slot);
        uint256 over = vm.getBlockTimestamp() + CHALLENGE_SECONDS;
        vm.warp(over - 2);
        Book memory second = build(first, _none, 2);
        submit(second);
        vm.assertEq(vm.getBlockTimestamp(), over - 2, "period was over");
        vm.warp(over - 1);
        withdrawalRefused(IVault.StillTime.selector, watcher, 1000, first, slot);
        vm.warp(over);
        vm.assertTrue(clearingHouse.hasOpenBatch(), "open");
        withdrawalRefused(IVault.NotAnnounced.selector, watcher, 1001, first, slot);
        withdrawAs(watcher, 600, first, slot);
        withdrawAs(watcher, 400, first, slot);
        vm.assertEq(token.balanceOf(accountOf(slot)), 1000, "to the owner");
        withdrawalRefused(IVault.NotAnnounced.selector, accountOf(slot), 1, first, slot);
    }

    /// @dev Who sees a batch coming makes no account uncovered by announcing in the same block; the money waits until that batch is final.
    function test_AnAnnouncementCountsForBatchesAfterItsSecond() public {
        Book memory first = settle();
        (Book memory second, uint256 slot) = indebted(first, _none, FIRST_MEMBER);
        uint64 submittedAt = uint64(vm.getBlockTimestamp());
        uint256 most = mostOf(first, slot);
        announceAs(accountOf(slot), most, first, slot);
        int128 cumulativeNano = second.leaves[slot].sums.cumulative();
        int256 equityNano = vault.equityNano(slot, cumulativeNano);
        vm.assertTrue(equityNano > 0, "covered");
        vm.assertEq(vault.coverNano(slot, cumulativeNano, submittedAt), equityNano, "in the same second");
        vm.assertTrue(vault.coverNano(slot, cumulativeNano, submittedAt + 1) < 0, "a second later");
        vm.warp(submittedAt + CHALLENGE_SECONDS);
        withdrawalRefused(IVault.AboveWithdrawable.selector, accountOf(slot), most, second, slot);
        withdrawAs(accountOf(slot), mostOf(second, slot), second, slot);
        vm.assertTrue(vault.equityNano(slot, cumulativeNano) >= 0, "nothing owed is left behind");
    }

    function test_OnlyTheOwnerAnnouncesAndNotMoreThanThereIs() public {
        Book memory first = settle();
        uint256 slot = FIRST_MEMBER;
        uint256 most = mostOf(first, slot);
        bytes32[] memory proof = ledgerProof(first, SLOTS + slot);
        vm.prank(watcher);
        vm.expectRevert(abi.encodeWithSelector(IVault.NotTheOwner.selector, slot, watcher));
        vault.announceWithdrawal(1, first.header.ledgerHead(), first.leaves[slot], proof);
        vm.prank(accountOf(slot));
        vm.expectRevert(abi.encodeWithSelector(IVault.AboveWithdrawable.selector, most + 1, most));
        vault.announceWithdrawal(most + 1, first.header.ledgerHead(), first.leaves[slot], proof);
        announceAs(accountOf(slot), most, first, slot);
        announceAs(accountOf(slot), 0, first, slot);
        vm.assertEq(
            vault.coverNano(slot, 0, type(uint64).max),
            vault.equityNano(slot, 0),
            "an announcement taken back covers again"
        );
    }

    /// @dev Whoever posted one wei first once owned the bond, and nobody else could add to it.
    function test_AStrangersWeiDoesNotKeepTheCoordinatorFromPosting() public {
        vm.prank(coordinator);
        clearingHouse.withdrawBond();
        vm.prank(watcher);
        vm.expectPartialRevert(bytes4(keccak256("AccessManagedUnauthorized(address)")));
        clearingHouse.postBond{value: 1}();
        vm.prank(coordinator);
        clearingHouse.postBond{value: BOND_WEI}();
        (address owner, uint256 amountWei) = clearingHouse.bond();
        vm.assertEq(owner, coordinator, "owner");
        vm.assertEq(amountWei, BOND_WEI, "bond");
    }
}
