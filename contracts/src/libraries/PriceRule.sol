// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title savings-share: the price rule whose prices follow from totals alone
/// @notice Every buyer pays `discount` less per Wh than outside, every seller earns `premium` more.
library PriceRule {
    uint256 internal constant MILLION = 1_000_000;

    /// @param savingsNano what the clearing saved against everybody buying and selling outside.
    /// @param demandWh total deficit of all groups.
    /// @param supplyWh total surplus of all groups.
    /// @param shareMillionths the buyers' share, at most one million.
    /// @return discount nano per Wh off the outside import price.
    /// @return premium nano per Wh on top of the outside export price.
    function savingsShare(uint256 savingsNano, uint256 demandWh, uint256 supplyWh, uint256 shareMillionths)
        internal
        pure
        returns (uint256 discount, uint256 premium)
    {
        // SAFETY: savings are below 2^126 (Certificate), the share at most a million, energies below 2^76.
        unchecked {
            if (demandWh != 0) discount = (savingsNano * shareMillionths) / (MILLION * demandWh);
            if (supplyWh != 0) premium = (savingsNano * (MILLION - shareMillionths)) / (MILLION * supplyWh);
        }
    }
}
