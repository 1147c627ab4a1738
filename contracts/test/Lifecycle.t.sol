// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IChallenges} from "../src/interfaces/IChallenges.sol";
import {IClearingHouse} from "../src/interfaces/IClearingHouse.sol";
import {IMemberRegistry} from "../src/interfaces/IMemberRegistry.sol";
import {IVault} from "../src/interfaces/IVault.sol";
import {BatchHeader, Submission} from "../src/types/Batch.sol";
import {LedgerEntry} from "../src/types/Evidence.sol";
import {Lies} from "./support/Lies.sol";
import {bound, vm} from "./support/Vm.sol";

/// @title A member that takes no money
contract Refuser {
    IChallenges private immutable _challenges;
    bool private immutable _eatsGas;

    constructor(IChallenges challenges, bool eatsGas) payable {
        _challenges = challenges;
        _eatsGas = eatsGas;
    }

    function demand(BatchHeader calldata header, uint256 slot) external {
        _challenges.demandData{value: address(this).balance}(header, slot);
    }

    function void(BatchHeader calldata header, uint256 slot) external {
        _challenges.voidUnanswered(header, slot);
    }

    /// @dev Signs everything (ERC-1271).
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return this.isValidSignature.selector;
    }

    receive() external payable {
        while (_eatsGas) {}
        revert();
    }
}

