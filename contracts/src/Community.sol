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
        _requireFrom(clearingHouse.firstFuturePeriod(), period);
    }

    /// @dev Reverts unless members and tariffs can still be set up for `period`.
    /// @return first period of which that is so.
    function _requireOpen(uint256 period) internal view returns (uint256 first) {
        first = clearingHouse.firstOpenPeriod();
        _requireFrom(first, period);
    }

    function _requireFrom(uint256 first, uint256 period) private pure {
        if (period < first) revert PeriodBegun(period, first);
    }
}
