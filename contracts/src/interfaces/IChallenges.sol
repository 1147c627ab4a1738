// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BatchHeader} from "../types/Batch.sol";
import {LedgerEntry, ReadingsEvidence} from "../types/Evidence.sol";
import {LedgerLeaf} from "../types/LedgerLeaf.sol";
import {Sums} from "../types/Sums.sol";
import {Tariff} from "../types/Tariff.sol";
import {IMemberRegistry} from "./IMemberRegistry.sol";
import {IVault} from "./IVault.sol";

/// @title Lets whoever is hurt overturn a wrong batch, in one transaction
/// @notice Every function here proves one lie in a batch that is still open, voids it and pays half the bond to the caller, or
/// reverts. Only demands take two steps: ask, and void if nobody answers in time.
interface IChallenges {
    // The slot stands for its account, which never changes (MemberAdmitted); reading it here would cost more than the event.

    /// @notice Somebody wants to see a slot's leaf and its paths; it must be answered until `deadline`.
    event DataDemanded(
        uint64 indexed period,
        uint256 indexed slot,
        address indexed demander,
        uint64 number,
        bytes32 batchHash,
        uint256 deadline
    );
    /// @notice The leaf was shown, in the calldata of this transaction.
    event DemandAnswered(
        uint64 indexed period, uint256 indexed slot, address indexed answerer, uint64 number, bytes32 batchHash
    );
    /// @notice A demand that was neither answered nor used was paid back. Of which period tells the batch's BatchSubmitted.
    event DemandReturned(bytes32 indexed batchHash, uint256 indexed slot, address indexed demander, uint64 number);
    /// @notice An account owes more than deposit and credit cover; they must be raised until `deadline`.
    event CoverDemanded(
        uint64 indexed period,
        uint256 indexed slot,
        address indexed demander,
        uint64 number,
        bytes32 batchHash,
        uint256 deadline
    );

    /// @notice What you challenged is right.
    error NothingIsWrong();
    /// @notice Leaf or node and proof do not lead to the root.
    error NotInTree(bytes32 computedRoot, bytes32 root);
    /// @notice The prices given are not the batch's.
    error WrongPrices(bytes32 given, bytes32 committed);
    /// @notice Not the tariff of the batch.
    error WrongTariffGiven(bytes32 given, bytes32 committed);
    /// @notice Not the header of the batch that this one corrects.
    error WrongCorrectedBatch(bytes32 given, bytes32 committed);
    /// @notice Not the header of the batch before.
    error WrongPreviousBatch(bytes32 given, bytes32 committed);
    /// @notice Leaf and slot do not belong together.
    error WrongSlot(uint256 slot, uint256 expected);
    /// @notice The slot is not settled in that period, or the previous leaf is of another slot.
    error NotActive(uint256 slot, uint256 period);
    /// @notice The slot is not supplier, DSO or fund.
    error NotSystemAccount(uint256 slot);
    /// @notice Not an inner node below the root.
    error LevelOutsideTree(uint256 level);
    /// @notice The batch's tree has no such slot.
    error SlotOutsideLedger(uint256 slot, uint256 depth);
    /// @notice The batch is a correction.
    error IsCorrection(uint256 version);
    /// @notice The node has a slot that was given out.
    error SlotGivenOut(uint256 slot);
    /// @notice The value sent is not the bond of a demand.
    error WrongDemandBond(uint256 sentWei, uint256 neededWei);
    /// @notice The time for demands is over.
    error TooLateToDemand(uint256 deadline, uint256 blockTime);
    /// @notice Somebody demanded this already.
    error AlreadyDemanded(uint256 slot);
    /// @notice There is no such demand, or it was answered.
    error NotDemanded(uint256 slot);
    /// @notice The time for the answer, or before the money may leave, is not over.
    error StillTime(uint256 deadline, uint256 blockTime);
    /// @notice An account that takes part cannot be empty.
    error EmptyIsNoAnswer(uint256 slot);
    /// @notice The demand's batch still stands.
    error BatchStandsStill(bytes32 batchHash);
    /// @notice The receiver of a bond or reward does not take native coins.
    error TransferFailed(address to);

    /// @notice Overturns a batch that bills a member other than its readings and the prices say, or whose leaf commits
    /// to other readings than the oracle's.
    function challengeAmount(
        BatchHeader calldata header,
        ReadingsEvidence calldata evidence,
        Tariff calldata tariff,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) external;

