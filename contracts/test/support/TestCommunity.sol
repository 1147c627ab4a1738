// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {IChallenges} from "../../src/interfaces/IChallenges.sol";
import {IClearingHouse} from "../../src/interfaces/IClearingHouse.sol";
import {IMemberRegistry} from "../../src/interfaces/IMemberRegistry.sol";
import {IReadingOracle} from "../../src/interfaces/IReadingOracle.sol";
import {ITariffBook} from "../../src/interfaces/ITariffBook.sol";
import {IVault} from "../../src/interfaces/IVault.sol";
import {OracleConfig} from "../../src/types/OracleReport.sol";
import {EdgeTariff, GroupTariff, Tariff} from "../../src/types/Tariff.sol";
import {vm} from "./Vm.sol";

interface ITestToken is IERC20Metadata {
    function mint(address to, uint256 tokens) external;
    function nonces(address owner) external view returns (uint256);
    function DOMAIN_SEPARATOR() external view returns (bytes32);
}

interface IEIP712 {
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        );
}

/// @title A community of three or four members at two nodes, deployed from the compiled artifacts
/// @dev Through artifacts and interfaces, so that a change in one contract compiles that contract and not the tests.
abstract contract TestCommunity {
    uint64 internal constant FIRST_PERIOD = 20_000;
    uint64 internal constant FIRST_INTERVAL = 2_000_000;
    uint32 internal constant INTERVAL_SECONDS = 900;
    uint32 internal constant CHALLENGE_SECONDS = 3 hours;
    uint32 internal constant CORRECTION_SECONDS = 1 days;
    uint32 internal constant FREEZE_SECONDS = 2 days;
    uint96 internal constant BOND_WEI = 1 ether;
    uint96 internal constant DEMAND_BOND_WEI = 0.01 ether;
    uint256 internal constant COLLATERAL_STEP_NANO = 1e9;

    uint64 internal constant COORDINATOR_ROLE = 1;
    uint64 internal constant GOVERNOR_ROLE = 2;

    int256 internal constant IMPORT_PRICE = 300_000;
    int256 internal constant EXPORT_PRICE = 80_000;
    uint256 internal constant ACCESS_FEE = 10_000;
    uint256 internal constant EDGE_FEE = 40_000;
    uint32 internal constant SHARE_MILLIONTHS = 400_000;

    uint256 internal constant FIRST_MEMBER = 3;
    uint256 internal constant MEMBERS = 3;
    uint256 internal constant SIGNERS = 3;
    uint256 internal constant THRESHOLD = 2;

    address internal immutable coordinator = vm.addr(0xC0);
    address internal immutable governor = vm.addr(0x60);
    address internal immutable guarantor = vm.addr(0x6A);
    address internal immutable watcher = vm.addr(0x3A);

    IAccessManager internal authority;
    ITestToken internal token;
    IMemberRegistry internal registry;
    ITariffBook internal tariffBook;
    IReadingOracle internal readingOracle;
    IVault internal vault;
    IChallenges internal challenges;
    IClearingHouse internal clearingHouse;

    uint256[] private _signerKeys;
    /// @dev Buyers' shares of the tariffs announced, and from which period on.
    uint64[] private _tariffsFrom;
    uint32[] private _shares;

    function _found(uint8 decimals, uint8 collateralSteps) internal {
        vm.warp(uint256(FIRST_INTERVAL) * INTERVAL_SECONDS);
        _signerKeys = _keysInOrder(0);
        authority = IAccessManager(vm.deployCode("artifacts/AccessManager.json", abi.encode(address(this))));
        token = ITestToken(vm.deployCode("artifacts/TestToken.json", abi.encode(decimals)));
        // Registry, tariffs, oracle, vault and challenges come before it.
        address house = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 5);
        registry = IMemberRegistry(
            vm.deployCode(
                "artifacts/MemberRegistry.json",
                abi.encode(
                    authority, house, [accountOf(0), accountOf(1), accountOf(2)], FIRST_PERIOD, COLLATERAL_STEP_NANO
                )
            )
        );
        tariffBook = ITariffBook(vm.deployCode("artifacts/TariffBook.json", abi.encode(authority, house)));
        readingOracle =
            IReadingOracle(vm.deployCode("artifacts/ReadingOracle.json", abi.encode(authority, house, oracleConfig())));
        vault = IVault(vm.deployCode("artifacts/Vault.json", abi.encode(token, house, registry)));
        challenges = IChallenges(
            vm.deployCode(
                "artifacts/Challenges.json", abi.encode(house, registry, vault, CHALLENGE_SECONDS, DEMAND_BOND_WEI)
            )
        );
        clearingHouse = IClearingHouse(
            vm.deployCode(
                "artifacts/ClearingHouse.json",
                abi.encode(authority, registry, tariffBook, readingOracle, vault, challenges, parameters())
            )
        );
        vm.assertEq(address(clearingHouse), house, "address known beforehand");
        _assignRoles();
        vm.prank(governor);
        tariffBook.announce(newTariff(FIRST_PERIOD, SHARE_MILLIONTHS), FIRST_PERIOD);
        for (uint256 slot = FIRST_MEMBER; slot < FIRST_MEMBER + MEMBERS; ++slot) {
            _admit(slot, uint32(FIRST_PERIOD), collateralSteps);
        }
    }

    function _assignRoles() private {
        bytes4[] memory selectors = new bytes4[](3);
        selectors[0] = IClearingHouse.submitBatch.selector;
        selectors[1] = IClearingHouse.submitCorrection.selector;
        selectors[2] = IClearingHouse.postBond.selector;
        authority.setTargetFunctionRole(address(clearingHouse), selectors, COORDINATOR_ROLE);
        authority.grantRole(COORDINATOR_ROLE, coordinator, 0);
        selectors = new bytes4[](2);
        selectors[0] = IMemberRegistry.admit.selector;
        selectors[1] = IMemberRegistry.endMembership.selector;
        authority.setTargetFunctionRole(address(registry), selectors, GOVERNOR_ROLE);
        selectors = new bytes4[](1);
        selectors[0] = ITariffBook.announce.selector;
        authority.setTargetFunctionRole(address(tariffBook), selectors, GOVERNOR_ROLE);
        selectors[0] = IReadingOracle.setSigners.selector;
        authority.setTargetFunctionRole(address(readingOracle), selectors, GOVERNOR_ROLE);
        authority.grantRole(GOVERNOR_ROLE, governor, 0);
    }

    function _admit(uint256 slot, uint32 fromPeriod, uint8 collateralSteps) internal {
        (IMemberRegistry.Member memory member, bytes memory consent) = membership(slot, fromPeriod, collateralSteps);
        vm.prank(governor);
        registry.admit(slot, member, consent);
    }

    function membership(uint256 slot, uint32 fromPeriod, uint8 collateralSteps)
        internal
        view
        returns (IMemberRegistry.Member memory member, bytes memory consent)
    {
        member = IMemberRegistry.Member(accountOf(slot), fromPeriod, 0, nodeOf(slot), 0, collateralSteps);
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "Membership(uint256 slot,address account,uint32 fromPeriod,uint16 node,uint8 tariffClass,uint8 collateralSteps)"
                ),
                slot,
                member.account,
                member.fromPeriod,
                member.node,
                member.tariffClass,
                member.collateralSteps
            )
        );
        consent = signature(keyOf(slot), typedDigest(address(registry), structHash));
    }

    function parameters() internal pure returns (IClearingHouse.Parameters memory) {
        return IClearingHouse.Parameters(
            FIRST_PERIOD,
            FIRST_INTERVAL,
            INTERVAL_SECONDS,
            2 * INTERVAL_SECONDS,
            CHALLENGE_SECONDS,
            CORRECTION_SECONDS,
            FREEZE_SECONDS,
            BOND_WEI,
            DEMAND_BOND_WEI
        );
    }

    /// @dev The tariff that is in force in `period`.
    function tariffAt(uint64 period) internal view returns (Tariff memory) {
        return _tariff(shareAt(period));
    }

    function shareAt(uint64 period) internal view returns (uint32) {
        uint256 i = _tariffsFrom.length - 1;
        while (_tariffsFrom[i] > period) --i;
        return _shares[i];
    }

    /// @dev To be announced for the periods from `fromPeriod` on.
    function newTariff(uint64 fromPeriod, uint32 shareMillionths) internal returns (Tariff memory) {
        _tariffsFrom.push(fromPeriod);
        _shares.push(shareMillionths);
        return _tariff(shareMillionths);
    }

    function lastTariffFrom() internal view returns (uint64) {
        return _tariffsFrom[_tariffsFrom.length - 1];
    }

    /// @dev Both groups have the same prices, so trading at home first is optimal; node 1 hangs on node 0.
    function _tariff(uint32 shareMillionths) private pure returns (Tariff memory result) {
        result = Tariff(shareMillionths, 2, 0, new GroupTariff[](2), new EdgeTariff[](1));
        for (uint256 node = 0; node < 2; ++node) {
            result.groups[node] = GroupTariff.wrap(
                bytes32(
                    (uint256(IMPORT_PRICE) << 192) | (uint256(EXPORT_PRICE) << 128) | (ACCESS_FEE << 64) | (node << 32)
                )
            );
        }
        result.edges[0] = EdgeTariff.wrap(bytes32((uint256(1) << 224) | (EDGE_FEE << 128)));
    }

    function oracleConfig() internal view returns (OracleConfig memory config) {
        config = OracleConfig(THRESHOLD, new address[](SIGNERS));
        for (uint256 i = 0; i < SIGNERS; ++i) {
            config.signers[i] = vm.addr(_signerKeys[i]);
        }
    }

    /// @dev Other signers, to be appointed.
    function newSigners(uint256 seed) internal returns (OracleConfig memory) {
        _signerKeys = _keysInOrder(seed);
        return oracleConfig();
    }

    /// @dev Signatures of the first signers, as many as it takes.
    function signedByOracle(bytes32 structHash) internal view returns (bytes[] memory signatures) {
        signatures = new bytes[](THRESHOLD);
        for (uint256 i = 0; i < THRESHOLD; ++i) {
            signatures[i] = signature(_signerKeys[i], typedDigest(address(readingOracle), structHash));
        }
    }

    function signature(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function typedDigest(address verifier, bytes32 structHash) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Peerwatt"),
                keccak256("1"),
                block.chainid,
                verifier
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function nodeOf(uint256 slot) internal pure returns (uint16) {
        return uint16((slot - FIRST_MEMBER) % 2);
    }

    function keyOf(uint256 slot) internal pure returns (uint256) {
        return 0xACC0 + slot;
    }

    function accountOf(uint256 slot) internal pure returns (address) {
        return vm.addr(keyOf(slot));
    }

    function _keysInOrder(uint256 seed) private pure returns (uint256[] memory keys) {
        keys = new uint256[](SIGNERS);
        for (uint256 i = 0; i < SIGNERS; ++i) {
            uint256 key = 0x0AC1E + SIGNERS * seed + i;
            uint256 j = i;
            for (; j != 0 && vm.addr(keys[j - 1]) > vm.addr(key); --j) {
                keys[j] = keys[j - 1];
            }
            keys[j] = key;
        }
    }
}
