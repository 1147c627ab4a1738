// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {OracleConfig, OracleReport} from "../types/OracleReport.sol";

/// @title The meter oracle's signers: k of n make a report
interface IReadingOracle {
    /// @notice The signer set was replaced; reports under the one before are worth nothing from now on.
    event SignersChanged(bytes32 indexed configDigest, address[] signers, uint256 threshold);

    /// @notice Zero, or more than there are signers.
    error BadThreshold(uint256 threshold, uint256 signers);
    /// @notice The same for a new signer set.
    error SignersNotAscending(uint256 index);
    /// @notice More than 31.
    error TooManySigners(uint256 count, uint256 limit);
    /// @notice Not the signers and threshold in force.
    error WrongConfig(bytes32 given, bytes32 expected);
    /// @notice The report is for another chain, contract, signer set or threshold.
    error WrongConfigDigest(bytes32 given, bytes32 expected);
    /// @notice Fewer than the threshold.
    error TooFewSignatures(uint256 given, uint256 threshold);
    /// @notice A signature of somebody who is no signer, or of other data.
    error UnknownSigner(uint256 index, address signer);
    /// @notice Signatures are not in ascending order of their signers, or one is there twice.
    error SignaturesNotAscending(uint256 index, address signer);

    /// @notice Replaces the signer set.
    /// @param config addresses in ascending order and how many of them make a report.
    function setSigners(OracleConfig calldata config) external;

    /// @return the signers, ascending.
    function signers() external view returns (address[] memory);

    /// @return how many of them make a report.
    function threshold() external view returns (uint256);

    /// @return what a report must name so that signatures for another chain, community, oracle, signer set or threshold are
    /// worthless here.
    function configDigest() external view returns (bytes32);

    /// @notice Reverts unless at least `threshold` distinct signers signed `report`.
    /// @param config the configuration in force.
    /// @param signatures 65-byte ECDSA signatures in ascending order of their signers.
    /// @return reportHash EIP-712 struct hash of the report.
    function verify(OracleReport calldata report, OracleConfig calldata config, bytes[] calldata signatures)
        external
        view
        returns (bytes32 reportHash);
}
