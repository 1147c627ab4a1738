// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {OracleReport} from "../types/OracleReport.sol";

/// @title The meter oracle's signers: k of n make a report
interface IReadingOracle {
    event SignersChanged(bytes32 indexed configDigest, address[] signers, uint256 threshold);

    error BadThreshold(uint256 threshold, uint256 signers);
    error SignersNotAscending(uint256 index);
    error TooManySigners(uint256 count, uint256 limit);
    error WrongConfigDigest(bytes32 given, bytes32 expected);
    error TooFewSignatures(uint256 given, uint256 threshold);
    error UnknownSigner(uint256 index, address signer);
    error SignaturesNotAscending(uint256 index, address signer);

    /// @notice Replaces the signer set.
    /// @param signers addresses in ascending order.
    function setSigners(address[] calldata signers, uint256 threshold) external;

    function signers() external view returns (address[] memory);

    function threshold() external view returns (uint256);

    /// @return what a report must name so that signatures for another chain, oracle, signer set or threshold are worthless here.
    function configDigest() external view returns (bytes32);

    /// @notice Reverts unless at least `threshold` distinct signers signed `report`.
    /// @param signatures 65-byte ECDSA signatures in ascending order of their signers.
    /// @return reportHash EIP-712 struct hash of the report.
    function verify(OracleReport calldata report, bytes[] calldata signatures)
        external
        view
        returns (bytes32 reportHash);
}
