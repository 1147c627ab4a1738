// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IMemberRegistry} from "./interfaces/IMemberRegistry.sol";
import {SumTree} from "./libraries/SumTree.sol";

/// @title The members, by slot
/// @dev A slot is never reused: a member that moves to another node or tariff class leaves and gets a new slot, so that
/// the slot alone says which group any past period was billed in.
contract MemberRegistry is IMemberRegistry, AccessManaged {
    /// @notice Group of accounts without a meter: supplier, DSO, fund.
    uint16 public constant NO_GROUP = type(uint16).max;

    mapping(uint256 slot => Member) private _members;
    /// @dev slot + 1, so that zero means none.
    mapping(address meter => uint256) private _slotOfMeter;
    uint256 private _slotCount;

    constructor(address authority) AccessManaged(authority) {}

    /// @inheritdoc IMemberRegistry
    function admit(Member calldata member) external restricted returns (uint256 slot) {
        if (member.account == address(0)) revert ZeroAccount();
        if (member.untilPeriod != 0) revert LeavesBeforeJoining(member.fromPeriod, member.untilPeriod);
        slot = _slotCount;
        if (slot >> SumTree.DEPTH != 0) revert RegistryFull(slot);
        if (member.meter != address(0)) {
            if (_slotOfMeter[member.meter] != 0) revert MeterInUse(member.meter, _slotOfMeter[member.meter] - 1);
            _slotOfMeter[member.meter] = slot + 1;
        }
        _slotCount = slot + 1;
        _members[slot] = member;
        emit MemberAdmitted(slot, member.account, member.meter, member.group, member.fromPeriod);
    }

    /// @inheritdoc IMemberRegistry
    function endMembership(uint256 slot, uint32 untilPeriod) external restricted {
        if (slot >= _slotCount) revert UnknownSlot(slot);
        Member storage member = _members[slot];
        if (member.untilPeriod != 0) revert AlreadyLeft(slot, member.untilPeriod);
        if (untilPeriod <= member.fromPeriod) revert LeavesBeforeJoining(member.fromPeriod, untilPeriod);
        member.untilPeriod = untilPeriod;
        emit MemberLeft(slot, untilPeriod);
    }

    /// @inheritdoc IMemberRegistry
    function slotCount() external view returns (uint256) {
        return _slotCount;
    }

    /// @inheritdoc IMemberRegistry
    function memberAt(uint256 slot) external view returns (Member memory) {
        if (slot >= _slotCount) revert UnknownSlot(slot);
        return _members[slot];
    }

    /// @inheritdoc IMemberRegistry
    function isActive(uint256 slot, uint256 period) external view returns (bool) {
        Member storage member = _members[slot];
        return member.account != address(0) && member.fromPeriod <= period
            && (member.untilPeriod == 0 || period < member.untilPeriod);
    }
}
