// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {BatchHeader, Submission} from "../types/Batch.sol";
import {LedgerLeaf} from "../types/LedgerLeaf.sol";
import {Sums} from "../types/Sums.sol";
import {Tariff} from "../types/Tariff.sol";

/// @title Accepts a period's clearing only with its proof; lets whoever is hurt overturn a wrong bill
interface IClearingHouse {
    /// @notice Which lie a challenge proved.
    enum Fault {
        Amount,
        SystemAmount,
        Cumulative,
        TreeSum,
        Inactive
    }

    /// @param headerHash hash of the batch header; zero where there is no batch.
    /// @param submittedAt block time of submission.
    /// @param submitter who posted the bond.
    struct Record {
        bytes32 headerHash;
        uint64 submittedAt;
        address submitter;
    }

    event BatchSubmitted(uint64 indexed period, bytes32 indexed batchHash, BatchHeader header);
    event BatchVoided(uint64 indexed period, bytes32 indexed batchHash, Fault fault, address indexed challenger);
    event BondReturned(uint64 indexed period, address indexed submitter, uint256 amountWei);

    error WrongBond(uint256 sentWei, uint256 bondWei);
    error WrongPeriod(uint256 period, uint256 expected);
    error WrongVersion(uint256 version, uint256 expected);
    error WrongFirstInterval(uint256 firstInterval, uint256 expected);
    error WrongIntervalCount(uint256 count, uint256 limit);
    error PeriodNotOver(uint256 endsAt, uint256 blockTime);
    error WrongTariff(bytes32 given, bytes32 inForce);
    error WrongTotals(bytes32 given, bytes32 signed);
    error LedgerNotZero(int256 amountNano, int256 cumulativeNano);
    error NoSuchBatch(uint256 period);
    error WrongHeader(bytes32 given, bytes32 recorded);
    error AlreadyFinal(uint256 period);
    error NotFinal(uint256 period);
    error NotLastFinal(uint256 period);
    error NotInTree(bytes32 computedRoot, bytes32 root);
    error WrongPrices(bytes32 given, bytes32 committed);
    error NotActive(uint256 slot, uint256 period);
    error HasNoMeter(uint256 slot);
    error NotSystemAccount(uint256 slot);
    error LevelOutsideTree(uint256 level);
    error LeafIsHonest();
    error NothingToReturn(uint256 period);
    error TransferFailed(address to);

    /// @notice Submits the batch of the next period with its bond.
    function submitBatch(Submission calldata submission) external payable returns (bytes32 batchHash);

    /// @notice Overturns a batch that bills a member other than its readings and the prices say, or whose leaf commits
    /// to other readings than the oracle's.
    /// @param readings the member's readings of the period, 16 bytes an interval.
    /// @param readingsSalt salt of the member's readings leaf.
    /// @param readingsProof path of that leaf in the oracle's tree.
    /// @param prices the period's prices, 16 bytes an interval.
    /// @param leaf the member's ledger leaf as the coordinator published it.
    /// @param ledgerProof path of that leaf in the ledger tree.
    function challengeAmount(
        BatchHeader calldata header,
        bytes calldata readings,
        bytes32 readingsSalt,
        bytes32[] calldata readingsProof,
        bytes calldata prices,
        Tariff calldata tariff,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof
    ) external;

    /// @notice Overturns a batch that credits supplier, DSO or fund other than the certificates add up to.
    function challengeSystemAmount(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        external;

    /// @notice Overturns a batch that books money at a slot that nobody bills in its period: a membership that has not begun
    /// or has ended, an account without a meter, or a slot never given out.
    function challengeInactive(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        external;

    /// @notice Overturns a batch whose cumulative amount is not the previous one plus this period's amount.
    /// @param previous header of the batch before; ignored for the first.
    /// @param wasEmpty whether the slot was empty there, which `previousProof` then proves instead of `previousLeaf`.
    /// @param previousLeaf the slot's leaf there.
    function challengeCumulative(
        BatchHeader calldata header,
        LedgerLeaf calldata leaf,
        bytes32[] calldata ledgerProof,
        BatchHeader calldata previous,
        bool wasEmpty,
        LedgerLeaf calldata previousLeaf,
        bytes32[] calldata previousProof
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

    /// @notice Overturns a batch whose tree counts a leaf with other sums than the leaf has.
    /// @param claimedSums the sums the tree takes for the leaf.
    function challengeLeafSum(
        BatchHeader calldata header,
        LedgerLeaf calldata leaf,
        Sums claimedSums,
        bytes32[] calldata ledgerProof
    ) external;

    /// @notice Returns the bond of a final batch to whoever posted it.
    function returnBond(uint64 period) external;

    /// @return period of the newest batch; the one before the first if there is none.
    function headPeriod() external view returns (uint64);

    function firstPeriod() external view returns (uint64);

    function recordOf(uint64 period) external view returns (Record memory);

    function isFinal(uint64 period) external view returns (bool);

    /// @notice Proves an account's cumulative amount in the newest final batch.
    /// @return nano currency units; reverts unless `header` is that batch and the leaf is in it.
    function finalCumulative(BatchHeader calldata header, LedgerLeaf calldata leaf, bytes32[] calldata ledgerProof)
        external
        view
        returns (int128);
}
