// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BatchHeader, Submission} from "../types/Batch.sol";
import {IMemberRegistry} from "./IMemberRegistry.sol";
import {IReadingOracle} from "./IReadingOracle.sol";
import {ITariffBook} from "./ITariffBook.sol";
import {IVault} from "./IVault.sol";

/// @title Accepts a period's clearing only with its proof; keeps the chain of batches
interface IClearingHouse {
    /// @notice Which lie a challenge proved.
    enum Fault {
        Amount,
        SystemAmount,
        Cumulative,
        TreeSum,
        Inactive,
        Missing,
        Withheld,
        Uncovered
    }

    /// @notice What a community is founded with; never changes.
    /// @param firstPeriod number of the first period (its local day since 1970-01-01, by convention).
    /// @param firstInterval index of that period's first interval since the Unix epoch.
    /// @param intervalSeconds 300 or 900.
    /// @param shortestPeriodSeconds no period is shorter: 23 hours where periods are local days.
    /// @param challengeSeconds how long a batch can be challenged before it is final.
    /// @param correctionSeconds how long after its end a period can be corrected.
    /// @param freezeSeconds how long no batch may become final before anyone can freeze the community.
    /// @param bondWei what a batch puts at stake.
    /// @param demandBondWei what a demand for data puts at stake, which pays for the answer.
    struct Parameters {
        uint64 firstPeriod;
        uint64 firstInterval;
        uint32 intervalSeconds;
        uint32 shortestPeriodSeconds;
        uint32 challengeSeconds;
        uint32 correctionSeconds;
        uint32 freezeSeconds;
        uint96 bondWei;
        uint96 demandBondWei;
    }

    /// @notice A batch was accepted.
    event BatchSubmitted(uint64 indexed number, uint64 indexed period, bytes32 indexed batchHash, BatchHeader header);
    /// @notice A batch was proved false; it and all after it, up to `lastNumber`, are void.
    event BatchVoided(
        uint64 indexed number,
        uint64 indexed period,
        address indexed challenger,
        bytes32 batchHash,
        Fault fault,
        uint64 lastNumber
    );
    /// @notice Somebody added to the bond that stands behind the batches.
    event BondPosted(address indexed owner, uint256 addedWei, uint256 bondWei);
    /// @notice The bond's owner took it back.
    event BondWithdrawn(address indexed owner, uint256 bondWei);
    /// @notice No batch became final for too long: `lastNumber` stays the last one, and everybody can leave on it.
    event CommunityFrozen(uint64 indexed lastNumber, address indexed caller);

    /// @notice A contract given to the constructor belongs to another community.
    error NotOfThisCommunity(address part);
    /// @notice A founding parameter is zero, too short for another, or not what the challenges contract has.
    error BadParameters();
    /// @notice The bond behind the batches is not whole.
    error BondTooLow(uint256 bondWei, uint256 neededWei);
    /// @notice The bond belongs to another account.
    error BondOfAnother(address owner);
    /// @notice The bond was returned before.
    error NothingToReturn();
    /// @notice A batch can still be challenged.
    error BatchStillOpen(uint256 number);
    /// @notice Not the period after the newest batch.
    error WrongPeriod(uint256 period, uint256 expected);
    /// @notice Not the version after the corrected batch's, or not 0 for a new period.
    error WrongVersion(uint256 version, uint256 expected);
    /// @notice Does not begin where the period before ended.
    error WrongFirstInterval(uint256 firstInterval, uint256 expected);
    /// @notice No interval, or more than 300.
    error WrongIntervalCount(uint256 count, uint256 limit);
    /// @notice The period is shorter than the shortest the community was founded with.
    error PeriodTooShort(uint256 lastsSeconds, uint256 shortestSeconds);
    /// @notice The period's last interval has not ended by the block's time.
    error PeriodNotOver(uint256 endsAt, uint256 blockTime);
    /// @notice The time for correcting the period is over.
    error TooLateToCorrect(uint256 deadline, uint256 blockTime);
    /// @notice Built on another batch than the newest one.
    error WrongPrevious(bytes32 given, bytes32 newest);
    /// @notice Another correction of this batch stands.
    error AlreadyCorrected(uint256 number, uint256 byNumber);
    /// @notice Not the tariff in force in the period (also in a challenge: not the batch's).
    error WrongTariff(bytes32 given, bytes32 inForce);
    /// @notice The certificates' totals are not the ones the oracle signed.
    error WrongTotals(bytes32 given, bytes32 signed);
    /// @notice The ledger tree has no levels, or more than 20.
    error WrongDepth(uint256 depth, uint256 limit);
    /// @notice All amounts, or all cumulative amounts, do not sum to zero.
    error LedgerNotZero(int256 amountNano, int256 cumulativeNano);
    /// @notice No batch on record for the period: none yet, or voided.
    error NoSuchBatch(uint256 number);
    /// @notice The header given is not the one on record.
    error WrongHeader(bytes32 given, bytes32 recorded);
    /// @notice The challenge window has passed.
    error AlreadyFinal(uint256 number);
    /// @notice The batch can still be challenged.
    error NotFinal(uint256 number);
    /// @notice A newer batch is final.
    error NotLastFinal(uint256 number);
    /// @notice Somebody else than the challenges contract tries to void.
    error NotChallenges(address caller);
    /// @notice The community is frozen.
    error AlreadyFrozen();
    /// @notice A batch became final not long enough ago.
    error NotYetFrozen(uint256 freezableAt, uint256 blockTime);
    /// @notice The receiver of a bond or reward does not take native coins.
    error TransferFailed(address to);

