// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Who is a member, with which meter, in which group, from when until when
interface IMemberRegistry {
    /// @param account the wallet that owns the slot's money.
    /// @param group index of the (network node, tariff class) group in the tariff; NO_GROUP for an account without meter.
    /// @param fromPeriod first period settled.
    /// @param untilPeriod first period no longer settled; zero while there is none.
    /// @param meter the key that signs the meter's readings.
    /// @param collateralNano what stays in the vault while the account is active.
    struct Member {
        address account;
        uint16 group;
        uint32 fromPeriod;
        uint32 untilPeriod;
        address meter;
        uint96 collateralNano;
    }

    event MemberAdmitted(
        uint256 indexed slot, address indexed account, address indexed meter, uint16 group, uint32 fromPeriod
    );
    event MemberLeft(uint256 indexed slot, uint32 untilPeriod);

    error RegistryFull(uint256 slots);
    error ZeroAccount();
    error MeterInUse(address meter, uint256 slot);
    error UnknownSlot(uint256 slot);
    error LeavesBeforeJoining(uint32 fromPeriod, uint32 untilPeriod);
    error AlreadyLeft(uint256 slot, uint32 untilPeriod);

    /// @notice Admits an account and gives it the next free slot; `untilPeriod` must be zero.
    function admit(Member calldata member) external returns (uint256 slot);

    /// @notice Ends a membership at a period boundary.
    function endMembership(uint256 slot, uint32 untilPeriod) external;

    /// @return number of slots given out.
    function slotCount() external view returns (uint256);

    function memberAt(uint256 slot) external view returns (Member memory);

    /// @return whether the slot is settled in `period`.
    function isActive(uint256 slot, uint256 period) external view returns (bool);
}
