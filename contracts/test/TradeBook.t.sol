// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ITradeBook} from "../src/interfaces/ITradeBook.sol";
import {PositionalTree} from "../src/libraries/PositionalTree.sol";
import {ForwardTrade, SignedTrade} from "../src/types/ForwardTrade.sol";
import {TestCommunity} from "./support/TestCommunity.sol";
import {bound, vm} from "./support/Vm.sol";

/// @title What both signed stands, whatever else is committed falls
contract TradeBookTest is TestCommunity {
    uint256 private constant TRADE_BOND_WEI = 1 ether + 1;
    uint64 private constant INTERVAL = FIRST_INTERVAL + 2;

    ITradeBook private _book;

    function setUp() public {
        _found(6, 0);
        _book = ITradeBook(
            vm.deployCode(
                "artifacts/TradeBook.json", abi.encode(authority, clearingHouse, registry, 300, 1 hours, TRADE_BOND_WEI)
            )
        );
        bytes4[] memory selectors = new bytes4[](2);
        selectors[0] = ITradeBook.commit.selector;
        selectors[1] = ITradeBook.postBond.selector;
        authority.setTargetFunctionRole(address(_book), selectors, COORDINATOR_ROLE);
        vm.deal(coordinator, 10 ether);
        vm.prank(coordinator);
        _book.postBond{value: TRADE_BOND_WEI}();
    }

    function testFuzz_OnlyUnsignedTradesFall(
        ForwardTrade memory terms,
        bool sellerLies,
        bool buyerLies,
        uint256 position,
        bytes32 siblings
    ) external {
        terms.sellerSlot = uint32(FIRST_MEMBER);
        terms.buyerSlot = uint32(FIRST_MEMBER + 1);
        position = bound(position, 0, type(uint32).max);
        SignedTrade memory trade = SignedTrade(
            terms,
            _signed(terms, sellerLies ? 0xBAD : keyOf(terms.sellerSlot)),
            _signed(terms, buyerLies ? 0xBAD : keyOf(terms.buyerSlot)),
            siblings
        );
        bytes32[] memory proof = new bytes32[](32);
        bytes32 root = trade.leaf();
        for (uint256 i = 0; i < 32; ++i) {
            proof[i] = keccak256(abi.encode(siblings, i));
            root = (position >> i) & 1 == 0
                ? PositionalTree.hashNode(root, proof[i])
                : PositionalTree.hashNode(proof[i], root);
        }
        vm.prank(coordinator);
        _book.commit(INTERVAL, 1, root);
        uint256 before = watcher.balance;
        if (!sellerLies && !buyerLies) {
            vm.expectRevert(abi.encodeWithSelector(ITradeBook.BothSigned.selector));
            vm.prank(watcher);
            _book.strike(INTERVAL, trade, position, proof);
            return;
        }
        vm.prank(watcher);
        _book.strike(INTERVAL, trade, position, proof);
        vm.assertTrue(_book.isStruck(INTERVAL, position), "struck");
        vm.assertEq(watcher.balance - before, TRADE_BOND_WEI / 2, "half of the bond");
        vm.assertEq(address(_book).balance, 0, "the rest burned");
    }

    function test_Gas() external {
        ForwardTrade memory terms =
            ForwardTrade(INTERVAL, uint32(FIRST_MEMBER), uint32(FIRST_MEMBER + 1), 500, 200_000, 20_000);
        SignedTrade memory trade =
            SignedTrade(terms, _signed(terms, keyOf(FIRST_MEMBER)), _signed(terms, 0xBAD), bytes32(uint256(1)));
        bytes32[] memory proof = new bytes32[](32);
        bytes32 root = trade.leaf();
        for (uint256 i = 0; i < 32; ++i) {
            root = PositionalTree.hashNode(root, proof[i]);
        }
        vm.prank(coordinator);
        _book.commit(INTERVAL, 1, root);
        vm.snapshotGasLastCall("gas", "TradeBook.commit");
        _book.strike(INTERVAL, trade, 0, proof);
        vm.snapshotGasLastCall("gas", "TradeBook.strike");
    }

    /// @dev The test itself strikes, and takes its half.
    receive() external payable {}

    function _signed(ForwardTrade memory terms, uint256 key) private view returns (bytes memory) {
        return signature(key, typedDigest(address(_book), terms.structHash()));
    }
}
