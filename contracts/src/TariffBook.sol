// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {Community} from "./Community.sol";
import {ITariffBook} from "./interfaces/ITariffBook.sol";
import {EdgeTariff, GroupTariff, Tariff} from "./types/Tariff.sol";

/// @title The announced tariffs
/// @dev Only the hash is stored: whoever submits or challenges brings the tariff along, which is cheaper than reading it
/// from storage and has no limit on its size. The event carries it in full.
contract TariffBook is ITariffBook, AccessManaged, Community {
    uint256 public constant MAX_NODES = 4096;
    uint256 public constant MAX_GROUPS = 4096;
    uint256 public constant MAX_EDGES = 8192;
    /// @notice A tariff is announced so many periods ahead at most: a year of days and a month.
    uint256 public constant MAX_PERIODS_AHEAD = 400;
    /// @notice Prices and fees stay below 2^40 nano per Wh (1099 currency units per Wh).
    int256 public constant PRICE_LIMIT = 2 ** 40;

    struct Entry {
        bytes32 tariffHash;
        uint64 fromPeriod;
    }

    Entry[] private _entries;

    constructor(address authority, address clearingHouse_) AccessManaged(authority) Community(clearingHouse_) {}

    /// @inheritdoc ITariffBook
    function announce(Tariff calldata tariff, uint64 fromPeriod) external restricted {
        uint256 first = _requireOpen(fromPeriod);
        // SAFETY: an announcement cannot be taken back and none can come before it, so a far one would end all others.
        if (fromPeriod > first + MAX_PERIODS_AHEAD) revert TooFarAhead(fromPeriod, first + MAX_PERIODS_AHEAD);
        if (_entries.length != 0 && fromPeriod <= _entries[_entries.length - 1].fromPeriod) {
            revert NotAfterLast(fromPeriod, _entries[_entries.length - 1].fromPeriod);
        }
        _validate(tariff);
        bytes32 tariffHash = tariff.hash();
        _entries.push(Entry(tariffHash, fromPeriod));
        emit TariffAnnounced(tariffHash, fromPeriod, tariff);
    }

    /// @inheritdoc ITariffBook
    function tariffHashAt(uint256 period) external view returns (bytes32) {
        // Steps that double, back from the newest: the period asked for is nearly always a recent one. Then halves.
        uint256 after_ = _entries.length;
        uint256 low = after_;
        for (uint256 step = 1; low == after_; step *= 2) {
            if (after_ == 0) revert NoTariffYet(period);
            uint256 probe = after_ > step ? after_ - step : 0;
            if (_entries[probe].fromPeriod <= period) low = probe;
            else low = after_ = probe;
        }
        while (after_ - low > 1) {
            uint256 middle = (low + after_) / 2;
            if (_entries[middle].fromPeriod <= period) low = middle;
            else after_ = middle;
        }
        return _entries[low].tariffHash;
    }

    function _validate(Tariff calldata tariff) private pure {
        if (tariff.shareMillionths > 1_000_000) revert ShareAboveOne(tariff.shareMillionths);
        if (tariff.nodeCount > MAX_NODES) revert TooManyNodes(tariff.nodeCount, MAX_NODES);
        if (tariff.groups.length > MAX_GROUPS) revert TooManyGroups(tariff.groups.length, MAX_GROUPS);
        if (tariff.edges.length > MAX_EDGES) revert TooManyEdges(tariff.edges.length, MAX_EDGES);
        uint256 previousKey;
        for (uint256 g = 0; g < tariff.groups.length; ++g) {
            GroupTariff group = tariff.groups[g];
            if (group.node() >= tariff.nodeCount) revert UnknownNode(group.node(), tariff.nodeCount);
            // Ascending order makes the groups unique and their numbering the same for everybody.
            uint256 key = (group.node() << 32) | group.tariffClass();
            if (g != 0 && key <= previousKey) revert GroupsOutOfOrder(g);
            previousKey = key;
            int256 r = group.importPrice();
            int256 f = group.exportPrice();
            if (f > r) revert ExportAboveImport(g, f, r);
            if (r >= PRICE_LIMIT) revert PriceOutOfRange(g, r);
            if (f <= -PRICE_LIMIT) revert PriceOutOfRange(g, f);
            if (int256(group.accessFee()) >= PRICE_LIMIT) revert PriceOutOfRange(g, int256(group.accessFee()));
        }
        if (tariff.chordCount > tariff.edges.length) revert TooManyChords(tariff.chordCount, tariff.edges.length);
        bool[] memory taken = new bool[](tariff.nodeCount);
        for (uint256 e = 0; e < tariff.edges.length; ++e) {
            EdgeTariff edge = tariff.edges[e];
            uint256 from = edge.from();
            uint256 to = edge.to();
            if (from >= tariff.nodeCount) revert UnknownNode(from, tariff.nodeCount);
            if (to >= tariff.nodeCount) revert UnknownNode(to, tariff.nodeCount);
            if (int256(edge.fee()) >= PRICE_LIMIT) revert PriceOutOfRange(e, int256(edge.fee()));
            if (e < tariff.chordCount) continue;
            // A node goes once and nothing flows to it afterwards: then what is left at the roots is the balance of all.
            if (from == to || taken[from] || taken[to]) revert NotATree(e);
            taken[from] = true;
        }
    }
}
