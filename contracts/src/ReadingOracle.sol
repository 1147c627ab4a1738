// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Community} from "./Community.sol";
import {IReadingOracle} from "./interfaces/IReadingOracle.sol";
import {OracleConfig, OracleReport} from "./types/OracleReport.sol";

/// @title The meter oracle: k of n signers
contract ReadingOracle is IReadingOracle, AccessManaged, EIP712, Community {
    uint256 public constant MAX_SIGNERS = 31;
    bytes32 private constant CONFIG_TAG = keccak256("peerwatt.oracle.config.v2");

    OracleConfig private _config;
    bytes32 private _configDigest;

    constructor(address authority, address clearingHouse_, OracleConfig memory config)
        AccessManaged(authority)
        EIP712("Peerwatt", "1")
        Community(clearingHouse_)
    {
        _setSigners(config);
    }

    /// @inheritdoc IReadingOracle
    function setSigners(OracleConfig calldata config) external restricted {
        _setSigners(config);
    }

    /// @inheritdoc IReadingOracle
    function signers() external view returns (address[] memory) {
        return _config.signers;
    }

    /// @inheritdoc IReadingOracle
    function threshold() external view returns (uint256) {
        return _config.threshold;
    }

    /// @inheritdoc IReadingOracle
    function configDigest() external view returns (bytes32) {
        return _configDigest;
    }

    /// @inheritdoc IReadingOracle
    function verify(OracleReport calldata report, OracleConfig calldata config, bytes[] calldata signatures)
        external
        view
        returns (bytes32 reportHash)
    {
        bytes32 expected = _configDigest;
        bytes32 given = _digestOf(config);
        if (given != expected) revert WrongConfig(given, expected);
        if (report.configDigest != expected) revert WrongConfigDigest(report.configDigest, expected);
        if (signatures.length < config.threshold) revert TooFewSignatures(signatures.length, config.threshold);
        reportHash = report.structHash();
        bytes32 digest = _hashTypedDataV4(reportHash);
        address previous = address(0);
        uint256 next = 0;
        for (uint256 i = 0; i < signatures.length; ++i) {
            address signer = ECDSA.recoverCalldata(digest, signatures[i]);
            // Ascending order makes a signer count once.
            if (signer <= previous) revert SignaturesNotAscending(i, signer);
            previous = signer;
            while (next < config.signers.length && config.signers[next] < signer) ++next;
            if (next == config.signers.length || config.signers[next] != signer) revert UnknownSigner(i, signer);
        }
    }

    function _setSigners(OracleConfig memory config) private {
        uint256 count = config.signers.length;
        if (count > MAX_SIGNERS) revert TooManySigners(count, MAX_SIGNERS);
        if (config.threshold == 0 || config.threshold > count) revert BadThreshold(config.threshold, count);
        address previous = address(0);
        for (uint256 i = 0; i < count; ++i) {
            if (config.signers[i] <= previous) revert SignersNotAscending(i);
            previous = config.signers[i];
        }
        _config = config;
        _configDigest = _digestOf(config);
        emit SignersChanged(_configDigest, config.signers, config.threshold);
    }

    function _digestOf(OracleConfig memory config) private view returns (bytes32) {
        return keccak256(
            abi.encode(
                CONFIG_TAG, block.chainid, address(clearingHouse), address(this), config.threshold, config.signers
            )
        );
    }
}
