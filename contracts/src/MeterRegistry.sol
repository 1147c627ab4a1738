// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {Community} from "./Community.sol";
import {IMeterRegistry} from "./interfaces/IMeterRegistry.sol";

/// @title The meters' keys
/// @dev For the oracle's signers and for auditors; no contract reads it, so a mistake here cannot move money by itself.
contract MeterRegistry is IMeterRegistry, AccessManaged, Community {
    mapping(address meter => Meter) private _meters;

    constructor(address authority, address clearingHouse_) AccessManaged(authority) Community(clearingHouse_) {}

    /// @inheritdoc IMeterRegistry
    function activate(address[] calldata meters, uint32[] calldata slots, uint64 fromInterval) external restricted {
        for (uint256 i = 0; i < meters.length; ++i) {
            Meter storage meter = _meters[meters[i]];
            if (meter.untilInterval != 0) revert MeterInUse(meters[i], meter.slot);
            if (!clearingHouse.registry().exists(slots[i])) revert UnknownSlot(slots[i]);
            _meters[meters[i]] = Meter(slots[i], fromInterval, type(uint64).max);
            emit MeterActivated(meters[i], slots[i], fromInterval);
        }
    }

    /// @inheritdoc IMeterRegistry
    function revoke(address meter, uint64 untilInterval) external restricted {
        Meter storage record = _meters[meter];
        if (record.untilInterval == 0) revert UnknownMeter(meter);
        if (record.untilInterval != type(uint64).max) revert AlreadyRevoked(meter, record.untilInterval);
        if (untilInterval < record.fromInterval) revert EndsBeforeItBegins(record.fromInterval, untilInterval);
        record.untilInterval = untilInterval;
        emit MeterRevoked(meter, record.slot, untilInterval);
    }

    /// @inheritdoc IMeterRegistry
    function meterAt(address meter) external view returns (Meter memory record) {
        record = _meters[meter];
        if (record.untilInterval == 0) revert UnknownMeter(meter);
    }
}
