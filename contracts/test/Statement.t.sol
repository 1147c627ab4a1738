// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Statement} from "../src/libraries/Statement.sol";
import {GroupTariff} from "../src/types/Tariff.sol";
import {bound, vm} from "./support/Vm.sol";

/// @title A member's amount, field by field
contract StatementTest {
    struct Interval {
        uint56 importWh;
        uint56 exportWh;
        uint16 quality;
        uint64 discount;
        uint64 premium;
    }

    function amount(bytes calldata readings, bytes calldata prices, GroupTariff group, uint256 count)
        external
        pure
        returns (int256)
    {
        return Statement.amount(readings, prices, group, count);
    }

    function testFuzz_AmountIsTheSumOverIntervals(Interval[] memory intervals, int40 importPrice, int40 exportPrice)
        external
        view
    {
        vm.assume(intervals.length <= 300);
        bytes memory readings = "";
        bytes memory prices = "";
        int256 expected = 0;
        for (uint256 t = 0; t < intervals.length; ++t) {
            Interval memory given = intervals[t];
            given.quality %= 4;
            given.discount = _step(given.discount);
            given.premium = _step(given.premium);
            readings = abi.encodePacked(readings, given.importWh, given.exportWh, given.quality);
            prices = abi.encodePacked(prices, given.discount, given.premium);
            if (given.quality == 2) continue;
            if (given.exportWh < given.importWh) {
                int256 price = int256(importPrice) - int256(uint256(given.discount));
                expected -= int256(uint256(given.importWh - given.exportWh)) * price;
            } else {
                int256 price = int256(exportPrice) + int256(uint256(given.premium));
                expected += int256(uint256(given.exportWh - given.importWh)) * price;
            }
        }
        vm.assertEq(this.amount(readings, prices, _group(importPrice, exportPrice), intervals.length), expected, "");
    }

    function testFuzz_NobodyIsWorseOffThanOutside(Interval memory given, int40 importPrice, int40 exportPrice)
        external
        view
    {
        bytes memory readings = abi.encodePacked(given.importWh, given.exportWh, uint16(0));
        (given.discount, given.premium) = (_step(given.discount), _step(given.premium));
        GroupTariff group = _group(importPrice, exportPrice);
        int256 inside = this.amount(readings, abi.encodePacked(given.discount, given.premium), group, 1);
        int256 outside = this.amount(readings, abi.encodePacked(uint64(0), uint64(0)), group, 1);
        vm.assertTrue(inside >= outside, "worse off");
    }

    function testFuzz_WhatTradesBroughtIsAdded(
        Interval memory given,
        int128 traded,
        int40 importPrice,
        int40 exportPrice
    ) external view {
        bytes memory readings = abi.encodePacked(given.importWh, given.exportWh, given.quality);
        bytes memory prices = abi.encodePacked(_step(given.discount), _step(given.premium));
        GroupTariff group = _group(importPrice, exportPrice);
        int256 without = this.amount(readings, prices, group, 1);
        int256 amountNano = this.amount(abi.encodePacked(readings, traded), prices, group, 1);
        vm.assertEq(amountNano, without + traded, "traded");
    }

    function testFuzz_WrongLengthsAreRefused(uint16 count, uint16 readingBytes, uint16 priceBytes) external {
        count = uint16(bound(count, 0, 300));
        readingBytes = uint16(bound(readingBytes, 0, 4800));
        priceBytes = uint16(bound(priceBytes, 0, 4800));
        uint256 expected = 16 * uint256(count);
        vm.assume(readingBytes != expected && readingBytes != expected + 16 && priceBytes != expected);
        GroupTariff none = GroupTariff.wrap(0);
        vm.expectRevert(abi.encodeWithSelector(Statement.WrongLength.selector, readingBytes, expected));
        this.amount(new bytes(readingBytes), new bytes(expected), none, count);
        vm.expectRevert(abi.encodeWithSelector(Statement.WrongLength.selector, priceBytes, expected));
        this.amount(new bytes(expected), new bytes(priceBytes), none, count);
    }

    function testFuzz_LeafCommitsToEverything(uint256 slot, bytes calldata readings, bytes32 salt) external view {
        bytes32 leaf = this.leafOf(slot, readings, salt);
        bytes32 expected =
            keccak256(abi.encode(keccak256("peerwatt.readings.leaf.v1"), slot, keccak256(readings), salt));
        vm.assertEq(leaf, expected, "leaf");
    }

    function leafOf(uint256 slot, bytes calldata readings, bytes32 salt) external pure returns (bytes32) {
        return Statement.readingsLeaf(slot, readings, salt);
    }

    /// @dev No discount or premium of a certificate is larger.
    function _step(uint64 any) private pure returns (uint64) {
        return any % 2 ** 42;
    }

    function _group(int64 importPrice, int64 exportPrice) private pure returns (GroupTariff) {
        return
            GroupTariff.wrap(bytes32((uint256(uint64(importPrice)) << 192) | (uint256(uint64(exportPrice)) << 128) | 7));
    }
}
