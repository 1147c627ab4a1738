// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Community} from "./Community.sol";
import {IMemberRegistry} from "./interfaces/IMemberRegistry.sol";
import {ITradeBook} from "./interfaces/ITradeBook.sol";
import {PositionalTree} from "./libraries/PositionalTree.sol";
import {SignedTrade} from "./types/ForwardTrade.sol";

/// @title Forward trades, committed before delivery
/// @dev Holds no member's money: what trades bring is in the oracle's readings leaves and so in the ledger (docs/adr/0017).
contract TradeBook is ITradeBook, AccessManaged, EIP712, Community {
    uint256 public constant DEPTH = 32;
    /// @notice A local day of 5-minute intervals in autumn has 300.
    uint256 public constant MAX_INTERVALS = 300;
    /// @notice No commitment begins later than so many seconds from now: what it covers is closed for good, and so is all before it. A week
    /// is as far ahead as energy is traded here, and a day's commitment is made before that day.
    uint256 public constant MAX_AHEAD_SECONDS = 8 days;
    uint256 private constant TIME_BITS = 40;

    struct Head {
        uint64 nextInterval;
        uint64 openUntil;
    }

    struct Bond {
        address owner;
        uint96 amountWei;
    }

    /// @inheritdoc ITradeBook
    IMemberRegistry public immutable registry;
    /// @inheritdoc ITradeBook
    uint256 public immutable gateSeconds;
    /// @inheritdoc ITradeBook
    uint256 public immutable strikeSeconds;
    /// @inheritdoc ITradeBook
    uint256 public immutable bondWei;

    Head private _head;
    Bond private _bond;
    /// @dev Root in the high 216 bits, end of the time for striking in the low 40.
    mapping(uint64 firstInterval => bytes32) private _commitments;
    mapping(uint64 firstInterval => mapping(uint256 position => bool)) private _struck;

    constructor(
        address authority,
        address clearingHouse_,
        IMemberRegistry registry_,
        uint256 gateSeconds_,
        uint256 strikeSeconds_,
        uint256 bondWei_
    ) AccessManaged(authority) EIP712("Peerwatt", "1") Community(clearingHouse_) {
        registry = registry_;
        gateSeconds = gateSeconds_;
        strikeSeconds = strikeSeconds_;
        bondWei = bondWei_;
    }

    /// @inheritdoc ITradeBook
    function commit(uint64 firstInterval, uint32 intervalCount, bytes32 root) external restricted {
        Head memory head = _head;
        if (intervalCount == 0 || intervalCount > MAX_INTERVALS || firstInterval < head.nextInterval) {
            revert WrongIntervals(firstInterval, intervalCount, head.nextInterval);
        }
        Bond memory posted = _bond;
        if (posted.amountWei < bondWei) revert TradeBondTooLow(posted.amountWei, bondWei);
        // Nobody pays for another's lies.
        if (posted.amountWei != 0 && posted.owner != msg.sender) revert TradeBondOfAnother(posted.owner);
        uint256 intervalSeconds = clearingHouse.parameters().intervalSeconds;
        uint256 beginsAt = uint256(firstInterval) * intervalSeconds;
        if (block.timestamp + gateSeconds > beginsAt) revert GateClosed(beginsAt - gateSeconds, block.timestamp);
        if (beginsAt > block.timestamp + MAX_AHEAD_SECONDS) {
            revert TradesTooFarAhead(beginsAt, block.timestamp + MAX_AHEAD_SECONDS);
        }
        uint256 strikeUntil = beginsAt + uint256(intervalCount) * intervalSeconds + strikeSeconds;
        // Zero would count as nothing committed.
        if (strikeUntil >> TIME_BITS != 0) revert WrongIntervals(firstInterval, intervalCount, head.nextInterval);
        _commitments[firstInterval] = _shortened(root) | bytes32(strikeUntil);
        _head = Head(firstInterval + intervalCount, uint64(strikeUntil));
        emit TradesCommitted(firstInterval, intervalCount, root, strikeUntil);
    }

    /// @inheritdoc ITradeBook
    function strike(uint64 firstInterval, SignedTrade calldata trade, uint256 position, bytes32[] calldata proof)
        external
    {
        (bytes32 root, uint256 strikeUntil) = commitmentOf(firstInterval);
        if (strikeUntil == 0) revert NothingCommitted(firstInterval);
        if (block.timestamp > strikeUntil) revert TooLateToStrike(strikeUntil, block.timestamp);
        bytes32 computed = _shortened(_rootOf(trade.leaf(), position, proof));
        if (computed != root) revert NotInBook(computed, root);
        if (_struck[firstInterval][position]) revert AlreadyStruck(firstInterval, position);

        bytes32 digest = _hashTypedDataV4(trade.terms.structHash());
        uint256 slot = trade.terms.sellerSlot;
        if (_hasSigned(slot, digest, trade.sellerSignature)) {
            slot = trade.terms.buyerSlot;
            if (_hasSigned(slot, digest, trade.buyerSignature)) revert BothSigned();
        }
        _struck[firstInterval][position] = true;
        uint96 lostWei = _isContract(slot) ? 0 : _lost();
        emit TradeStruck(firstInterval, position, slot, msg.sender, lostWei);
        // Half is burned, so that a coordinator who challenges himself still loses.
        uint256 rewardWei = lostWei / 2;
        _send(address(0), lostWei - rewardWei);
        _send(msg.sender, rewardWei);
    }

    /// @inheritdoc ITradeBook
    function postBond() external payable restricted {
        Bond memory former = _bond;
        bool takesOver = former.owner != msg.sender;
        if (takesOver && former.amountWei != 0 && block.timestamp <= _head.openUntil) {
            revert TradeBondOfAnother(former.owner);
        }
        // SAFETY: 2^96 wei are more ether than there is.
        uint96 amountWei = (takesOver ? 0 : former.amountWei) + uint96(msg.value);
        _bond = Bond(msg.sender, amountWei);
        emit TradeBondPosted(msg.sender, msg.value, amountWei);
        if (takesOver && former.amountWei != 0) {
            emit TradeBondWithdrawn(former.owner, former.amountWei);
            address owner = former.owner;
            uint256 returnedWei = former.amountWei;
            // Whether the former coordinator takes it does not matter: leaving a bond here must keep no other out.
            // SAFETY: touches no memory and copies no answer; nothing follows that the callee could starve.
            assembly ("memory-safe") {
                pop(call(gas(), owner, returnedWei, 0, 0, 0, 0))
            }
        }
    }

    /// @inheritdoc ITradeBook
    function withdrawBond() external {
        Bond memory posted = _bond;
        if (posted.owner != msg.sender) revert TradeBondOfAnother(posted.owner);
        uint256 openUntil = _head.openUntil;
        if (posted.amountWei == 0 || block.timestamp <= openUntil) revert NoTradeBondFree(openUntil);
        delete _bond;
        emit TradeBondWithdrawn(msg.sender, posted.amountWei);
        _send(msg.sender, posted.amountWei);
    }

    /// @inheritdoc ITradeBook
    function commitmentOf(uint64 firstInterval) public view returns (bytes32 root, uint256 strikeUntil) {
        bytes32 record = _commitments[firstInterval];
        return (_shortened(record), uint256(record) & ((1 << TIME_BITS) - 1));
    }

    /// @inheritdoc ITradeBook
    function isStruck(uint64 firstInterval, uint256 position) external view returns (bool) {
        return _struck[firstInterval][position];
    }

    /// @inheritdoc ITradeBook
    function bond() external view returns (address owner, uint256 amountWei) {
        return (_bond.owner, _bond.amountWei);
    }

    /// @inheritdoc ITradeBook
    function nextInterval() external view returns (uint64) {
        return _head.nextInterval;
    }

    /// @dev A trade falls even if the bond is gone already.
    function _lost() private returns (uint96 lostWei) {
        uint96 left = _bond.amountWei;
        // SAFETY: at most what is left, 96 bits.
        lostWei = left < bondWei ? left : uint96(bondWei);
        _bond.amountWei = left - lostWei;
    }

    /// @dev A contract's answer can change after the fact, a key's cannot: nobody else pays for that.
    function _isContract(uint256 slot) private view returns (bool) {
        return registry.exists(slot) && registry.memberAt(slot).account.code.length != 0;
    }

    function _hasSigned(uint256 slot, bytes32 digest, bytes calldata signature) private view returns (bool) {
        // Nobody has signed for a slot that was never given out.
        if (!registry.exists(slot)) return false;
        address account = registry.memberAt(slot).account;
        (address signer, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (fault == ECDSA.RecoverError.NoError && signer == account) return true;
        return SignatureChecker.isValidERC1271SignatureNowCalldata(account, digest, signature);
    }

    function _rootOf(bytes32 node, uint256 position, bytes32[] calldata proof) private pure returns (bytes32) {
        if (proof.length != DEPTH || position >> DEPTH != 0) revert WrongPosition(position, proof.length);
        for (uint256 i = 0; i < DEPTH; ++i) {
            node = (position >> i) & 1 == 0
                ? PositionalTree.hashNode(node, proof[i])
                : PositionalTree.hashNode(proof[i], node);
        }
        return node;
    }

    function _shortened(bytes32 word) private pure returns (bytes32) {
        return (word >> TIME_BITS) << TIME_BITS;
    }

    function _send(address to, uint256 valueWei) private {
        (bool sent,) = to.call{value: valueWei}("");
        if (!sent) revert TradeTransferFailed(to);
    }
}
