// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SignedTrade} from "../types/ForwardTrade.sol";
import {IMemberRegistry} from "./IMemberRegistry.sol";

/// @title What was traded before delivery
/// @notice The coordinator commits a root before the gate closes. Whoever shows a trade in it that one side never signed strikes it
/// out, and the coordinator loses a bond. The oracle's report takes what stands when striking is over (docs/protocol.md).
interface ITradeBook {
    /// @notice A root was committed; nothing can be added to or changed in it.
    event TradesCommitted(uint64 indexed firstInterval, uint32 intervalCount, bytes32 root, uint256 strikeUntil);
    /// @notice A trade counts no longer.
    /// @param slot who never signed.
    event TradeStruck(
        uint64 indexed firstInterval,
        uint256 position,
        uint256 indexed slot,
        address indexed challenger,
        uint256 lostWei
    );
    /// @notice The coordinator put more at stake.
    event TradeBondPosted(address indexed owner, uint256 amountWei, uint256 totalWei);
    /// @notice The bond went back to its owner.
    event TradeBondWithdrawn(address indexed owner, uint256 amountWei);

    /// @notice No interval, more than a local day has, or beginning before the end of what is committed already.
    error WrongIntervals(uint64 firstInterval, uint32 intervalCount, uint64 nextInterval);
    /// @notice The first interval begins too soon.
    error GateClosed(uint256 closedAt, uint256 time);
    /// @notice The first interval begins too late.
    error TradesTooFarAhead(uint256 beginsAt, uint256 lastPossible);
    /// @notice Nothing was committed that begins with this interval.
    error NothingCommitted(uint64 firstInterval);
    /// @notice The time for striking is over.
    error TooLateToStrike(uint256 deadline, uint256 time);
    /// @notice The trade does not count already.
    error AlreadyStruck(uint64 firstInterval, uint256 position);
    /// @notice Both sides signed.
    error BothSigned();
    /// @notice Trade, position and proof do not lead to the committed root.
    error NotInBook(bytes32 computed, bytes32 root);
    /// @notice A position or a proof does not fit the tree.
    error WrongPosition(uint256 position, uint256 proofLength);
    /// @notice The bond is smaller than one trade struck out costs.
    error TradeBondTooLow(uint256 amountWei, uint256 neededWei);
    /// @notice Somebody else posted the bond.
    error TradeBondOfAnother(address owner);
    /// @notice A trade can still be struck out, or there is no bond.
    error NoTradeBondFree(uint256 openUntil);
    /// @notice Native coins could not be sent.
    error TradeTransferFailed(address to);

    /// @notice Commits the trades of some intervals, before the gate of the first one closes and at most `MAX_AHEAD_SECONDS` before it
    /// begins.
    /// @param root of the positional tree of depth 32 of their leaves.
    function commit(uint64 firstInterval, uint32 intervalCount, bytes32 root) external;

    /// @notice Strikes out a trade that one side never signed. Half of the bond for it goes to the caller, half is burned; where that
    /// side's account is a contract, which may have changed its mind, nothing is lost.
    /// @param firstInterval names the commitment.
    /// @param position of the trade in the tree.
    function strike(uint64 firstInterval, SignedTrade calldata trade, uint256 position, bytes32[] calldata proof)
        external;

    /// @notice Puts native coins at stake.
    function postBond() external payable;

    /// @notice Takes the bond back when nothing can be struck out any more.
    function withdrawBond() external;

    /// @return root of the commitment, its last five bytes zero; zero if there is none.
    /// @return strikeUntil until when its trades can be struck out.
    function commitmentOf(uint64 firstInterval) external view returns (bytes32 root, uint256 strikeUntil);

    /// @return whether a trade was struck out.
    function isStruck(uint64 firstInterval, uint256 position) external view returns (bool);

    /// @return owner who posted the bond.
    /// @return amountWei what is left of it.
    function bond() external view returns (address owner, uint256 amountWei);

    /// @return first interval that is still to be committed.
    function nextInterval() external view returns (uint64);

    /// @return how long before an interval its trades must be committed.
    function gateSeconds() external view returns (uint256);

    /// @return how long after the end of the last interval its trades can be struck out.
    function strikeSeconds() external view returns (uint256);

    /// @return what a trade struck out costs.
    function bondWei() external view returns (uint256);

    /// @return whose accounts sign.
    function registry() external view returns (IMemberRegistry);
}
