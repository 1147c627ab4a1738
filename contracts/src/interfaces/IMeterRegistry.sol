// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Which key may sign for which member's meter, from when until when
interface IMeterRegistry {
    /// @param slot the member whose energy the meter measures.
    /// @param fromInterval first interval it signs for, since the Unix epoch.
    /// @param untilInterval first interval it no longer signs for; the largest number while there is none.
    struct Meter {
        uint32 slot;
        uint64 fromInterval;
        uint64 untilInterval;
    }

    /// @notice A meter's key was activated.
    event MeterActivated(address indexed meter, uint256 indexed slot, uint64 fromInterval);
    /// @notice A meter's key was revoked: removed, exchanged or stolen.
    event MeterRevoked(address indexed meter, uint256 indexed slot, uint64 untilInterval);

    /// @notice The meter belongs to another slot.
    error MeterInUse(address meter, uint256 slot);
    /// @notice No such meter.
    error UnknownMeter(address meter);
    /// @notice No such slot (also from the registry).
    error UnknownSlot(uint256 slot);
    /// @notice The meter was revoked before.
    error AlreadyRevoked(address meter, uint64 untilInterval);
    /// @notice A meter would end before it begins.
    error EndsBeforeItBegins(uint64 fromInterval, uint64 untilInterval);

    /// @notice Activates meters' keys. A key signs for one slot, once.
    function activate(address[] calldata meters, uint32[] calldata slots, uint64 fromInterval) external;

    /// @notice Revokes a meter's key from an interval on; may lie in the past for a stolen key.
    function revoke(address meter, uint64 untilInterval) external;

    /// @return the meter's record; reverts if there is none.
    function meterAt(address meter) external view returns (Meter memory);
}
