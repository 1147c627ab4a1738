// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {LedgerHead} from "../types/Batch.sol";
import {LedgerLeaf} from "../types/LedgerLeaf.sol";
import {ProvenWithdrawal} from "../types/ProvenWithdrawal.sol";
import {IMemberRegistry} from "./IMemberRegistry.sol";

/// @title Holds the members' tokens and pays them out against a proof, without anyone's permission
interface IVault {
    /// @notice Tokens were added to a slot's balance.
    event Deposited(uint256 indexed slot, address indexed account, address indexed payer, uint256 tokens);
    /// @notice Tokens went to the slot's account.
    event Withdrawn(uint256 indexed slot, address indexed account, uint256 tokens);
    /// @notice A slot's owner wants to withdraw; zero takes it back.
    event WithdrawalAnnounced(uint256 indexed slot, address indexed account, uint256 tokens);
    /// @notice A guarantor locked tokens that stand behind the credits it grants.
    event GuaranteeDeposited(address indexed guarantor, uint256 tokens);
    /// @notice A guarantor took back tokens that stand behind no credit.
    event GuaranteeWithdrawn(address indexed guarantor, uint256 tokens);
    /// @notice What a guarantor vouches for at a slot has changed.
    event CreditChanged(uint256 indexed slot, address indexed account, address indexed guarantor, uint256 creditNano);

    /// @notice At deployment: a token with more than 36 decimals.
    error UnsupportedDecimals(uint8 decimals);
    /// @notice An amount of zero.
    error NoTokens();
    /// @notice Tokens that are no whole number of nano currency units.
    error NotWholeNano(uint256 tokens, uint256 tokensPerNano);
    /// @notice Fewer tokens arrived than were sent.
    error ShortTransfer(uint256 received, uint256 expected);
    /// @notice Only the account's owner may do this.
    error NotTheOwner(uint256 slot, address caller);
    /// @notice While a batch is open only announced money leaves.
    error NotAnnounced(uint256 slot, uint256 announcedNano);
    /// @notice The time for the answer, or before the money may leave, is not over.
    error StillTime(uint256 deadline, uint256 blockTime);
    /// @notice No such slot (also from the registry).
    error UnknownSlot(uint256 slot);
    /// @notice Leaf and slot do not belong together.
    error WrongSlot(uint256 slot, uint256 expected);
    /// @notice Leaf or node and proof do not lead to the root.
    error NotInTree(bytes32 computedRoot, bytes32 root);
    /// @notice More than deposits, final balance and collateral leave.
    error AboveWithdrawable(uint256 tokens, uint256 withdrawableTokens);
    /// @notice More credit than the guarantor has locked.
    error AboveGuarantee(uint256 grantedNano, uint256 depositedNano);
    /// @notice More than this guarantor vouches for.
    error AboveCredit(uint256 nano, uint256 creditNano);
    /// @notice The account needs the credit, or an open batch may.
    error CreditInUse(uint256 slot, int256 marginNano);
    /// @notice The account has not begun in this batch.
    error NotBegun(uint256 slot, uint256 fromPeriod);
    /// @notice The community is not frozen, or has a final batch.
    error HasFinalBatch();

    /// @notice Adds tokens to a slot's balance; anyone may pay for anyone.
    /// @param tokens in the token's smallest unit.
    function deposit(uint256 slot, uint256 tokens) external;

    /// @notice As `deposit`, with the owner's ERC-2612 permit instead of an approval. If the permit was used already, by
    /// somebody who saw it on its way, the allowance it gave is used.
    function depositWithPermit(uint256 slot, uint256 tokens, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Pays out to the slot's account what deposits, the last final batch and earlier withdrawals leave above the
    /// collateral. Anyone may call it; the money goes to the owner. While a batch is open, only what its owner announced for as
    /// long as a batch can be challenged.
    function withdraw(
        uint256 tokens,
        LedgerHead calldata head,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) external;

    /// @notice As `withdraw` for several accounts at once; all of them or none. What the transaction and the batch's head cost is
    /// shared, which matters for first withdrawals: each writes a new word here, and one in the token if the wallet never held it.
    function withdrawMany(LedgerHead calldata head, ProvenWithdrawal[] calldata withdrawals) external;

    /// @notice As `withdraw` for a slot that has no leaf in the last final batch: what was deposited and nothing else.
    /// @param ledgerProof path of the empty slot; nothing if the tree is too small for it.
    function withdrawUnsettled(uint256 slot, uint256 tokens, LedgerHead calldata head, bytes32[] calldata ledgerProof)
        external;

    /// @notice As `withdrawUnsettled` in a community that was frozen before any batch became final.
    function withdrawNeverSettled(uint256 slot, uint256 tokens) external;

    /// @notice Announces a withdrawal, or another amount of it; zero takes it back. From now on the amount covers no batch. Only the
    /// owner, and not more than could be withdrawn now if no batch were open.
    function announceWithdrawal(
        uint256 tokens,
        LedgerHead calldata head,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) external;

    /// @notice Locks tokens behind the credits that the caller grants.
    function depositGuarantee(uint256 tokens) external;

    /// @notice Takes back tokens that stand behind no credit.
    function withdrawGuarantee(uint256 tokens) external;

    /// @notice Vouches for a slot: it may owe so much more. Covered by the caller's guarantee.
    function grantCredit(uint256 slot, uint128 nano) external;

    /// @notice Takes back credit that the slot does not need after the last final batch, while no batch is open.
    function revokeCredit(
        uint256 slot,
        uint128 nano,
        LedgerHead calldata head,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) external;

    /// @notice As `revokeCredit` for a slot that has no leaf in the last final batch.
    /// @param ledgerProof path of the empty slot; nothing if the tree is too small for it.
    function revokeUnsettledCredit(uint256 slot, uint128 nano, LedgerHead calldata head, bytes32[] calldata ledgerProof)
        external;

    /// @notice As `revokeUnsettledCredit` in a community that was frozen before any batch became final.
    function revokeNeverSettledCredit(uint256 slot, uint128 nano) external;

    /// @return tokens the slot could withdraw with a leaf of that cumulative amount in the batch of `head`, rounded down.
    function withdrawable(uint256 slot, int128 cumulativeNano, LedgerHead calldata head)
        external
        view
        returns (uint256 tokens);

    /// @return deposits less withdrawals plus the cumulative amount, nano currency units.
    function equityNano(uint256 slot, int128 cumulativeNano) external view returns (int256);

    /// @return what an account with that cumulative amount has behind it: equity and credit, less what is announced to leave.
    /// @param submittedAt when the batch with that amount was submitted; announcements at that time or later do not count for it.
    function coverNano(uint256 slot, int128 cumulativeNano, uint64 submittedAt) external view returns (int256);

    /// @return equity with the amount proved to be the one in the last final batch.
    function provenEquityNano(
        uint256 slot,
        LedgerHead calldata head,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) external view returns (int256);

    /// @return nano currency units deposited for the slot so far.
    function depositedNano(uint256 slot) external view returns (uint256);

    /// @return nano currency units withdrawn by the slot so far.
    function withdrawnNano(uint256 slot) external view returns (uint256);

    /// @return nano currency units that guarantors vouch for at the slot.
    function creditNano(uint256 slot) external view returns (uint256);

    /// @return depositedNano what the guarantor has locked.
    /// @return grantedNano what it vouches for.
    function guaranteeOf(address guarantor) external view returns (uint256 depositedNano, uint256 grantedNano);

    /// @return who is a member.
    function registry() external view returns (IMemberRegistry);
}
