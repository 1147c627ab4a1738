// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EdgeTariff, GroupTariff, Tariff} from "../types/Tariff.sol";
import {PriceRule} from "./PriceRule.sol";

/// @title The proof that a clearing could not have been cheaper
/// @notice Linear-programming duality in integers. A clearing (matched demand C, matched supply A, edge flows) that
/// balances at every node costs
///     sum r (D - C) - f (S - A) + access (C + A) + sum fee |flow| ,
/// and whatever node prices pi with |pi_u - pi_v| <= fee somebody names, no clearing costs less than
///     sum lambda D - mu S ,  lambda = min(r, pi + access) ,  mu = max(f, pi - access) .
/// Where both are equal the clearing is optimal. The check takes a fixed number of steps per group, node and edge,
/// whatever the number of members.
///
/// Interval record (big-endian, dense): for each group D uint64 | S uint64 | C uint64 | A uint64 in Wh, then for each node
/// its price int64 in nano per Wh, then for each edge its flow int64 in Wh (positive: from `from` to `to`).
library Certificate {
    /// @notice What the intervals add up to, in nano currency units.
    struct Totals {
        int256 supplierNano;
        int256 networkFeesNano;
        int256 fundNano;
        bytes32 totalsHash;
        bytes32 pricesHash;
    }

    /// @dev Running sums of one interval.
    struct Interval {
        int256 outsideNano;
        int256 supplierNano;
        int256 feesNano;
        int256 dualNano;
        uint256 demandWh;
        uint256 supplyWh;
    }

    error WrongRecordLength(uint256 length, uint256 expected);
    error MatchedAboveMetered(uint256 interval, uint256 group);
    error NodeOutOfBalance(uint256 interval, uint256 node, int256 excessWh);
    error PriceGapAboveFee(uint256 interval, uint256 edge, uint256 gap, uint256 fee);
    /// @notice `gapNano` bounds how much cheaper another clearing could be.
    error NotOptimal(uint256 interval, int256 gapNano);
    error WorseThanOutside(uint256 interval, int256 lossNano);

    /// @notice Checks every interval and adds up what supplier, DSO and fund receive.
    /// @param records `count` interval records, one after the other.
    function verify(Tariff memory tariff, bytes calldata records, uint256 count)
        internal
        pure
        returns (Totals memory totals)
    {
        uint256 stride = 32 * tariff.groups.length + 8 * (tariff.nodeCount + tariff.edges.length);
        if (records.length != stride * count) revert WrongRecordLength(records.length, stride * count);
        bytes memory meteredTotals = new bytes(16 * tariff.groups.length * count);
        bytes memory prices = new bytes(16 * count);
        int256[] memory balance = new int256[](tariff.nodeCount);
        for (uint256 t = 0; t < count; ++t) {
            uint256 priceWord = _verifyInterval(tariff, records, t, stride, balance, meteredTotals, totals);
            _write16(prices, 16 * t, priceWord);
        }
        totals.totalsHash = keccak256(meteredTotals);
        totals.pricesHash = keccak256(prices);
    }

    function _verifyInterval(
        Tariff memory tariff,
        bytes calldata records,
        uint256 t,
        uint256 stride,
        int256[] memory balance,
        bytes memory meteredTotals,
        Totals memory totals
    ) private pure returns (uint256 priceWord) {
        Interval memory sums;
        uint256 offset = t * stride;
        _groups(tariff, records, t, offset, balance, meteredTotals, sums);
        _edges(tariff, records, t, offset + 32 * tariff.groups.length, balance, sums);
        for (uint256 v = 0; v < balance.length; ++v) {
            if (balance[v] != 0) revert NodeOutOfBalance(t, v, balance[v]);
        }

        int256 primalNano = sums.supplierNano + sums.feesNano;
        if (primalNano != sums.dualNano) revert NotOptimal(t, primalNano - sums.dualNano);
        int256 savingsNano = sums.outsideNano - primalNano;
        // INVARIANT: trading nothing is feasible, so an optimal clearing never costs more than outside.
        if (savingsNano < 0) revert WorseThanOutside(t, -savingsNano);

        (uint256 discount, uint256 premium) =
            PriceRule.savingsShare(uint256(savingsNano), sums.demandWh, sums.supplyWh, tariff.shareMillionths);
        totals.supplierNano += sums.supplierNano;
        totals.networkFeesNano += sums.feesNano;
        totals.fundNano += savingsNano - int256(discount * sums.demandWh + premium * sums.supplyWh);
        // SAFETY: savings <= (largest import price - smallest export price) x matched energy, so both fit 64 bits.
        return (discount << 64) | premium;
    }

    function _groups(
        Tariff memory tariff,
        bytes calldata records,
        uint256 t,
        uint256 offset,
        int256[] memory balance,
        bytes memory meteredTotals,
        Interval memory sums
    ) private pure {
        uint256 groupCount = tariff.groups.length;
        uint256 pricesOffset = offset + 32 * groupCount;
        for (uint256 g = 0; g < groupCount; ++g) {
            uint256 word = _word(records, offset + 32 * g);
            _write16(meteredTotals, 16 * (t * groupCount + g), word >> 128);
            GroupTariff group = tariff.groups[g];
            int256 demand = int256(uint256(word >> 192));
            int256 supply = int256(uint256(uint64(word >> 128)));
            int256 matchedDemand = int256(uint256(uint64(word >> 64)));
            int256 matchedSupply = int256(uint256(uint64(word)));
            if (matchedDemand > demand || matchedSupply > supply) revert MatchedAboveMetered(t, g);
            // SAFETY: prices and fees are below 2^63 and energies below 2^64, so each product is below 2^128
            // and no sum over the at most 2^16 groups and 2^16 intervals comes near 2^255.
            unchecked {
                int256 r = group.importPrice();
                int256 f = group.exportPrice();
                int256 access = int256(group.accessFee());
                uint256 v = group.node();
                int256 price = _int64(records, pricesOffset + 8 * v);
                balance[v] += matchedSupply - matchedDemand;
                sums.demandWh += uint256(demand);
                sums.supplyWh += uint256(supply);
                sums.outsideNano += r * demand - f * supply;
                sums.supplierNano += r * (demand - matchedDemand) - f * (supply - matchedSupply);
                sums.feesNano += access * (matchedDemand + matchedSupply);
                sums.dualNano += _min(r, price + access) * demand - _max(f, price - access) * supply;
            }
        }
    }

    function _edges(
        Tariff memory tariff,
        bytes calldata records,
        uint256 t,
        uint256 pricesOffset,
        int256[] memory balance,
        Interval memory sums
    ) private pure {
        uint256 flowsOffset = pricesOffset + 8 * tariff.nodeCount;
        for (uint256 e = 0; e < tariff.edges.length; ++e) {
            EdgeTariff edge = tariff.edges[e];
            uint256 u = edge.from();
            uint256 v = edge.to();
            uint256 fee = edge.fee();
            // SAFETY: differences and products of 64-bit values fit 256 bits.
            unchecked {
                uint256 gap = _abs(_int64(records, pricesOffset + 8 * u) - _int64(records, pricesOffset + 8 * v));
                if (gap > fee) revert PriceGapAboveFee(t, e, gap, fee);
                int256 flow = _int64(records, flowsOffset + 8 * e);
                balance[u] -= flow;
                balance[v] += flow;
                sums.feesNano += int256(fee * _abs(flow));
            }
        }
    }

    /// @dev SAFETY: `verify` has checked that the records are as long as all reads of them; a read of the last
    /// 8-byte field may run past the end, where calldata reads as zero, and shifts the excess away.
    function _word(bytes calldata data, uint256 offset) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := calldataload(add(data.offset, offset))
        }
    }

    function _int64(bytes calldata data, uint256 offset) private pure returns (int256) {
        return int256(_word(data, offset)) >> 192;
    }

    /// @dev Writes the low 16 bytes of `value` at `offset`. SAFETY: all callers stay inside `target`.
    function _write16(bytes memory target, uint256 offset, uint256 value) private pure {
        assembly ("memory-safe") {
            let position := add(add(target, 32), offset)
            // The word is written 16 bytes early, keeping the 16 bytes before it: nothing after the array is touched.
            let start := sub(position, 16)
            mstore(start, or(shl(128, shr(128, mload(start))), shr(128, shl(128, value))))
        }
    }

    function _min(int256 a, int256 b) private pure returns (int256) {
        return a < b ? a : b;
    }

    function _max(int256 a, int256 b) private pure returns (int256) {
        return a > b ? a : b;
    }

    function _abs(int256 a) private pure returns (uint256) {
        return uint256(a < 0 ? -a : a);
    }
}
