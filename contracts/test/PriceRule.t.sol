// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {PriceRule} from "../src/libraries/PriceRule.sol";
import {bound, vm} from "./support/Vm.sol";

/// @title What the members gain never exceeds what was saved, and little is left over
contract PriceRuleTest {
    uint256 private constant MILLION = 1_000_000;

    function testFuzz_DividesTheSavings(uint256 saved, uint256 demandWh, uint256 supplyWh, uint256 share)
        external
        pure
    {
        saved = bound(saved, 0, 2 ** 126 - 1);
        demandWh = bound(demandWh, 1, 2 ** 76 - 1);
        supplyWh = bound(supplyWh, 1, 2 ** 76 - 1);
        share = bound(share, 0, MILLION);
        (uint256 discount, uint256 premium) = PriceRule.savingsShare(saved, demandWh, supplyWh, share);
        uint256 given = discount * demandWh + premium * supplyWh;
        vm.assertTrue(given <= saved, "gives what was not saved");
        // Less than one nano per Wh of each side, and one for the share's own rounding.
        vm.assertTrue(saved - given < demandWh + supplyWh, "keeps too much");
        vm.assertTrue(discount * MILLION * demandWh <= saved * share, "buyers get more than their share");
        vm.assertTrue((discount + 1) * MILLION * demandWh > saved * share, "buyers get less than their share");
        vm.assertTrue((premium + 1) * MILLION * supplyWh > saved * (MILLION - share), "sellers get less");
    }

    function test_NobodyToGiveTo() external pure {
        (uint256 discount, uint256 premium) = PriceRule.savingsShare(100, 0, 0, MILLION / 2);
        vm.assertEq(discount, 0, "discount");
        vm.assertEq(premium, 0, "premium");
    }
}
