// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IClearingHouse} from "../src/interfaces/IClearingHouse.sol";
import {TestCommunity} from "./support/TestCommunity.sol";
import {vm} from "./support/Vm.sol";

/// @title What a community cannot be founded with
contract FoundingTest is TestCommunity {
    bytes4 private constant BAD = IClearingHouse.BadParameters.selector;
    bytes4 private constant FOREIGN = IClearingHouse.NotOfThisCommunity.selector;

    /// @dev What a part is made with that should be of this community and is not.
    enum Foreign {
        None,
        Registry,
        TariffBook,
        ReadingOracle,
        Vault,
        Challenges,
        RegistryOfVault,
        RegistryOfChallenges,
        VaultOfChallenges,
        ChallengeSeconds,
        DemandBond
    }

    function setUp() public {
        _found(6, 0);
    }

    function test_ParametersThatCannotWork() public {
        IClearingHouse.Parameters memory given = parameters();
        vm.assertTrue(_refusal(given, Foreign.None) == 0, "honest");
        given.firstPeriod = 0;
        _expect(given, Foreign.None, BAD);
        given = parameters();
        given.intervalSeconds = 0;
        _expect(given, Foreign.None, BAD);
        given = parameters();
        given.shortestPeriodSeconds = 0;
        _expect(given, Foreign.None, BAD);
        given = parameters();
        given.freezeSeconds = given.challengeSeconds + given.shortestPeriodSeconds;
        _expect(given, Foreign.None, BAD);
        ++given.freezeSeconds;
        vm.assertTrue(_refusal(given, Foreign.None) == 0, "just long enough");
        given.challengeSeconds = 2;
        _expect(given, Foreign.None, BAD);
        given.challengeSeconds = 3;
        vm.assertTrue(_refusal(given, Foreign.None) == 0, "three seconds have thirds");
    }

    function test_TheParametersAreTheOnesGiven() public view {
        bytes32 kept = keccak256(abi.encode(clearingHouse.parameters()));
        vm.assertEq(kept, keccak256(abi.encode(parameters())), "parameters");
    }

    function test_PartsOfAnotherCommunity() public {
        for (uint256 i = 1; i <= uint256(type(Foreign).max); ++i) {
            _expect(parameters(), Foreign(i), i < uint256(Foreign.ChallengeSeconds) ? FOREIGN : BAD);
        }
    }

    function _expect(IClearingHouse.Parameters memory given, Foreign foreign, bytes4 selector) private {
        vm.assertEq(bytes32(_refusal(given, foreign)), bytes32(selector), "refusal");
    }

    /// @return selector of the error; zero if the clearing house was made.
    function _refusal(IClearingHouse.Parameters memory given, Foreign foreign) private returns (bytes4 selector) {
        uint256 parts = 5;
        if (foreign != Foreign.None && foreign <= Foreign.Challenges) --parts;
        address house = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + parts);
        address[5] memory made =
            [address(registry), address(tariffBook), address(readingOracle), address(vault), address(challenges)];
        if (foreign != Foreign.Registry) {
            made[0] = vm.deployCode(
                "artifacts/MemberRegistry.json",
                abi.encode(
                    authority, house, [accountOf(0), accountOf(1), accountOf(2)], FIRST_PERIOD, COLLATERAL_STEP_NANO
                )
            );
        }
        if (foreign != Foreign.TariffBook) {
            made[1] = vm.deployCode("artifacts/TariffBook.json", abi.encode(authority, house));
        }
        if (foreign != Foreign.ReadingOracle) {
            made[2] = vm.deployCode("artifacts/ReadingOracle.json", abi.encode(authority, house, oracleConfig()));
        }
        if (foreign != Foreign.Vault) {
            address named = foreign == Foreign.RegistryOfVault ? address(registry) : made[0];
            made[3] = vm.deployCode("artifacts/Vault.json", abi.encode(token, house, named));
        }
        if (foreign != Foreign.Challenges) {
            made[4] = vm.deployCode(
                "artifacts/Challenges.json",
                abi.encode(
                    house,
                    foreign == Foreign.RegistryOfChallenges ? address(registry) : made[0],
                    foreign == Foreign.VaultOfChallenges ? address(vault) : made[3],
                    given.challengeSeconds + (foreign == Foreign.ChallengeSeconds ? 1 : 0),
                    given.demandBondWei + (foreign == Foreign.DemandBond ? 1 : 0)
                )
            );
        }
        bytes memory code = abi.encodePacked(
            vm.getCode("artifacts/ClearingHouse.json"),
            abi.encode(authority, made[0], made[1], made[2], made[3], made[4], given)
        );
        // SAFETY: writes to scratch space only.
        assembly ("memory-safe") {
            if iszero(create(0, add(code, 0x20), mload(code))) {
                mstore(0, 0)
                returndatacopy(0, 0, 4)
                selector := mload(0)
            }
        }
    }
}
