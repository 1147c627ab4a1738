// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IChallenges} from "../src/interfaces/IChallenges.sol";
import {IClearingHouse} from "../src/interfaces/IClearingHouse.sol";
import {IVault} from "../src/interfaces/IVault.sol";
import {LedgerHead} from "../src/types/Batch.sol";
import {BatchBuilder} from "./support/BatchBuilder.sol";
import {Handler} from "./support/Handler.sol";
import {ITestToken} from "./support/TestCommunity.sol";
import {vm} from "./support/Vm.sol";

/// @title What holds whatever anybody does
contract InvariantTest {
    uint256 private constant SLOTS = 8;
    uint256 private constant NANO_PER_TOKEN = 1000;
    uint256 private constant BOND_WEI = 1 ether;
    uint256 private constant DEMAND_BOND_WEI = 0.01 ether;

    Handler private _handler;
    IClearingHouse private _clearingHouse;
    IVault private _vault;
    IChallenges private _challenges;
    ITestToken private _token;

    function setUp() public {
        _handler = new Handler();
        (address house, address vault, address challenges, address token) = _handler.parts();
        (_clearingHouse, _vault, _challenges, _token) =
        (IClearingHouse(house), IVault(vault), IChallenges(challenges), ITestToken(token));
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    /// @dev A call listed twice is made twice as often.
    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        bytes4[26] memory all = [
            Handler.submitHonest.selector,
            Handler.submitHonest.selector,
            Handler.submitHonest.selector,
            Handler.submitLie.selector,
            Handler.correct.selector,
            Handler.correct.selector,
            Handler.passTime.selector,
            Handler.passTime.selector,
            Handler.challengeHonest.selector,
            Handler.answerDemand.selector,
            Handler.deposit.selector,
            Handler.depositWithPermit.selector,
            Handler.withdraw.selector,
            Handler.announceWithdrawal.selector,
            Handler.returnDemands.selector,
            Handler.guarantee.selector,
            Handler.grantCredit.selector,
            Handler.revokeCredit.selector,
            Handler.join.selector,
            Handler.depart.selector,
            Handler.exclude.selector,
            Handler.changeRole.selector,
            Handler.announce.selector,
            Handler.changeSigners.selector,
            Handler.changeDelay.selector,
            Handler.freeze.selector
        ];
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_handler), new bytes4[](all.length + 1));
        for (uint256 i = 0; i < all.length; ++i) {
            targets[0].selectors[i] = all[i];
        }
        targets[0].selectors[all.length] = Handler.withdrawBond.selector;
    }

    /// @dev In one function, so that a sequence is run once and not once for each of them.
    function invariant_AllHold() public view {
        _vaultCoversEverything();
        _finalBatchesStay();
        _bondsAddUp();
        vm.assertTrue(!_handler.falseChallengePassed(), "something passed that must be refused");
        vm.assertEq(uint256(_clearingHouse.headNumber()), uint256(_handler.head()), "head");
    }

    function _vaultCoversEverything() private view {
        BatchBuilder.Book memory book = _handler.bookOf(_handler.lastFinal());
        LedgerHead memory head = book.header.ledgerHead();
        (uint256 guaranteeNano, uint256 grantedNano) = _vault.guaranteeOf(_handler.guarantorAddress());
        uint256 creditNano = 0;
        uint256 withdrawableTokens = 0;
        int256 amountsNano = 0;
        int256 equitiesNano = 0;
        int256 owedNano = int256(guaranteeNano - grantedNano);
        for (uint256 slot = 0; slot < SLOTS; ++slot) {
            int128 cumulativeNano = book.present[slot] ? book.leaves[slot].sums.cumulative() : int128(0);
            int256 equityNano = _vault.equityNano(slot, cumulativeNano);
            uint256 ownCredit = _vault.creditNano(slot);
            vm.assertTrue(equityNano + int256(ownCredit) >= 0, "uncovered in a final batch");
            if (book.present[slot]) amountsNano += book.leaves[slot].sums.amount();
            creditNano += ownCredit;
            equitiesNano += equityNano;
            if (equityNano > 0) owedNano += equityNano;
            if (slot < SLOTS - 2) withdrawableTokens += _vault.withdrawable(slot, cumulativeNano, head);
        }
        int256 heldNano = int256(_token.balanceOf(address(_vault)) * NANO_PER_TOKEN);
        vm.assertEq(amountsNano, int256(0), "amounts add up to zero");
        vm.assertEq(equitiesNano + int256(guaranteeNano), heldNano, "equities are the tokens");
        vm.assertEq(creditNano, grantedNano, "credits are the guarantees granted");
        vm.assertTrue(owedNano <= heldNano, "the vault covers what it owes");
        vm.assertTrue(withdrawableTokens <= _token.balanceOf(address(_vault)), "and what can be withdrawn");
    }

    function _finalBatchesStay() private view {
        for (uint64 number = 1; number <= _handler.lastFinal(); ++number) {
            (bytes32 batchHash,) = _clearingHouse.recordOf(number);
            vm.assertEq(batchHash, _handler.finalHash(number), "a final batch changed");
            vm.assertTrue(_clearingHouse.isFinal(number), "final no longer");
        }
    }

    function _bondsAddUp() private view {
        (, uint256 bondWei) = _clearingHouse.bond();
        vm.assertEq(bondWei, _handler.bondWei(), "bond");
        vm.assertEq(address(_clearingHouse).balance, bondWei, "ether of the clearing house");
        vm.assertEq(address(_challenges).balance, _handler.demandBondsWei(), "ether of the demands");
        vm.assertEq(address(0).balance, _handler.nothingWei() + _handler.burnedWei(), "burned");
    }
}
