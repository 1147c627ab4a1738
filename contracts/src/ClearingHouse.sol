// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IChallenges} from "./interfaces/IChallenges.sol";
import {IClearingHouse} from "./interfaces/IClearingHouse.sol";
import {ICommunity} from "./interfaces/ICommunity.sol";
import {IMemberRegistry} from "./interfaces/IMemberRegistry.sol";
import {IReadingOracle} from "./interfaces/IReadingOracle.sol";
import {ITariffBook} from "./interfaces/ITariffBook.sol";
import {IVault} from "./interfaces/IVault.sol";
import {Certificate} from "./libraries/Certificate.sol";
import {SumTree} from "./libraries/SumTree.sol";
import {BatchHeader, LedgerRoot, Submission, TIME_BITS} from "./types/Batch.sol";
import {Tariff} from "./types/Tariff.sol";

/// @title Batches and their proofs
contract ClearingHouse is IClearingHouse, AccessManaged {
    /// @notice A local day of 5-minute intervals in autumn has 300.
    uint256 public constant MAX_INTERVALS = 300;
    bytes32 private constant GENESIS_TAG = keccak256("peerwatt.genesis.v2");

    /// @dev One word: read and written once per batch.
    struct Head {
        uint64 number;
        uint64 nextPeriod;
        uint64 nextInterval;
        bool frozen;
        // Whether a batch was ever accepted, be it void since.
        bool started;
    }

    struct Bond {
        address owner;
        uint96 amountWei;
    }

    /// @dev The batch that corrected another, with its hash: numbers are used again after a batch was voided.
    struct Correction {
        uint64 number;
        bytes32 batchHash;
    }

    IMemberRegistry public immutable registry;
    ITariffBook public immutable tariffBook;
    IReadingOracle public immutable readingOracle;
    IVault public immutable vault;
    address public immutable challenges;

    uint64 private immutable _firstPeriod;
    uint64 private immutable _firstInterval;
    uint32 private immutable _intervalSeconds;
    uint32 private immutable _shortestPeriodSeconds;
    uint32 private immutable _challengeSeconds;
    uint32 private immutable _correctionSeconds;
    uint32 private immutable _freezeSeconds;
    uint96 private immutable _bondWei;
    uint96 private immutable _demandBondWei;
    uint256 private immutable _foundedAt;

    Head private _head;
    Bond private _bond;
    /// @dev Batch hash in the high 216 bits, time of submission in the low 40.
    mapping(uint64 number => bytes32) private _records;
    mapping(uint64 number => Correction) private _corrections;

    constructor(
        address authority,
        IMemberRegistry registry_,
        ITariffBook tariffBook_,
        IReadingOracle readingOracle_,
        IVault vault_,
        address challenges_,
        Parameters memory given
    ) AccessManaged(authority) {
        // A freeze before a batch could have become final would make every community freezable.
        if (
            given.firstPeriod == 0 || given.intervalSeconds == 0 || given.shortestPeriodSeconds == 0
                || given.challengeSeconds < 3
                || given.freezeSeconds <= uint256(given.challengeSeconds) + given.shortestPeriodSeconds
        ) revert BadParameters();
        registry = registry_;
        tariffBook = tariffBook_;
        readingOracle = readingOracle_;
        vault = vault_;
        challenges = challenges_;
        address[5] memory parts =
            [address(registry_), address(tariffBook_), address(readingOracle_), address(vault_), challenges_];
        for (uint256 i = 0; i < parts.length; ++i) {
            if (address(ICommunity(parts[i]).clearingHouse()) != address(this)) revert NotOfThisCommunity(parts[i]);
        }
        if (
            address(vault_.registry()) != address(registry_)
                || address(IChallenges(challenges_).registry()) != address(registry_)
        ) revert NotOfThisCommunity(address(registry_));
        if (address(IChallenges(challenges_).vault()) != address(vault_)) revert NotOfThisCommunity(address(vault_));
        if (
            IChallenges(challenges_).challengeSeconds() != given.challengeSeconds
                || IChallenges(challenges_).demandBondWei() != given.demandBondWei
        ) revert BadParameters();
        _firstPeriod = given.firstPeriod;
        _firstInterval = given.firstInterval;
        _intervalSeconds = given.intervalSeconds;
        _shortestPeriodSeconds = given.shortestPeriodSeconds;
        _challengeSeconds = given.challengeSeconds;
        _correctionSeconds = given.correctionSeconds;
        _freezeSeconds = given.freezeSeconds;
        _bondWei = given.bondWei;
        _demandBondWei = given.demandBondWei;
        uint256 opensAt = uint256(given.firstInterval) * given.intervalSeconds;
        _foundedAt = block.timestamp > opensAt ? block.timestamp : opensAt;
        _head = Head(0, given.firstPeriod, given.firstInterval, false, false);
    }

    /// @inheritdoc IClearingHouse
    function submitBatch(Submission calldata submission) external restricted returns (bytes32 batchHash) {
        Head memory head = _head;
        BatchHeader memory header = _begun(submission, head, 0);
        if (header.period != head.nextPeriod) revert WrongPeriod(header.period, head.nextPeriod);
        if (header.firstInterval != head.nextInterval) {
            revert WrongFirstInterval(header.firstInterval, head.nextInterval);
        }
        if (header.intervalCount == 0 || header.intervalCount > MAX_INTERVALS) {
            revert WrongIntervalCount(header.intervalCount, MAX_INTERVALS);
        }
        // `firstFuturePeriod` counts on it.
        uint256 lasts = uint256(header.intervalCount) * _intervalSeconds;
        if (lasts < _shortestPeriodSeconds) revert PeriodTooShort(lasts, _shortestPeriodSeconds);
        uint256 endsAt = _endOf(header);
        if (block.timestamp < endsAt) revert PeriodNotOver(endsAt, block.timestamp);
        header.nextPeriod = header.period + 1;
        header.nextInterval = header.firstInterval + header.intervalCount;
        return _accept(submission, header);
    }

    /// @inheritdoc IClearingHouse
    function submitCorrection(Submission calldata submission, BatchHeader calldata corrected)
        external
        restricted
        returns (bytes32 batchHash)
    {
        Head memory head = _head;
        bytes32 correctedHash = corrected.hash();
        _requireRecorded(corrected.number, correctedHash);
        if (!isFinal(corrected.number)) revert NotFinal(corrected.number);
        Correction memory other = _corrections[corrected.number];
        if (other.number != 0 && other.number <= head.number && other.batchHash == _hashOf(_records[other.number])) {
            revert AlreadyCorrected(corrected.number, other.number);
        }
        uint256 deadline = _endOf(corrected) + _correctionSeconds;
        if (block.timestamp > deadline) revert TooLateToCorrect(deadline, block.timestamp);

        BatchHeader memory header = _begun(submission, head, corrected.version + 1);
        if (header.period != corrected.period) revert WrongPeriod(header.period, corrected.period);
        if (header.firstInterval != corrected.firstInterval) {
            revert WrongFirstInterval(header.firstInterval, corrected.firstInterval);
        }
        if (header.intervalCount != corrected.intervalCount) {
            revert WrongIntervalCount(header.intervalCount, corrected.intervalCount);
        }
        header.nextPeriod = head.nextPeriod;
        header.nextInterval = head.nextInterval;
        header.correctedBatch = correctedHash;
        batchHash = _accept(submission, header);
        _corrections[corrected.number] = Correction(header.number, batchHash);
    }

    /// @inheritdoc IClearingHouse
    function postBond() external payable restricted {
        Bond memory former = _bond;
        bool takesOver = former.owner != msg.sender;
        if (takesOver && former.amountWei != 0 && _isBatchOpen()) revert BondOfAnother(former.owner);
        // SAFETY: 2^96 wei are more ether than there is.
        uint96 amountWei = (takesOver ? 0 : former.amountWei) + uint96(msg.value);
        _bond = Bond(msg.sender, amountWei);
        emit BondPosted(msg.sender, msg.value, amountWei);
        if (takesOver && former.amountWei != 0) {
            emit BondWithdrawn(former.owner, former.amountWei);
            address owner = former.owner;
            uint256 returnedWei = former.amountWei;
            // Whether the former coordinator takes it does not matter: leaving a bond here must keep no other out.
            // SAFETY: touches no memory and copies no answer; nothing follows that the callee could starve.
            assembly ("memory-safe") {
                pop(call(gas(), owner, returnedWei, 0, 0, 0, 0))
            }
        }
    }

    /// @inheritdoc IClearingHouse
    function withdrawBond() external {
        Bond memory posted = _bond;
        if (posted.owner != msg.sender) revert BondOfAnother(posted.owner);
        if (posted.amountWei == 0) revert NothingToReturn();
        if (_isBatchOpen()) revert BatchStillOpen(_head.number);
        delete _bond;
        emit BondWithdrawn(msg.sender, posted.amountWei);
        _send(payable(msg.sender), posted.amountWei);
    }

    /// @inheritdoc IClearingHouse
    function voidBatch(BatchHeader calldata header, Fault fault, address payable challenger) external {
        if (msg.sender != challenges) revert NotChallenges(msg.sender);
        bytes32 batchHash = header.hash();
        requireOpen(header.number, batchHash);
        Head memory head = _head;
        emit BatchVoided(header.number, header.period, challenger, batchHash, fault, head.number);
        head.number = header.number - 1;
        // A correction settles no new period: the first one without a batch is as before.
        head.nextPeriod = header.version == 0 ? header.period : header.nextPeriod;
        head.nextInterval = header.version == 0 ? header.firstInterval : header.nextInterval;
        _head = head;
        // Half goes to the challenger and half is burned, so that a coordinator who challenges himself still loses. One bond
        // stands behind all open batches: those after the false one fall with it and cost no second one. An earlier lie falls
        // even if the bond is gone already, or somebody could use it up by a lie of his own.
        uint96 lostWei = _bond.amountWei < _bondWei ? _bond.amountWei : _bondWei;
        _bond.amountWei -= lostWei;
        uint256 rewardWei = lostWei / 2;
        _send(payable(address(0)), lostWei - rewardWei);
        _send(challenger, rewardWei);
    }

    /// @inheritdoc IClearingHouse
    function freeze(uint64 lastFinalNumber) external {
        Head memory head = _head;
        if (head.frozen) revert AlreadyFrozen();
        if (lastFinalNumber != 0 && !isFinal(lastFinalNumber)) revert NotFinal(lastFinalNumber);
        if (isFinal(lastFinalNumber + 1)) revert NotLastFinal(lastFinalNumber);
        uint256 since = lastFinalNumber == 0 ? _foundedAt : finalAt(lastFinalNumber);
        if (block.timestamp <= since + _freezeSeconds) {
            revert NotYetFrozen(since + _freezeSeconds, block.timestamp);
        }
        head.frozen = true;
        head.number = lastFinalNumber;
        _head = head;
        emit CommunityFrozen(lastFinalNumber, msg.sender);
    }

    /// @inheritdoc IClearingHouse
    function headNumber() external view returns (uint64) {
        return _head.number;
    }

    /// @inheritdoc IClearingHouse
    function nextPeriod() external view returns (uint64) {
        return _head.nextPeriod;
    }

    /// @inheritdoc IClearingHouse
    function nextInterval() external view returns (uint64) {
        return _head.nextInterval;
    }

    /// @inheritdoc IClearingHouse
    function frozen() external view returns (bool) {
        return _head.frozen;
    }

    /// @inheritdoc IClearingHouse
    function hasOpenBatch() external view returns (bool) {
        return _isBatchOpen();
    }

    /// @inheritdoc IClearingHouse
    function bond() external view returns (address owner, uint256 amountWei) {
        return (_bond.owner, _bond.amountWei);
    }

    /// @inheritdoc IClearingHouse
    function parameters() external view returns (Parameters memory) {
        return Parameters(
            _firstPeriod,
            _firstInterval,
            _intervalSeconds,
            _shortestPeriodSeconds,
            _challengeSeconds,
            _correctionSeconds,
            _freezeSeconds,
            _bondWei,
            _demandBondWei
        );
    }

    /// @inheritdoc IClearingHouse
    function challengeSeconds() external view returns (uint256) {
        return _challengeSeconds;
    }

    /// @inheritdoc IClearingHouse
    function recordOf(uint64 number) external view returns (bytes32 batchHash, uint64 submittedAt) {
        // Behind the head lie records of batches that were voided.
        if (number > _head.number) return (0, 0);
        bytes32 record = _records[number];
        return (_hashOf(record), _timeOf(record));
    }

    /// @inheritdoc IClearingHouse
    function isFinal(uint64 number) public view returns (bool) {
        Head memory head = _head;
        if (number == 0 || number > head.number) return false;
        return head.frozen || block.timestamp >= finalAt(number);
    }

    /// @inheritdoc IClearingHouse
    function finalAt(uint64 number) public view returns (uint256) {
        return uint256(_timeOf(_records[number])) + _challengeSeconds;
    }

    /// @inheritdoc IClearingHouse
    function firstFuturePeriod() external view returns (uint64) {
        return _firstFuture(_head);
    }

    /// @inheritdoc IClearingHouse
    function firstOpenPeriod() external view returns (uint64) {
        Head memory head = _head;
        // The founders may still set up what has begun. What is signed already can only be lacking somebody, who gets an empty account.
        return head.started ? _firstFuture(head) : head.nextPeriod;
    }

    /// @inheritdoc IClearingHouse
    function requireOpen(uint64 number, bytes32 batchHash) public view {
        _requireRecorded(number, batchHash);
        if (isFinal(number)) revert AlreadyFinal(number);
    }

    /// @inheritdoc IClearingHouse
    function requireLastFinal(uint64 number, bytes32 batchHash) external view {
        _requireRecorded(number, batchHash);
        if (!isFinal(number)) revert NotFinal(number);
        if (isFinal(number + 1)) revert NotLastFinal(number);
    }

    /// @inheritdoc IClearingHouse
    function genesisHash() public view returns (bytes32) {
        return keccak256(abi.encode(GENESIS_TAG, block.chainid, address(this), _firstPeriod, _firstInterval));
    }

    /// @dev What every submission has in common, before the periods are compared.
    function _begun(Submission calldata submission, Head memory head, uint32 version)
        private
        view
        returns (BatchHeader memory header)
    {
        if (head.frozen) revert AlreadyFrozen();
        Bond memory posted = _bond;
        if (posted.amountWei < _bondWei) revert BondTooLow(posted.amountWei, _bondWei);
        // Nobody pays for another's lies.
        if (posted.amountWei != 0 && posted.owner != msg.sender) revert BondOfAnother(posted.owner);
        header.number = head.number + 1;
        header.period = submission.report.period;
        header.version = submission.report.version;
        header.firstInterval = submission.report.firstInterval;
        header.intervalCount = submission.report.intervalCount;
        if (header.version != version) revert WrongVersion(header.version, version);
        header.previousBatch = head.number == 0 ? genesisHash() : _hashOf(_records[head.number]);
    }

    function _accept(Submission calldata submission, BatchHeader memory header) private returns (bytes32 batchHash) {
        // A batch that was voided or reorganised away on the way would leave this one's balances without what they go on from.
        if (submission.previousBatch != header.previousBatch) {
            revert WrongPrevious(submission.previousBatch, header.previousBatch);
        }
        header.reportHash = readingOracle.verify(submission.report, submission.config, submission.signatures);
        header.readingsRoot = submission.report.readingsRoot;
        _proved(submission, header);

        LedgerRoot calldata ledger = submission.ledger;
        if (ledger.depth == 0 || ledger.depth > SumTree.MAX_DEPTH) {
            revert WrongDepth(ledger.depth, SumTree.MAX_DEPTH);
        }
        int256 amountNano = int256(ledger.leftSums.amount()) + ledger.rightSums.amount();
        int256 cumulativeNano = int256(ledger.leftSums.cumulative()) + ledger.rightSums.cumulative();
        // INVARIANT: all accounts together receive nothing and owe nothing.
        if (amountNano != 0 || cumulativeNano != 0) revert LedgerNotZero(amountNano, cumulativeNano);
        header.ledgerRoot = SumTree.hashNode(ledger.left, ledger.leftSums, ledger.right, ledger.rightSums);
        header.ledgerDepth = ledger.depth;
        header.tradesRoot = submission.tradesRoot;
        header.bundleHash = submission.bundleHash;

        batchHash = header.hash();
        _records[header.number] = batchHash | bytes32(block.timestamp & ((1 << TIME_BITS) - 1));
        _head = Head(header.number, header.nextPeriod, header.nextInterval, false, true);
        emit BatchSubmitted(header.number, header.period, batchHash, header);
    }

    function _proved(Submission calldata submission, BatchHeader memory header) private view {
        Tariff memory tariff = submission.tariff;
        header.tariffHash = tariff.hash();
        bytes32 inForce = tariffBook.tariffHashAt(header.period);
        if (header.tariffHash != inForce) revert WrongTariff(header.tariffHash, inForce);
        Certificate.Totals memory totals = Certificate.verify(tariff, submission.clearing, header.intervalCount);
        if (totals.totalsHash != submission.report.totalsHash) {
            revert WrongTotals(totals.totalsHash, submission.report.totalsHash);
        }
        header.pricesHash = totals.pricesHash;
        // SAFETY: each is a sum of at most 2^13 products below 2^113 over at most 300 intervals; `_int128` checks anyway.
        header.supplierNano = _int128(totals.supplierNano);
        header.networkFeesNano = _int128(totals.networkFeesNano);
        header.fundNano = _int128(totals.fundNano);
    }

    /// @dev Counts shortest periods, so that none that may have begun is taken for a future one.
    function _firstFuture(Head memory head) private view returns (uint64) {
        uint256 beginsAt = uint256(head.nextInterval) * _intervalSeconds;
        if (block.timestamp < beginsAt) return head.nextPeriod;
        return head.nextPeriod + uint64((block.timestamp - beginsAt) / _shortestPeriodSeconds) + 1;
    }

    function _isBatchOpen() private view returns (bool) {
        uint64 number = _head.number;
        return number != 0 && !isFinal(number);
    }

    function _requireRecorded(uint64 number, bytes32 given) private view {
        bytes32 recorded = number > _head.number ? bytes32(0) : _hashOf(_records[number]);
        if (recorded == 0) revert NoSuchBatch(number);
        if (given != recorded) revert WrongHeader(given, recorded);
    }

    function _endOf(BatchHeader memory header) private view returns (uint256) {
        return (uint256(header.firstInterval) + header.intervalCount) * _intervalSeconds;
    }

    function _hashOf(bytes32 record) private pure returns (bytes32) {
        return (record >> TIME_BITS) << TIME_BITS;
    }

    function _timeOf(bytes32 record) private pure returns (uint64) {
        return uint64(uint256(record) & ((1 << TIME_BITS) - 1));
    }

    function _send(address payable to, uint256 valueWei) private {
        (bool sent,) = to.call{value: valueWei}("");
        if (!sent) revert TransferFailed(to);
    }

    function _int128(int256 value) private pure returns (int128) {
        require(value >= type(int128).min && value <= type(int128).max);
        return int128(value);
    }
}
