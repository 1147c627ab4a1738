// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice One group (network node, tariff class) in one word:
/// import price int64 | export price int64 | access fee uint64 | node uint32 | tariff class uint32, prices in nano per Wh.
type GroupTariff is bytes32;

/// @notice One edge of the network graph in one word: from uint32 | to uint32 | fee uint64 | zero uint128, fee in nano per Wh.
type EdgeTariff is bytes32;

/// @notice Everything the price of an interval depends on besides the meters.
/// @param shareMillionths beta of the savings-share rule: the buyers' part of what trading saved, in millionths.
/// @param nodeCount number of nodes of the network graph.
/// @param chordCount how many of the edges close a circle; they come first and their flows are stated. The others form trees
/// and come in an order in which each takes its `from` node off the graph, so that their flows follow from the balances.
/// @param groups the groups in ascending order of (node, tariff class).
/// @param edges the undirected edges of the network graph.
struct Tariff {
    uint32 shareMillionths;
    uint32 nodeCount;
    uint32 chordCount;
    GroupTariff[] groups;
    EdgeTariff[] edges;
}

using {importPrice, exportPrice, accessFee, node, tariffClass} for GroupTariff global;
using {from, to, fee} for EdgeTariff global;
using {hash} for Tariff global;

bytes32 constant TARIFF_TAG = keccak256("peerwatt.tariff.v2");

function importPrice(GroupTariff self) pure returns (int256) {
    return int64(int256(uint256(GroupTariff.unwrap(self))) >> 192);
}

function exportPrice(GroupTariff self) pure returns (int256) {
    return int64(int256(uint256(GroupTariff.unwrap(self))) >> 128);
}

function accessFee(GroupTariff self) pure returns (uint256) {
    return uint64(uint256(uint256(GroupTariff.unwrap(self))) >> 64);
}

function node(GroupTariff self) pure returns (uint256) {
    return uint32(uint256(uint256(GroupTariff.unwrap(self))) >> 32);
}

function tariffClass(GroupTariff self) pure returns (uint256) {
    return uint32(uint256(uint256(GroupTariff.unwrap(self))));
}

function from(EdgeTariff self) pure returns (uint256) {
    return uint32(uint256(EdgeTariff.unwrap(self)) >> 224);
}

function to(EdgeTariff self) pure returns (uint256) {
    return uint32(uint256(EdgeTariff.unwrap(self)) >> 192);
}

function fee(EdgeTariff self) pure returns (uint256) {
    return uint64(uint256(EdgeTariff.unwrap(self)) >> 128);
}

/// @dev docs/protocol.md, "Tariff".
function hash(Tariff memory self) pure returns (bytes32) {
    return keccak256(
        abi.encode(
            TARIFF_TAG,
            self.shareMillionths,
            self.nodeCount,
            self.chordCount,
            keccak256(abi.encodePacked(self.groups)),
            keccak256(abi.encodePacked(self.edges))
        )
    );
}
