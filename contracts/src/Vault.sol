// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Community} from "./Community.sol";
import {IMemberRegistry} from "./interfaces/IMemberRegistry.sol";
import {IVault} from "./interfaces/IVault.sol";
import {SumTree} from "./libraries/SumTree.sol";
import {LedgerHead} from "./types/Batch.sol";
import {LedgerLeaf} from "./types/LedgerLeaf.sol";
import {ProvenWithdrawal} from "./types/ProvenWithdrawal.sol";
import {Sums} from "./types/Sums.sol";

/// @title The members' tokens
/// @dev Has no owner and no administrator: nothing but a proof moves tokens out.
/// Why it can always pay: equities (deposits - withdrawals + cumulative) add up to what the members' deposits leave in the vault,
/// because cumulative amounts add up to zero. A negative equity is covered by credit (Challenges.demandCover), and credit by
/// tokens that its guarantor cannot take back meanwhile. So positive equities never exceed the tokens here.
contract Vault is IVault, Community {
    using SafeERC20 for IERC20;

    /// @dev Money on the ledger has nine decimals.
    uint8 private constant NANO_DECIMALS = 9;

    /// @dev One word, because reading another costs every withdrawal 2 100 gas: 10^15 currency units ever paid in, 10^10 leaving at once.
    struct Balance {
        uint80 depositedNano;
        uint80 withdrawnNano;
        // What is to leave covers no batch that is submitted from then on.
        uint64 leavingNano;
        uint32 announcedAt;
    }

    struct Guarantee {
        uint128 depositedNano;
        uint128 grantedNano;
    }

    IERC20 public immutable token;
    IMemberRegistry public immutable registry;
    /// @notice Nano currency units in one smallest token unit (1 if the token is finer than nano).
    uint256 public immutable nanoPerToken;
    /// @notice Smallest token units in one nano currency unit (1 if the token is coarser than nano).
    uint256 public immutable tokensPerNano;

    uint256 private immutable _collateralStepNano;

    mapping(uint256 slot => Balance) private _balances;
    mapping(uint256 slot => uint256) private _creditNano;
    mapping(uint256 slot => mapping(address guarantor => uint256)) private _creditFromNano;
    mapping(address guarantor => Guarantee) private _guarantees;

    constructor(IERC20Metadata token_, address clearingHouse_, IMemberRegistry registry_) Community(clearingHouse_) {
        uint8 decimals = token_.decimals();
        if (decimals > 36) revert UnsupportedDecimals(decimals);
        token = token_;
        registry = registry_;
        _collateralStepNano = registry_.collateralStepNano();
        nanoPerToken = decimals < NANO_DECIMALS ? 10 ** (NANO_DECIMALS - decimals) : 1;
        tokensPerNano = decimals > NANO_DECIMALS ? 10 ** (decimals - NANO_DECIMALS) : 1;
    }

    /// @inheritdoc IVault
    function deposit(uint256 slot, uint256 tokens) public {
        address account = registry.memberAt(slot).account;
        uint80 nano = _toNano(tokens);
        _pull(tokens);
        _balances[slot].depositedNano += nano;
        emit Deposited(slot, account, msg.sender, tokens);
    }

    /// @inheritdoc IVault
    function depositWithPermit(uint256 slot, uint256 tokens, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external {
        // SAFETY: whether it succeeds does not matter; without an allowance the transfer below fails.
        try IERC20Permit(address(token)).permit(msg.sender, address(this), tokens, deadline, v, r, s) {} catch {}
        deposit(slot, tokens);
    }

    /// @inheritdoc IVault
    function withdraw(
        uint256 tokens,
        LedgerHead calldata head,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) external {
        _requireLeaf(leaf.slot, head, leaf, ledgerProof);
        _pay(leaf.slot, tokens, leaf.sums.cumulative(), head.nextPeriod);
    }

    /// @inheritdoc IVault
    function withdrawMany(LedgerHead calldata head, ProvenWithdrawal[] calldata withdrawals) external {
        clearingHouse.requireLastFinal(head.number, head.batchHash());
        for (uint256 index = 0; index < withdrawals.length; index++) {
            ProvenWithdrawal calldata item = withdrawals[index];
            _requireInTree(head, item.leaf, item.ledgerProof);
            _pay(item.leaf.slot, item.tokens, item.leaf.sums.cumulative(), head.nextPeriod);
        }
    }

    /// @inheritdoc IVault
    function withdrawUnsettled(uint256 slot, uint256 tokens, LedgerHead calldata head, bytes32[] calldata ledgerProof)
        external
    {
        _requireEmpty(slot, head, ledgerProof);
        _pay(slot, tokens, 0, head.nextPeriod);
    }

    /// @inheritdoc IVault
    function withdrawNeverSettled(uint256 slot, uint256 tokens) external {
        _requireNeverSettled();
        _pay(slot, tokens, 0, 0);
    }

    /// @inheritdoc IVault
    function announceWithdrawal(
        uint256 tokens,
        LedgerHead calldata head,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) external {
        uint256 slot = leaf.slot;
        IMemberRegistry.Member memory member = registry.memberAt(slot);
        if (msg.sender != member.account) revert NotTheOwner(slot, msg.sender);
        _requireLeaf(slot, head, leaf, ledgerProof);
        // SAFETY: bounded, because it counts as gone: an account could else be made uncovered by a word.
        Balance storage balance = _balances[slot];
        uint256 limit = _withdrawable(balance, member, leaf.sums.cumulative(), head.nextPeriod);
        if (limit > _toTokens(type(uint64).max)) limit = _toTokens(type(uint64).max);
        if (tokens > limit) revert AboveWithdrawable(tokens, limit);
        // SAFETY: both casts keep the value: the limit is above, and 2^32 seconds end in 2106.
        balance.leavingNano = tokens == 0 ? 0 : uint64(_toNano(tokens));
        balance.announcedAt = uint32(block.timestamp);
        emit WithdrawalAnnounced(slot, msg.sender, tokens);
    }

    /// @inheritdoc IVault
    function depositGuarantee(uint256 tokens) external {
        uint128 nano = _toNano(tokens);
        _pull(tokens);
        _guarantees[msg.sender].depositedNano += nano;
        emit GuaranteeDeposited(msg.sender, tokens);
    }

    /// @inheritdoc IVault
    function withdrawGuarantee(uint256 tokens) external {
        Guarantee storage guarantee = _guarantees[msg.sender];
        uint128 nano = _toNano(tokens);
        uint256 free = guarantee.depositedNano - guarantee.grantedNano;
        if (nano > free) revert AboveWithdrawable(tokens, _toTokens(free));
        guarantee.depositedNano -= nano;
        emit GuaranteeWithdrawn(msg.sender, tokens);
        token.safeTransfer(msg.sender, tokens);
    }

    /// @inheritdoc IVault
    function grantCredit(uint256 slot, uint128 nano) external {
        address account = registry.memberAt(slot).account;
        Guarantee storage guarantee = _guarantees[msg.sender];
        uint256 granted = uint256(guarantee.grantedNano) + nano;
        if (granted > guarantee.depositedNano) revert AboveGuarantee(granted, guarantee.depositedNano);
        guarantee.grantedNano += nano;
        _setCredit(slot, account, _creditFromNano[slot][msg.sender] + nano);
    }

    /// @inheritdoc IVault
    function revokeCredit(
        uint256 slot,
        uint128 nano,
        LedgerHead calldata head,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) external {
        _requireLeaf(slot, head, leaf, ledgerProof);
        _revoke(slot, nano, leaf.sums.cumulative(), head.nextPeriod);
    }

    /// @inheritdoc IVault
    function revokeUnsettledCredit(uint256 slot, uint128 nano, LedgerHead calldata head, bytes32[] calldata ledgerProof)
        external
    {
        _requireEmpty(slot, head, ledgerProof);
        _revoke(slot, nano, 0, head.nextPeriod);
    }

    /// @inheritdoc IVault
    function revokeNeverSettledCredit(uint256 slot, uint128 nano) external {
        _requireNeverSettled();
        _revoke(slot, nano, 0, 0);
    }

    /// @inheritdoc IVault
    function withdrawable(uint256 slot, int128 cumulativeNano, LedgerHead calldata head)
        external
        view
        returns (uint256 tokens)
    {
        return _withdrawable(_balances[slot], registry.memberAt(slot), cumulativeNano, head.nextPeriod);
    }

    /// @inheritdoc IVault
    function equityNano(uint256 slot, int128 cumulativeNano) public view returns (int256) {
        return _equityNano(_balances[slot], cumulativeNano);
    }

    /// @inheritdoc IVault
    function coverNano(uint256 slot, int128 cumulativeNano, uint64 submittedAt) external view returns (int256) {
        Balance memory balance = _balances[slot];
        // A batch that was there before the announcement, or came with it, is judged by what stood behind it then; the money waits until
        // it is final.
        int256 leavingNano = submittedAt > balance.announcedAt ? int256(uint256(balance.leavingNano)) : int256(0);
        return _equityNano(balance, cumulativeNano) - leavingNano + int256(_creditNano[slot]);
    }

    /// @inheritdoc IVault
    function provenEquityNano(
        uint256 slot,
        LedgerHead calldata head,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) public view returns (int256) {
        _requireLeaf(slot, head, leaf, ledgerProof);
        return equityNano(slot, leaf.sums.cumulative());
    }

    /// @inheritdoc IVault
    function depositedNano(uint256 slot) external view returns (uint256) {
        return _balances[slot].depositedNano;
    }

    /// @inheritdoc IVault
    function withdrawnNano(uint256 slot) external view returns (uint256) {
        return _balances[slot].withdrawnNano;
    }

    /// @inheritdoc IVault
    function creditNano(uint256 slot) external view returns (uint256) {
        return _creditNano[slot];
    }

    /// @inheritdoc IVault
    function guaranteeOf(address guarantor) external view returns (uint256, uint256) {
        Guarantee memory guarantee = _guarantees[guarantor];
        return (guarantee.depositedNano, guarantee.grantedNano);
    }

    /// @dev The only way out for a slot's tokens.
    function _pay(uint256 slot, uint256 tokens, int128 cumulativeNano, uint256 nextPeriod) private {
        IMemberRegistry.Member memory member = registry.memberAt(slot);
        // What stood at the slot before its account began is nobody's.
        if (cumulativeNano != 0 && member.fromPeriod >= nextPeriod) revert NotBegun(slot, member.fromPeriod);
        Balance memory balance = _balances[slot];
        uint256 limit = _withdrawable(balance, member, cumulativeNano, nextPeriod);
        if (tokens > limit) revert AboveWithdrawable(tokens, limit);
        uint80 nano = _toNano(tokens);
        _requireLeaving(slot, balance, nano);
        balance.withdrawnNano += nano;
        // What has left is no longer to leave.
        balance.leavingNano = balance.leavingNano > nano ? balance.leavingNano - uint64(nano) : 0;
        _balances[slot] = balance;
        emit Withdrawn(slot, member.account, tokens);
        token.safeTransfer(member.account, tokens);
    }

    function _equityNano(Balance memory balance, int128 cumulativeNano) private pure returns (int256) {
        return int256(uint256(balance.depositedNano)) - int256(uint256(balance.withdrawnNano)) + cumulativeNano;
    }

    function _withdrawable(
        Balance memory balance,
        IMemberRegistry.Member memory member,
        int128 cumulativeNano,
        uint256 nextPeriod
    ) private view returns (uint256) {
        int256 freeNano = _equityNano(balance, cumulativeNano) - _lockedNano(member, nextPeriod);
        // Rounded down here and nowhere else; what is left stays on the ledger.
        return freeNano <= 0 ? 0 : _toTokens(uint256(freeNano));
    }

    /// @dev Collateral covers the periods that are not final yet; it is free once all that the member takes part in are, and in a
    /// frozen community, where none will follow.
    function _lockedNano(IMemberRegistry.Member memory member, uint256 nextPeriod) private view returns (int256) {
        if (member.collateralSteps == 0) return 0;
        if (_isDone(member, nextPeriod)) return 0;
        return int256(member.collateralSteps * _collateralStepNano);
    }

    function _isDone(IMemberRegistry.Member memory member, uint256 nextPeriod) private view returns (bool) {
        return (member.untilPeriod != 0 && nextPeriod >= member.untilPeriod) || clearingHouse.frozen();
    }

    /// @dev While batches are open, money leaves only if its leaving was announced before all of them were submitted: then each of them
    /// was judged without it.
    function _requireLeaving(uint256 slot, Balance memory balance, uint80 nano) private view {
        if (!clearingHouse.hasOpenBatch()) return;
        if (nano > balance.leavingNano) revert NotAnnounced(slot, balance.leavingNano);
        uint256 over = uint256(balance.announcedAt) + clearingHouse.challengeSeconds();
        if (block.timestamp < over) revert StillTime(over, block.timestamp);
    }

    function _revoke(uint256 slot, uint128 nano, int128 cumulativeNano, uint256 nextPeriod) private {
        uint256 own = _creditFromNano[slot][msg.sender];
        if (nano > own) revert AboveCredit(nano, own);
        // An open batch may have been judged with this credit.
        if (clearingHouse.hasOpenBatch()) revert CreditInUse(slot, 0);
        IMemberRegistry.Member memory member = registry.memberAt(slot);
        int256 marginNano = equityNano(slot, cumulativeNano) + int256(_creditNano[slot]) - int256(uint256(nano))
            - _lockedNano(member, nextPeriod);
        if (marginNano < 0) revert CreditInUse(slot, marginNano);
        _guarantees[msg.sender].grantedNano -= nano;
        _setCredit(slot, member.account, own - nano);
    }

    function _setCredit(uint256 slot, address account, uint256 nano) private {
        uint256 before = _creditFromNano[slot][msg.sender];
        _creditFromNano[slot][msg.sender] = nano;
        _creditNano[slot] = _creditNano[slot] + nano - before;
        emit CreditChanged(slot, account, msg.sender, nano);
    }

    function _requireLeaf(
        uint256 slot,
        LedgerHead calldata head,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) private view {
        clearingHouse.requireLastFinal(head.number, head.batchHash());
        if (leaf.slot != slot) revert WrongSlot(leaf.slot, slot);
        _requireInTree(head, leaf, ledgerProof);
    }

    function _requireInTree(LedgerHead calldata head, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        private
        pure
    {
        bytes32 root = SumTree.rootOf(leaf.hash(), leaf.sums, leaf.slot, head.ledgerDepth, ledgerProof);
        if (root != head.ledgerRoot) revert NotInTree(root, head.ledgerRoot);
    }

    function _requireEmpty(uint256 slot, LedgerHead calldata head, bytes32[] calldata ledgerProof) private view {
        clearingHouse.requireLastFinal(head.number, head.batchHash());
        // A tree that is too small for the slot has nothing there.
        if (slot >> head.ledgerDepth != 0) return;
        bytes32 root = SumTree.rootOf(0, Sums.wrap(0), slot, head.ledgerDepth, ledgerProof);
        if (root != head.ledgerRoot) revert NotInTree(root, head.ledgerRoot);
    }

    function _requireNeverSettled() private view {
        if (!clearingHouse.frozen() || clearingHouse.headNumber() != 0) revert HasFinalBatch();
    }

    function _pull(uint256 tokens) private {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), tokens);
        // A token that takes a fee on transfer would leave the vault short.
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != tokens) revert ShortTransfer(received, tokens);
    }

    function _toTokens(uint256 nano) private view returns (uint256) {
        return (nano * tokensPerNano) / nanoPerToken;
    }

    /// @dev SAFETY: 2^80 nano are 10^15 currency units; the check reverts above.
    function _toNano(uint256 tokens) private view returns (uint80) {
        if (tokens == 0) revert NoTokens();
        if (tokens % tokensPerNano != 0) revert NotWholeNano(tokens, tokensPerNano);
        uint256 nano = (tokens * nanoPerToken) / tokensPerNano;
        require(nano <= type(uint80).max);
        return uint80(nano);
    }
}
