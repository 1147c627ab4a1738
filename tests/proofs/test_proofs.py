"""The arithmetic that money hangs on, proved by an SMT solver: for all numbers, not for those that a test tries.

Each lemma is refuted first: the solver looks for a counterexample to the claim and finds there is none (`unsat`). So that this
says something, each has a twin that claims a little more, and for which the solver must find one (`sat`).

Integers have no size here: what is proved holds for any amounts. The tricks with several numbers in one word are proved on 256-bit
words, for every width the contracts take. Constants are read from the sources, so that a change there is a change here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import pytest
import z3

CERTIFICATE = Path("contracts/src/libraries/Certificate.sol")
CLEARING_HOUSE = Path("contracts/src/ClearingHouse.sol")
TIMEOUT_MS = 120_000


def constant(path: Path, name: str) -> int:
    """The value of an integer constant in a Solidity source."""
    source = (Path(__file__).resolve().parents[2] / path).read_text()
    found = re.search(rf"constant {name} = (\d+);", source)
    assert found, f"{path} has no constant {name}"
    return int(found[1])


WIDTHS = range(constant(CERTIFICATE, "MIN_WIDTH"), constant(CERTIFICATE, "MAX_WIDTH") + 1)
INTERVALS = constant(CLEARING_HOUSE, "MAX_INTERVALS")


def refuted(premises: list[z3.BoolRef], claim: z3.BoolRef) -> bool:
    """Whether some values fulfil the premises and not the claim."""
    solver = z3.Solver()
    solver.set("timeout", TIMEOUT_MS)
    solver.add(*premises, z3.Not(claim))
    result = solver.check()
    assert result != z3.unknown, solver.reason_unknown()
    return bool(result == z3.sat)


def proved(premises: list[z3.BoolRef], claim: z3.BoolRef) -> bool:
    """Whether the claim follows from premises that can be fulfilled at all."""
    solver = z3.Solver()
    solver.set("timeout", TIMEOUT_MS)
    solver.add(*premises)
    assert solver.check() == z3.sat, "the premises contradict each other: anything would follow"
    return not refuted(premises, claim)


class TestTelescopingShares:
    """share_i = floor((P_i + q_i) M / Q) - floor(P_i M / Q): how a group's matched energy M goes to its members.

    P is what the members before have, q what this one has, Q what all have; `below` and `above` are the two quotients.
    """

    P, q, Q, M, below, above = z3.Ints("P q Q M below above")
    exact = q * M
    share = above - below
    premises: ClassVar[list[z3.BoolRef]] = [
        P >= 0,
        q >= 0,
        Q > 0,
        P + q <= Q,
        M >= 0,
        # Division that rounds down, by its definition.
        below * Q <= P * M,
        below * Q + Q > P * M,
        above * Q <= P * M + q * M,
        P * M + q * M < above * Q + Q,
    ]

    def test_within_one_of_exact(self) -> None:
        """|share - q M / Q| < 1."""
        off = self.share * self.Q - self.exact
        assert proved(self.premises, z3.And(off < self.Q, -off < self.Q))
        assert refuted(self.premises, z3.And(2 * off < self.Q, -2 * off < self.Q))

    def test_never_more_than_one_has(self) -> None:
        """0 <= share <= q as long as no more is matched than there is."""
        limited = [*self.premises, self.M <= self.Q]
        # (share - q) Q is below Q by the lemma above; the product says so for share - q itself.
        assert proved(limited, self.share * self.Q < (self.q + 1) * self.Q)
        assert proved(self.premises, self.share * self.Q > -self.Q)
        assert refuted(self.premises, self.share * self.Q < (self.q + 1) * self.Q)

    def test_product_of_a_positive_number_keeps_the_order(self) -> None:
        """The step from a Q < b Q to a < b, for the lemma above."""
        a, b, Q = z3.Ints("a b Q")
        assert proved([Q > 0, a * Q < b * Q], a < b)
        assert refuted([a * Q < b * Q], a < b)

    def test_sum_exact(self) -> None:
        """The shares telescope from floor(0 M / Q) = 0 to floor(Q M / Q) = M."""
        Q, M, first, last, total, below, above = z3.Ints("Q M first last total below above")
        ends = [Q > 0, first * Q <= 0, first * Q + Q > 0, last * Q <= Q * M, last * Q + Q > Q * M]
        assert proved(ends, z3.And(first == 0, last == M))
        # Induction over the members: the sum so far is the quotient so far.
        assert proved([total == below], total + (above - below) == above)
        # Rounding each share for itself does not add up.
        q1, q2, s1, s2 = z3.Ints("q1 q2 s1 s2")
        each = [q1 > 0, q2 > 0, M >= 0, q1 + q2 >= M]
        each += [s * (q1 + q2) <= q * M for s, q in ((s1, q1), (s2, q2))]
        each += [q * M < (s + 1) * (q1 + q2) for s, q in ((s1, q1), (s2, q2))]
        assert refuted(each, s1 + s2 == M)


class TestOptimality:
    """No feasible clearing saves more than the bound of any feasible node prices (Certificate.sol).

    saved = sum (R C - F A) - sum fee |flow|, bound = sum (max(0, R - pi) D + max(0, pi - F) S).
    """

    @staticmethod
    def _maximum(value: z3.ArithRef) -> z3.ArithRef:
        return z3.If(value > 0, value, z3.IntVal(0))

    @classmethod
    def _group(
        cls, name: str, price: z3.ArithRef
    ) -> tuple[list[z3.BoolRef], dict[str, z3.ArithRef]]:
        R, F, D, S, C, A = z3.Ints(" ".join(f"{letter}{name}" for letter in "RFDSCA"))
        feasible = [C >= 0, C <= D, A >= 0, A <= S]
        bound = cls._maximum(R - price) * D + cls._maximum(price - F) * S
        return feasible, {"saved": R * C - F * A, "bound": bound, "left": A - C, "bought": C}

    def test_group(self) -> None:
        """R C - F A <= bound - pi (A - C): what a group saves, its energy valued at the node's price."""
        price = z3.Int("price")
        feasible, group = self._group("", price)
        assert proved(feasible, group["saved"] <= group["bound"] - price * group["left"])
        # With more matched than metered, which `_matched` refuses, it is wrong.
        assert refuted(feasible[2:], group["saved"] <= group["bound"] - price * group["left"])

    def test_edge(self) -> None:
        """(pi_to - pi_from) flow <= fee |flow| wherever prices differ by at most the fee."""
        start, end, fee, flow = z3.Ints("start end fee flow")
        cost = fee * z3.If(flow < 0, -flow, flow)
        near = [start - end <= fee, end - start <= fee]
        assert proved(near, (end - start) * flow <= cost)
        assert refuted(near[:1], (end - start) * flow <= cost)

    def test_whole_clearing(self) -> None:
        """Both lemmas added up over a circle of three nodes give saved <= bound; without balance they do not."""
        prices = z3.Ints("pi0 pi1 pi2")
        flows = z3.Ints("flow0 flow1 flow2")
        values = z3.Ints("worth0 worth1 worth2")
        lefts = z3.Ints("left0 left1 left2")
        saved, bound, cost = z3.Ints("saved bound cost")
        # `worth` is what a group saves less its bound; the two lemmas:
        terms = [values[v] <= -prices[v] * lefts[v] for v in range(3)]
        carried = sum((prices[(e + 1) % 3] - prices[e]) * flows[e] for e in range(3))
        premises = [*terms, carried <= cost, saved == sum(values) + bound - cost]
        balanced = [lefts[v] == flows[v] - flows[(v + 2) % 3] for v in range(3)]
        assert proved(premises + balanced, saved <= bound)
        assert refuted(premises, saved <= bound)


