// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {GroupTariff} from "../types/Tariff.sol";

/// @title A member's amount, recomputed from its own readings and the published prices
library Statement {
    uint256 internal constant READING_BYTES = 16;
    uint256 internal constant PRICE_BYTES = 16;
    uint256 internal constant TRADED_BYTES = 16;
    bytes32 internal constant READINGS_LEAF_TAG = keccak256("peerwatt.readings.leaf.v1");

    /// @notice Readings or prices do not have 16 bytes for each interval (readings may have 16 more, what trades brought).
    error WrongLength(uint256 length, uint256 expected);

    /// @notice The leaf of a member's readings in the oracle's tree.
    /// @param readings per interval: import uint56, export uint56, quality uint16, in Wh; then, for who traded before delivery,
    /// int128 what the trades brought, in nano.
    function readingsLeaf(uint256 slot, bytes calldata readings, bytes32 salt) internal pure returns (bytes32) {
        return keccak256(abi.encode(READINGS_LEAF_TAG, slot, keccak256(readings), salt));
    }

    /// @notice What the member receives (negative: pays) over the period, in nano currency units.
    /// @param prices per interval: discount uint64, premium uint64, in nano per Wh.
    function amount(bytes calldata readings, bytes calldata prices, GroupTariff group, uint256 intervalCount)
        internal
        pure
        returns (int256 amountNano)
    {
        uint256 length = READING_BYTES * intervalCount;
        if (readings.length == length + TRADED_BYTES) {
            amountNano = int128(uint128(bytes16(readings[length:])));
        } else if (readings.length != length) {
            revert WrongLength(readings.length, length);
        }
        if (prices.length != PRICE_BYTES * intervalCount) {
            revert WrongLength(prices.length, PRICE_BYTES * intervalCount);
        }
        int256 importPrice = group.importPrice();
        int256 exportPrice = group.exportPrice();
        // SAFETY: outside prices are below 2^40 (TariffBook) and steps below 2^42 (Certificate), so with 2^62 added no price in a word
        // borrows from its neighbour. Energies are below 2^56, so products stay below 2^119 and their sums, with a number of 128 bits, far
        // from 2^255. Both vectors are as long as all reads of them, but for an interval in front of an odd number, which `mask` voids.
        // Two intervals at a time, because a word of calldata has two.
        uint256 bias = 1 << 62;
        assembly ("memory-safe") {
            let odd := and(intervalCount, 1)
            let mask := shr(shl(7, odd), not(0))
            let step := sub(prices.offset, shl(4, odd))
            let reading := sub(readings.offset, shl(4, odd))
            let end := add(readings.offset, length)
            let totalWh := 0
            // What is bought, what is sold, twice.
            let outside := or(shl(64, add(importPrice, bias)), add(exportPrice, bias))
            outside := or(shl(128, outside), outside)
            for {} lt(reading, end) {} {
                let word := and(calldataload(reading), mask)
                mask := not(0)
                reading := add(reading, 32)
                // A missing reading leaves the member to its outside supplier for this interval: quality 2.
                if and(word, 0x0000000000000000000000000000000200000000000000000000000000000002) {
                    if eq(and(shr(128, word), 0xffff), 2) { word := and(word, 0xffffffffffffffffffffffffffffffff) }
                    if eq(and(word, 0xffff), 2) { word := shl(128, shr(128, word)) }
                }
                let price := calldataload(step)
                step := add(step, 32)
                // Discounts off, premiums on.
                let discounts := and(price, 0xffffffffffffffff0000000000000000ffffffffffffffff0000000000000000)
                price := sub(add(outside, sub(price, discounts)), discounts)
                // Who needs energy has a negative net, whose bit 6 of the highest seven chooses the price.
                let netWh := sub(and(shr(16, word), 0xffffffffffffff), and(shr(72, word), 0xffffffffffffff))
                totalWh := add(totalWh, netWh)
                amountNano := add(amountNano, mul(netWh, and(shr(and(shr(249, netWh), 64), price), 0xffffffffffffffff)))
                netWh := sub(and(shr(144, word), 0xffffffffffffff), shr(200, word))
                totalWh := add(totalWh, netWh)
                amountNano := add(
                    amountNano,
                    mul(netWh, and(shr(or(and(shr(249, netWh), 64), 128), price), 0xffffffffffffffff))
                )
            }
            amountNano := sub(amountNano, mul(bias, totalWh))
        }
    }
}
