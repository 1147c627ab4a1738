// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BatchHeader, LedgerRoot, Submission} from "../../src/types/Batch.sol";
import {LedgerEntry, ReadingsEvidence} from "../../src/types/Evidence.sol";
import {LedgerLeaf} from "../../src/types/LedgerLeaf.sol";
import {OracleReport} from "../../src/types/OracleReport.sol";
import {Sums, makeSums} from "../../src/types/Sums.sol";
import {TestCommunity} from "./TestCommunity.sol";
import {vm} from "./Vm.sol";

/// @title A coordinator in Solidity: readings, optimal clearing, amounts, ledger
/// @dev Works everything out by plain rules of its own, so that a batch the contracts accept was computed twice.
abstract contract BatchBuilder is TestCommunity {
    uint256 internal constant SLOTS = 8;
    uint8 internal constant LEDGER_DEPTH = 3;
    uint256 internal constant READINGS_DEPTH = 20;
    uint256 internal constant ENERGY_BYTES = 4;
    bytes32 private constant LEDGER_TAG = keccak256("peerwatt.ledger.node.v1");
    bytes32 private constant TREE_TAG = keccak256("peerwatt.tree.node.v1");

    /// @dev What the coordinator knows of a batch. Trees lie in heap order: root 1, children 2i and 2i + 1, leaves from SLOTS on.
    struct Book {
        BatchHeader header;
        LedgerLeaf[SLOTS] leaves;
        bool[SLOTS] present;
        bytes[SLOTS] readings;
        int256[SLOTS] settledNano;
        int256[SLOTS] outsideNano;
        bytes32[2 * SLOTS] readingNodes;
        bytes32[2 * SLOTS] hashes;
        Sums[2 * SLOTS] sums;
        bytes prices;
        bytes clearing;
        int256 supplierNano;
        int256 networkFeesNano;
        int256 fundNano;
    }

    /// @dev Energies of one interval: by node, demand and supply, then what of them is matched.
    struct Interval {
        uint256[2] demandWh;
        uint256[2] supplyWh;
        uint256[2] boughtWh;
        uint256[2] soldWh;
        uint256 flowWh;
        int256[2] priceNano;
    }

    /// @param previous the batch before; `previous.header.number` is zero if there is none.
    /// @param corrected the batch that this one corrects; number zero if it corrects none.
    /// @param seed for the readings.
    function build(Book memory previous, Book memory corrected, uint256 seed) internal view returns (Book memory book) {
        BatchHeader memory header = book.header;
        header.number = previous.header.number + 1;
        header.previousBatch = header.number == 1 ? clearingHouse.genesisHash() : previous.header.hash();
        header.nextPeriod = clearingHouse.nextPeriod();
        header.nextInterval = clearingHouse.nextInterval();
        if (corrected.header.number == 0) {
            header.period = header.nextPeriod++;
            header.firstInterval = header.nextInterval;
            header.intervalCount = uint32(2 + seed % 3);
            header.nextInterval += header.intervalCount;
        } else {
            header.period = corrected.header.period;
            header.version = corrected.header.version + 1;
            header.firstInterval = corrected.header.firstInterval;
            header.intervalCount = corrected.header.intervalCount;
            header.correctedBatch = corrected.header.hash();
        }
        header.tariffHash = tariffAt(header.period).hash();
        header.ledgerDepth = LEDGER_DEPTH;
        header.tradesRoot = keccak256(abi.encode("trades", seed));
        header.bundleHash = keccak256(abi.encode("bundle", seed));
        _read(book, seed);
        _clear(book);
        _settle(book, previous, corrected);
        plant(book);
    }

    /// @dev Makes trees, root and report of what the leaves say; after a lie was put into them as well.
    function plant(Book memory book) internal view {
        for (uint256 slot = 0; slot < SLOTS; ++slot) {
            book.hashes[SLOTS + slot] = book.present[slot] ? book.leaves[slot].hash() : bytes32(0);
            book.sums[SLOTS + slot] = book.present[slot] ? book.leaves[slot].sums : Sums.wrap(0);
        }
        grow(book);
    }

    /// @dev As `plant` with the bottom level as it is.
    function grow(Book memory book) internal view {
        for (uint256 i = SLOTS - 1; i != 0; --i) {
            regrow(book, i);
        }
        book.header.ledgerRoot = book.hashes[1];
        report(book);
    }

    function regrow(Book memory book, uint256 i) internal pure {
        book.hashes[i] = ledgerNode(book.hashes[2 * i], book.sums[2 * i], book.hashes[2 * i + 1], book.sums[2 * i + 1]);
        book.sums[i] = book.sums[2 * i] + book.sums[2 * i + 1];
    }

    function ledgerNode(bytes32 left, Sums leftSums, bytes32 right, Sums rightSums) internal pure returns (bytes32) {
        if (left | right | Sums.unwrap(leftSums) | Sums.unwrap(rightSums) == 0) return 0;
        return keccak256(abi.encode(LEDGER_TAG, left, leftSums, right, rightSums));
    }

    function readingNode(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return left | right == 0 ? bytes32(0) : keccak256(abi.encode(TREE_TAG, left, right));
    }

    function report(Book memory book) internal view returns (OracleReport memory result) {
        BatchHeader memory header = book.header;
        result = OracleReport(
            header.period,
            header.version,
            header.firstInterval,
            header.intervalCount,
            header.readingsRoot,
            keccak256(_slice(book.clearing, 0, 1 + 4 * ENERGY_BYTES * header.intervalCount)),
            readingOracle.configDigest()
        );
        header.reportHash = keccak256(
            abi.encode(
                keccak256(
                    "OracleReport(uint64 period,uint32 version,uint64 firstInterval,uint32 intervalCount,bytes32 readingsRoot,bytes32 totalsHash,bytes32 configDigest)"
                ),
                result
            )
        );
    }

    function submission(Book memory book) internal view returns (Submission memory result) {
        result.report = report(book);
        result.config = oracleConfig();
        result.signatures = signedByOracle(book.header.reportHash);
        result.tariff = tariffAt(book.header.period);
        result.clearing = book.clearing;
        result.ledger = LedgerRoot(LEDGER_DEPTH, book.hashes[2], book.sums[2], book.hashes[3], book.sums[3]);
        result.tradesRoot = book.header.tradesRoot;
        result.bundleHash = book.header.bundleHash;
        result.previousBatch = book.header.previousBatch;
    }

    /// @dev Waits for the period's end if need be; the hash the contract stores must be the one expected.
    function submit(Book memory book) internal {
        BatchHeader memory header = book.header;
        uint256 endsAt = (uint256(header.firstInterval) + header.intervalCount) * INTERVAL_SECONDS;
        if (vm.getBlockTimestamp() < endsAt) vm.warp(endsAt);
        Submission memory given = submission(book);
        vm.prank(coordinator);
        bytes32 batchHash = clearingHouse.submitBatch(given);
        vm.assertEq(batchHash, header.hash(), "header");
    }

    function submitCorrection(Book memory book, Book memory corrected) internal {
        Submission memory given = submission(book);
        vm.prank(coordinator);
        bytes32 batchHash = clearingHouse.submitCorrection(given, corrected.header);
        vm.assertEq(batchHash, book.header.hash(), "header of the correction");
    }

    /// @dev Sibling hash and sums, alternating, of the node at `index` in the heap.
    function ledgerProof(Book memory book, uint256 index) internal pure returns (bytes32[] memory proof) {
        uint256 levels = _levels(index);
        proof = new bytes32[](2 * levels);
        for (uint256 i = 0; i < levels; ++i) {
            proof[2 * i] = book.hashes[(index >> i) ^ 1];
            proof[2 * i + 1] = Sums.unwrap(book.sums[(index >> i) ^ 1]);
        }
    }

    /// @dev Beyond the heap the readings tree is empty.
    function readingsProof(Book memory book, uint256 slot) internal pure returns (bytes32[] memory proof) {
        proof = new bytes32[](READINGS_DEPTH);
        if (slot >= SLOTS) {
            bytes32 node = book.readingNodes[1];
            for (uint256 level = LEDGER_DEPTH; level < READINGS_DEPTH; ++level) {
                if (slot >> level == 1) proof[level] = node;
                node = readingNode(node, 0);
            }
            return proof;
        }
        for (uint256 i = 0; i < LEDGER_DEPTH; ++i) {
            proof[i] = book.readingNodes[((SLOTS + slot) >> i) ^ 1];
        }
    }

    function entryOf(Book memory book, uint256 slot) internal pure returns (LedgerEntry memory entry) {
        if (slot >= SLOTS) {
            entry.isEmpty = true;
            entry.leaf.slot = uint32(slot);
            return entry;
        }
        entry = LedgerEntry(!book.present[slot], book.leaves[slot], ledgerProof(book, SLOTS + slot));
        entry.leaf.slot = uint32(slot);
    }

    function evidenceOf(Book memory book, uint256 slot) internal pure returns (ReadingsEvidence memory) {
        return ReadingsEvidence(book.readings[slot], readingSalt(slot), readingsProof(book, slot), book.prices);
    }

    function readingSalt(uint256 slot) internal pure returns (bytes32) {
        return keccak256(abi.encode("readings salt", slot));
    }

    /// @dev Adds to what a leaf says, in this period and since the beginning.
    function alter(Book memory book, uint256 slot, int128 amountNano, int128 cumulativeNano) internal pure {
        LedgerLeaf memory leaf = book.leaves[slot];
        leaf.sums = leaf.sums + makeSums(amountNano, cumulativeNano);
    }

    /// @dev A member is not reported at all once in nine times, one of its intervals is missing once in seven.
    function _read(Book memory book, uint256 seed) private view {
        uint256 count = book.header.intervalCount;
        for (uint256 slot = FIRST_MEMBER; slot < SLOTS; ++slot) {
            uint256 own = uint256(keccak256(abi.encode(seed, slot)));
            if (!registry.isActive(slot, book.header.period) || own % 9 == 0) continue;
            bytes memory readings = "";
            for (uint256 t = 0; t < count; ++t) {
                uint256 random = uint256(keccak256(abi.encode(own, t)));
                readings = random % 7 == 0
                    ? abi.encodePacked(readings, uint56(0), uint56(0), uint16(2))
                    : abi.encodePacked(
                        readings,
                        uint56((random >> 8) % 3000),
                        uint56((random >> 32) % 3000),
                        uint16((random >> 64) % 2)
                    );
            }
            book.readings[slot] = readings;
            book.readingNodes[SLOTS + slot] = keccak256(
                abi.encode(keccak256("peerwatt.readings.leaf.v1"), slot, keccak256(readings), readingSalt(slot))
            );
        }
        for (uint256 i = SLOTS - 1; i != 0; --i) {
            book.readingNodes[i] = readingNode(book.readingNodes[2 * i], book.readingNodes[2 * i + 1]);
        }
        bytes32 root = book.readingNodes[1];
        for (uint256 level = LEDGER_DEPTH; level < READINGS_DEPTH; ++level) {
            root = readingNode(root, 0);
        }
        book.header.readingsRoot = root;
    }

    function _clear(Book memory book) private view {
        uint256 share = shareAt(book.header.period);
        bytes memory totals = abi.encodePacked(uint8(ENERGY_BYTES));
        bytes memory records = "";
        for (uint256 t = 0; t < book.header.intervalCount; ++t) {
            Interval memory energy = _interval(book, t);
            totals = abi.encodePacked(
                totals,
                uint32(energy.demandWh[0]),
                uint32(energy.supplyWh[0]),
                uint32(energy.demandWh[1]),
                uint32(energy.supplyWh[1])
            );
            uint256 demandWh = energy.demandWh[0] + energy.demandWh[1];
            uint256 supplyWh = energy.supplyWh[0] + energy.supplyWh[1];
            uint256 discount = 0;
            uint256 premium = 0;
            if (demandWh != 0 && supplyWh != 0) {
                _optimise(energy);
                records = abi.encodePacked(
                    records,
                    uint32(energy.boughtWh[0]),
                    uint32(energy.soldWh[0]),
                    uint32(energy.boughtWh[1]),
                    uint32(energy.soldWh[1]),
                    int48(energy.priceNano[0]),
                    int48(energy.priceNano[1])
                );
                uint256 matched = energy.boughtWh[0] + energy.boughtWh[1];
                uint256 saved = uint256(IMPORT_PRICE - EXPORT_PRICE) * matched - 2 * ACCESS_FEE * matched - EDGE_FEE
                    * energy.flowWh;
                discount = saved * share / (1_000_000 * demandWh);
                premium = saved * (1_000_000 - share) / (1_000_000 * supplyWh);
                book.networkFeesNano += int256(2 * ACCESS_FEE * matched + EDGE_FEE * energy.flowWh);
                demandWh -= matched;
                supplyWh -= matched;
            }
            book.supplierNano += IMPORT_PRICE * int256(demandWh) - EXPORT_PRICE * int256(supplyWh);
            book.prices = abi.encodePacked(book.prices, uint64(discount), uint64(premium));
        }
        book.clearing = abi.encodePacked(totals, records);
        book.header.pricesHash = keccak256(book.prices);
    }

    function _interval(Book memory book, uint256 t) private pure returns (Interval memory energy) {
        for (uint256 slot = FIRST_MEMBER; slot < SLOTS; ++slot) {
            int256 netWh = _netWh(book.readings[slot], t);
            if (netWh < 0) energy.demandWh[nodeOf(slot)] += uint256(-netWh);
            else energy.supplyWh[nodeOf(slot)] += uint256(netWh);
        }
    }

    function _netWh(bytes memory readings, uint256 t) private pure returns (int256) {
        if (readings.length == 0) return 0;
        (uint256 imported, uint256 exported) = (0, 0);
        for (uint256 i = 0; i < 7; ++i) {
            imported = (imported << 8) | uint8(readings[16 * t + i]);
            exported = (exported << 8) | uint8(readings[16 * t + 7 + i]);
        }
        return int256(exported) - int256(imported);
    }

    /// @dev At home first, then what one node has left over to the other. Prices: whoever is short gets the scarce side's value.
    function _optimise(Interval memory energy) private pure {
        int256 low = EXPORT_PRICE + int256(ACCESS_FEE);
        int256 high = IMPORT_PRICE - int256(ACCESS_FEE);
        int256[2] memory surplus;
        for (uint256 v = 0; v < 2; ++v) {
            surplus[v] = int256(energy.supplyWh[v]) - int256(energy.demandWh[v]);
            energy.boughtWh[v] = energy.soldWh[v] = surplus[v] < 0 ? energy.supplyWh[v] : energy.demandWh[v];
            energy.priceNano[v] = surplus[v] < 0 ? high : low;
        }
        for (uint256 v = 0; v < 2; ++v) {
            if (surplus[v] <= 0 || surplus[1 - v] >= 0) continue;
            int256 missing = -surplus[1 - v];
            energy.flowWh = uint256(surplus[v] < missing ? surplus[v] : missing);
            energy.soldWh[v] += energy.flowWh;
            energy.boughtWh[1 - v] += energy.flowWh;
            if (surplus[v] >= missing) energy.priceNano[1 - v] = low + int256(EDGE_FEE);
            else energy.priceNano[v] = high - int256(EDGE_FEE);
        }
        // A node that needs nothing from outside goes with whatever price the other has.
        for (uint256 v = 0; v < 2; ++v) {
            if (surplus[v] == 0 && surplus[1 - v] != 0) energy.priceNano[v] = energy.priceNano[1 - v];
        }
    }

    function _settle(Book memory book, Book memory previous, Book memory corrected) private view {
        book.header.supplierNano = int128(book.supplierNano);
        book.header.networkFeesNano = int128(book.networkFeesNano);
        int256 membersNano = 0;
        for (uint256 slot = FIRST_MEMBER; slot < SLOTS; ++slot) {
            (book.settledNano[slot], book.outsideNano[slot]) = _amounts(book, slot);
            membersNano += book.settledNano[slot];
        }
        // What is left over goes to the fund: the contract finds the same from the other side.
        book.fundNano = -membersNano - book.supplierNano - book.networkFeesNano;
        book.header.fundNano = int128(book.fundNano);
        book.settledNano[0] = book.supplierNano;
        book.settledNano[1] = book.networkFeesNano;
        book.settledNano[2] = book.fundNano;
        for (uint256 slot = 0; slot < SLOTS; ++slot) {
            book.present[slot] = previous.present[slot] || registry.isActive(slot, book.header.period);
            int256 amountNano = book.settledNano[slot] - corrected.settledNano[slot];
            book.leaves[slot] = LedgerLeaf(
                uint32(slot),
                makeSums(int128(amountNano), int128(int256(previous.leaves[slot].sums.cumulative()) + amountNano)),
                book.readingNodes[SLOTS + slot],
                keccak256(abi.encode("ledger salt", book.header.bundleHash, slot))
            );
        }
    }

    function _amounts(Book memory book, uint256 slot) private pure returns (int256 amountNano, int256 outsideNano) {
        for (uint256 t = 0; t < book.header.intervalCount; ++t) {
            int256 netWh = _netWh(book.readings[slot], t);
            int256 outside = netWh * (netWh < 0 ? IMPORT_PRICE : EXPORT_PRICE);
            uint256 gain = 0;
            for (uint256 i = 0; i < 8; ++i) {
                gain = (gain << 8) | uint8(book.prices[16 * t + (netWh < 0 ? 0 : 8) + i]);
            }
            outsideNano += outside;
            amountNano += outside + int256(gain) * (netWh < 0 ? -netWh : netWh);
        }
    }

    function _levels(uint256 index) private pure returns (uint256 levels) {
        while (index >> (levels + 1) != 0) ++levels;
    }

    function _slice(bytes memory data, uint256 begin, uint256 end) private pure returns (bytes memory part) {
        part = new bytes(end - begin);
        for (uint256 i = begin; i < end; ++i) {
            part[i - begin] = data[i];
        }
    }
}
