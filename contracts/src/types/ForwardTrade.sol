// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice What both sides of a trade agree on before delivery (EIP-712).
/// @param interval index since the Unix epoch.
/// @param sellerSlot who sells.
/// @param buyerSlot who buys.
/// @param energyWh how much.
/// @param priceNanoPerWh what the buyer pays and the seller receives, network fee apart.
/// @param feeNanoPerWh the network fee; the seller bears half of it rounded down, the buyer the rest.
struct ForwardTrade {
    uint64 interval;
    uint32 sellerSlot;
    uint32 buyerSlot;
    uint64 energyWh;
    int64 priceNanoPerWh;
    uint64 feeNanoPerWh;
}

/// @notice A trade as it stands in a trade book.
/// @param terms what was agreed.
/// @param sellerSignature the seller's, over the terms' EIP-712 digest, or what the coordinator took for it.
/// @param buyerSignature the buyer's.
/// @param salt 32 bytes that keep the leaf from being guessed.
struct SignedTrade {
    ForwardTrade terms;
    bytes sellerSignature;
    bytes buyerSignature;
    bytes32 salt;
}

using {structHash} for ForwardTrade global;
using {leaf} for SignedTrade global;

bytes32 constant FORWARD_TRADE_TYPEHASH = keccak256(
    "ForwardTrade(uint64 interval,uint32 sellerSlot,uint32 buyerSlot,uint64 energyWh,int64 priceNanoPerWh,uint64 feeNanoPerWh)"
);
bytes32 constant FORWARD_LEAF_TAG = keccak256("peerwatt.forward.leaf.v1");

/// @return the EIP-712 struct hash.
function structHash(ForwardTrade memory self) pure returns (bytes32) {
    return keccak256(abi.encode(FORWARD_TRADE_TYPEHASH, self));
}

/// @dev Commits to both signatures: that one of them is none can be shown by the leaf alone.
function leaf(SignedTrade memory self) pure returns (bytes32) {
    return keccak256(
        abi.encode(
            FORWARD_LEAF_TAG,
            self.terms.structHash(),
            keccak256(self.sellerSignature),
            keccak256(self.buyerSignature),
            self.salt
        )
    );
}
