// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IClearingHouse} from "./IClearingHouse.sol";

/// @title A part of one community
interface ICommunity {
    /// @notice A change was to take effect in a period that may have begun.
    error PeriodBegun(uint256 period, uint256 firstPossiblePeriod);

    /// @return the clearing house whose community this is a part of.
    function clearingHouse() external view returns (IClearingHouse);
}
