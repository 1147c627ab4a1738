// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Tariff} from "../types/Tariff.sol";

/// @title Which tariff is in force in which period
interface ITariffBook {
    /// @notice A tariff was announced; the event carries it in full.
    event TariffAnnounced(bytes32 indexed tariffHash, uint64 indexed fromPeriod, Tariff tariff);

    error ShareAboveOne(uint256 shareMillionths);
    error TooManyNodes(uint256 count, uint256 limit);
    error TooManyGroups(uint256 count, uint256 limit);
    error TooManyEdges(uint256 count, uint256 limit);
    error TooManyChords(uint256 count, uint256 edges);
    error NotATree(uint256 edge);
    error UnknownNode(uint256 node, uint256 nodeCount);
    error GroupsOutOfOrder(uint256 group);
    error ExportAboveImport(uint256 group, int256 exportPrice, int256 importPrice);
    error PriceOutOfRange(uint256 index, int256 price);
    error NotAfterLast(uint64 fromPeriod, uint64 lastFromPeriod);
    error NoTariffYet(uint256 period);

    /// @notice Announces the tariff that holds from `fromPeriod` on, a period that has not begun.
    function announce(Tariff calldata tariff, uint64 fromPeriod) external;

    /// @return hash of the tariff in force in `period`.
    function tariffHashAt(uint256 period) external view returns (bytes32);
}
