// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BatchHeader} from "../types/Batch.sol";
import {LedgerLeaf} from "../types/LedgerLeaf.sol";

/// @title Holds the members' tokens and pays them out against a proof, without anyone's permission
interface IVault {
    event Deposited(uint256 indexed slot, address indexed payer, uint256 tokens);
    event Withdrawn(uint256 indexed slot, address indexed account, uint256 tokens);

    error UnsupportedDecimals(uint8 decimals);
    error NothingToDeposit();
    error NotWholeNano(uint256 tokens, uint256 tokensPerNano);
    error ShortTransfer(uint256 received, uint256 expected);
    error UnknownSlot(uint256 slot);
    error AboveWithdrawable(uint256 tokens, uint256 withdrawableTokens);

    /// @notice Adds tokens to a slot's balance; anyone may pay for anyone.
    /// @param tokens in the token's smallest unit.
    function deposit(uint256 slot, uint256 tokens) external;

    /// @notice Pays out to the slot's account what deposits, the last final batch and earlier withdrawals leave above the
    /// collateral. Anyone may call it; the money goes to the owner.
    function withdraw(
        uint256 tokens,
        BatchHeader calldata header,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) external;

    /// @return tokens the slot could withdraw with a leaf of that cumulative amount, rounded down.
    function withdrawable(uint256 slot, int128 cumulativeNano) external view returns (uint256 tokens);

    function depositedNano(uint256 slot) external view returns (uint256);

    function withdrawnNano(uint256 slot) external view returns (uint256);
}
