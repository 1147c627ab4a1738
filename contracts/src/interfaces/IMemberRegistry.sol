// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {LedgerHead} from "../types/Batch.sol";
import {LedgerLeaf} from "../types/LedgerLeaf.sol";

/// @return whether the account is settled in `period`.
function takesPart(IMemberRegistry.Member memory member, uint256 period) pure returns (bool) {
    return member.fromPeriod <= period && (member.untilPeriod == 0 || period < member.untilPeriod);
}

/// @title Who is a member, in which group, from when until when
interface IMemberRegistry {
    /// @notice One account, in one word.
    /// @param account the wallet that owns the slot's money.
    /// @param fromPeriod first period settled.
    /// @param untilPeriod first period no longer settled; zero while there is none.
    /// @param node number of the network node in the tariff; NO_NODE for an account without a meter.
    /// @param tariffClass number of the tariff class.
    /// @param collateralSteps what stays in the vault while the account is active, in steps of `collateralStepNano`.
    struct Member {
        address account;
        uint32 fromPeriod;
        uint32 untilPeriod;
        uint16 node;
        uint8 tariffClass;
        uint8 collateralSteps;
    }

    /// @notice An account was admitted with its owner's consent.
    event MemberAdmitted(
        uint256 indexed slot,
        address indexed account,
        uint32 indexed fromPeriod,
        uint16 node,
        uint8 tariffClass,
        uint8 collateralSteps
    );
    /// @notice A membership ends; `untilPeriod` is the first period no longer settled.
    event MemberLeft(uint256 indexed slot, address indexed account, uint32 indexed untilPeriod);

    /// @notice The slot was given out before.
    error SlotTaken(uint256 slot);
    /// @notice The slot before is still free.
    error SlotSkipped(uint256 slot);
    /// @notice A position does not fit the tree.
    error SlotOutsideTree(uint256 slot);
    /// @notice A member without wallet address.
    error ZeroAccount();
    /// @notice Not signed by the account, or for something else.
    error NoConsent(uint256 slot, address account);
    /// @notice No such slot (also from the registry).
    error UnknownSlot(uint256 slot);
    /// @notice The membership ends already, and not later.
    error AlreadyLeft(uint256 slot, uint32 untilPeriod);
    /// @notice Supplier, DSO and fund never leave.
    error SystemAccount(uint256 slot);
    /// @notice The account has enough left.
    error StillCovered(uint256 slot, int256 marginNano);

    /// @notice Admits an account at the next free slot, from a period that has not begun (before the first batch, any); `untilPeriod`
    /// must be zero.
    /// @param consent the account's EIP-712 signature (a key's, or a contract's by ERC-1271) of
    /// `Membership(uint256 slot,address account,uint32 fromPeriod,uint16 node,uint8 tariffClass,uint8 collateralSteps)`.
    function admit(uint256 slot, Member calldata member, bytes calldata consent) external;

    /// @notice Ends a membership from a period that has not begun. Only the registrar.
    function endMembership(uint256 slot, uint32 untilPeriod) external;

    /// @notice Ends one's own membership from a period that has not begun.
    function depart(uint256 slot, uint32 untilPeriod) external;

    /// @notice Ends a membership with the account's signature of `Departure(uint256 slot,uint32 untilPeriod)`; anyone may send it.
    function departWithSignature(uint256 slot, uint32 untilPeriod, bytes calldata signature) external;

    /// @notice Ends the membership of an account that has less than half its collateral left (half, because anyone may
    /// have paid out the rest to its owner), from the next period that has not
    /// begun. Anyone may, with the account's leaf of the last final batch.
    function exclude(uint256 slot, LedgerHead calldata head, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        external;

    /// @return the account at a slot; reverts if there is none.
    function memberAt(uint256 slot) external view returns (Member memory);

    /// @return whether the slot is settled in `period`.
    function isActive(uint256 slot, uint256 period) external view returns (bool);

    /// @return whether the slot has ever been given out; slots are from 0 on, without gaps.
    function exists(uint256 slot) external view returns (bool);

    /// @return nano currency units of one collateral step.
    function collateralStepNano() external view returns (uint256);
}
