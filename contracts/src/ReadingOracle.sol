// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IReadingOracle} from "./interfaces/IReadingOracle.sol";
import {OracleReport} from "./types/OracleReport.sol";

/// @title The meter oracle: k of n signers
contract ReadingOracle is IReadingOracle, AccessManaged, EIP712 {
    uint256 public constant MAX_SIGNERS = 31;
    bytes32 private constant CONFIG_TAG = keccak256("peerwatt.oracle.config.v1");

    address[] private _signers;
    uint256 private _threshold;
    bytes32 private _configDigest;

    constructor(address authority, address[] memory initialSigners, uint256 initialThreshold)
        AccessManaged(authority)
        EIP712("Peerwatt", "1")
    {
        _setSigners(initialSigners, initialThreshold);
    }

    /// @inheritdoc IReadingOracle
    function setSigners(address[] calldata newSigners, uint256 newThreshold) external restricted {
        _setSigners(newSigners, newThreshold);
    }

    /// @inheritdoc IReadingOracle
    function signers() external view returns (address[] memory) {
        return _signers;
    }

    /// @inheritdoc IReadingOracle
    function threshold() external view returns (uint256) {
        return _threshold;
    }

    /// @inheritdoc IReadingOracle
    function configDigest() external view returns (bytes32) {
        return _configDigest;
    }

    /// @inheritdoc IReadingOracle
    function verify(OracleReport calldata report, bytes[] calldata signatures)
        external
        view
        returns (bytes32 reportHash)
    {
        if (report.configDigest != _configDigest) revert WrongConfigDigest(report.configDigest, _configDigest);
        if (signatures.length < _threshold) revert TooFewSignatures(signatures.length, _threshold);
        reportHash = report.structHash();
        bytes32 digest = _hashTypedDataV4(reportHash);
        address[] memory known = _signers;
        address previous = address(0);
        uint256 next = 0;
        for (uint256 i = 0; i < signatures.length; ++i) {
            address signer = ECDSA.recover(digest, signatures[i]);
            // Ascending order makes a signer count once.
            if (signer <= previous) revert SignaturesNotAscending(i, signer);
            previous = signer;
            while (next < known.length && known[next] < signer) ++next;
            if (next == known.length || known[next] != signer) revert UnknownSigner(i, signer);
        }
    }

    function _setSigners(address[] memory newSigners, uint256 newThreshold) private {
        if (newSigners.length > MAX_SIGNERS) revert TooManySigners(newSigners.length, MAX_SIGNERS);
        if (newThreshold == 0 || newThreshold > newSigners.length) revert BadThreshold(newThreshold, newSigners.length);
        address previous = address(0);
        for (uint256 i = 0; i < newSigners.length; ++i) {
            if (newSigners[i] <= previous) revert SignersNotAscending(i);
            previous = newSigners[i];
        }
        _signers = newSigners;
        _threshold = newThreshold;
        _configDigest = keccak256(abi.encode(CONFIG_TAG, block.chainid, address(this), newThreshold, newSigners));
        emit SignersChanged(_configDigest, newSigners, newThreshold);
    }
}
