// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Submission} from "../src/types/Batch.sol";
import {LedgerEntry} from "../src/types/Evidence.sol";
import {ProvenWithdrawal} from "../src/types/ProvenWithdrawal.sol";
import {Lies} from "./support/Lies.sol";
import {vm} from "./support/Vm.sol";

/// @title Gas of each call in a community of three, as committed in snapshots/; `peerwatt bench gas` has the large ones
contract GasTest is Lies {
    Book private _none;

    function setUp() public {
        _found(6, 0);
        vm.deal(coordinator, 100 ether);
        vm.deal(watcher, 100 ether);
        vm.deal(accountOf(FIRST_MEMBER), 100 ether);
        token.mint(watcher, 1e18);
        vm.prank(watcher);
        token.approve(address(vault), type(uint256).max);
        vm.prank(coordinator);
        clearingHouse.postBond{value: 2 * BOND_WEI}();
    }

    function test_Batches() public {
        Book memory none = _none;
        Book memory first = build(none, none, 1);
        vm.warp(vm.getBlockTimestamp() + 2 hours);
        Submission memory given = submission(first);
        vm.prank(coordinator);
        clearingHouse.submitBatch(given);
        _snap("submitBatch, the first");
        Book memory second = build(first, none, 2);
        given = submission(second);
        vm.prank(coordinator);
        clearingHouse.submitBatch(given);
        _snap("submitBatch");
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
        Book memory correction = build(second, second, 3);
        given = submission(correction);
        vm.prank(coordinator);
        clearingHouse.submitCorrection(given, second.header);
        _snap("submitCorrection");
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS + FREEZE_SECONDS + 1);
        clearingHouse.freeze(3);
        _snap("freeze");
    }

    function test_Challenges() public {
        for (uint256 lie = 1; lie < uint256(Lie.Withheld); ++lie) {
            Book memory none = _none;
            Book memory book = build(none, none, 1);
            lieIn(book, Lie(lie), 3, 4, 5);
            submit(book);
            challenge(book, none, none, Lie(lie), 3);
            _snap(_nameOf(lie));
            vm.prank(coordinator);
            clearingHouse.postBond{value: BOND_WEI}();
        }
    }

    function test_ChallengesOfCorrections() public {
        Book memory none = _none;
        Book memory first = build(none, none, 1);
        submit(first);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
        Lie[2] memory lies = [Lie.Amount, Lie.SystemAmount];
        string[2] memory names = ["challenge corrected amount", "challenge corrected system"];
        for (uint256 i = 0; i < lies.length; ++i) {
            Book memory correction = build(first, first, 2);
            lieIn(correction, lies[i], 3, 4, 5);
            submitCorrection(correction, first);
            challenge(correction, first, first, lies[i], 3);
            _snap(names[i]);
            vm.prank(coordinator);
            clearingHouse.postBond{value: BOND_WEI}();
        }
    }

    function test_Cover() public {
        Book memory none = _none;
        Book memory book = build(none, none, 1);
        uint256 slot = 0;
        while (book.leaves[slot].sums.cumulative() >= 0) ++slot;
        submit(book);
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        challenges.demandCover(book.header, book.leaves[slot], proof);
        _snap("demandCover");
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS / 3 + 1);
        vm.prank(watcher);
        challenges.voidUncovered(book.header, book.leaves[slot], proof);
        _snap("voidUncovered");
    }

    function test_Demands() public {
        Book memory none = _none;
        Book memory book = build(none, none, 1);
        submit(book);
        vm.startPrank(accountOf(FIRST_MEMBER));
        challenges.demandData{value: DEMAND_BOND_WEI}(book.header, 3);
        _snap("demandData");
        LedgerEntry memory entry = entryOf(book, 3);
        bytes32[] memory proof = readingsProof(book, 3);
        challenges.answerDemand(book.header, entry, proof);
        _snap("answerDemand");
        challenges.demandData{value: DEMAND_BOND_WEI}(book.header, 4);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS / 3 + 1);
        challenges.voidUnanswered(book.header, 4);
        _snap("voidUnanswered");
        vm.stopPrank();
    }

    function test_Money() public {
        vm.startPrank(watcher);
        vault.deposit(3, 1e9);
        _snap("deposit");
        Book memory none = _none;
        Book memory book = build(none, none, 1);
        vm.stopPrank();
        submit(book);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
        bytes32[] memory proof = ledgerProof(book, SLOTS + 3);
        vm.startPrank(accountOf(3));
        vault.withdraw(1000, book.header.ledgerHead(), book.leaves[3], proof);
        _snap("withdraw, the first");
        vault.withdraw(1000, book.header.ledgerHead(), book.leaves[3], proof);
        _snap("withdraw");
        ProvenWithdrawal[] memory withdrawals = new ProvenWithdrawal[](2);
        withdrawals[0] = withdrawals[1] = ProvenWithdrawal(1000, book.leaves[3], proof);
        vault.withdrawMany(book.header.ledgerHead(), withdrawals);
        _snap("withdrawMany, two");
        vault.announceWithdrawal(1000, book.header.ledgerHead(), book.leaves[3], proof);
        _snap("announceWithdrawal");
        vm.stopPrank();
        Book memory correction = build(book, book, 2);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS / 2);
        submitCorrection(correction, book);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS / 2);
        vm.startPrank(accountOf(3));
        vault.withdraw(1000, book.header.ledgerHead(), book.leaves[3], proof);
        _snap("withdraw, a batch open");
        registry.depart(3, type(uint32).max);
        _snap("depart");
        vm.stopPrank();
        _admit(6, type(uint32).max, 0);
        _snap("admit");
    }

    function _nameOf(uint256 lie) private pure returns (string memory) {
        string[11] memory names = [
            "",
            "amount",
            "commitment",
            "system",
            "cumulative",
            "leaf sum",
            "tree sum",
            "empty",
            "inactive",
            "missing",
            "outside"
        ];
        return string.concat("challenge ", names[lie]);
    }

    function _snap(string memory name) private {
        vm.snapshotGasLastCall("gas", name);
    }
}
