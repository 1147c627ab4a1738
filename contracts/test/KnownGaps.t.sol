// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Lies} from "./support/Lies.sol";
import {vm} from "./support/Vm.sol";

/// @title What the contracts do not prevent yet
/// @dev Each test shows a gap as it is; mending it makes the test fail, and then it moves to where the promise is tested.
contract KnownGapsTest is Lies {
    Book private _none;

    function setUp() public {
        _found(6, 0);
        vm.deal(coordinator, 100 ether);
        vm.deal(watcher, 100 ether);
        token.mint(watcher, 1e18);
        vm.startPrank(watcher);
        token.approve(address(vault), type(uint256).max);
        for (uint256 slot = 0; slot < FIRST_MEMBER + MEMBERS; ++slot) {
            vault.deposit(slot, 1e9);
        }
        vm.stopPrank();
        vm.prank(coordinator);
        clearingHouse.postBond{value: BOND_WEI}();
    }

    /// @dev A member, or one of the system accounts, which never have collateral, is covered by its deposit while cover can be
    /// demanded, and withdraws it on the last final batch when that is over. Its debt then becomes final with nothing behind it.
    function test_DebtIsLeftBehindByAWithdrawalLateInTheChallengeWindow() public {
        Book memory none = _none;
        Book memory first = build(none, none, 1);
        submit(first);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
        (Book memory second, uint256 slot) = _indebted(first);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS - 1);
        uint256 most = vault.withdrawable(slot, first.leaves[slot].sums.cumulative(), first.header);
        vault.withdraw(most, first.header, first.leaves[slot], ledgerProof(first, SLOTS + slot));
        vm.warp(vm.getBlockTimestamp() + 1);
        vm.assertTrue(clearingHouse.isFinal(2), "final");
        int256 equityNano = vault.equityNano(slot, second.leaves[slot].sums.cumulative());
        vm.assertTrue(equityNano + int256(vault.creditNano(slot)) < 0, "uncovered in a final batch");
    }

    /// @dev Whoever posts one wei first owns the bond, and nobody else can add to it.
    function test_AStrangersWeiKeepsTheCoordinatorFromPosting() public {
        vm.prank(coordinator);
        clearingHouse.withdrawBond();
        vm.prank(watcher);
        clearingHouse.postBond{value: 1}();
        vm.prank(coordinator);
        vm.expectPartialRevert(bytes4(keccak256("BondOfAnother(address)")));
        clearingHouse.postBond{value: BOND_WEI}();
    }

    /// @dev A batch in which a member pays; its deposit covers that many times over.
    function _indebted(Book memory first) private returns (Book memory second, uint256 slot) {
        Book memory none = _none;
        for (uint256 seed = 2;; ++seed) {
            second = build(first, none, seed);
            for (slot = FIRST_MEMBER; slot < FIRST_MEMBER + MEMBERS; ++slot) {
                if (second.leaves[slot].sums.amount() >= 0) continue;
                submit(second);
                return (second, slot);
            }
        }
    }
}