    /// @notice As `challengeAmount` for a correction, which settles only the difference to the batch it corrects.
    /// @param corrected header of that batch.
    /// @param correctedEvidence the member's readings and the prices there.
    function challengeCorrectedAmount(
        BatchHeader calldata header,
        ReadingsEvidence calldata evidence,
        Tariff calldata tariff,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof,
        BatchHeader calldata corrected,
        ReadingsEvidence calldata correctedEvidence
    ) external;

    /// @notice Overturns a batch that credits supplier, DSO or fund other than the certificates add up to.
    /// @param corrected header of the batch that this one corrects; counts for nothing in version 0.
    function challengeSystemAmount(
        BatchHeader calldata header,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof,
        BatchHeader calldata corrected
    ) external;

    /// @notice Overturns a batch that books money at a slot that nobody bills in its period: a membership that has ended, or one
    /// that has not begun, or a slot never given out, which must have no balance either.
    function challengeInactive(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        external;

    /// @notice Overturns a batch whose tree has anything behind the last slot given out. Whoever knows the last slot's path knows all
    /// nodes there; what they are made of, which nobody could be asked for, does not matter.
    /// @param level levels above the leaves, below the root.
    /// @param index the node's position within its level.
    /// @param node its hash.
    /// @param sums what its parent takes as its sums.
    function challengeOutside(
        BatchHeader calldata header,
        uint256 level,
        uint256 index,
        bytes32 node,
        Sums sums,
        bytes32[] calldata proof
    ) external;

    /// @notice Overturns a batch that leaves out an account that it should settle.
    /// @param ledgerProof path of the empty slot; empty if the tree is too small for the slot.
    function challengeMissing(BatchHeader calldata header, uint256 slot, bytes32[] calldata ledgerProof) external;

    /// @notice Overturns a batch whose cumulative amount is not the previous one plus this period's amount.
    /// @param previous header of the batch before; counts for nothing if `header` is the first.
    function challengeCumulative(
        BatchHeader calldata header,
        LedgerEntry calldata entry,
        BatchHeader calldata previous,
        LedgerEntry calldata previousEntry
    ) external;

    /// @notice Overturns a batch with a tree node whose sums are not its children's.
    /// @param level levels above the leaves, at least one and below the root.
    /// @param index the node's position within its level.
    /// @param claimedSums what the node's parent (or the root check) takes as the node's sums.
    /// @param children left hash, left sums, right hash, right sums.
    function challengeTreeSum(
        BatchHeader calldata header,
        uint256 level,
        uint256 index,
        Sums claimedSums,
        bytes32[4] calldata children,
        bytes32[] calldata proof
    ) external;

    /// @notice Overturns a batch whose tree counts a leaf with other sums than the leaf has, or a leaf that is not its slot's.
    /// @param slot where the leaf stands in the tree.
    /// @param claimedSums the sums the tree takes for the leaf.
    function challengeLeafSum(
        BatchHeader calldata header,
        uint256 slot,
        LedgerLeaf calldata leaf,
        Sums claimedSums,
        bytes32[] calldata ledgerProof
    ) external;

    /// @notice Demands a slot's leaf and its paths, with a bond that pays for the answer. In the first third of the time for
    /// challenges, so that there is time to answer and time to challenge the answer.
    function demandData(BatchHeader calldata header, uint256 slot) external payable;

    /// @notice Answers a demand. Its bond goes to the owner of the batches' bond, whoever answers: else a demander would answer just before
    /// the coordinator does. An account that the batch must settle is no empty slot.
    /// @param readingsProof path of the leaf's readings commitment in the oracle's tree.
    function answerDemand(BatchHeader calldata header, LedgerEntry calldata entry, bytes32[] calldata readingsProof)
        external;

    /// @notice Voids a batch with a demand that nobody answered in time. The reward goes to the caller; the demander takes the
    /// demand's bond back with `returnDemand`.
    function voidUnanswered(BatchHeader calldata header, uint256 slot) external;

    /// @notice Pays a demand's bond back if its batch was voided meanwhile.
    /// @param number of the batch when the demand was made.
    /// @param submittedAt block time of its submission.
    function returnDemand(uint64 number, bytes32 batchHash, uint64 submittedAt, uint256 slot) external;

    /// @notice Demands that an account which owes more than its deposit and credit be covered, in the first two thirds of the time
    /// for challenges.
    function demandCover(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof) external;

    /// @notice Voids a batch with an account that is still uncovered when the time for it is over.
    function voidUncovered(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        external;

    /// @return how long a batch can be challenged, in seconds.
    function challengeSeconds() external view returns (uint256);

    /// @return what a demand puts at stake.
    function demandBondWei() external view returns (uint256);

    /// @return who is a member.
    function registry() external view returns (IMemberRegistry);

    /// @return where the money is.
    function vault() external view returns (IVault);
}
