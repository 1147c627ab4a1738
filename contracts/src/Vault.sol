// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {IClearingHouse} from "./interfaces/IClearingHouse.sol";
import {IMemberRegistry} from "./interfaces/IMemberRegistry.sol";
import {IVault} from "./interfaces/IVault.sol";
import {BatchHeader} from "./types/Batch.sol";
import {LedgerLeaf} from "./types/LedgerLeaf.sol";

/// @title The members' tokens
/// @dev Has no owner and no administrator: nothing but `withdraw` with a proof moves tokens out.
contract Vault is IVault {
    using SafeERC20 for IERC20;

    /// @dev Money on the ledger has nine decimals.
    uint8 private constant NANO_DECIMALS = 9;

    struct Balance {
        uint128 depositedNano;
        uint128 withdrawnNano;
    }

    IERC20 public immutable token;
    IClearingHouse public immutable clearingHouse;
    IMemberRegistry public immutable registry;
    /// @notice Nano currency units in one smallest token unit (1 if the token is finer than nano).
    uint256 public immutable nanoPerToken;
    /// @notice Smallest token units in one nano currency unit (1 if the token is coarser than nano).
    uint256 public immutable tokensPerNano;

    mapping(uint256 slot => Balance) private _balances;

    constructor(IERC20Metadata token_, IClearingHouse clearingHouse_, IMemberRegistry registry_) {
        uint8 decimals = token_.decimals();
        if (decimals > 36) revert UnsupportedDecimals(decimals);
        token = token_;
        clearingHouse = clearingHouse_;
        registry = registry_;
        nanoPerToken = decimals < NANO_DECIMALS ? 10 ** (NANO_DECIMALS - decimals) : 1;
        tokensPerNano = decimals > NANO_DECIMALS ? 10 ** (decimals - NANO_DECIMALS) : 1;
    }

    /// @inheritdoc IVault
    function deposit(uint256 slot, uint256 tokens) external {
        if (tokens == 0) revert NothingToDeposit();
        if (tokens % tokensPerNano != 0) revert NotWholeNano(tokens, tokensPerNano);
        if (slot >= registry.slotCount()) revert UnknownSlot(slot);
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), tokens);
        // A token that takes a fee on transfer would leave the vault short.
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != tokens) revert ShortTransfer(received, tokens);
        _balances[slot].depositedNano += _toNano(tokens);
        emit Deposited(slot, msg.sender, tokens);
    }

    /// @inheritdoc IVault
    function withdraw(
        uint256 tokens,
        BatchHeader calldata header,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) external {
        int128 cumulativeNano = clearingHouse.finalCumulative(header, leaf, ledgerProof);
        uint256 limit = withdrawable(leaf.slot, cumulativeNano);
        if (tokens > limit) revert AboveWithdrawable(tokens, limit);
        if (tokens % tokensPerNano != 0) revert NotWholeNano(tokens, tokensPerNano);
        address account = registry.memberAt(leaf.slot).account;
        _balances[leaf.slot].withdrawnNano += _toNano(tokens);
        emit Withdrawn(leaf.slot, account, tokens);
        token.safeTransfer(account, tokens);
    }

    /// @inheritdoc IVault
    function withdrawable(uint256 slot, int128 cumulativeNano) public view returns (uint256 tokens) {
        Balance storage balance = _balances[slot];
        IMemberRegistry.Member memory member = registry.memberAt(slot);
        // Collateral covers the batches that are not final yet; it is free once the membership has ended and settled.
        int256 lockedNano = member.untilPeriod == 0 || !clearingHouse.isFinal(member.untilPeriod - 1)
            ? int256(uint256(member.collateralNano))
            : int256(0);
        int256 freeNano = int256(uint256(balance.depositedNano)) - int256(uint256(balance.withdrawnNano))
            + cumulativeNano - lockedNano;
        // Rounded down here and nowhere else; what is left stays on the ledger.
        return freeNano <= 0 ? 0 : (uint256(freeNano) * tokensPerNano) / nanoPerToken;
    }

    /// @inheritdoc IVault
    function depositedNano(uint256 slot) external view returns (uint256) {
        return _balances[slot].depositedNano;
    }

    /// @inheritdoc IVault
    function withdrawnNano(uint256 slot) external view returns (uint256) {
        return _balances[slot].withdrawnNano;
    }

    /// @dev SAFETY: a token's total supply in nano stays below 2^128 for every currency there is; the check reverts else.
    function _toNano(uint256 tokens) private view returns (uint128) {
        uint256 nano = (tokens * nanoPerToken) / tokensPerNano;
        require(nano <= type(uint128).max);
        return uint128(nano);
    }
}
