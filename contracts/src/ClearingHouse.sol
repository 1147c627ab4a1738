// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IClearingHouse} from "./interfaces/IClearingHouse.sol";
import {IMemberRegistry} from "./interfaces/IMemberRegistry.sol";
import {IReadingOracle} from "./interfaces/IReadingOracle.sol";
import {ITariffBook} from "./interfaces/ITariffBook.sol";
import {Certificate} from "./libraries/Certificate.sol";
import {PositionalTree} from "./libraries/PositionalTree.sol";
import {Statement} from "./libraries/Statement.sol";
import {SumTree} from "./libraries/SumTree.sol";
import {BatchHeader, LedgerRoot, Submission} from "./types/Batch.sol";
import {LedgerLeaf} from "./types/LedgerLeaf.sol";
import {Sums} from "./types/Sums.sol";
import {Tariff} from "./types/Tariff.sol";

/// @title Batches, their proofs and their challenges
contract ClearingHouse is IClearingHouse, AccessManaged {
    uint256 public constant SUPPLIER_SLOT = 0;
    uint256 public constant DSO_SLOT = 1;
    uint256 public constant FUND_SLOT = 2;
    /// @notice A local day of 5-minute intervals in autumn has 300.
    uint256 public constant MAX_INTERVALS = 300;
    /// @dev MemberRegistry.NO_GROUP: an account without a meter.
    uint256 private constant NO_GROUP = type(uint16).max;
    bytes32 private constant GENESIS_TAG = keccak256("peerwatt.genesis.v1");

    IMemberRegistry public immutable registry;
    ITariffBook public immutable tariffBook;
    IReadingOracle public immutable readingOracle;
    /// @inheritdoc IClearingHouse
    uint64 public immutable firstPeriod;
    uint64 public immutable firstInterval;
    uint256 public immutable intervalSeconds;
    uint256 public immutable challengeSeconds;
    uint256 public immutable bondWei;

    mapping(uint64 period => Record) private _records;
    uint64 private _headPeriod;
    uint64 private _nextInterval;

    /// @param firstPeriod_ number of the first period (its local day since 1970-01-01, by convention).
    /// @param firstInterval_ index of that period's first interval since the Unix epoch.
    /// @param intervalSeconds_ 300 or 900.
    /// @param challengeSeconds_ how long a batch can be challenged before it is final.
    /// @param bondWei_ what a submitter puts at stake for each batch.
    constructor(
        address authority,
        IMemberRegistry registry_,
        ITariffBook tariffBook_,
        IReadingOracle readingOracle_,
        uint64 firstPeriod_,
        uint64 firstInterval_,
        uint256 intervalSeconds_,
        uint256 challengeSeconds_,
        uint256 bondWei_
    ) AccessManaged(authority) {
        registry = registry_;
        tariffBook = tariffBook_;
        readingOracle = readingOracle_;
        firstPeriod = firstPeriod_;
        firstInterval = firstInterval_;
        intervalSeconds = intervalSeconds_;
        challengeSeconds = challengeSeconds_;
        bondWei = bondWei_;
        _headPeriod = firstPeriod_ - 1;
        _nextInterval = firstInterval_;
    }

    /// @inheritdoc IClearingHouse
    function submitBatch(Submission calldata submission) external payable restricted returns (bytes32 batchHash) {
        if (msg.value != bondWei) revert WrongBond(msg.value, bondWei);
        BatchHeader memory header = _verified(submission);
        batchHash = header.hash();
        _records[header.period] = Record(batchHash, uint64(block.timestamp), msg.sender);
        _headPeriod = header.period;
        _nextInterval = header.firstInterval + header.intervalCount;
        emit BatchSubmitted(header.period, batchHash, header);
    }

    /// @inheritdoc IClearingHouse
    function challengeAmount(
        BatchHeader calldata header,
        bytes calldata readings,
        bytes32 readingsSalt,
        bytes32[] calldata readingsProof,
        bytes calldata prices,
        Tariff calldata tariff,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) external {
        _requireOpen(header);
        if (!registry.isActive(leaf.slot, header.period)) revert NotActive(leaf.slot, header.period);
        uint256 group = registry.memberAt(leaf.slot).group;
        if (keccak256(prices) != header.pricesHash) revert WrongPrices(keccak256(prices), header.pricesHash);
        bytes32 tariffHash = tariff.hash();
        if (tariffHash != header.tariffHash) revert WrongTariff(tariffHash, header.tariffHash);
        if (group >= tariff.groups.length) revert HasNoMeter(leaf.slot);

        bytes32 readingsLeaf = Statement.readingsLeaf(leaf.slot, readings, readingsSalt);
        _requireRoot(PositionalTree.rootOf(readingsLeaf, leaf.slot, readingsProof), header.readingsRoot);
        _requireLeaf(header, leaf, ledgerProof);

        int256 dueNano = Statement.amount(readings, prices, tariff.groups[group], header.intervalCount);
        if (leaf.readingsCommitment == readingsLeaf && leaf.sums.amount() == dueNano) revert LeafIsHonest();
        _void(header, Fault.Amount);
    }

    /// @inheritdoc IClearingHouse
    function challengeSystemAmount(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        external
    {
        _requireOpen(header);
        _requireLeaf(header, leaf, ledgerProof);
        int128 dueNano;
        if (leaf.slot == SUPPLIER_SLOT) dueNano = header.supplierNano;
        else if (leaf.slot == DSO_SLOT) dueNano = header.networkFeesNano;
        else if (leaf.slot == FUND_SLOT) dueNano = header.fundNano;
        else revert NotSystemAccount(leaf.slot);
        if (leaf.sums.amount() == dueNano) revert LeafIsHonest();
        _void(header, Fault.SystemAmount);
    }

    /// @inheritdoc IClearingHouse
    function challengeInactive(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        external
    {
        _requireOpen(header);
        _requireLeaf(header, leaf, ledgerProof);
        bool billed = leaf.slot <= FUND_SLOT
            || (registry.isActive(leaf.slot, header.period) && registry.memberAt(leaf.slot).group != NO_GROUP);
        if (billed || leaf.sums.amount() == 0) revert LeafIsHonest();
        _void(header, Fault.Inactive);
    }

    /// @inheritdoc IClearingHouse
    function challengeCumulative(
        BatchHeader calldata header,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof,
        BatchHeader calldata previous,
        bool wasEmpty,
        LedgerLeaf calldata previousLeaf,
        bytes32[] calldata previousProof
    ) external {
        _requireOpen(header);
        _requireLeaf(header, leaf, ledgerProof);
        int128 previousNano = 0;
        if (header.period != firstPeriod) {
            _requireHeader(previous, header.period - 1);
            if (wasEmpty) {
                _requireRoot(SumTree.rootOf(0, Sums.wrap(0), leaf.slot, previousProof), previous.ledgerRoot);
            } else {
                if (previousLeaf.slot != leaf.slot) revert NotActive(previousLeaf.slot, previous.period);
                _requireLeaf(previous, previousLeaf, previousProof);
                previousNano = previousLeaf.sums.cumulative();
            }
        }
        if (int256(previousNano) + leaf.sums.amount() == leaf.sums.cumulative()) revert LeafIsHonest();
        _void(header, Fault.Cumulative);
    }

    /// @inheritdoc IClearingHouse
    function challengeTreeSum(
        BatchHeader calldata header,
        uint256 level,
        uint256 index,
        Sums claimedSums,
        bytes32[4] calldata children,
        bytes32[] calldata proof
    ) external {
        _requireOpen(header);
        // SAFETY: the root's own sums are not in the tree but checked at submission; `proof` would not bind them.
        if (level == 0 || level >= SumTree.DEPTH) revert LevelOutsideTree(level);
        Sums leftSums = Sums.wrap(children[1]);
        Sums rightSums = Sums.wrap(children[3]);
        bytes32 node = SumTree.hashNode(children[0], leftSums, children[2], rightSums);
        _requireRoot(SumTree.nodeRootOf(node, claimedSums, index, level, proof), header.ledgerRoot);
        // An empty subtree has no money: a zero hash with a sum is as false as a sum that does not add up.
        bool emptyWithMoney = (children[0] == 0 && children[1] != 0) || (children[2] == 0 && children[3] != 0);
        int256 amountNano = int256(leftSums.amount()) + rightSums.amount();
        int256 cumulativeNano = int256(leftSums.cumulative()) + rightSums.cumulative();
        if (!emptyWithMoney && amountNano == claimedSums.amount() && cumulativeNano == claimedSums.cumulative()) {
            revert LeafIsHonest();
        }
        _void(header, Fault.TreeSum);
    }

    /// @inheritdoc IClearingHouse
    function challengeLeafSum(
        BatchHeader calldata header,
        LedgerLeaf calldata leaf,
        Sums claimedSums,
        bytes32[] calldata ledgerProof
    ) external {
        _requireOpen(header);
        _requireRoot(SumTree.rootOf(leaf.hash(), claimedSums, leaf.slot, ledgerProof), header.ledgerRoot);
        if (leaf.sums == claimedSums) revert LeafIsHonest();
        _void(header, Fault.TreeSum);
    }

    /// @inheritdoc IClearingHouse
    function returnBond(uint64 period) external {
        Record storage record = _records[period];
        if (!isFinal(period)) revert NotFinal(period);
        address submitter = record.submitter;
        if (submitter == address(0)) revert NothingToReturn(period);
        record.submitter = address(0);
        emit BondReturned(period, submitter, bondWei);
        _send(submitter, bondWei);
    }

    /// @inheritdoc IClearingHouse
    function headPeriod() external view returns (uint64) {
        return _headPeriod;
    }

    /// @inheritdoc IClearingHouse
    function recordOf(uint64 period) external view returns (Record memory) {
        return _records[period];
    }

    /// @inheritdoc IClearingHouse
    function isFinal(uint64 period) public view returns (bool) {
        Record storage record = _records[period];
        // A batch stands only on batches submitted before it, so they are final no later than it is.
        return record.headerHash != 0 && block.timestamp >= record.submittedAt + challengeSeconds;
    }

    /// @inheritdoc IClearingHouse
    function finalCumulative(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        external
        view
        returns (int128)
    {
        _requireHeader(header, header.period);
        if (!isFinal(header.period)) revert NotFinal(header.period);
        if (isFinal(header.period + 1)) revert NotLastFinal(header.period);
        _requireLeaf(header, leaf, ledgerProof);
        return leaf.sums.cumulative();
    }

    /// @return hash that the first batch names as the one before it.
    function genesisHash() public view returns (bytes32) {
        return keccak256(abi.encode(GENESIS_TAG, block.chainid, address(this), firstPeriod, firstInterval));
    }

    function _verified(Submission calldata submission) private view returns (BatchHeader memory header) {
        header.period = submission.report.period;
        header.version = submission.report.version;
        header.firstInterval = submission.report.firstInterval;
        header.intervalCount = submission.report.intervalCount;
        if (header.period != _headPeriod + 1) revert WrongPeriod(header.period, _headPeriod + 1);
        if (header.version != 0) revert WrongVersion(header.version, 0);
        if (header.firstInterval != _nextInterval) revert WrongFirstInterval(header.firstInterval, _nextInterval);
        if (header.intervalCount == 0 || header.intervalCount > MAX_INTERVALS) {
            revert WrongIntervalCount(header.intervalCount, MAX_INTERVALS);
        }
        uint256 endsAt = (uint256(header.firstInterval) + header.intervalCount) * intervalSeconds;
        if (block.timestamp < endsAt) revert PeriodNotOver(endsAt, block.timestamp);
        header.previousBatch =
            header.period == firstPeriod ? genesisHash() : _records[header.period - 1].headerHash;

        header.reportHash = readingOracle.verify(submission.report, submission.signatures);
        header.readingsRoot = submission.report.readingsRoot;

        Tariff memory tariff = submission.tariff;
        header.tariffHash = tariff.hash();
        bytes32 inForce = tariffBook.tariffHashAt(header.period);
        if (header.tariffHash != inForce) revert WrongTariff(header.tariffHash, inForce);

        Certificate.Totals memory totals = Certificate.verify(tariff, submission.intervals, header.intervalCount);
        if (totals.totalsHash != submission.report.totalsHash) {
            revert WrongTotals(totals.totalsHash, submission.report.totalsHash);
        }
        header.pricesHash = totals.pricesHash;
        // SAFETY: each is a sum of at most 2^16 products below 2^128 over at most 300 intervals; `_int128` checks anyway.
        header.supplierNano = _int128(totals.supplierNano);
        header.networkFeesNano = _int128(totals.networkFeesNano);
        header.fundNano = _int128(totals.fundNano);

        LedgerRoot calldata ledger = submission.ledger;
        int256 amountNano = int256(ledger.leftSums.amount()) + ledger.rightSums.amount();
        int256 cumulativeNano = int256(ledger.leftSums.cumulative()) + ledger.rightSums.cumulative();
        // INVARIANT: all accounts together receive nothing and owe nothing.
        if (amountNano != 0 || cumulativeNano != 0) revert LedgerNotZero(amountNano, cumulativeNano);
        header.ledgerRoot = SumTree.hashNode(ledger.left, ledger.leftSums, ledger.right, ledger.rightSums);
        header.tradesRoot = submission.tradesRoot;
        header.bundleHash = submission.bundleHash;
    }

    /// @dev Voids the batch and all after it. Half the bond goes to the challenger, half is burned so that a coordinator
    /// who challenges himself still loses; the bonds of later batches, which only built on the lie, go back.
    function _void(BatchHeader calldata header, Fault fault) private {
        uint64 head = _headPeriod;
        _headPeriod = header.period - 1;
        _nextInterval = header.firstInterval;
        delete _records[header.period];
        emit BatchVoided(header.period, header.hash(), fault, msg.sender);
        for (uint64 period = header.period + 1; period <= head; ++period) {
            Record memory record = _records[period];
            delete _records[period];
            emit BatchVoided(period, record.headerHash, fault, msg.sender);
            // SAFETY: a submitter that refuses its bond must not be able to block the challenge.
            (bool returned,) = record.submitter.call{value: bondWei, gas: 30_000}("");
            if (returned) emit BondReturned(period, record.submitter, bondWei);
        }
        uint256 rewardWei = bondWei / 2;
        _send(address(0), bondWei - rewardWei);
        _send(msg.sender, rewardWei);
    }

    function _send(address to, uint256 valueWei) private {
        (bool sent,) = to.call{value: valueWei}("");
        if (!sent) revert TransferFailed(to);
    }

    function _requireOpen(BatchHeader calldata header) private view {
        _requireHeader(header, header.period);
        if (isFinal(header.period)) revert AlreadyFinal(header.period);
    }

    function _requireHeader(BatchHeader calldata header, uint64 period) private view {
        bytes32 recorded = _records[period].headerHash;
        if (recorded == 0) revert NoSuchBatch(period);
        bytes32 given = header.hash();
        if (given != recorded) revert WrongHeader(given, recorded);
    }

    function _requireLeaf(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata proof) private pure {
        _requireRoot(SumTree.rootOf(leaf.hash(), leaf.sums, leaf.slot, proof), header.ledgerRoot);
    }

    function _requireRoot(bytes32 computed, bytes32 root) private pure {
        if (computed != root) revert NotInTree(computed, root);
    }

    function _int128(int256 value) private pure returns (int128) {
        require(value >= type(int128).min && value <= type(int128).max);
        return int128(value);
    }
}
