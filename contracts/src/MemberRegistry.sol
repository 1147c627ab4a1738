// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Community} from "./Community.sol";
import {IMemberRegistry, takesPart} from "./interfaces/IMemberRegistry.sol";
import {IVault} from "./interfaces/IVault.sol";
import {SumTree} from "./libraries/SumTree.sol";
import {LedgerHead} from "./types/Batch.sol";
import {LedgerLeaf} from "./types/LedgerLeaf.sol";

/// @title The members, by slot
/// @dev A slot is never reused: a member that moves to another node or tariff class leaves and gets a new slot, so that
/// the slot alone says which group any past period was billed in. Nor can a consent be used twice for the same reason.
contract MemberRegistry is IMemberRegistry, AccessManaged, EIP712, Community {
    /// @notice Node of accounts without a meter: supplier, DSO, fund.
    uint16 public constant NO_NODE = type(uint16).max;
    uint256 private constant SYSTEM_ACCOUNTS = 3;
    bytes32 private constant MEMBERSHIP_TYPEHASH = keccak256(
        "Membership(uint256 slot,address account,uint32 fromPeriod,uint16 node,uint8 tariffClass,uint8 collateralSteps)"
    );
    bytes32 private constant DEPARTURE_TYPEHASH = keccak256("Departure(uint256 slot,uint32 untilPeriod)");

    /// @inheritdoc IMemberRegistry
    uint256 public immutable collateralStepNano;

    mapping(uint256 slot => Member) private _members;

    /// @param systemAccounts supplier, DSO and fund, at slots 0 to 2.
    constructor(
        address authority,
        address clearingHouse_,
        address[3] memory systemAccounts,
        uint32 fromPeriod,
        uint256 collateralStepNano_
    ) AccessManaged(authority) EIP712("Peerwatt", "1") Community(clearingHouse_) {
        collateralStepNano = collateralStepNano_;
        for (uint256 slot = 0; slot < SYSTEM_ACCOUNTS; ++slot) {
            _put(slot, Member(systemAccounts[slot], fromPeriod, 0, NO_NODE, 0, 0));
        }
    }

    /// @inheritdoc IMemberRegistry
    function admit(uint256 slot, Member calldata member, bytes calldata consent) external restricted {
        if (slot >> SumTree.MAX_DEPTH != 0) revert SlotOutsideTree(slot);
        if (_members[slot].account != address(0)) revert SlotTaken(slot);
        // Without gaps, so that everything a ledger has behind the last slot is known to be false (Challenges.challengeOutside).
        if (_members[slot - 1].account == address(0)) revert SlotSkipped(slot - 1);
        if (member.untilPeriod != 0) revert AlreadyLeft(slot, member.untilPeriod);
        _requireOpen(member.fromPeriod);
        bytes32 digest = _hashTypedDataV4(
            keccak256(
                abi.encode(
                    MEMBERSHIP_TYPEHASH,
                    slot,
                    member.account,
                    member.fromPeriod,
                    member.node,
                    member.tariffClass,
                    member.collateralSteps
                )
            )
        );
        _requireSigned(slot, member.account, digest, consent);
        _put(slot, member);
    }

    /// @inheritdoc IMemberRegistry
    function endMembership(uint256 slot, uint32 untilPeriod) external restricted {
        _requireFuture(untilPeriod);
        _end(slot, untilPeriod);
    }

    /// @inheritdoc IMemberRegistry
    function depart(uint256 slot, uint32 untilPeriod) external {
        if (msg.sender != memberAt(slot).account) revert NoConsent(slot, msg.sender);
        _requireFuture(untilPeriod);
        _end(slot, untilPeriod);
    }

    /// @inheritdoc IMemberRegistry
    function departWithSignature(uint256 slot, uint32 untilPeriod, bytes calldata signature) external {
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(DEPARTURE_TYPEHASH, slot, untilPeriod)));
        _requireSigned(slot, memberAt(slot).account, digest, signature);
        _requireFuture(untilPeriod);
        _end(slot, untilPeriod);
    }

    /// @inheritdoc IMemberRegistry
    function exclude(uint256 slot, LedgerHead calldata head, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        external
    {
        IVault vault = clearingHouse.vault();
        int256 marginNano = vault.provenEquityNano(slot, head, leaf, ledgerProof) + int256(vault.creditNano(slot))
            - int256(_members[slot].collateralSteps * collateralStepNano / 2);
        if (marginNano >= 0) revert StillCovered(slot, marginNano);
        // SAFETY: period numbers of local days stay below 2^32 for eleven million years.
        _end(slot, uint32(clearingHouse.firstFuturePeriod()));
    }

    /// @inheritdoc IMemberRegistry
    function memberAt(uint256 slot) public view returns (Member memory member) {
        member = _members[slot];
        if (member.account == address(0)) revert UnknownSlot(slot);
    }

    /// @inheritdoc IMemberRegistry
    function isActive(uint256 slot, uint256 period) external view returns (bool) {
        Member memory member = _members[slot];
        return member.account != address(0) && takesPart(member, period);
    }

    /// @inheritdoc IMemberRegistry
    function exists(uint256 slot) external view returns (bool) {
        return _members[slot].account != address(0);
    }

    function _put(uint256 slot, Member memory member) private {
        if (member.account == address(0)) revert ZeroAccount();
        _members[slot] = member;
        emit MemberAdmitted(
            slot, member.account, member.fromPeriod, member.node, member.tariffClass, member.collateralSteps
        );
    }

    function _end(uint256 slot, uint32 untilPeriod) private {
        if (slot < SYSTEM_ACCOUNTS) revert SystemAccount(slot);
        Member memory member = memberAt(slot);
        // A departure can be brought forward, never put off: nobody is held longer than it agreed to.
        if (member.untilPeriod != 0 && untilPeriod >= member.untilPeriod) revert AlreadyLeft(slot, member.untilPeriod);
        _members[slot].untilPeriod = untilPeriod;
        emit MemberLeft(slot, member.account, untilPeriod);
    }

    function _requireSigned(uint256 slot, address account, bytes32 digest, bytes calldata signature) private view {
        // Keys first: asking whether the account is a contract costs more than recovering its key.
        (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (fault == ECDSA.RecoverError.NoError && signer == account) return;
        if (!SignatureChecker.isValidERC1271SignatureNowCalldata(account, digest, signature)) {
            revert NoConsent(slot, account);
        }
    }
}
