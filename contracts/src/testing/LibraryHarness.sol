// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Certificate} from "../libraries/Certificate.sol";
import {PositionalTree} from "../libraries/PositionalTree.sol";
import {PriceRule} from "../libraries/PriceRule.sol";
import {Statement} from "../libraries/Statement.sol";
import {SumTree} from "../libraries/SumTree.sol";
import {BatchHeader} from "../types/Batch.sol";
import {LedgerLeaf} from "../types/LedgerLeaf.sol";
import {OracleReport} from "../types/OracleReport.sol";
import {Sums} from "../types/Sums.sol";
import {Tariff} from "../types/Tariff.sol";

/// @title Opens the internal libraries to the differential tests; never deployed for a community
contract LibraryHarness {
    function verifyCertificates(Tariff calldata tariff, bytes calldata clearing, uint256 count)
        external
        pure
        returns (Certificate.Totals memory)
    {
        return Certificate.verify(tariff, clearing, count);
    }

    function savingsShare(uint256 savingsNano, uint256 demandWh, uint256 supplyWh, uint256 shareMillionths)
        external
        pure
        returns (uint256, uint256)
    {
        return PriceRule.savingsShare(savingsNano, demandWh, supplyWh, shareMillionths);
    }

    function amount(
        bytes calldata readings,
        bytes calldata prices,
        Tariff calldata tariff,
        uint256 group,
        uint256 intervalCount
    ) external pure returns (int256) {
        return Statement.amount(readings, prices, tariff.groups[group], intervalCount);
    }

    function readingsLeaf(uint256 slot, bytes calldata readings, bytes32 salt) external pure returns (bytes32) {
        return Statement.readingsLeaf(slot, readings, salt);
    }

    function ledgerRootOf(bytes32 leaf, Sums sums, uint256 slot, uint256 depth, bytes32[] calldata proof)
        external
        pure
        returns (bytes32)
    {
        return SumTree.rootOf(leaf, sums, slot, depth, proof);
    }

    function positionalRootOf(bytes32 leaf, uint256 slot, bytes32[] calldata proof) external pure returns (bytes32) {
        return PositionalTree.rootOf(leaf, slot, proof);
    }

    function tariffHash(Tariff calldata tariff) external pure returns (bytes32) {
        return tariff.hash();
    }

    function batchHash(BatchHeader calldata header) external pure returns (bytes32) {
        return header.hash();
    }

    function leafHash(LedgerLeaf calldata leaf) external pure returns (bytes32) {
        return leaf.hash();
    }

    function reportHash(OracleReport calldata report) external pure returns (bytes32) {
        return report.structHash();
    }
}
