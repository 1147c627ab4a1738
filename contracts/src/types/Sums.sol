// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice Two signed money sums side by side in one word, in nano currency units: the amount of this period
/// (high 128 bits) and the cumulative amount since the community began (low 128 bits). Positive: the account receives.
type Sums is bytes32;

using {add as +, equals as ==} for Sums global;
using {amount, cumulative} for Sums global;

/// @notice A sum of money does not fit 128 bits.
error SumOverflow(Sums left, Sums right);

/// @dev Both halves are added with overflow checks: a tree whose sums do not fit 128 bits has no valid proof.
function add(Sums left, Sums right) pure returns (Sums) {
    // SAFETY: sums of two 128-bit numbers fit 256 bits; whether they still fit 128 is compared.
    unchecked {
        int256 amountNano = int256(left.amount()) + right.amount();
        int256 cumulativeNano = int256(left.cumulative()) + right.cumulative();
        if (amountNano != int128(amountNano) || cumulativeNano != int128(cumulativeNano)) {
            revert SumOverflow(left, right);
        }
        return makeSums(int128(amountNano), int128(cumulativeNano));
    }
}

function equals(Sums left, Sums right) pure returns (bool) {
    return Sums.unwrap(left) == Sums.unwrap(right);
}

/// @return nano currency units received in this period.
function amount(Sums self) pure returns (int128) {
    return int128(int256(uint256(Sums.unwrap(self))) >> 128);
}

/// @return nano currency units received since the community began.
function cumulative(Sums self) pure returns (int128) {
    return int128(int256(uint256(Sums.unwrap(self))));
}

function makeSums(int128 amountNano, int128 cumulativeNano) pure returns (Sums) {
    return Sums.wrap(bytes32((uint256(uint128(amountNano)) << 128) | uint128(cumulativeNano)));
}
