// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EdgeTariff, GroupTariff, Tariff} from "../types/Tariff.sol";
import {PriceRule} from "./PriceRule.sol";

/// @title The proof that a clearing could not have been cheaper
/// @notice Linear-programming duality in integers. With R = r - access and F = f + access, a clearing (matched demand C,
/// matched supply A, edge flows) that balances at every node saves, against everybody trading outside,
///     sum R C - F A - sum fee |flow| ,
/// and whatever node prices pi with |pi_u - pi_v| <= fee somebody names, no clearing saves more than
///     sum max(0, R - pi) D + max(0, pi - F) S .
/// Where both are equal the clearing is optimal. The check takes a fixed number of steps per group, node and edge,
/// whatever the number of members. Where nobody offers or nobody wants energy there is nothing to clear and nothing to prove.
///
/// Layout of the clearing (docs/protocol.md, "Clearing"): one byte w, the width of energies in bytes; for each interval and
/// group D, S; then for each interval with both demand and supply: for each group C, A; for each node its price int48 in
/// nano per Wh; for each chord its flow int64 in Wh.
///
/// @dev Every Wh and every price is read once or twice per interval, so the loops are in assembly, and what is the same for all
/// groups is done for several at once: a *row* is a calldata word with as many (x, y) pairs of w bytes as fit, less w bytes of
/// headroom. `and(shr(8w, row), mask)` leaves the x, `and(row, mask)` the y, each at the bottom of a field of 2w bytes.
library Certificate {
    /// @notice What the intervals add up to, in nano currency units.
    struct Totals {
        int256 supplierNano;
        int256 networkFeesNano;
        int256 fundNano;
        bytes32 totalsHash;
        bytes32 pricesHash;
    }

    /// @dev The tariff in the order in which the loops read it. Tables are memory ranges of words.
    struct Frame {
        // 8w.
        uint256 bits;
        // Per group: R, F, byte offset of the node's price, pointer to the node's balance.
        uint256 groups;
        uint256 groupsEnd;
        // Per row: mask, the bits just above it, and sums over the intervals of D, S and C + A, field by field.
        uint256 rows;
        uint256 rowsEnd;
        // Bytes of a full row.
        uint256 rowBytes;
        // A one at the bottom of every field: a product with it has the sum of all fields in its highest one.
        uint256 ones;
        // Per edge: fee, price offsets of both ends, balance pointers of both ends. Chords first.
        uint256 edges;
        uint256 chordsEnd;
        uint256 edgesEnd;
        // Balance pointers of the nodes that no tree edge takes off the graph.
        uint256 roots;
        uint256 rootsEnd;
        // Calldata positions in the record: of the node prices and of the chord flows.
        uint256 prices;
        uint256 flows;
    }

    uint256 private constant GROUP_WORDS = 4;
    uint256 private constant ROW_WORDS = 5;
    uint256 private constant EDGE_WORDS = 5;
    uint256 private constant PRICE_BYTES = 6;
    uint256 private constant FLOW_BYTES = 8;
    // SAFETY: a field of 2w bytes has room for the sums of a row over 300 intervals only from here on.
    uint256 private constant MIN_WIDTH = 2;
    uint256 private constant MAX_WIDTH = 8;

    /// @notice The width byte of the clearing is not 2 to 8.
    error WrongEnergyWidth(uint256 width);
    /// @notice The clearing has not the bytes that tariff, width and intervals ask for.
    error WrongClearingLength(uint256 length, uint256 expected);
    /// @notice A group trades more than it has.
    error MatchedAboveMetered(uint256 interval);
    /// @notice Energy does not balance at a node.
    error NodeOutOfBalance(uint256 interval);
    /// @notice Node prices differ over an edge by more than its fee.
    error PriceGapAboveFee(uint256 interval);
    /// @notice `gapNano` bounds how much cheaper another clearing could be.
    error NotOptimal(uint256 interval, int256 gapNano);

    /// @notice Checks every interval and adds up what supplier, DSO and fund receive.
    /// @param tariff as TariffBook has checked it.
    /// @param clearing group totals and certificates of `count` intervals.
    function verify(Tariff memory tariff, bytes calldata clearing, uint256 count)
        internal
        pure
        returns (Totals memory totals)
    {
        uint256 width = clearing.length == 0 ? 0 : uint8(clearing[0]);
        if (width < MIN_WIDTH || width > MAX_WIDTH) revert WrongEnergyWidth(width);
        Frame memory frame = _frame(tariff, width);
        uint256 groupBytes = 2 * width * tariff.groups.length;
        uint256 priceBytes = PRICE_BYTES * tariff.nodeCount;
        uint256 recordBytes = groupBytes + priceBytes + FLOW_BYTES * tariff.chordCount;
        uint256 metered = _start(clearing);
        uint256 record = metered + groupBytes * count;
        if (clearing.length < 1 + groupBytes * count) {
            revert WrongClearingLength(clearing.length, 1 + groupBytes * count);
        }
        totals.totalsHash = keccak256(clearing[:1 + groupBytes * count]);

        bytes memory prices = new bytes(16 * count);
        int256 savedNano = 0;
        int256 feesNano = 0;
        int256 fundNano = 0;
        // SAFETY, for everything below: prices and fees are below 2^40 (TariffBook), node prices below 2^47, energies below 2^64, so a
        // product stays below 2^113 and no sum over 4096 groups, 8192 edges and 300 intervals comes near 2^255. Memory tables are
        // allocated in `_frame` and never grow. Calldata reads as zero behind its end; the length is compared when all is read.
        unchecked {
            for (uint256 t = 0; t < count; ++t) {
                (uint256 demandWh, uint256 supplyWh) = _metered(frame, metered);
                if (demandWh != 0 && supplyWh != 0) {
                    frame.prices = record + groupBytes;
                    frame.flows = record + groupBytes + priceBytes;
                    if (!_matched(frame, metered, record)) revert MatchedAboveMetered(t);
                    (int256 saved, int256 bound) = _groups(frame, metered, record);
                    (int256 fees, bool tooSteep) = _edges(frame);
                    if (tooSteep) revert PriceGapAboveFee(t);
                    if (_unbalanced(frame)) revert NodeOutOfBalance(t);
                    saved -= fees;
                    // INVARIANT: the bound is a sum of terms of at least zero, so nobody is worse off than outside.
                    if (saved != bound) revert NotOptimal(t, bound - saved);
                    (uint256 discount, uint256 premium) =
                        PriceRule.savingsShare(uint256(saved), demandWh, supplyWh, tariff.shareMillionths);
                    // SAFETY: savings <= (highest import price - lowest export price) x matched energy: both steps fit 64 bits.
                    _write16(prices, 16 * t, (discount << 64) | premium);
                    savedNano += saved;
                    feesNano += fees;
                    fundNano += saved - int256(discount * demandWh + premium * supplyWh);
                    record += recordBytes;
                }
                metered += groupBytes;
            }
            uint256 read = 1 + record - _start(clearing);
            if (clearing.length != read) revert WrongClearingLength(clearing.length, read);
            (int256 outsideNano, int256 accessNano) = _sums(tariff, frame);
            totals.fundNano = fundNano;
            totals.networkFeesNano = feesNano + accessNano;
            // Everybody outside would pay the outside supplier; trading saves that, less what the network takes.
            totals.supplierNano = outsideNano - savedNano - totals.networkFeesNano;
        }
        totals.pricesHash = keccak256(prices);
    }

    /// @dev Adds the interval's D and S to the rows' sums; returns the sum of all D and of all S.
    function _metered(Frame memory frame, uint256 position) private pure returns (uint256 demandWh, uint256 supplyWh) {
        assembly ("memory-safe") {
            let bits := mload(frame)
            let ones := mload(add(frame, 0xc0))
            let top := sub(256, add(bits, bits))
            let end := mload(add(frame, 0x80))
            for { let row := mload(add(frame, 0x60)) } lt(row, end) { row := add(row, 0xa0) } {
                let word := calldataload(position)
                let mask := mload(row)
                let side := and(shr(bits, word), mask)
                demandWh := add(demandWh, shr(top, mul(side, ones)))
                mstore(add(row, 0x40), add(mload(add(row, 0x40)), side))
                side := and(word, mask)
                supplyWh := add(supplyWh, shr(top, mul(side, ones)))
                mstore(add(row, 0x60), add(mload(add(row, 0x60)), side))
                position := add(position, mload(add(frame, 0xa0)))
            }
        }
    }

    /// @dev Adds the interval's C + A to the rows' sums; returns whether C <= D and A <= S in all groups.
    function _matched(Frame memory frame, uint256 metered, uint256 record) private pure returns (bool fits) {
        assembly ("memory-safe") {
            fits := 1
            let bits := mload(frame)
            let end := mload(add(frame, 0x80))
            for { let row := mload(add(frame, 0x60)) } lt(row, end) { row := add(row, 0xa0) } {
                let most := calldataload(metered)
                let word := calldataload(record)
                let mask := mload(row)
                let guard := mload(add(row, 0x20))
                let bought := and(shr(bits, word), mask)
                let sold := and(word, mask)
                // The bit above each field survives the subtraction unless it has to be borrowed.
                let left :=
                    and(sub(or(and(shr(bits, most), mask), guard), bought), sub(or(and(most, mask), guard), sold))
                fits := and(fits, eq(and(left, guard), guard))
                mstore(add(row, 0x80), add(mload(add(row, 0x80)), add(bought, sold)))
                metered := add(metered, mload(add(frame, 0xa0)))
                record := add(record, mload(add(frame, 0xa0)))
            }
        }
    }

    /// @dev What groups save before edge fees, and the bound on it; adds what they leave to their nodes' balances.
    function _groups(Frame memory frame, uint256 metered, uint256 record)
        private
        pure
        returns (int256 savedNano, int256 boundNano)
    {
        assembly ("memory-safe") {
            let bits := mload(frame)
            let shift := sub(256, bits)
            let prices := mload(add(frame, 0x180))
            for { let group := mload(add(frame, 0x20)) } lt(group, mload(add(frame, 0x40))) {
                group := add(group, 0x80)
            } {
                let matched := calldataload(record)
                let sold := shr(shift, shl(bits, matched))
                matched := shr(shift, matched)
                let node := mload(add(group, 0x60))
                mstore(node, add(mload(node), sub(sold, matched)))
                let price := sar(208, calldataload(add(prices, mload(add(group, 0x40)))))
                let word := calldataload(metered)
                let worth := mload(group)
                savedNano := add(savedNano, mul(worth, matched))
                worth := sub(worth, price)
                boundNano := add(boundNano, mul(mul(worth, sgt(worth, 0)), shr(shift, word)))
                worth := mload(add(group, 0x20))
                savedNano := sub(savedNano, mul(worth, sold))
                worth := sub(price, worth)
                boundNano := add(boundNano, mul(mul(worth, sgt(worth, 0)), shr(shift, shl(bits, word))))
                metered := add(metered, shr(2, bits))
                record := add(record, shr(2, bits))
            }
        }
    }

    /// @dev What the flows cost, and whether prices differ by more than a fee anywhere; settles the balances along the way.
    function _edges(Frame memory frame) private pure returns (int256 feesNano, bool tooSteep) {
        assembly ("memory-safe") {
            let prices := mload(add(frame, 0x180))
            let edge := mload(add(frame, 0xe0))
            let end := mload(add(frame, 0x100))
            let flows := mload(add(frame, 0x1a0))
            for {} lt(edge, end) { edge := add(edge, 0xa0) } {
                let flow := sar(192, calldataload(flows))
                flows := add(flows, 8)
                let node := mload(add(edge, 0x60))
                mstore(node, sub(mload(node), flow))
                node := mload(add(edge, 0x80))
                mstore(node, add(mload(node), flow))
                let fee := mload(edge)
                let sign := sar(255, flow)
                feesNano := add(feesNano, mul(fee, sub(xor(flow, sign), sign)))
                flow := sar(208, calldataload(add(prices, mload(add(edge, 0x20)))))
                flow := sub(flow, sar(208, calldataload(add(prices, mload(add(edge, 0x40))))))
                tooSteep := or(tooSteep, gt(add(flow, fee), add(fee, fee)))
            }
            end := mload(add(frame, 0x120))
            for {} lt(edge, end) { edge := add(edge, 0xa0) } {
                // A tree edge carries away whatever its `from` node has left.
                let node := mload(add(edge, 0x60))
                let flow := mload(node)
                mstore(node, 0)
                node := mload(add(edge, 0x80))
                mstore(node, add(mload(node), flow))
                let fee := mload(edge)
                let sign := sar(255, flow)
                feesNano := add(feesNano, mul(fee, sub(xor(flow, sign), sign)))
                flow := sar(208, calldataload(add(prices, mload(add(edge, 0x20)))))
                flow := sub(flow, sar(208, calldataload(add(prices, mload(add(edge, 0x40))))))
                // -fee <= price gap <= fee, in one unsigned comparison.
                tooSteep := or(tooSteep, gt(add(flow, fee), add(fee, fee)))
            }
        }
    }

    function _unbalanced(Frame memory frame) private pure returns (bool found) {
        assembly ("memory-safe") {
            let end := mload(add(frame, 0x160))
            for { let root := mload(add(frame, 0x140)) } lt(root, end) { root := add(root, 0x20) } {
                found := or(found, iszero(iszero(mload(mload(root)))))
            }
        }
    }

    /// @dev What everybody outside would have paid, and all access fees, from the rows' sums.
    function _sums(Tariff memory tariff, Frame memory frame)
        private
        pure
        returns (int256 outsideNano, int256 accessNano)
    {
        uint256 fieldBits = 2 * frame.bits;
        uint256 perRow = frame.rowBytes / (frame.bits / 4);
        for (uint256 g = 0; g < tariff.groups.length; ++g) {
            uint256 row = frame.rows + 32 * ROW_WORDS * (g / perRow);
            uint256 shift = 256 - fieldBits * (g % perRow + 1);
            GroupTariff group = tariff.groups[g];
            outsideNano += group.importPrice() * _field(row + 0x40, shift, fieldBits) - group.exportPrice()
            * _field(row + 0x60, shift, fieldBits);
            accessNano += int256(group.accessFee()) * _field(row + 0x80, shift, fieldBits);
        }
    }

    function _field(uint256 pointer, uint256 shift, uint256 fieldBits) private pure returns (int256 value) {
        assembly ("memory-safe") {
            value := and(shr(shift, mload(pointer)), sub(shl(fieldBits, 1), 1))
        }
    }

    function _frame(Tariff memory tariff, uint256 width) private pure returns (Frame memory frame) {
        uint256 balance = _begin(new uint256[](tariff.nodeCount));
        frame.bits = 8 * width;
        frame.groups = _begin(_groupTable(tariff, balance));
        frame.groupsEnd = frame.groups + 32 * GROUP_WORDS * tariff.groups.length;
        _addRows(frame, tariff.groups.length);
        frame.edges = _begin(_edgeTable(tariff, balance));
        frame.chordsEnd = frame.edges + 32 * EDGE_WORDS * tariff.chordCount;
        frame.edgesEnd = frame.edges + 32 * EDGE_WORDS * tariff.edges.length;

        bool[] memory taken = new bool[](tariff.nodeCount);
        for (uint256 e = tariff.chordCount; e < tariff.edges.length; ++e) {
            taken[tariff.edges[e].from()] = true;
        }
        uint256[] memory roots = new uint256[](tariff.nodeCount);
        uint256 count = 0;
        for (uint256 v = 0; v < taken.length; ++v) {
            if (!taken[v]) roots[count++] = balance + 32 * v;
        }
        frame.roots = _begin(roots);
        frame.rootsEnd = frame.roots + 32 * count;
    }

    function _addRows(Frame memory frame, uint256 groups) private pure {
        uint256 bits = frame.bits;
        uint256 perRow = (256 / bits - 1) / 2;
        uint256 count = (groups + perRow - 1) / perRow;
        uint256[] memory table = new uint256[](ROW_WORDS * count);
        frame.rows = _begin(table);
        frame.rowsEnd = frame.rows + 32 * ROW_WORDS * count;
        frame.rowBytes = perRow * bits / 4;
        for (uint256 k = 0; k < perRow; ++k) {
            frame.ones |= 1 << (2 * bits * k);
        }
        for (uint256 g = 0; g < groups; ++g) {
            uint256 low = 1 << (256 - 2 * bits * (g % perRow + 1));
            uint256 row = ROW_WORDS * (g / perRow);
            table[row] |= low * ((1 << bits) - 1);
            table[row + 1] |= low << bits;
        }
    }

    function _groupTable(Tariff memory tariff, uint256 balance) private pure returns (uint256[] memory table) {
        table = new uint256[](GROUP_WORDS * tariff.groups.length);
        for (uint256 g = 0; g < tariff.groups.length; ++g) {
            GroupTariff group = tariff.groups[g];
            int256 access = int256(group.accessFee());
            uint256 row = GROUP_WORDS * g;
            table[row] = uint256(group.importPrice() - access);
            table[row + 1] = uint256(group.exportPrice() + access);
            table[row + 2] = PRICE_BYTES * group.node();
            table[row + 3] = balance + 32 * group.node();
        }
    }

    function _edgeTable(Tariff memory tariff, uint256 balance) private pure returns (uint256[] memory table) {
        table = new uint256[](EDGE_WORDS * tariff.edges.length);
        for (uint256 e = 0; e < tariff.edges.length; ++e) {
            EdgeTariff edge = tariff.edges[e];
            uint256 row = EDGE_WORDS * e;
            table[row] = edge.fee();
            table[row + 1] = PRICE_BYTES * edge.from();
            table[row + 2] = PRICE_BYTES * edge.to();
            table[row + 3] = balance + 32 * edge.from();
            table[row + 4] = balance + 32 * edge.to();
        }
    }

    /// @dev Where an array's first element lies.
    function _begin(uint256[] memory table) private pure returns (uint256 pointer) {
        assembly ("memory-safe") {
            pointer := add(table, 0x20)
        }
    }

    /// @dev Calldata position behind the width.
    function _start(bytes calldata clearing) private pure returns (uint256 position) {
        assembly ("memory-safe") {
            position := add(clearing.offset, 1)
        }
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
}
