// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Certificate} from "../src/libraries/Certificate.sol";
import {EdgeTariff, GroupTariff, Tariff} from "../src/types/Tariff.sol";
import {CertificateReference} from "./support/CertificateReference.sol";
import {bound, vm} from "./support/Vm.sol";

interface IHarness {
    function verifyCertificates(Tariff calldata tariff, bytes calldata clearing, uint256 count)
        external
        view
        returns (Certificate.Totals memory);
}

interface IVerifier {
    function verify(Tariff calldata tariff, bytes calldata clearing, uint256 count)
        external
        view
        returns (Certificate.Totals memory);
}

/// @title The certificate in assembly and the one in plain words agree: on every sum, every hash and every refusal
contract CertificateTest {
    int256 private constant PRICE_LIMIT = 2 ** 40;

    IVerifier private _reference;
    IHarness private _harness;

    struct Draw {
        uint256 seed;
        uint256 drawn;
    }

    function setUp() external {
        _reference = IVerifier(address(new CertificateReference()));
        _harness = IHarness(vm.deployCode("artifacts/LibraryHarness.json", ""));
    }

    /// @dev Everything is matched at home at prices between all offers, so it is optimal: sums and hashes count.
    function testFuzz_OptimalClearings(uint256 seed, bool largest) external view {
        Draw memory draw = Draw(seed, 0);
        Tariff memory tariff = _tariff(draw, true);
        uint256 width = _in(draw, 2, 8);
        uint256 count = largest ? 300 : _in(draw, 1, 12);
        if (largest && draw.drawn % 8 != 0) count = 30;
        bytes memory totals = abi.encodePacked(uint8(width));
        bytes memory records = "";
        for (uint256 t = 0; t < count; ++t) {
            bytes memory pairs = "";
            bool any = false;
            for (uint256 g = 0; g < tariff.groups.length; ++g) {
                uint256 energyWh = largest ? 2 ** (8 * width) - 1 : _in(draw, 0, 2 ** (8 * width) - 1);
                if (!largest && draw.drawn % 3 == 0) energyWh = 0;
                any = any || energyWh != 0;
                pairs = abi.encodePacked(pairs, _bytes(energyWh, width), _bytes(energyWh, width));
            }
            totals = abi.encodePacked(totals, pairs);
            if (any) records = abi.encodePacked(records, pairs, _prices(tariff, 0), new bytes(8 * tariff.chordCount));
        }
        bytes memory clearing = abi.encodePacked(totals, records);
        vm.assertTrue(_agree(tariff, clearing, count), "refused");
    }

    /// @dev Balanced, within the fees, and as good as never optimal: the gap in the refusal shows both sums.
    function testFuzz_TheGapIsTheSame(uint256 seed) external view {
        Draw memory draw = Draw(seed, 0);
        Tariff memory tariff = _tariff(draw, false);
        uint256 width = _in(draw, 2, 8);
        bytes memory totals = abi.encodePacked(uint8(width));
        bytes memory record = "";
        for (uint256 g = 0; g < tariff.groups.length; ++g) {
            uint256 matched = _in(draw, 0, 2 ** (8 * width - 2));
            uint256 demandWh = matched + _in(draw, 0, 2 ** (8 * width - 2));
            uint256 supplyWh = matched + _in(draw, 0, 2 ** (8 * width - 2));
            totals = abi.encodePacked(totals, _bytes(demandWh, width), _bytes(supplyWh, width));
            record = abi.encodePacked(record, _bytes(matched, width), _bytes(matched, width));
        }
        record = abi.encodePacked(record, _prices(tariff, int256(_in(draw, 0, 2 ** 41)) - PRICE_LIMIT));
        for (uint256 e = 0; e < tariff.chordCount; ++e) {
            record = abi.encodePacked(record, int64(uint64(_in(draw, 0, 1) * draw.drawn)));
        }
        _agree(tariff, abi.encodePacked(totals, record), 1);
    }

    /// @dev Any bytes at all.
    function testFuzz_NoiseIsRefusedAlike(uint256 seed, bytes memory noise, bool cut) external view {
        Draw memory draw = Draw(seed, 0);
        Tariff memory tariff = _tariff(draw, false);
        uint256 width = _in(draw, 1, 9);
        uint256 groupBytes = 2 * width * tariff.groups.length;
        uint256 length = 1 + 2 * groupBytes + 6 * tariff.nodeCount + 8 * tariff.chordCount;
        bytes memory clearing = new bytes(cut ? _in(draw, 0, length + 2) : length);
        for (uint256 i = 0; i < clearing.length; ++i) {
            clearing[i] = noise.length == 0 ? bytes1(uint8(draw.seed >> (i % 32))) : noise[i % noise.length];
        }
        if (clearing.length != 0) clearing[0] = bytes1(uint8(width));
        _agree(tariff, clearing, 1);
    }

    function _agree(Tariff memory tariff, bytes memory clearing, uint256 count) private view returns (bool) {
        (bool ours, bytes memory answer) =
            address(_harness).staticcall(abi.encodeCall(IHarness.verifyCertificates, (tariff, clearing, count)));
        (bool theirs, bytes memory expected) =
            address(_reference).staticcall(abi.encodeCall(IVerifier.verify, (tariff, clearing, count)));
        vm.assertEq(answer, expected, "answers differ");
        vm.assertTrue(ours == theirs, "verdicts differ");
        return ours;
    }

    /// @param wide whether every group buys above and sells below zero, so that matching at home at price zero is optimal.
    function _tariff(Draw memory draw, bool wide) private pure returns (Tariff memory tariff) {
        uint32 nodes = uint32(_in(draw, 1, 5));
        uint32 chords = nodes < 3 ? 0 : uint32(_in(draw, 0, 2));
        tariff = Tariff(
            uint32(_in(draw, 0, 1_000_000)),
            nodes,
            chords,
            new GroupTariff[](_in(draw, 1, 9)),
            new EdgeTariff[](chords + nodes - 1)
        );
        for (uint256 g = 0; g < tariff.groups.length; ++g) {
            uint256 access = _in(draw, 0, wide ? 1000 : 2 ** 40 - 1);
            int256 r = int256(_in(draw, 1000, 2 ** 40 - 1));
            int256 f = wide ? -int256(_in(draw, 1000, 2 ** 40 - 1)) : r - int256(_in(draw, 0, 2 ** 40 - 1));
            tariff.groups[g] = GroupTariff.wrap(
                bytes32(
                    (uint256(uint64(int64(r))) << 192) | (uint256(uint64(int64(f))) << 128) | (access << 64)
                        | ((g * nodes / tariff.groups.length) << 32) | g
                )
            );
        }
        for (uint256 e = 0; e < tariff.edges.length; ++e) {
            // Chords anywhere; then each node hangs on one with a lower number, the highest first.
            uint256 from = e < chords ? _in(draw, 0, nodes - 1) : nodes - 1 - (e - chords);
            uint256 to = e < chords ? _in(draw, 0, nodes - 1) : _in(draw, 0, from - 1);
            tariff.edges[e] = EdgeTariff.wrap(bytes32((from << 224) | (to << 192) | (_in(draw, 0, 2 ** 40 - 1) << 128)));
        }
    }

    function _prices(Tariff memory tariff, int256 price) private pure returns (bytes memory prices) {
        for (uint256 v = 0; v < tariff.nodeCount; ++v) {
            prices = abi.encodePacked(prices, int48(price));
        }
    }

    function _bytes(uint256 value, uint256 width) private pure returns (bytes memory field) {
        field = new bytes(width);
        for (uint256 i = 0; i < width; ++i) {
            field[width - 1 - i] = bytes1(uint8(value >> (8 * i)));
        }
    }

    function _in(Draw memory draw, uint256 low, uint256 high) private pure returns (uint256) {
        draw.seed = uint256(keccak256(abi.encode(draw.seed)));
        return bound(draw.drawn = draw.seed >> 64, low, high);
    }
}
