// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Community} from "./Community.sol";
import {IChallenges} from "./interfaces/IChallenges.sol";
import {IClearingHouse} from "./interfaces/IClearingHouse.sol";
import {IMemberRegistry, takesPart} from "./interfaces/IMemberRegistry.sol";
import {IVault} from "./interfaces/IVault.sol";
import {PositionalTree} from "./libraries/PositionalTree.sol";
import {Statement} from "./libraries/Statement.sol";
import {SumTree} from "./libraries/SumTree.sol";
import {BatchHeader} from "./types/Batch.sol";
import {LedgerEntry, ReadingsEvidence} from "./types/Evidence.sol";
import {LedgerLeaf} from "./types/LedgerLeaf.sol";
import {Sums} from "./types/Sums.sol";
import {GroupTariff, Tariff} from "./types/Tariff.sol";

/// @title Challenges and demands
/// @dev Has no roles: anybody may prove a lie. Totals are enforced at submission, so whatever someone gains by a wrong leaf
/// someone else loses, and the loser proves it from his own data alone, which he can demand.
contract Challenges is IChallenges, Community {
    uint256 public constant SUPPLIER_SLOT = 0;
    uint256 public constant DSO_SLOT = 1;
    uint256 public constant FUND_SLOT = 2;

    struct Demand {
        address demander;
        uint64 deadline;
        bool answered;
    }

    /// @inheritdoc IChallenges
    IMemberRegistry public immutable registry;
    /// @inheritdoc IChallenges
    IVault public immutable vault;
    /// @inheritdoc IChallenges
    uint256 public immutable challengeSeconds;
    /// @inheritdoc IChallenges
    uint256 public immutable demandBondWei;

    /// @dev By batch hash and time of submission: a batch that was voided and is submitted again begins without demands.
    mapping(bytes32 record => mapping(uint256 slot => Demand)) private _demands;
    mapping(bytes32 record => mapping(uint256 slot => uint256 deadline)) private _coverDeadlines;

    /// @param challengeSeconds_ as the clearing house has it.
    /// @param demandBondWei_ what a demand puts at stake.
    constructor(
        address clearingHouse_,
        IMemberRegistry registry_,
        IVault vault_,
        uint256 challengeSeconds_,
        uint256 demandBondWei_
    ) Community(clearingHouse_) {
        registry = registry_;
        vault = vault_;
        challengeSeconds = challengeSeconds_;
        demandBondWei = demandBondWei_;
    }

    /// @inheritdoc IChallenges
    function challengeAmount(
        BatchHeader calldata header,
        ReadingsEvidence calldata evidence,
        Tariff calldata tariff,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) external {
        if (header.version != 0) revert IsCorrection(header.version);
        (bool found, GroupTariff group) = _groupOf(header, leaf.slot, tariff);
        (int256 dueNano, bytes32 commitment) = _due(header, leaf.slot, evidence, found, group);
        _challengeLeaf(header, leaf, ledgerProof, dueNano, commitment);
    }

    /// @inheritdoc IChallenges
    function challengeCorrectedAmount(
        BatchHeader calldata header,
        ReadingsEvidence calldata evidence,
        Tariff calldata tariff,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof,
        BatchHeader calldata corrected,
        ReadingsEvidence calldata correctedEvidence
    ) external {
        _requireCorrected(header, corrected);
        (bool found, GroupTariff group) = _groupOf(header, leaf.slot, tariff);
        (int256 dueNano, bytes32 commitment) = _due(header, leaf.slot, evidence, found, group);
        (int256 settledNano,) = _due(corrected, leaf.slot, correctedEvidence, found, group);
        _challengeLeaf(header, leaf, ledgerProof, dueNano - settledNano, commitment);
    }

    /// @inheritdoc IChallenges
    function challengeSystemAmount(
        BatchHeader calldata header,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof,
        BatchHeader calldata corrected
    ) external {
        _requireLeaf(header, leaf, ledgerProof);
        int256 dueNano = _systemNano(header, leaf.slot);
        if (header.version != 0) {
            _requireCorrected(header, corrected);
            dueNano -= _systemNano(corrected, leaf.slot);
        }
        if (leaf.sums.amount() == dueNano) revert NothingIsWrong();
        _void(header, IClearingHouse.Fault.SystemAmount);
    }

    /// @inheritdoc IChallenges
    function challengeInactive(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        external
    {
        _requireLeaf(header, leaf, ledgerProof);
        bool billed = leaf.slot <= FUND_SLOT || registry.isActive(leaf.slot, header.period);
        bool wronglyBooked = !billed && leaf.sums.amount() != 0;
        // Money waiting at a slot for somebody still to be admitted there would be stolen from everybody.
        bool wronglyHeld = !_hasBegun(leaf.slot, header) && leaf.sums.cumulative() != 0;
        if (!wronglyBooked && !wronglyHeld) revert NothingIsWrong();
        _void(header, IClearingHouse.Fault.Inactive);
    }

    /// @inheritdoc IChallenges
    function challengeOutside(
        BatchHeader calldata header,
        uint256 level,
        uint256 index,
        bytes32 node,
        Sums sums,
        bytes32[] calldata proof
    ) external {
        if (level >= header.ledgerDepth) revert LevelOutsideTree(level);
        _requireRoot(SumTree.rootOf(node, sums, index, header.ledgerDepth - level, proof), header.ledgerRoot);
        // SAFETY: the path has shown that the index has no more bits than the levels above it.
        if (registry.exists(index << level)) revert SlotGivenOut(index << level);
        if (node == 0 && Sums.unwrap(sums) == 0) revert NothingIsWrong();
        _void(header, IClearingHouse.Fault.Inactive);
    }

    /// @inheritdoc IChallenges
    function challengeMissing(BatchHeader calldata header, uint256 slot, bytes32[] calldata ledgerProof) external {
        if (!registry.isActive(slot, header.period)) revert NotActive(slot, header.period);
        _requireEmpty(header, slot, ledgerProof);
        _void(header, IClearingHouse.Fault.Missing);
    }

    /// @inheritdoc IChallenges
    function challengeCumulative(
        BatchHeader calldata header,
        LedgerEntry calldata entry,
        BatchHeader calldata previous,
        LedgerEntry calldata previousEntry
    ) external {
        Sums sums = _requireEntry(header, entry);
        int256 expectedNano = sums.amount();
        if (header.number != 1) {
            bytes32 given = previous.hash();
            if (given != header.previousBatch) revert WrongPreviousBatch(given, header.previousBatch);
            // What stood at the slot before its account began is nobody's, and nobody need know it.
            if (_hasBegun(entry.leaf.slot, previous)) {
                if (previousEntry.leaf.slot != entry.leaf.slot) {
                    revert WrongSlot(previousEntry.leaf.slot, entry.leaf.slot);
                }
                expectedNano += _requireEntry(previous, previousEntry).cumulative();
            }
        }
        if (expectedNano == sums.cumulative()) revert NothingIsWrong();
        _void(header, IClearingHouse.Fault.Cumulative);
    }

    /// @inheritdoc IChallenges
    function challengeTreeSum(
        BatchHeader calldata header,
        uint256 level,
        uint256 index,
        Sums claimedSums,
        bytes32[4] calldata children,
        bytes32[] calldata proof
    ) external {
        // SAFETY: the root's own sums are not in the tree but checked at submission; `proof` would not bind them.
        if (level == 0 || level >= header.ledgerDepth) revert LevelOutsideTree(level);
        Sums leftSums = Sums.wrap(children[1]);
        Sums rightSums = Sums.wrap(children[3]);
        bytes32 node = SumTree.hashNode(children[0], leftSums, children[2], rightSums);
        _requireRoot(SumTree.rootOf(node, claimedSums, index, header.ledgerDepth - level, proof), header.ledgerRoot);
        // An empty subtree has no money: a zero hash with a sum is as false as a sum that does not add up.
        bool emptyWithMoney = (children[0] == 0 && children[1] != 0) || (children[2] == 0 && children[3] != 0);
        int256 amountNano = int256(leftSums.amount()) + rightSums.amount();
        int256 cumulativeNano = int256(leftSums.cumulative()) + rightSums.cumulative();
        if (!emptyWithMoney && amountNano == claimedSums.amount() && cumulativeNano == claimedSums.cumulative()) {
            revert NothingIsWrong();
        }
        _void(header, IClearingHouse.Fault.TreeSum);
    }

    /// @inheritdoc IChallenges
    function challengeLeafSum(
        BatchHeader calldata header,
        uint256 slot,
        LedgerLeaf calldata leaf,
        Sums claimedSums,
        bytes32[] calldata ledgerProof
    ) external {
        _requireRoot(SumTree.rootOf(leaf.hash(), claimedSums, slot, header.ledgerDepth, ledgerProof), header.ledgerRoot);
        if (leaf.sums == claimedSums && leaf.slot == slot) revert NothingIsWrong();
        _void(header, IClearingHouse.Fault.TreeSum);
    }

    /// @inheritdoc IChallenges
    function demandData(BatchHeader calldata header, uint256 slot) external payable {
        bytes32 record = _requireOpen(header);
        if (msg.value != demandBondWei) revert WrongDemandBond(msg.value, demandBondWei);
        // SAFETY: of slots not given out too, or money could be hidden there until somebody is admitted.
        if (slot >> header.ledgerDepth != 0) revert SlotOutsideLedger(slot, header.ledgerDepth);
        uint256 third = challengeSeconds / 3;
        uint256 lastMoment = clearingHouse.finalAt(header.number) - 2 * third;
        if (block.timestamp > lastMoment) revert TooLateToDemand(lastMoment, block.timestamp);
        if (_demands[record][slot].demander != address(0)) revert AlreadyDemanded(slot);
        uint256 deadline = block.timestamp + third;
        _demands[record][slot] = Demand(msg.sender, uint64(deadline), false);
        emit DataDemanded(header.period, slot, msg.sender, header.number, header.hash(), deadline);
    }

    /// @inheritdoc IChallenges
    function answerDemand(BatchHeader calldata header, LedgerEntry calldata entry, bytes32[] calldata readingsProof)
        external
    {
        uint256 slot = entry.leaf.slot;
        Demand storage demand = _pending(_requireOpen(header), slot);
        _requireEntry(header, entry);
        if (entry.isEmpty && registry.isActive(slot, header.period)) revert EmptyIsNoAnswer(slot);
        bytes32 commitment = entry.isEmpty ? bytes32(0) : entry.leaf.readingsCommitment;
        _requireRoot(PositionalTree.rootOf(commitment, slot, readingsProof), header.readingsRoot);
        demand.answered = true;
        emit DemandAnswered(header.period, slot, msg.sender, header.number, header.hash());
        (address owner,) = clearingHouse.bond();
        _send(owner, demandBondWei);
    }

    /// @inheritdoc IChallenges
    function voidUnanswered(BatchHeader calldata header, uint256 slot) external {
        // The demander is not paid here: one that takes no money would keep the batch from falling.
        uint256 deadline = _pending(_requireOpen(header), slot).deadline;
        if (block.timestamp <= deadline) revert StillTime(deadline, block.timestamp);
        _void(header, IClearingHouse.Fault.Withheld);
    }

    /// @inheritdoc IChallenges
    function returnDemand(uint64 number, bytes32 batchHash, uint64 submittedAt, uint256 slot) external {
        bytes32 record = _recordOf(batchHash, submittedAt);
        Demand storage demand = _pending(record, slot);
        (bytes32 recorded, uint64 recordedAt) = clearingHouse.recordOf(number);
        if (_recordOf(recorded, recordedAt) == record) revert BatchStandsStill(batchHash);
        // A batch that was frozen out or voided has no record; one whose number was wrong on purpose still has.
        if (block.timestamp <= uint256(demand.deadline) + challengeSeconds) {
            revert StillTime(uint256(demand.deadline) + challengeSeconds, block.timestamp);
        }
        demand.answered = true;
        emit DemandReturned(batchHash, slot, demand.demander, number);
        _send(demand.demander, demandBondWei);
    }

    /// @inheritdoc IChallenges
    function demandCover(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        external
    {
        bytes32 record = _requireOpen(header);
        _requireUncovered(header, leaf, ledgerProof);
        uint256 third = challengeSeconds / 3;
        // A sixth of the time remains to void it.
        uint256 lastMoment = clearingHouse.finalAt(header.number) - third - third / 2;
        if (block.timestamp >= lastMoment) revert TooLateToDemand(lastMoment, block.timestamp);
        if (_coverDeadlines[record][leaf.slot] != 0) revert AlreadyDemanded(leaf.slot);
        uint256 deadline = block.timestamp + third;
        _coverDeadlines[record][leaf.slot] = deadline;
        emit CoverDemanded(header.period, leaf.slot, msg.sender, header.number, header.hash(), deadline);
    }

    /// @inheritdoc IChallenges
    function voidUncovered(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        external
    {
        uint256 deadline = _coverDeadlines[_requireOpen(header)][leaf.slot];
        if (deadline == 0) revert NotDemanded(leaf.slot);
        if (block.timestamp <= deadline) revert StillTime(deadline, block.timestamp);
        _requireUncovered(header, leaf, ledgerProof);
        _void(header, IClearingHouse.Fault.Uncovered);
    }

    /// @dev The member's group in the tariff, which all versions of a period share.
    function _groupOf(BatchHeader calldata header, uint256 slot, Tariff calldata tariff)
        private
        view
        returns (bool found, GroupTariff group)
    {
        if (slot <= FUND_SLOT) revert NotActive(slot, header.period);
        IMemberRegistry.Member memory member = registry.memberAt(slot);
        if (!takesPart(member, header.period)) revert NotActive(slot, header.period);
        bytes32 tariffHash = tariff.hash();
        if (tariffHash != header.tariffHash) revert WrongTariffGiven(tariffHash, header.tariffHash);
        for (uint256 g = 0; g < tariff.groups.length; ++g) {
            group = tariff.groups[g];
            if (group.node() == member.node && group.tariffClass() == member.tariffClass) return (true, group);
        }
    }

    /// @dev What a batch owes a member, and the commitment its leaf must carry.
    /// @param found whether the tariff knows the member's group.
    function _due(
        BatchHeader calldata header,
        uint256 slot,
        ReadingsEvidence calldata evidence,
        bool found,
        GroupTariff group
    ) private pure returns (int256 dueNano, bytes32 commitment) {
        bool isReported = evidence.readings.length != 0;
        if (isReported) commitment = Statement.readingsLeaf(slot, evidence.readings, evidence.salt);
        _requireRoot(PositionalTree.rootOf(commitment, slot, evidence.proof), header.readingsRoot);
        // A member whom the oracle or the tariff does not know is left to its outside supplier.
        if (!isReported || !found) return (0, commitment);
        bytes32 pricesHash = keccak256(evidence.prices);
        if (pricesHash != header.pricesHash) revert WrongPrices(pricesHash, header.pricesHash);
        dueNano = Statement.amount(evidence.readings, evidence.prices, group, header.intervalCount);
    }

    function _challengeLeaf(
        BatchHeader calldata header,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof,
        int256 dueNano,
        bytes32 commitment
    ) private {
        _requireLeaf(header, leaf, ledgerProof);
        if (leaf.readingsCommitment == commitment && leaf.sums.amount() == dueNano) revert NothingIsWrong();
        _void(header, IClearingHouse.Fault.Amount);
    }

    function _systemNano(BatchHeader calldata header, uint256 slot) private pure returns (int256) {
        if (slot == SUPPLIER_SLOT) return header.supplierNano;
        if (slot == DSO_SLOT) return header.networkFeesNano;
        if (slot == FUND_SLOT) return header.fundNano;
        revert NotSystemAccount(slot);
    }

    function _void(BatchHeader calldata header, IClearingHouse.Fault fault) private {
        clearingHouse.voidBatch(header, fault, payable(msg.sender));
    }

    /// @dev Whether the slot's account takes part in any period that the batch or one before it settles.
    function _hasBegun(uint256 slot, BatchHeader calldata header) private view returns (bool) {
        return registry.exists(slot) && registry.memberAt(slot).fromPeriod < header.nextPeriod;
    }

    function _requireOpen(BatchHeader calldata header) private view returns (bytes32 record) {
        bytes32 batchHash = header.hash();
        clearingHouse.requireOpen(header.number, batchHash);
        (, uint64 submittedAt) = clearingHouse.recordOf(header.number);
        return _recordOf(batchHash, submittedAt);
    }

    /// @dev A batch hash leaves its last bytes to the time.
    function _recordOf(bytes32 batchHash, uint64 submittedAt) private pure returns (bytes32) {
        return batchHash | bytes32(uint256(submittedAt));
    }

    function _pending(bytes32 record, uint256 slot) private view returns (Demand storage demand) {
        demand = _demands[record][slot];
        if (demand.demander == address(0) || demand.answered) revert NotDemanded(slot);
    }

    function _requireUncovered(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        private
        view
    {
        _requireLeaf(header, leaf, ledgerProof);
        (, uint64 submittedAt) = clearingHouse.recordOf(header.number);
        if (vault.coverNano(leaf.slot, leaf.sums.cumulative(), submittedAt) >= 0) revert NothingIsWrong();
    }

    function _requireCorrected(BatchHeader calldata header, BatchHeader calldata corrected) private pure {
        bytes32 given = corrected.hash();
        if (header.version == 0 || given != header.correctedBatch) {
            revert WrongCorrectedBatch(given, header.correctedBatch);
        }
    }

    /// @return sums of the slot, zero if it is empty.
    function _requireEntry(BatchHeader calldata header, LedgerEntry calldata entry) private pure returns (Sums sums) {
        if (entry.isEmpty) {
            _requireEmpty(header, entry.leaf.slot, entry.proof);
        } else {
            _requireLeaf(header, entry.leaf, entry.proof);
            sums = entry.leaf.sums;
        }
    }

    function _requireLeaf(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata proof)
        private
        pure
    {
        _requireRoot(SumTree.rootOf(leaf.hash(), leaf.sums, leaf.slot, header.ledgerDepth, proof), header.ledgerRoot);
    }

    function _requireEmpty(BatchHeader calldata header, uint256 slot, bytes32[] calldata proof) private pure {
        // A tree that is too small for the slot has nothing there.
        if (slot >> header.ledgerDepth != 0) return;
        _requireRoot(SumTree.rootOf(0, Sums.wrap(0), slot, header.ledgerDepth, proof), header.ledgerRoot);
    }

    function _requireRoot(bytes32 computed, bytes32 root) private pure {
        if (computed != root) revert NotInTree(computed, root);
    }

    function _send(address to, uint256 valueWei) private {
        (bool sent,) = to.call{value: valueWei}("");
        if (!sent) revert TransferFailed(to);
    }
}
