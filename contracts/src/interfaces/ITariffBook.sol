// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Tariff} from "../types/Tariff.sol";

/// @title Which tariff is in force in which period
interface ITariffBook {
    /// @notice A tariff was announced; the event carries it in full.
    event TariffAnnounced(bytes32 indexed tariffHash, uint64 indexed fromPeriod, Tariff tariff);

    /// @notice The buyers' share is above one million millionths.
    error ShareAboveOne(uint256 shareMillionths);
    /// @notice More than 4 096 nodes or groups, or 8 192 edges.
    error TooManyNodes(uint256 count, uint256 limit);
    /// @notice More than 4 096 nodes or groups, or 8 192 edges.
    error TooManyGroups(uint256 count, uint256 limit);
    /// @notice More than 4 096 nodes or groups, or 8 192 edges.
    error TooManyEdges(uint256 count, uint256 limit);
    /// @notice More chords than edges.
    error TooManyChords(uint256 count, uint256 edges);
    /// @notice An edge behind the chords closes a circle or comes in the wrong place.
    error NotATree(uint256 edge);
    /// @notice A group or edge names a node that is not there.
    error UnknownNode(uint256 node, uint256 nodeCount);
    /// @notice Groups are not in ascending order of (node, tariff class).
    error GroupsOutOfOrder(uint256 group);
    /// @notice A group's export price is above its import price.
    error ExportAboveImport(uint256 group, int256 exportPrice, int256 importPrice);
    /// @notice A price or fee of 2^40 nano per Wh or more.
    error PriceOutOfRange(uint256 index, int256 price);
    /// @notice The first period is not after the last announcement's.
    error NotAfterLast(uint64 fromPeriod, uint64 lastFromPeriod);
    /// @notice More than `MAX_PERIODS_AHEAD` after the first period that is possible.
    error TooFarAhead(uint64 fromPeriod, uint256 lastPossiblePeriod);
    /// @notice No tariff is in force in the period.
    error NoTariffYet(uint256 period);

    /// @notice Announces the tariff that holds from `fromPeriod` on, a period that has not begun (before the first batch, any).
    function announce(Tariff calldata tariff, uint64 fromPeriod) external;

    /// @return hash of the tariff in force in `period`.
    function tariffHashAt(uint256 period) external view returns (bytes32);
}