    /// @notice Submits the batch of the next period. Only the coordinator, and only while its own bond stands.
    function submitBatch(Submission calldata submission) external returns (bytes32 batchHash);

    /// @notice Submits a corrected version of a period that was settled by `corrected`, which must be final. Accounts are
    /// settled for the difference only.
    function submitCorrection(Submission calldata submission, BatchHeader calldata corrected)
        external
        returns (bytes32 batchHash);

    /// @notice Adds to the caller's bond. Only a coordinator; one that comes after another posts once no batch is open, and the
    /// other's bond is returned.
    function postBond() external payable;

    /// @notice Returns the bond to its owner while no batch is open to challenge.
    function withdrawBond() external;

    /// @notice Voids the batch and all after it, and divides the bond. Only `Challenges`, which has seen the proof.
    function voidBatch(BatchHeader calldata header, Fault fault, address payable challenger) external;

    /// @notice Freezes the community if no batch became final for `freezeSeconds`: nothing is accepted any more and
    /// everybody withdraws on the last final batch.
    /// @param lastFinalNumber number of the last final batch; zero if there is none.
    function freeze(uint64 lastFinalNumber) external;

    /// @notice Reverts unless the batch with this number has this hash and can still be challenged.
    function requireOpen(uint64 number, bytes32 batchHash) external view;

    /// @notice Reverts unless the batch with this number has this hash and is the newest final one.
    function requireLastFinal(uint64 number, bytes32 batchHash) external view;

    /// @return number of the newest batch; zero if there is none.
    function headNumber() external view returns (uint64);

    /// @return first period without a batch.
    function nextPeriod() external view returns (uint64);

    /// @return first interval of that period, since the Unix epoch.
    function nextInterval() external view returns (uint64);

    /// @return whether the community has been frozen.
    function frozen() external view returns (bool);

    /// @return batchHash of the batch with this number; zero if there is none.
    /// @return submittedAt block time.
    function recordOf(uint64 number) external view returns (bytes32 batchHash, uint64 submittedAt);

    /// @return whether the batch with this number can no longer be challenged.
    function isFinal(uint64 number) external view returns (bool);

    /// @return the first period that has certainly not begun: from it on memberships can end, whether or not a batch was accepted yet.
    function firstFuturePeriod() external view returns (uint64);

    /// @return the first period from which members can be admitted and tariffs announced: as `firstFuturePeriod` once a batch was
    /// accepted. Until then the first period of all, be it over: that is for founders, or comes through the roles' delay.
    function firstOpenPeriod() external view returns (uint64);

    /// @return when the newest open batch with this number becomes final, in seconds since the Unix epoch.
    function finalAt(uint64 number) external view returns (uint256);

    /// @return hash that the first batch names as the one before it.
    function genesisHash() external view returns (bytes32);

    /// @return how long a batch can be challenged before it is final; one of the `parameters`, for whoever needs no other.
    function challengeSeconds() external view returns (uint256);

    /// @return what the community was founded with.
    function parameters() external view returns (Parameters memory);

    /// @return whether the newest batch can still be challenged.
    function hasOpenBatch() external view returns (bool);

    /// @return owner who posted the bond.
    /// @return amountWei what stands behind the batches.
    function bond() external view returns (address owner, uint256 amountWei);

    /// @return who is a member.
    function registry() external view returns (IMemberRegistry);

    /// @return which tariff is in force.
    function tariffBook() external view returns (ITariffBook);

    /// @return whose reports are believed.
    function readingOracle() external view returns (IReadingOracle);

    /// @return where the money is.
    function vault() external view returns (IVault);

    /// @return the contract that may void a batch.
    function challenges() external view returns (address);
}
