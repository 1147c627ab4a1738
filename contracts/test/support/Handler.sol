// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMemberRegistry} from "../../src/interfaces/IMemberRegistry.sol";
import {LedgerEntry} from "../../src/types/Evidence.sol";
import {OracleConfig} from "../../src/types/OracleReport.sol";
import {ProvenWithdrawal} from "../../src/types/ProvenWithdrawal.sol";
import {Tariff} from "../../src/types/Tariff.sol";
import {Lies} from "./Lies.sol";
import {bound, vm} from "./Vm.sol";

/// @title Everybody who acts on a community, and one watcher who never sleeps
/// @dev Every call succeeds or is not made: a revert fails the run. The watcher sees each batch when it is submitted, demands
/// what has to be demanded at once, and no time passes before a false batch is overturned.
contract Handler is Lies {
    uint256 private constant MOST_OPEN = 3;
    /// @dev Less than an account can lose in the batches that are open at a time.
    uint8 private constant COLLATERAL_STEPS = 1;
    uint256 private constant LARGEST_DEPOSIT = 30e9;
    uint256 private constant NANO_PER_TOKEN = 1000;

    mapping(uint64 number => bytes) private _books;
    mapping(uint64 number => Lie) private _lies;
    mapping(uint64 number => uint256) private _lieSlots;
    mapping(uint64 number => bool[SLOTS]) private _coverDemanded;
    mapping(uint64 number => bytes32) public finalHash;
    mapping(uint64 number => uint64) private _correctedNumber;

    /// @dev What a member asked of a batch in vain, to be paid back.
    struct Asked {
        uint64 number;
        bytes32 batchHash;
        uint64 submittedAt;
        uint256 slot;
        uint256 dueAt;
    }

    struct Announced {
        uint256 nano;
        uint256 madeAt;
    }

    Asked[] private _asked;
    mapping(uint256 slot => Announced) private _announced;
    Book private _none;

    /// @notice What must come out, kept by plain bookkeeping.
    uint64 public head;
    uint64 public lastFinal;
    uint256 public bondWei;
    uint256 public demandBondsWei;
    uint256 public burnedWei;
    uint256 public nothingWei;
    bool public falseChallengePassed;
    bool public honestVoided;
    bool public coordinatorMayAct = true;
    uint256[12] public voidedBy;
    uint256 public finals;
    uint256 public announcedWithdrawals;
    uint256 public frozenOpen;
    uint256 private _foundedAt;

    constructor() {
        _found(6, COLLATERAL_STEPS);
        _foundedAt = vm.getBlockTimestamp();
        nothingWei = address(0).balance;
        vm.deal(coordinator, 1_000_000 ether);
        vm.deal(watcher, 1_000_000 ether);
        _fund(watcher);
        _fund(guarantor);
        vm.deal(accountOf(FIRST_MEMBER), 1_000_000 ether);
        _topUpBond();
    }

    function submitHonest(uint256 seed, bool cover) external {
        _submit(seed, Lie.None, cover);
    }

    function submitLie(uint256 seed, uint8 lie) external {
        _submit(seed, Lie(bound(lie, 1, uint256(type(Lie).max))), false);
    }

    function correct(uint256 seed, uint8 lie, bool cover) external {
        uint64 number = lastFinal;
        if (!_open() || number == 0 || _tooLate(number)) return;
        // The newest version that settled the period, if it has not been corrected again meanwhile.
        for (uint64 later = number + 1; later <= head; ++later) {
            if (_correctedNumber[later] == number) return;
        }
        Book memory corrected = _book(number);
        Book memory previous = _book(head);
        Book memory book = build(previous, corrected, seed);
        Lie planted = lie % 4 == 0 ? Lie(bound(lie / 4, 1, uint256(type(Lie).max))) : Lie.None;
        uint256 slot = _plant(book, planted, seed);
        submitCorrection(book, corrected);
        _correctedNumber[book.header.number] = number;
        _submitted(book, planted, slot, cover);
    }

    function passTime(uint256 time) external {
        _advance(vm.getBlockTimestamp() + bound(time, 1, CHALLENGE_SECONDS));
    }

    /// @notice One challenge of each kind against an honest batch; none may pass.
    function challengeHonest(uint256 seed, uint256 slotSeed) external {
        if (head == lastFinal) return;
        uint64 number = lastFinal + 1 + uint64(seed % (head - lastFinal));
        for (uint64 n = lastFinal + 1; n <= number; ++n) {
            if (_lies[n] != Lie.None) return;
        }
        uint256 slot = bound(slotSeed, FIRST_MEMBER, SLOTS - 2);
        for (uint256 lie = 1; lie < uint256(Lie.Withheld); ++lie) {
            try this.challengeAs(number, Lie(lie), slot) {
                falseChallengePassed = true;
            } catch {}
        }
    }

    /// @dev Only to be called by `challengeHonest`, so that a revert can be caught.
    function challengeAs(uint64 number, Lie lie, uint256 slot) external {
        challenge(_book(number), _book(number - 1), _book(_correctedNumber[number]), lie, slot);
    }

    function answerDemand(uint256 slotSeed) external {
        if (head == lastFinal || _lies[head] != Lie.None) return;
        Book memory book = _book(head);
        uint256 slot = bound(slotSeed, 0, SLOTS + 1);
        if (vm.getBlockTimestamp() > clearingHouse.finalAt(head) - 2 * CHALLENGE_SECONDS / 3) return;
        vm.prank(accountOf(FIRST_MEMBER));
        try challenges.demandData{value: DEMAND_BOND_WEI}(book.header, slot) {
            if (slot >> book.header.ledgerDepth != 0) falseChallengePassed = true;
        } catch {
            return;
        }
        LedgerEntry memory entry = entryOf(book, slot);
        bytes32[] memory proof = readingsProof(book, slot);
        vm.prank(coordinator);
        challenges.answerDemand(book.header, entry, proof);
    }

    function deposit(uint256 slotSeed, uint256 tokens) external {
        uint256 slot = _someSlot(slotSeed);
        vm.prank(watcher);
        vault.deposit(slot, bound(tokens, 1, LARGEST_DEPOSIT / NANO_PER_TOKEN));
    }

    function depositWithPermit(uint256 slotSeed, uint256 tokens, bool frontRun) external {
        uint256 slot = _someMember(slotSeed);
        tokens = bound(tokens, 1, LARGEST_DEPOSIT / NANO_PER_TOKEN);
        address payer = accountOf(slot);
        token.mint(payer, tokens);
        bytes32 permit = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                payer,
                address(vault),
                tokens,
                token.nonces(payer),
                vm.getBlockTimestamp()
            )
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", token.DOMAIN_SEPARATOR(), permit));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(keyOf(slot), digest);
        if (frontRun) {
            IPermit(address(token)).permit(payer, address(vault), tokens, vm.getBlockTimestamp(), v, r, s);
        }
        vm.prank(payer);
        vault.depositWithPermit(slot, tokens, vm.getBlockTimestamp(), v, r, s);
    }

    /// @notice By the owner, or by anyone where that is allowed. All that is refused is tried as well.
    function withdraw(uint256 slotSeed, uint256 tokens, bool byOwner) external {
        uint256 slot = _someSlot(slotSeed);
        Book memory book = _book(lastFinal);
        if (lastFinal == 0) {
            if (!clearingHouse.frozen()) return;
            uint256 all = vault.withdrawable(slot, 0, book.header.ledgerHead());
            if (all != 0) vault.withdrawNeverSettled(slot, bound(tokens, 1, all));
            return;
        }
        int128 cumulativeNano = book.present[slot] ? book.leaves[slot].sums.cumulative() : int128(0);
        uint256 most = vault.withdrawable(slot, cumulativeNano, book.header.ledgerHead());
        if (most == 0) return;
        tokens = bound(tokens, 1, most);
        Announced storage announced = _announced[slot];
        uint256 nano = tokens * NANO_PER_TOKEN;
        if (head != lastFinal && !clearingHouse.frozen()) {
            // While a batch is open, only what was announced long enough ago leaves.
            if (nano > announced.nano || vm.getBlockTimestamp() < announced.madeAt + CHALLENGE_SECONDS) {
                try this.withdrawAs(slot, tokens, byOwner) {
                    falseChallengePassed = true;
                } catch {}
                return;
            }
            ++announcedWithdrawals;
        }
        announced.nano = announced.nano > nano ? announced.nano - nano : 0;
        this.withdrawAs(slot, tokens, byOwner);
    }

    /// @dev Only to be called by `withdraw`, so that a revert can be caught.
    function withdrawAs(uint256 slot, uint256 tokens, bool byOwner) external {
        Book memory book = _book(lastFinal);
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        vm.prank(byOwner ? accountOf(slot) : watcher);
        if (book.present[slot] && tokens % 2 == 0) {
            vault.withdraw(tokens, book.header.ledgerHead(), book.leaves[slot], proof);
        } else if (book.present[slot]) {
            ProvenWithdrawal[] memory withdrawals = new ProvenWithdrawal[](1);
            withdrawals[0] = ProvenWithdrawal(tokens, book.leaves[slot], proof);
            vault.withdrawMany(book.header.ledgerHead(), withdrawals);
        } else {
            vault.withdrawUnsettled(slot, tokens, book.header.ledgerHead(), proof);
        }
    }

    function announceWithdrawal(uint256 slotSeed, uint256 tokens) external {
        uint256 slot = _someSlot(slotSeed);
        Book memory book = _book(lastFinal);
        if (lastFinal == 0 || !book.present[slot]) return;
        uint256 most = vault.withdrawable(slot, book.leaves[slot].sums.cumulative(), book.header.ledgerHead());
        tokens = bound(tokens, 0, most);
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        vm.prank(accountOf(slot));
        vault.announceWithdrawal(tokens, book.header.ledgerHead(), book.leaves[slot], proof);
        _announced[slot] = Announced(tokens * NANO_PER_TOKEN, vm.getBlockTimestamp());
    }

    /// @notice Pays back the bonds of demands whose batches fell.
    function returnDemands() external {
        for (uint256 i = _asked.length; i != 0; --i) {
            Asked memory asked = _asked[i - 1];
            if (vm.getBlockTimestamp() <= asked.dueAt) continue;
            challenges.returnDemand(asked.number, asked.batchHash, asked.submittedAt, asked.slot);
            demandBondsWei -= DEMAND_BOND_WEI;
            _asked[i - 1] = _asked[_asked.length - 1];
            _asked.pop();
        }
    }

    function guarantee(uint256 tokens, bool takeBack) external {
        (uint256 depositedNano, uint256 grantedNano) = vault.guaranteeOf(guarantor);
        uint256 free = (depositedNano - grantedNano) / NANO_PER_TOKEN;
        if (takeBack && free == 0) return;
        vm.prank(guarantor);
        if (takeBack) vault.withdrawGuarantee(bound(tokens, 1, free));
        else vault.depositGuarantee(bound(tokens, 1, LARGEST_DEPOSIT / NANO_PER_TOKEN));
    }

    function grantCredit(uint256 slotSeed, uint256 nano) external {
        (uint256 depositedNano, uint256 grantedNano) = vault.guaranteeOf(guarantor);
        uint256 slot = _someSlot(slotSeed);
        vm.prank(guarantor);
        vault.grantCredit(slot, uint128(bound(nano, 0, depositedNano - grantedNano)));
    }

    function revokeCredit(uint256 slotSeed, uint256 nano) external {
        uint256 slot = _someSlot(slotSeed);
        Book memory book = _book(lastFinal);
        if (lastFinal == 0 || !book.present[slot]) return;
        if (head != lastFinal) return;
        bool done = _isDone(slot);
        uint256 credit = vault.creditNano(slot);
        int256 spareNano = vault.equityNano(slot, book.leaves[slot].sums.cumulative()) + int256(credit)
            - (done || slot < FIRST_MEMBER ? int256(0) : int256(COLLATERAL_STEPS * COLLATERAL_STEP_NANO));
        if (spareNano <= 0) return;
        uint256 most = uint256(spareNano) < credit ? uint256(spareNano) : credit;
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        vm.prank(guarantor);
        vault.revokeCredit(slot, uint128(bound(nano, 0, most)), book.header.ledgerHead(), book.leaves[slot], proof);
    }

    function join(bool now_) external {
        uint256 slot = SLOTS - 2;
        if (registry.exists(slot)) return;
        uint256 first = clearingHouse.firstOpenPeriod() + _periodsUntilDone() + (now_ ? 0 : 1);
        (IMemberRegistry.Member memory member, bytes memory consent) = membership(slot, uint32(first), COLLATERAL_STEPS);
        _govern(address(registry), abi.encodeCall(registry.admit, (slot, member, consent)));
    }

    function announce(uint256 seed) external {
        uint256 first = clearingHouse.firstOpenPeriod();
        uint256 from = first + _periodsUntilDone() + seed % 4;
        if (from <= lastTariffFrom()) from = lastTariffFrom() + 1;
        if (from > first + 400) return;
        Tariff memory announced = newTariff(uint64(from), uint32(seed % 1_000_001));
        _govern(address(tariffBook), abi.encodeCall(tariffBook.announce, (announced, uint64(from))));
    }

    function changeSigners(uint256 seed) external {
        OracleConfig memory config = newSigners(1 + seed % 1000);
        _govern(address(readingOracle), abi.encodeCall(readingOracle.setSigners, (config)));
    }

    /// @notice How long whoever governs waits between announcing and doing.
    function changeDelay(uint256 seed) external {
        authority.grantRole(GOVERNOR_ROLE, governor, uint32(seed % 2 hours));
    }

    function depart(uint256 slotSeed) external {
        uint256 slot = _someMember(slotSeed);
        uint32 until = uint32(clearingHouse.firstFuturePeriod() + slotSeed % 3);
        uint32 agreed = registry.memberAt(slot).untilPeriod;
        // Two members at least, so that a lie has somebody to hurt.
        if ((agreed != 0 && until >= agreed) || slot < FIRST_MEMBER + 2) return;
        vm.prank(accountOf(slot));
        registry.depart(slot, until);
    }

    function exclude(uint256 slotSeed) external {
        uint256 slot = _someMember(slotSeed);
        Book memory book = _book(lastFinal);
        if (lastFinal == 0 || !book.present[slot] || slot < FIRST_MEMBER + 2) return;
        bytes32[] memory proof = ledgerProof(book, SLOTS + slot);
        int256 marginNano = vault.equityNano(slot, book.leaves[slot].sums.cumulative()) + int256(vault.creditNano(slot))
            - int256(COLLATERAL_STEPS * COLLATERAL_STEP_NANO);
        try registry.exclude(slot, book.header.ledgerHead(), book.leaves[slot], proof) {
            vm.assertTrue(marginNano < 0, "excluded although covered");
        } catch {}
    }

    function changeRole(bool grant) external {
        if (grant) authority.grantRole(COORDINATOR_ROLE, coordinator, 0);
        else authority.revokeRole(COORDINATOR_ROLE, coordinator);
        coordinatorMayAct = grant;
    }

    function withdrawBond() external {
        if (bondWei == 0 || head != lastFinal) return;
        vm.prank(coordinator);
        clearingHouse.withdrawBond();
        bondWei = 0;
    }

    /// @notice Rare: after it nothing new happens but exits. Batches that are open then, false ones and such with demands too, are dropped.
    function freeze(uint256 seed) external {
        if (seed % 8 != 0 || clearingHouse.frozen()) return;
        _advance(vm.getBlockTimestamp() + CHALLENGE_SECONDS);
        uint256 since = lastFinal == 0 ? _foundedAt : clearingHouse.finalAt(lastFinal);
        if (vm.getBlockTimestamp() < since + FREEZE_SECONDS) _advance(since + FREEZE_SECONDS);
        if (seed & 8 != 0) _submit(seed >> 8, Lie.None, seed & 16 != 0);
        if (seed & 32 != 0) _submit(seed >> 16, seed & 64 != 0 ? Lie.Withheld : Lie.Amount, false);
        if (vm.getBlockTimestamp() <= since + FREEZE_SECONDS) vm.warp(since + FREEZE_SECONDS + 1);
        clearingHouse.freeze(lastFinal);
        if (head != lastFinal) ++frozenOpen;
        head = lastFinal;
    }

    function bookOf(uint64 number) external view returns (Book memory) {
        return _book(number);
    }

    function parts() external view returns (address, address, address, address) {
        return (address(clearingHouse), address(vault), address(challenges), address(token));
    }

    function guarantorAddress() external view returns (address) {
        return guarantor;
    }

    /// @dev Nothing governed is done before it was announced for as long as the role's delay.
    function _govern(address target, bytes memory data) private {
        (, uint32 delay) = authority.hasRole(GOVERNOR_ROLE, governor);
        if (delay != 0) {
            vm.prank(governor);
            (bool early,) = target.call(data);
            if (early) falseChallengePassed = true;
            vm.prank(governor);
            authority.schedule(target, data, 0);
            _advance(vm.getBlockTimestamp() + delay);
        }
        vm.prank(governor);
        (bool done,) = target.call(data);
        vm.assertTrue(done, "refused although announced");
    }

    /// @dev So many may begin while an announcement waits.
    function _periodsUntilDone() private view returns (uint256) {
        (, uint32 delay) = authority.hasRole(GOVERNOR_ROLE, governor);
        return delay == 0 ? 0 : 1 + delay / (2 * INTERVAL_SECONDS);
    }

    function _submit(uint256 seed, Lie lie, bool cover) private {
        if (!_open()) {
            if (clearingHouse.frozen() || !coordinatorMayAct) _checkRefused(seed);
            return;
        }
        Book memory book = build(_book(head), _none, seed);
        uint256 slot = _plant(book, lie, seed);
        uint256 endsAt = (uint256(book.header.firstInterval) + book.header.intervalCount) * INTERVAL_SECONDS;
        if (vm.getBlockTimestamp() < endsAt) _advance(endsAt);
        // Time may have made batches fall on which this one was built.
        if (head + 1 != book.header.number || clearingHouse.nextPeriod() != book.header.period) return;
        if (head != 0 && book.header.previousBatch != _book(head).header.hash()) return;
        submit(book);
        _submitted(book, lie, slot, cover);
    }

    function _plant(Book memory book, Lie lie, uint256 seed) private view returns (uint256 slot) {
        // Slots 3 and 4 never leave.
        slot = FIRST_MEMBER + (seed >> 16) % 2;
        uint256 other = FIRST_MEMBER + 1 - (slot - FIRST_MEMBER);
        int128 nano = int128(int256(bound(seed >> 32, 1, 5e9)));
        if ((seed >> 24) % 2 == 0) nano = -nano;
        lieIn(book, lie, slot, other, nano);
        for (uint256 s = FIRST_MEMBER; s < SLOTS; ++s) {
            vm.assertTrue(book.settledNano[s] >= book.outsideNano[s], "pays more than outside");
        }
    }

    function _submitted(Book memory book, Lie lie, uint256 slot, bool cover) private {
        uint64 number = book.header.number;
        head = number;
        _books[number] = abi.encode(book);
        _lies[number] = lie;
        _lieSlots[number] = slot;
        delete _coverDemanded[number];
        if (book.header.version == 0) delete _correctedNumber[number];
        if (lie == Lie.Withheld) {
            demand(book, slot);
            demandBondsWei += DEMAND_BOND_WEI;
            (bytes32 batchHash, uint64 submittedAt) = clearingHouse.recordOf(number);
            uint256 dueAt = vm.getBlockTimestamp() + CHALLENGE_SECONDS / 3 + CHALLENGE_SECONDS;
            _asked.push(Asked(number, batchHash, submittedAt, slot, dueAt));
        }
        if (lie != Lie.None) return;
        for (uint256 s = 0; s < SLOTS; ++s) {
            int256 marginNano = _marginNano(book, s);
            if (!book.present[s] || marginNano >= 0) continue;
            bytes32[] memory proof = ledgerProof(book, SLOTS + s);
            challenges.demandCover(book.header, book.leaves[s], proof);
            _coverDemanded[number][s] = true;
            // Where a lie has put money nobody can pay in; the batch falls with that lie.
            if (!cover || !registry.exists(s)) continue;
            vm.prank(watcher);
            vault.deposit(s, uint256(-marginNano) / NANO_PER_TOKEN + 1);
        }
    }

    /// @dev Nobody submits without the role, the bond, or in a frozen community.
    function _checkRefused(uint256 seed) private {
        Book memory book = build(_book(head), _none, seed);
        try this.submitAs(book) {
            falseChallengePassed = true;
        } catch {}
    }

    /// @dev Only to be called by `_checkRefused`.
    function submitAs(Book memory book) external {
        submit(book);
    }

    function _advance(uint256 time) private {
        for (uint64 number = lastFinal + 1; number <= head; ++number) {
            if (_lies[number] == Lie.None || _lies[number] == Lie.Withheld) continue;
            challenge(
                _book(number), _book(number - 1), _book(_correctedNumber[number]), _lies[number], _lieSlots[number]
            );
            _voided(number, _lies[number]);
        }
        for (uint64 number = lastFinal + 1; number <= head; ++number) {
            uint256 deadline = clearingHouse.finalAt(number) - 2 * uint256(CHALLENGE_SECONDS) / 3;
            if (time <= deadline) break;
            if (vm.getBlockTimestamp() <= deadline) vm.warp(deadline + 1);
            _enforce(number);
        }
        if (vm.getBlockTimestamp() < time) vm.warp(time);
        while (lastFinal < head && clearingHouse.isFinal(lastFinal + 1)) {
            ++lastFinal;
            ++finals;
            if (_lies[lastFinal] != Lie.None) falseChallengePassed = true;
            finalHash[lastFinal] = _book(lastFinal).header.hash();
        }
    }

    /// @dev Voids what was demanded in vain. All was demanded at submission, so all deadlines of a batch are one.
    function _enforce(uint64 number) private {
        Book memory book = _book(number);
        if (_lies[number] == Lie.Withheld) {
            vm.prank(watcher);
            challenges.voidUnanswered(book.header, _lieSlots[number]);
            _voided(number, _lies[number]);
            return;
        }
        for (uint256 s = 0; s < SLOTS; ++s) {
            if (!_coverDemanded[number][s]) continue;
            _coverDemanded[number][s] = false;
            if (_marginNano(book, s) >= 0) continue;
            bytes32[] memory proof = ledgerProof(book, SLOTS + s);
            vm.prank(watcher);
            challenges.voidUncovered(book.header, book.leaves[s], proof);
            _voided(number, Lie.None);
            return;
        }
    }

    function _voided(uint64 number, Lie lie) private {
        ++voidedBy[uint256(lie)];
        // Demands against batches that fall with it stay with the contract until they are asked back.
        head = number - 1;
        uint256 lost = bondWei < BOND_WEI ? bondWei : BOND_WEI;
        bondWei -= lost;
        burnedWei += lost - lost / 2;
    }

    function _open() private returns (bool) {
        if (clearingHouse.frozen() || !coordinatorMayAct || head - lastFinal >= MOST_OPEN) return false;
        // What is hidden in an empty slot has no leaf from which the next batch could go on.
        if (_lies[head] == Lie.Phantom) return false;
        _topUpBond();
        return true;
    }

    function _topUpBond() private {
        if (bondWei >= BOND_WEI) return;
        vm.prank(coordinator);
        clearingHouse.postBond{value: BOND_WEI - bondWei}();
        bondWei = BOND_WEI;
    }

    function _tooLate(uint64 number) private view returns (bool) {
        Book memory book = _book(number);
        uint256 endsAt = (uint256(book.header.firstInterval) + book.header.intervalCount) * INTERVAL_SECONDS;
        return vm.getBlockTimestamp() > endsAt + CORRECTION_SECONDS;
    }

    function _marginNano(Book memory book, uint256 slot) private view returns (int256) {
        (, uint64 submittedAt) = clearingHouse.recordOf(book.header.number);
        return vault.coverNano(slot, book.leaves[slot].sums.cumulative(), submittedAt);
    }

    /// @dev Whether all is final that a membership takes part in, or nothing more will be.
    function _isDone(uint256 slot) private view returns (bool) {
        uint256 until = registry.memberAt(slot).untilPeriod;
        return clearingHouse.frozen() || (until != 0 && _book(lastFinal).header.nextPeriod >= until);
    }

    function _book(uint64 number) private view returns (Book memory book) {
        if (number != 0) book = abi.decode(_books[number], (Book));
    }

    function _someSlot(uint256 seed) private view returns (uint256 slot) {
        slot = seed % (SLOTS - 1);
        if (!registry.exists(slot)) slot = FIRST_MEMBER;
    }

    function _someMember(uint256 seed) private view returns (uint256 slot) {
        slot = FIRST_MEMBER + seed % (SLOTS - 1 - FIRST_MEMBER);
        if (!registry.exists(slot)) slot = FIRST_MEMBER;
    }

    function _fund(address account) private {
        token.mint(account, type(uint128).max);
        vm.prank(account);
        token.approve(address(vault), type(uint256).max);
    }
}

interface IPermit {
    function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external;
}
