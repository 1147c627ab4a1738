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
        // SAFETY: both vectors are as long as all reads of them. Energies are below 2^56 and prices below 2^65, so products stay below
        // 2^121 and their sums, with a number of 128 bits, far from 2^255.
        assembly ("memory-safe") {
            let price := prices.offset
            let end := add(readings.offset, length)
            for { let reading := readings.offset } lt(reading, end) { reading := add(reading, 16) } {
                let word := shr(128, calldataload(reading))
                // A missing reading leaves the member to its outside supplier for this interval.
                if iszero(eq(and(word, 0xffff), 2)) {
                    let netWh := sub(and(shr(16, word), 0xffffffffffffff), shr(72, word))
                    let step := calldataload(price)
                    switch slt(netWh, 0)
                    case 0 { step := add(exportPrice, and(shr(128, step), 0xffffffffffffffff)) }
                    default { step := sub(importPrice, shr(192, step)) }
                    amountNano := add(amountNano, mul(netWh, step))
                }
                price := add(price, 16)
            }
        }
    }
}
