// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Certificate} from "../../src/libraries/Certificate.sol";
import {EdgeTariff, GroupTariff, Tariff} from "../../src/types/Tariff.sol";

/// @title The certificate check as the protocol states it: one number at a time, checked arithmetic, no assembly
contract CertificateReference {
    struct Run {
        Tariff tariff;
        bytes clearing;
        uint256 width;
        uint256 metered;
        uint256 record;
        int256 savedNano;
        int256 boundNano;
        uint256 demandWh;
        uint256 supplyWh;
        int256[] balance;
        int256[] prices;
    }

    function verify(Tariff memory tariff, bytes memory clearing, uint256 count)
        external
        pure
        returns (Certificate.Totals memory totals)
    {
        Run memory run;
        (run.tariff, run.clearing) = (tariff, clearing);
        run.width = clearing.length == 0 ? 0 : uint8(clearing[0]);
        if (run.width < 2 || run.width > 8) revert Certificate.WrongEnergyWidth(run.width);
        uint256 groupBytes = 2 * run.width * tariff.groups.length;
        uint256 totalsBytes = 1 + groupBytes * count;
        if (clearing.length < totalsBytes) revert Certificate.WrongClearingLength(clearing.length, totalsBytes);
        totals.totalsHash = keccak256(_head(clearing, totalsBytes));
        (run.metered, run.record) = (1, totalsBytes);
        bytes memory prices = "";
        for (uint256 t = 0; t < count; ++t) {
            prices = abi.encodePacked(prices, _interval(run, totals, t));
            run.metered += groupBytes;
        }
        if (clearing.length != run.record) revert Certificate.WrongClearingLength(clearing.length, run.record);
        totals.supplierNano -= totals.networkFeesNano;
        totals.pricesHash = keccak256(prices);
    }

    function _interval(Run memory run, Certificate.Totals memory totals, uint256 t) private pure returns (bytes16) {
        Tariff memory tariff = run.tariff;
        (run.demandWh, run.supplyWh) = (0, 0);
        for (uint256 g = 0; g < tariff.groups.length; ++g) {
            (int256 demandWh, int256 supplyWh) = _pair(run, run.metered, g);
            run.demandWh += uint256(demandWh);
            run.supplyWh += uint256(supplyWh);
            totals.supplierNano += tariff.groups[g].importPrice() * demandWh - tariff.groups[g].exportPrice() * supplyWh;
        }
        if (run.demandWh == 0 || run.supplyWh == 0) return 0;
        (run.savedNano, run.boundNano) = (0, 0);
        run.balance = new int256[](tariff.nodeCount);
        run.prices = new int256[](tariff.nodeCount);
        uint256 position = run.record + 2 * run.width * tariff.groups.length;
        for (uint256 v = 0; v < tariff.nodeCount; ++v) {
            run.prices[v] = int48(uint48(_number(run.clearing, position, 6)));
            position += 6;
        }
        int256 accessNano = _groups(run, t);
        int256 feesNano = _edges(run, position, t);
        run.record = position + 8 * tariff.chordCount;
        run.savedNano -= feesNano;
        if (run.savedNano != run.boundNano) revert Certificate.NotOptimal(t, run.boundNano - run.savedNano);
        totals.networkFeesNano += feesNano + accessNano;
        totals.supplierNano -= run.savedNano;
        uint256 share = uint256(run.savedNano) * tariff.shareMillionths;
        uint256 discount = share / (1_000_000 * run.demandWh);
        uint256 premium = (uint256(run.savedNano) * 1_000_000 - share) / (1_000_000 * run.supplyWh);
        totals.fundNano += run.savedNano - int256(discount * run.demandWh + premium * run.supplyWh);
        return bytes16(uint128((discount << 64) | premium));
    }

    function _groups(Run memory run, uint256 t) private pure returns (int256 accessNano) {
        for (uint256 g = 0; g < run.tariff.groups.length; ++g) {
            GroupTariff group = run.tariff.groups[g];
            (int256 demandWh, int256 supplyWh) = _pair(run, run.metered, g);
            (int256 boughtWh, int256 soldWh) = _pair(run, run.record, g);
            if (boughtWh > demandWh || soldWh > supplyWh) revert Certificate.MatchedAboveMetered(t);
            int256 access = int256(group.accessFee());
            int256 buy = group.importPrice() - access;
            int256 sell = group.exportPrice() + access;
            int256 price = run.prices[group.node()];
            run.savedNano += buy * boughtWh - sell * soldWh;
            if (buy > price) run.boundNano += (buy - price) * demandWh;
            if (price > sell) run.boundNano += (price - sell) * supplyWh;
            run.balance[group.node()] += soldWh - boughtWh;
            accessNano += access * (boughtWh + soldWh);
        }
    }

    function _edges(Run memory run, uint256 position, uint256 t) private pure returns (int256 feesNano) {
        Tariff memory tariff = run.tariff;
        for (uint256 e = 0; e < tariff.edges.length; ++e) {
            EdgeTariff edge = tariff.edges[e];
            int256 flow = e < tariff.chordCount
                ? int256(int64(uint64(_number(run.clearing, position + 8 * e, 8))))
                : run.balance[edge.from()];
            run.balance[edge.from()] -= flow;
            run.balance[edge.to()] += flow;
            feesNano += int256(edge.fee()) * (flow < 0 ? -flow : flow);
        }
        for (uint256 e = 0; e < tariff.edges.length; ++e) {
            EdgeTariff edge = tariff.edges[e];
            int256 gap = run.prices[edge.from()] - run.prices[edge.to()];
            if (gap > int256(edge.fee()) || -gap > int256(edge.fee())) revert Certificate.PriceGapAboveFee(t);
        }
        for (uint256 v = 0; v < tariff.nodeCount; ++v) {
            if (run.balance[v] != 0) revert Certificate.NodeOutOfBalance(t);
        }
    }

    function _pair(Run memory run, uint256 begin, uint256 group) private pure returns (int256, int256) {
        uint256 position = begin + 2 * run.width * group;
        return (
            int256(_number(run.clearing, position, run.width)),
            int256(_number(run.clearing, position + run.width, run.width))
        );
    }

    /// @dev Behind the end there are zeros, as in calldata.
    function _number(bytes memory data, uint256 begin, uint256 length) private pure returns (uint256 value) {
        for (uint256 i = begin; i < begin + length; ++i) {
            value = (value << 8) | (i < data.length ? uint8(data[i]) : 0);
        }
    }

    function _head(bytes memory data, uint256 length) private pure returns (bytes memory part) {
        part = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            part[i] = data[i];
        }
    }
}