class TestRows:
    """Several numbers in one word: fields of 2w bytes with a number of w bytes at the bottom of each."""

    @staticmethod
    def _fields(word: z3.BitVecRef, bits: int, size: int) -> list[z3.BitVecRef]:
        """The lowest `size` bits of every field of a row, from the top, in 256 bits."""
        count = (256 // bits - 1) // 2
        tops = [256 - 2 * bits * (k + 1) for k in range(count)]
        return [z3.ZeroExt(256 - size, z3.Extract(low + size - 1, low, word)) for low in tops]

    @classmethod
    def _row(cls, bits: int) -> tuple[int, int, int, list[int]]:
        """Mask, guard and ones, as `_addRows` makes them for full rows, and where the fields begin."""
        count = (256 // bits - 1) // 2
        lows = [1 << (256 - 2 * bits * (k + 1)) for k in range(count)]
        ones = sum(1 << (2 * bits * k) for k in range(count))
        return (
            sum(low * ((1 << bits) - 1) for low in lows),
            sum(low << bits for low in lows),
            ones,
            lows,
        )

    @staticmethod
    def _numbers(word: z3.BitVecRef, bits: int, second: int) -> list[z3.BitVecRef]:
        """x (or y, if second is 1) of every pair in a word of calldata, read one by one."""
        count = (256 // bits - 1) // 2
        tops = [256 - bits * (2 * k + second) for k in range(count)]
        return [z3.ZeroExt(256 - bits, z3.Extract(top - 1, top - bits, word)) for top in tops]

    @pytest.mark.parametrize("width", WIDTHS)
    def test_guard_bits_compare_every_field(self, width: int) -> None:
        """`_matched`: the guards survive exactly if no field of C exceeds D and none of A exceeds S."""
        bits = 8 * width
        mask, guard, _, _ = self._row(bits)
        most, word = z3.BitVecs("most word", 256)
        bought, sold = z3.LShR(word, bits) & mask, word & mask
        left = (((z3.LShR(most, bits) & mask) | guard) - bought) & (((most & mask) | guard) - sold)
        one_by_one = z3.And(
            *(
                z3.ULE(matched, metered)
                for second in (0, 1)
                for matched, metered in zip(
                    self._numbers(word, bits, second),
                    self._numbers(most, bits, second),
                    strict=True,
                )
            )
        )
        assert proved([], (left & guard == guard) == one_by_one)
        # Without its guard the lowest field is never looked at.
        lowest = guard & (guard - 1)
        assert refuted([], (left & lowest == lowest) == one_by_one)

    @pytest.mark.parametrize("width", WIDTHS)
    def test_product_sums_the_fields(self, width: int) -> None:
        """`_metered`: the highest field of the product with `ones` is the sum of all fields."""
        bits = 8 * width
        mask, _, ones, lows = self._row(bits)
        word = z3.BitVec("word", 256)
        for second, side in ((0, z3.LShR(word, bits) & mask), (1, word & mask)):
            product = sum((side << (2 * bits * k) for k in range(1, len(lows))), side)
            summed = sum(self._numbers(word, bits, second), z3.BitVecVal(0, 256))
            assert ones == sum(1 << (2 * bits * k) for k in range(len(lows)))
            assert proved([], z3.LShR(product, 256 - 2 * bits) == summed)
            if len(lows) > 1:
                assert refuted([], z3.LShR(side, 256 - 2 * bits) == summed)

    def _adds_fieldwise(self, bits: int, intervals: int) -> tuple[list[z3.BoolRef], z3.BoolRef]:
        """One more interval on top of sums over `intervals - 1`; two numbers a time, as for C + A."""
        mask, guard, _, _ = self._row(bits)
        total, bought, sold = z3.BitVecs("total bought sold", 256)
        largest = 2 * ((1 << bits) - 1) * (intervals - 1)
        before = self._fields(total, bits, 2 * bits)
        premises = [z3.ULE(field, z3.BitVecVal(largest, 256)) for field in before]
        unused = ~(
            z3.BitVecVal(guard, 256) * 0
            + sum(((1 << 2 * bits) - 1) * low for low in self._row(bits)[3])
        )
        premises += [total & unused == 0]
        added = total + ((bought & mask) + (sold & mask))
        sums = [
            a + b + c
            for a, b, c in zip(
                before,
                self._fields(bought & mask, bits, bits),
                self._fields(sold & mask, bits, bits),
                strict=True,
            )
        ]
        claim = z3.And(
            *(
                z3.And(now == then, z3.ULE(then, largest + 2 * ((1 << bits) - 1)))
                for now, then in zip(self._fields(added, bits, 2 * bits), sums, strict=True)
            )
        )
        return premises, claim

    @pytest.mark.parametrize("width", WIDTHS)
    def test_sums_over_all_intervals_stay_in_their_fields(self, width: int) -> None:
        """Induction over the intervals of the longest period: sums add up field by field, without carry."""
        bits = 8 * width
        assert 2 * ((1 << bits) - 1) * INTERVALS < 1 << 2 * bits
        assert proved(*self._adds_fieldwise(bits, INTERVALS))

    def test_narrower_numbers_would_overflow(self) -> None:
        """Why energies of one byte are refused."""
        width = WIDTHS.start - 1
        bits = 8 * width
        assert 2 * ((1 << bits) - 1) * INTERVALS >= 1 << 2 * bits
        # The largest field that can be stated at all, and one more interval on top.
        overflowing = (1 << 2 * bits) // (2 * ((1 << bits) - 1)) + 1
        assert refuted(*self._adds_fieldwise(bits, overflowing))
