// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice What k of n oracle signers state about one period (EIP-712).
/// @param period consecutive number of the period.
/// @param version 0 for the first report of the period, one more for each correction.
/// @param firstInterval index since the Unix epoch of the period's first interval.
/// @param intervalCount number of intervals (92, 96 or 100 quarter-hours in a local day).
/// @param readingsRoot root of the positional tree of salted reading leaves, one per member slot.
/// @param totalsHash keccak256 of the group totals (docs/protocol.md, "Group totals").
/// @param configDigest which chain, community, oracle contract, signers and threshold the signers mean.
struct OracleReport {
    uint64 period;
    uint32 version;
    uint64 firstInterval;
    uint32 intervalCount;
    bytes32 readingsRoot;
    bytes32 totalsHash;
    bytes32 configDigest;
}

/// @notice Who can make a report. Submitters bring it along: reading it from storage would cost more than hashing it.
/// @param threshold how many signatures it takes.
/// @param signers addresses in ascending order.
struct OracleConfig {
    uint256 threshold;
    address[] signers;
}

using {structHash} for OracleReport global;

bytes32 constant ORACLE_REPORT_TYPEHASH = keccak256(
    "OracleReport(uint64 period,uint32 version,uint64 firstInterval,uint32 intervalCount,bytes32 readingsRoot,bytes32 totalsHash,bytes32 configDigest)"
);

/// @return the EIP-712 struct hash.
function structHash(OracleReport memory self) pure returns (bytes32) {
    return keccak256(abi.encode(ORACLE_REPORT_TYPEHASH, self));
}
