// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IClearingHouse} from "./interfaces/IClearingHouse.sol";
import {ICommunity} from "./interfaces/ICommunity.sol";

/// @title A part of one community, bound to its clearing house for good
/// @dev The clearing house is deployed last, at an address known beforehand, and refuses parts that name another.
abstract contract Community is ICommunity {
    /// @inheritdoc ICommunity
    IClearingHouse public immutable clearingHouse;

    constructor(address clearingHouse_) {
        clearingHouse = IClearingHouse(clearingHouse_);
    }

    /// @dev Reverts unless `period` has not begun.
    function _requireFuture(uint256 period) internal view {
        uint256 first = clearingHouse.firstFuturePeriod();
        if (period < first) revert PeriodBegun(period, first);
    }
}