/// @title One batch from submission to exit, and every lie that it could hold
contract LifecycleTest is Lies {
    Book private _none;

    function setUp() public {
        _found(6, 0);
        vm.deal(coordinator, 100 ether);
        vm.deal(watcher, 100 ether);
        vm.deal(accountOf(FIRST_MEMBER), 100 ether);
        token.mint(watcher, 1e18);
        vm.prank(watcher);
        token.approve(address(vault), type(uint256).max);
        _post(BOND_WEI);
    }

    function testFuzz_HonestBatchesPass(uint256 seed) public {
        Book memory none = _none;
        Book memory first = build(none, none, seed);
        submit(first);
        Book memory second = build(first, none, _next(seed));
        submit(second);
        for (uint256 lie = 1; lie < uint256(Lie.Withheld); ++lie) {
            for (uint256 slot = FIRST_MEMBER; slot < FIRST_MEMBER + MEMBERS; ++slot) {
                vm.assertTrue(!_overturns(second, first, none, Lie(lie), slot), "honest batch overturned");
            }
        }
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
        Book memory third = build(second, first, _next(_next(seed)));
        submitCorrection(third, first);
        for (uint256 lie = 1; lie < uint256(Lie.Withheld); ++lie) {
            vm.assertTrue(!_overturns(third, second, first, Lie(lie), FIRST_MEMBER), "correction overturned");
        }
    }

    /// @dev Of the first batch, of a later one, and of a correction.
    function testFuzz_EveryLieFalls(uint256 seed, uint8 lieSeed, int64 nano, uint8 where) public {
        vm.assume(nano != 0);
        Lie lie = Lie(bound(lieSeed, 1, uint256(type(Lie).max)));
        where %= 3;
        Book memory none = _none;
        Book memory previous;
        Book memory corrected;
        if (where != 0) {
            previous = build(none, none, _next(seed));
            submit(previous);
        }
        if (where == 2) {
            vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
            corrected = previous;
        }
        Book memory book = build(previous, corrected, seed);
        lieIn(book, lie, FIRST_MEMBER, FIRST_MEMBER + 1, nano);
        if (where == 2) submitCorrection(book, corrected);
        else submit(book);
        if (lie == Lie.Withheld) {
            demand(book, FIRST_MEMBER);
            vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS / 3 + 1);
            vm.prank(watcher);
            challenges.voidUnanswered(book.header, FIRST_MEMBER);
        } else {
            challenge(book, previous, corrected, lie, FIRST_MEMBER);
        }
        vm.assertEq(uint256(clearingHouse.headNumber()), previous.header.number, "head");
        vm.assertEq(watcher.balance, 100 ether + BOND_WEI / 2, "reward");
        uint64 period = where == 0 ? FIRST_PERIOD : previous.header.nextPeriod;
        vm.assertEq(uint256(clearingHouse.nextPeriod()), period, "next period");
        // What stood before was honest and can be submitted in its place.
        _post(BOND_WEI);
        Book memory honest = build(previous, corrected, seed);
        if (where == 2) submitCorrection(honest, corrected);
        else submit(honest);
    }

    function test_ABatchAfterTheFalseOneFallsWithItAndCostsNothing() public {
        Book memory none = _none;
        Book memory book = build(none, none, 1);
        lieIn(book, Lie.Amount, 3, 4, 5);
        submit(book);
        Book memory after_ = build(book, none, 2);
        submit(after_);
        challenge(book, none, none, Lie.Amount, 3);
        (, uint256 bondWei) = clearingHouse.bond();
        vm.assertEq(bondWei, 0, "one bond");
        vm.assertEq(uint256(clearingHouse.headNumber()), 0, "both gone");
    }

    /// @dev The coordinator spends the bond on a lie in a later batch so that nothing is left behind the earlier one.
    function test_AnEmptyBondSavesNoBatch() public {
        Book memory none = _none;
        Book memory book = build(none, none, 1);
        lieIn(book, Lie.Amount, 3, 4, 5);
        submit(book);
        Book memory second = build(book, none, 2);
        lieIn(second, Lie.Amount, 3, 4, 5);
        submit(second);
        challenge(second, book, none, Lie.Amount, 3);
        challenge(book, none, none, Lie.Amount, 3);
        vm.assertEq(uint256(clearingHouse.headNumber()), 0, "still there");
        vm.assertEq(watcher.balance, 100 ether + BOND_WEI / 2, "paid once");
    }

    /// @dev The coordinator's own contract demands first, and cannot be paid; nor does it help that it wants to be the one who voids.
    function test_ADemanderThatTakesNoMoneySavesNoBatch() public {
        for (uint256 eatsGas = 0; eatsGas < 2; ++eatsGas) {
            Refuser refuser = new Refuser{value: DEMAND_BOND_WEI}(challenges, eatsGas == 1);
            IMemberRegistry.Member memory member =
                IMemberRegistry.Member(address(refuser), uint32(clearingHouse.firstFuturePeriod()), 0, 0, 0, 0);
            uint256 ownSlot = FIRST_MEMBER + MEMBERS + eatsGas;
            vm.prank(governor);
            registry.admit(ownSlot, member, "");
            Book memory none = _none;
            Book memory book = build(none, none, 1);
            submit(book);
            refuser.demand(book.header, 3);
            vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS / 3 + 1);
            uint256 burnedWei = address(0).balance;
            vm.expectRevert();
            refuser.void{gas: 1_000_000}(book.header, 3);
            vm.prank(watcher);
            challenges.voidUnanswered{gas: 1_000_000}(book.header, 3);
            vm.assertEq(uint256(clearingHouse.headNumber()), 0, "still there");
            vm.assertEq(address(0).balance - burnedWei, BOND_WEI - BOND_WEI / 2, "half burned");
            _post(BOND_WEI);
        }
        vm.assertEq(watcher.balance, 100 ether + 2 * (BOND_WEI / 2), "and half to who voided it");
    }

    /// @dev The same batch again, byte for byte: what was withheld can be demanded again.
    function test_AWithheldBatchIsNoSaferTheSecondTime() public {
        Book memory none = _none;
        Book memory book = build(none, none, 1);
        for (uint256 i = 0; i < 2; ++i) {
            submit(book);
            demand(book, 3);
            vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS / 3 + 1);
            vm.prank(watcher);
            challenges.voidUnanswered(book.header, 3);
            _post(BOND_WEI);
        }
        vm.assertEq(watcher.balance, 100 ether + 2 * (BOND_WEI / 2), "twice");
    }

    function test_DemandsAreAnsweredForEverySlot() public {
        Book memory none = _none;
        Book memory book = build(none, none, 1);
        submit(book);
        uint256 slots = FIRST_MEMBER + MEMBERS;
        for (uint256 slot = 0; slot < slots; ++slot) {
            demand(book, slot);
            LedgerEntry memory entry = entryOf(book, slot);
            bytes32[] memory proof = readingsProof(book, slot);
            uint256 before = coordinator.balance;
            vm.prank(accountOf(FIRST_MEMBER));
            challenges.answerDemand(book.header, entry, proof);
            vm.assertEq(coordinator.balance - before, DEMAND_BOND_WEI, "the coordinator's, whoever answers");
            vm.expectRevert(abi.encodeWithSelector(IChallenges.NotDemanded.selector, slot));
            challenges.answerDemand(book.header, entry, proof);
            vm.prank(accountOf(FIRST_MEMBER));
            vm.expectRevert(abi.encodeWithSelector(IChallenges.AlreadyDemanded.selector, slot));
            challenges.demandData{value: DEMAND_BOND_WEI}(book.header, slot);
        }
        uint256 beyond = uint256(1) << book.header.ledgerDepth;
        vm.prank(watcher);
        vm.expectRevert(abi.encodeWithSelector(IChallenges.SlotOutsideLedger.selector, beyond, book.header.ledgerDepth));
        challenges.demandData{value: DEMAND_BOND_WEI}(book.header, beyond);
    }

    function test_DemandsComeInTheFirstThirdAndTakeOne() public {
        Book memory none = _none;
        Book memory book = build(none, none, 1);
        submit(book);
        uint256 submitted = vm.getBlockTimestamp();
        uint256 third = CHALLENGE_SECONDS / 3;
        address member = accountOf(FIRST_MEMBER);
        vm.prank(member);
        vm.expectRevert(abi.encodeWithSelector(IChallenges.WrongDemandBond.selector, 1, DEMAND_BOND_WEI));
        challenges.demandData{value: 1}(book.header, 3);
        vm.warp(submitted + third);
        demand(book, 3);
        vm.warp(submitted + 2 * third);
        vm.expectRevert(
            abi.encodeWithSelector(IChallenges.StillTime.selector, submitted + 2 * third, submitted + 2 * third)
        );
        challenges.voidUnanswered(book.header, 3);
        vm.prank(member);
        vm.expectPartialRevert(IChallenges.TooLateToDemand.selector);
        challenges.demandData{value: DEMAND_BOND_WEI}(book.header, 4);
        vm.warp(submitted + third + 1);
        vm.prank(member);
        vm.expectPartialRevert(IChallenges.TooLateToDemand.selector);
        challenges.demandData{value: DEMAND_BOND_WEI}(book.header, 4);
    }

    function test_ADemandIsPaidBackWhenItsBatchFellOtherwise() public {
        Book memory none = _none;
        Book memory book = build(none, none, 1);
        lieIn(book, Lie.Amount, 3, 4, 5);
        submit(book);
        uint64 submitted = uint64(vm.getBlockTimestamp());
        demand(book, 4);
        bytes32 batchHash = book.header.hash();
        vm.expectRevert(abi.encodeWithSelector(IChallenges.BatchStandsStill.selector, batchHash));
        challenges.returnDemand(1, batchHash, submitted, 4);
        challenge(book, none, none, Lie.Amount, 3);
        vm.expectPartialRevert(IChallenges.StillTime.selector);
        challenges.returnDemand(1, batchHash, submitted, 4);
        vm.warp(submitted + CHALLENGE_SECONDS / 3 + CHALLENGE_SECONDS + 1);
        vm.expectRevert(abi.encodeWithSelector(IChallenges.NotDemanded.selector, 4));
        challenges.returnDemand(1, batchHash, submitted + 1, 4);
        challenges.returnDemand(1, batchHash, submitted, 4);
        vm.assertEq(accountOf(FIRST_MEMBER).balance, 100 ether, "demand's bond is back");
        vm.expectRevert(abi.encodeWithSelector(IChallenges.NotDemanded.selector, 4));
        challenges.returnDemand(1, batchHash, submitted, 4);
    }

    function test_FinalAtTheSecondAndUntouchableThen() public {
        Book memory none = _none;
        Book memory book = build(none, none, 1);
        lieIn(book, Lie.Amount, 3, 4, 5);
        submit(book);
        uint256 finalAt = vm.getBlockTimestamp() + CHALLENGE_SECONDS;
        vm.assertEq(clearingHouse.finalAt(1), finalAt, "final at");
        vm.warp(finalAt - 1);
        vm.assertTrue(!clearingHouse.isFinal(1), "too early");
        vm.prank(coordinator);
        vm.expectRevert(abi.encodeWithSelector(IClearingHouse.BatchStillOpen.selector, 1));
        clearingHouse.withdrawBond();
        vm.warp(finalAt);
        vm.assertTrue(clearingHouse.isFinal(1), "not final");
        vm.assertTrue(!_overturns(book, none, none, Lie.Amount, 3), "final batch overturned");
        uint256 before = coordinator.balance;
        vm.prank(coordinator);
        clearingHouse.withdrawBond();
        vm.assertEq(coordinator.balance - before, BOND_WEI, "bond");
    }

    function test_WhoMaySubmitAndWithWhat() public {
        Book memory none = _none;
        Book memory book = build(none, none, 1);
        vm.warp(vm.getBlockTimestamp() + 1 days);
        Submission memory given = submission(book);
        vm.expectPartialRevert(bytes4(keccak256("AccessManagedUnauthorized(address)")));
        clearingHouse.submitBatch(given);
        vm.expectRevert(abi.encodeWithSelector(IClearingHouse.NotChallenges.selector, address(this)));
        clearingHouse.voidBatch(book.header, IClearingHouse.Fault.Amount, payable(watcher));
        vm.prank(watcher);
        vm.expectPartialRevert(bytes4(keccak256("AccessManagedUnauthorized(address)")));
        clearingHouse.postBond{value: 1}();
        vm.prank(watcher);
        vm.expectRevert(abi.encodeWithSelector(IClearingHouse.BondOfAnother.selector, coordinator));
        clearingHouse.withdrawBond();
        vm.prank(coordinator);
        clearingHouse.withdrawBond();
        vm.prank(coordinator);
        vm.expectRevert(abi.encodeWithSelector(IClearingHouse.BondTooLow.selector, 0, BOND_WEI));
        clearingHouse.submitBatch(given);
        _post(0);
        vm.prank(coordinator);
        vm.expectRevert(IClearingHouse.NothingToReturn.selector);
        clearingHouse.withdrawBond();
    }

    /// @dev A second coordinator submits on its own bond only, posts while nothing is open, and the first one's goes back then.
    function test_TheNextCoordinatorBringsABondOfItsOwn() public {
        authority.grantRole(COORDINATOR_ROLE, watcher, 0);
        Book memory none = _none;
        Book memory first = build(none, none, 1);
        submit(first);
        vm.prank(watcher);
        vm.expectRevert(abi.encodeWithSelector(IClearingHouse.BondOfAnother.selector, coordinator));
        clearingHouse.postBond{value: BOND_WEI}();
        vm.warp(vm.getBlockTimestamp() + 1 days);
        Submission memory given = submission(build(first, none, 2));
        vm.prank(watcher);
        vm.expectRevert(abi.encodeWithSelector(IClearingHouse.BondOfAnother.selector, coordinator));
        clearingHouse.submitBatch(given);
        uint256 before = coordinator.balance;
        vm.prank(watcher);
        clearingHouse.postBond{value: BOND_WEI}();
        vm.assertEq(coordinator.balance - before, BOND_WEI, "returned");
        vm.prank(watcher);
        clearingHouse.submitBatch(given);
        (address owner,) = clearingHouse.bond();
        vm.assertEq(owner, watcher, "whose bond");
    }

    function test_WhatIsRefusedAtSubmission() public {
        Book memory none = _none;
        Book memory book = build(none, none, 1);
        _refused(book, IClearingHouse.PeriodNotOver.selector);
        vm.warp(vm.getBlockTimestamp() + 1 days);
        ++book.header.period;
        _refused(book, IClearingHouse.WrongPeriod.selector);
        --book.header.period;
        ++book.header.firstInterval;
        _refused(book, IClearingHouse.WrongFirstInterval.selector);
        --book.header.firstInterval;
        bytes32 previousBatch = book.header.previousBatch;
        book.header.previousBatch = keccak256("voided meanwhile");
        _refused(book, IClearingHouse.WrongPrevious.selector);
        book.header.previousBatch = previousBatch;
        ++book.header.version;
        _refused(book, IClearingHouse.WrongVersion.selector);
        book.header.version = 0;
        uint32 count = book.header.intervalCount;
        book.header.intervalCount = 1;
        _refused(book, IClearingHouse.PeriodTooShort.selector);
        book.header.intervalCount = count;
        alter(book, 3, 1, 0);
        plant(book);
        _refused(book, IClearingHouse.LedgerNotZero.selector);
        alter(book, 3, -1, 1);
        plant(book);
        _refused(book, IClearingHouse.LedgerNotZero.selector);
        alter(book, 3, 0, -1);
        plant(book);
        submit(book);
    }

    function test_CorrectionsAreOfFinalBatchesOnceAndInTime() public {
        Book memory none = _none;
        Book memory first = build(none, none, 1);
        submit(first);
        Book memory correction = build(first, first, 2);
        _refusedCorrection(correction, first, IClearingHouse.NotFinal.selector);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
        submitCorrection(correction, first);
        Book memory again = build(correction, first, 3);
        _refusedCorrection(again, first, IClearingHouse.AlreadyCorrected.selector);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
        uint256 endsAt = (uint256(first.header.firstInterval) + first.header.intervalCount) * INTERVAL_SECONDS;
        again = build(correction, correction, 4);
        vm.warp(endsAt + CORRECTION_SECONDS + 1);
        _refusedCorrection(again, correction, IClearingHouse.TooLateToCorrect.selector);
        vm.warp(endsAt + CORRECTION_SECONDS);
        submitCorrection(again, correction);
    }

    function test_ACorrectionIsOfThePeriodThatItCorrects() public {
        Book memory none = _none;
        Book memory first = build(none, none, 1);
        submit(first);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
        Book memory correction = build(first, first, 2);
        ++correction.header.period;
        _refusedCorrection(correction, first, IClearingHouse.WrongPeriod.selector);
        --correction.header.period;
        ++correction.header.firstInterval;
        _refusedCorrection(correction, first, IClearingHouse.WrongFirstInterval.selector);
        --correction.header.firstInterval;
        ++correction.header.intervalCount;
        _refusedCorrection(correction, first, IClearingHouse.WrongIntervalCount.selector);
        --correction.header.intervalCount;
        ++correction.header.version;
        _refusedCorrection(correction, first, IClearingHouse.WrongVersion.selector);
        --correction.header.version;
        submitCorrection(correction, first);
    }

    function test_TheTariffIsTheOneInForce() public {
        Book memory none = _none;
        Book memory book = build(none, none, 1);
        vm.warp(vm.getBlockTimestamp() + 1 days);
        Submission memory given = submission(book);
        given.tariff.shareMillionths += 1;
        vm.prank(coordinator);
        vm.expectPartialRevert(IClearingHouse.WrongTariff.selector);
        clearingHouse.submitBatch(given);
    }

    function test_FrozenAfterTheTimeAndThenEverybodyLeaves() public {
        vm.prank(watcher);
        vault.deposit(3, 1000);
        Book memory none = _none;
        uint256 founded = vm.getBlockTimestamp();
        vm.warp(founded + FREEZE_SECONDS);
        vm.expectPartialRevert(IClearingHouse.NotYetFrozen.selector);
        clearingHouse.freeze(0);
        vm.expectRevert(IVault.HasFinalBatch.selector);
        vault.withdrawNeverSettled(3, 1);
        vm.warp(founded + FREEZE_SECONDS + 1);
        clearingHouse.freeze(0);
        vm.expectRevert(IClearingHouse.AlreadyFrozen.selector);
        clearingHouse.freeze(0);
        _refused(build(none, none, 1), IClearingHouse.AlreadyFrozen.selector);
        vault.withdrawNeverSettled(3, 1000);
        vm.assertEq(token.balanceOf(accountOf(3)), 1000, "everything");
        vm.expectRevert(abi.encodeWithSelector(IVault.AboveWithdrawable.selector, 1, 0));
        vault.withdrawNeverSettled(3, 1);
    }

    function test_AFreezeDropsWhatIsOpen() public {
        Book memory none = _none;
        Book memory first = build(none, none, 1);
        submit(first);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
        uint256 finalAt = vm.getBlockTimestamp();
        vm.warp(finalAt + FREEZE_SECONDS);
        Book memory second = build(first, none, 2);
        submit(second);
        vm.expectPartialRevert(IClearingHouse.NotFinal.selector);
        clearingHouse.freeze(2);
        vm.expectPartialRevert(IClearingHouse.NotLastFinal.selector);
        clearingHouse.freeze(0);
        vm.expectPartialRevert(IClearingHouse.NotYetFrozen.selector);
        clearingHouse.freeze(1);
        vm.warp(finalAt + FREEZE_SECONDS + 1);
        clearingHouse.freeze(1);
        vm.assertEq(uint256(clearingHouse.headNumber()), 1, "head");
        vm.assertTrue(clearingHouse.isFinal(1) && !clearingHouse.isFinal(2), "final");
    }

    /// @dev The account may be covered until the last moment; then anyone voids, then it is too late.
    function test_UncoveredAccountsMustBeCoveredInTime() public {
        (Book memory book, uint256 slot, int256 owedNano) = _indebted();
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        uint256 third = CHALLENGE_SECONDS / 3;
        uint256 demanded = vm.getBlockTimestamp();
        challenges.demandCover(book.header, book.leaves[slot], proof);
        vm.expectRevert(abi.encodeWithSelector(IChallenges.AlreadyDemanded.selector, slot));
        challenges.demandCover(book.header, book.leaves[slot], proof);
        vm.warp(demanded + third);
        vm.expectPartialRevert(IChallenges.StillTime.selector);
        challenges.voidUncovered(book.header, book.leaves[slot], proof);
        vm.warp(demanded + third + 1);
        vm.prank(watcher);
        vault.deposit(slot, uint256(owedNano + 999) / 1000);
        vm.expectRevert(IChallenges.NothingIsWrong.selector);
        challenges.voidUncovered(book.header, book.leaves[slot], proof);
        vm.expectRevert(IChallenges.NothingIsWrong.selector);
        challenges.demandCover(book.header, book.leaves[slot], proof);
    }

    function test_UncoveredBatchesFall() public {
        (Book memory book, uint256 slot,) = _indebted();
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        vm.expectRevert(abi.encodeWithSelector(IChallenges.NotDemanded.selector, slot));
        challenges.voidUncovered(book.header, book.leaves[slot], proof);
        uint256 third = CHALLENGE_SECONDS / 3;
        uint256 submitted = vm.getBlockTimestamp();
        vm.warp(submitted + third + third / 2);
        vm.expectPartialRevert(IChallenges.TooLateToDemand.selector);
        challenges.demandCover(book.header, book.leaves[slot], proof);
        vm.warp(submitted + third + third / 2 - 1);
        challenges.demandCover(book.header, book.leaves[slot], proof);
        vm.warp(vm.getBlockTimestamp() + third + 1);
        vm.prank(watcher);
        challenges.voidUncovered(book.header, book.leaves[slot], proof);
        vm.assertEq(watcher.balance, 100 ether + BOND_WEI / 2, "reward");
        // The same batch again has its time again.
        _post(BOND_WEI);
        submit(book);
        vm.expectRevert(abi.encodeWithSelector(IChallenges.NotDemanded.selector, slot));
        challenges.voidUncovered(book.header, book.leaves[slot], proof);
        challenges.demandCover(book.header, book.leaves[slot], proof);
    }

    function test_CreditCoversAndIsBoundByItsGuarantee() public {
        (Book memory book, uint256 slot, int256 owedNano) = _indebted();
        token.mint(guarantor, 1e12);
        vm.startPrank(guarantor);
        token.approve(address(vault), type(uint256).max);
        vault.depositGuarantee(uint256(owedNano + 999) / 1000 + 7);
        (uint256 nano,) = vault.guaranteeOf(guarantor);
        vm.expectPartialRevert(IVault.AboveGuarantee.selector);
        vault.grantCredit(slot, uint128(nano) + 1);
        vault.grantCredit(slot, uint128(nano));
        vm.expectRevert(abi.encodeWithSelector(IVault.AboveWithdrawable.selector, 1, 0));
        vault.withdrawGuarantee(1);
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        vm.expectRevert(IChallenges.NothingIsWrong.selector);
        challenges.demandCover(book.header, book.leaves[slot], proof);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
        uint128 spare = uint128(nano - uint256(owedNano));
        vm.expectPartialRevert(IVault.CreditInUse.selector);
        vault.revokeCredit(slot, spare + 1, book.header.ledgerHead(), book.leaves[slot], proof);
        vm.expectPartialRevert(IVault.AboveCredit.selector);
        vault.revokeCredit(slot, uint128(nano) + 1, book.header.ledgerHead(), book.leaves[slot], proof);
        vault.revokeCredit(slot, spare, book.header.ledgerHead(), book.leaves[slot], proof);
        vault.withdrawGuarantee(spare / 1000);
        vm.stopPrank();
    }

    function test_WithdrawalsNeedTheLastFinalBatchAndTheRightLeaf() public {
        for (uint256 slot = 0; slot < FIRST_MEMBER + MEMBERS; ++slot) {
            vm.prank(watcher);
            vault.deposit(slot, 1_000_000_000);
        }
        Book memory none = _none;
        Book memory first = build(none, none, 1);
        submit(first);
        bytes32[] memory proof = ledgerProof(first, SLOTS + 3);
        vm.expectPartialRevert(IClearingHouse.NotFinal.selector);
        vault.withdraw(1, first.header.ledgerHead(), first.leaves[3], proof);
        Book memory second = build(first, none, 2);
        submit(second);
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
        vm.expectPartialRevert(IClearingHouse.NotLastFinal.selector);
        vault.withdraw(1, first.header.ledgerHead(), first.leaves[3], proof);
        vm.expectPartialRevert(IVault.NotInTree.selector);
        vault.withdraw(1, second.header.ledgerHead(), second.leaves[3], proof);
        proof = ledgerProof(second, SLOTS + 3);
        vm.expectPartialRevert(IVault.NotInTree.selector);
        vault.withdrawUnsettled(3, 1, second.header.ledgerHead(), proof);
        uint256 most = vault.withdrawable(3, second.leaves[3].sums.cumulative(), second.header.ledgerHead());
        int256 equityNano = 1e12 + int256(second.leaves[3].sums.cumulative());
        vm.assertEq(most, uint256(equityNano) / 1000, "rounded down");
        vm.startPrank(accountOf(3));
        vm.expectRevert(abi.encodeWithSelector(IVault.AboveWithdrawable.selector, most + 1, most));
        vault.withdraw(most + 1, second.header.ledgerHead(), second.leaves[3], proof);
        vault.withdraw(most, second.header.ledgerHead(), second.leaves[3], proof);
        vm.assertEq(token.balanceOf(accountOf(3)), most, "paid");
        vm.expectRevert(abi.encodeWithSelector(IVault.AboveWithdrawable.selector, 1, 0));
        vault.withdraw(1, second.header.ledgerHead(), second.leaves[3], proof);
        vm.stopPrank();
    }

    function test_ExcludedOnlyBelowTheCollateral() public {
        (Book memory book, uint256 slot, int256 owedNano) = _indebted();
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        vm.prank(watcher);
        vault.deposit(slot, uint256(owedNano + 999) / 1000);
        vm.expectPartialRevert(IMemberRegistry.StillCovered.selector);
        registry.exclude(slot, book.header.ledgerHead(), book.leaves[slot], proof);
    }

    function test_ExcludedBelowTheCollateral() public {
        (Book memory book, uint256 slot,) = _indebted();
        vm.warp(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        uint256 until = clearingHouse.firstFuturePeriod();
        registry.exclude(slot, book.header.ledgerHead(), book.leaves[slot], proof);
        vm.assertEq(uint256(registry.memberAt(slot).untilPeriod), until, "until");
        vm.assertTrue(registry.isActive(slot, until - 1) && !registry.isActive(slot, until), "active");
    }

    function test_NothingChangesInPeriodsThatHaveBegun() public {
        Book memory none = _none;
        Book memory book = build(none, none, 1);
        submit(book);
        // Three quarters of an hour into the next period, of which the shortest is half an hour.
        vm.warp(vm.getBlockTimestamp() + 45 minutes);
        uint256 first = clearingHouse.firstFuturePeriod();
        vm.assertEq(first, book.header.nextPeriod + 2, "first future period");
        vm.startPrank(accountOf(3));
        vm.expectPartialRevert(bytes4(keccak256("PeriodBegun(uint256,uint256)")));
        registry.depart(3, uint32(first - 1));
        registry.depart(3, uint32(first + 1));
        vm.expectPartialRevert(IMemberRegistry.AlreadyLeft.selector);
        registry.depart(3, uint32(first + 1));
        registry.depart(3, uint32(first));
        vm.expectPartialRevert(IMemberRegistry.NoConsent.selector);
        registry.depart(4, uint32(first));
        vm.stopPrank();
    }

    /// @dev A batch with a member in debt, and how much it is.
    function _indebted() private returns (Book memory book, uint256 slot, int256 owedNano) {
        Book memory none = _none;
        for (uint256 seed = 1;; ++seed) {
            book = build(none, none, seed);
            for (slot = FIRST_MEMBER; slot < FIRST_MEMBER + MEMBERS; ++slot) {
                owedNano = -int256(book.leaves[slot].sums.cumulative());
                if (owedNano <= 0) continue;
                submit(book);
                return (book, slot, owedNano);
            }
        }
    }

    function _refused(Book memory book, bytes4 selector) private {
        Submission memory given = submission(book);
        vm.prank(coordinator);
        vm.expectPartialRevert(selector);
        clearingHouse.submitBatch(given);
    }

    function _refusedCorrection(Book memory book, Book memory corrected, bytes4 selector) private {
        Submission memory given = submission(book);
        vm.prank(coordinator);
        vm.expectPartialRevert(selector);
        clearingHouse.submitCorrection(given, corrected.header);
    }

    function _post(uint256 valueWei) private {
        vm.prank(coordinator);
        clearingHouse.postBond{value: valueWei}();
    }

    function _overturns(Book memory book, Book memory previous, Book memory corrected, Lie lie, uint256 slot)
        private
        returns (bool)
    {
        try this.challengeAs(book, previous, corrected, lie, slot) {
            return true;
        } catch {
            return false;
        }
    }

    /// @dev Only to be called by `_overturns`, so that a revert can be caught.
    function challengeAs(Book memory book, Book memory previous, Book memory corrected, Lie lie, uint256 slot)
        external
    {
        challenge(book, previous, corrected, lie, slot);
    }

    function _next(uint256 seed) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed)));
    }
}
