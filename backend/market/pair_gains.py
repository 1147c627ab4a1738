"""Gains of all pairs of seller and buyer, from a matrix or a function, in blocks that fit a core's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from backend.domain.errors import MalformedInput

from .kernels.compiling import Integers

PairGains: TypeAlias = Callable[[Integers, Integers], Integers]

# Pairs read at once: 2 MiB.
BLOCK_PAIRS = 2**18
# Columns by which rows that could be equal are found.
_SAMPLE = 64


class Gains:
    """Gains per Wh of S sellers and B buyers, in blocks.

    Args:
        sellers: S.
        buyers: B.
        matrix: all of them, or None.
        ask: a block of them by number, where there is no matrix.
    """

    def __init__(
        self, sellers: int, buyers: int, matrix: Integers | None, ask: PairGains | None
    ) -> None:
        self.sellers, self.buyers = sellers, buyers
        self._matrix, self._ask = matrix, ask

    @classmethod
    def of(cls, given: ArrayLike | PairGains, sellers: int, buyers: int) -> Gains:
        """From what a caller gives.

        Raises:
            MalformedInput: a matrix of other than integers, or of another shape.
        """
        if callable(given):
            return cls(sellers, buyers, None, given)
        matrix = integers("gain_nano_per_wh", given, (sellers, buyers))
        return cls(sellers, buyers, matrix, None)

    def among(self, sellers: Integers, buyers: Integers) -> Gains:
        """The same between some of them."""
        if sellers.size == self.sellers and buyers.size == self.buyers:
            return self
        if self._matrix is not None:
            part = np.ascontiguousarray(_part(self._matrix, sellers, buyers))
            return Gains(sellers.size, buyers.size, part, None)
        return Gains(
            sellers.size,
            buyers.size,
            None,
            lambda rows, columns: self.block(sellers[rows], buyers[columns]),
        )

    def block(self, sellers: Integers, buyers: Integers) -> Integers:
        """(sellers, buyers) by number, buyers ascending."""
        if self._matrix is not None:
            return _part(self._matrix, sellers, buyers)
        assert self._ask is not None
        shape = sellers.size, buyers.size
        return integers("gain_nano_per_wh", self._ask(sellers, buyers), shape)

    def blocks(self) -> Iterator[tuple[slice, Integers]]:
        """All rows in order, some at a time."""
        height = max(1, BLOCK_PAIRS // max(1, self.buyers))
        everybody = np.arange(self.buyers)
        for low in range(0, self.sellers, height):
            rows = slice(low, min(low + height, self.sellers))
            if self._matrix is not None:
                yield rows, self._matrix[rows]
            else:
                yield rows, self.block(np.arange(rows.start, rows.stop), everybody)

    def at(self, sellers: Integers, buyers: Integers) -> Integers:
        """(T,) gains of pairs, ascending by seller."""
        if self._matrix is not None:
            return self._matrix[sellers, buyers]
        found = np.empty(sellers.size, np.int64)
        for low in range(0, sellers.size, 256):
            rows, row = np.unique(sellers[low : low + 256], return_inverse=True)
            columns, column = np.unique(buyers[low : low + 256], return_inverse=True)
            found[low : low + 256] = self.block(rows, columns)[row, column]
        return found

    def turned(self) -> Gains:
        """Buyers as rows, sellers as columns."""
        if self._matrix is not None:
            return Gains(self.buyers, self.sellers, self._matrix.T, None)
        return Gains(
            self.buyers, self.sellers, None, lambda rows, columns: self.block(columns, rows).T
        )

    def equal_rows(self) -> tuple[Integers, Integers]:
        """Sellers whose gains are the same with every buyer.

        Rows that agree in a sample of columns are compared with the first of them; those that differ stay alone, so not
        every group need be found.

        Returns:
            First seller of each group, ascending; group of each seller.
        """
        rows, columns = np.arange(self.sellers), np.arange(self.buyers)
        sample = self.block(rows, columns[:: -(-self.buyers // _SAMPLE)])
        _, first, group = np.unique(sample, axis=0, return_index=True, return_inverse=True)
        if first.size == self.sellers:
            return rows, rows
        like = first[group]
        for part, block in self.blocks():
            differs = (block != self.block(like[part], columns)).any(axis=1)
            like[part] = np.where(differs, rows[part], like[part])
        return np.unique(like, return_inverse=True)


def _part(matrix: Integers, sellers: Integers, buyers: Integers) -> Integers:
    """`matrix[np.ix_(sellers, buyers)]` for buyers in ascending order; rows first, which is several times quicker."""
    rows: Integers = matrix[sellers]
    return rows if buyers.size == matrix.shape[1] else rows.take(buyers, axis=1)


def integers(field: str, given: ArrayLike, shape: tuple[int, ...]) -> Integers:
    """As 64-bit integers in C order, without a copy if they are."""
    array = np.asarray(given)
    if array.size and not np.can_cast(array.dtype, np.int64):
        raise MalformedInput(field, str(array.dtype), "not 64-bit integers", "convert exactly")
    if array.shape != shape:
        raise MalformedInput(field, array.shape, "wrong shape", f"give an array of shape {shape}")
    return np.ascontiguousarray(array, dtype=np.int64)
