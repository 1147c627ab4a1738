"""Electrical distance between the buses of a grid (mechanism, section 2; DTU slides, "New grid tariffs").

The slides' third tariff charges a trade by how far apart its two ends are electrically, and name two measures. Both come
from the nodal matrix of the grid,

    Y = A' diag(1 / w) A,    A branch by bus: +1 where the branch starts, -1 where it ends,    w a weight in ohm per branch,

inverted without the row and column of one reference bus, which are zero in Z = Y^-1:

    Thevenin    d(n, m) = |Z_nn + Z_mm - 2 Z_nm|             what one ampere from n to m meets on its way, in ohm
    PTDF        d(n, m) = sum over branches l of c_l |PTDF_l,n - PTDF_l,m|,    PTDF = diag(1 / x) A Z (w = x)

The second adds up where the energy of the trade flows in the DC approximation: one for every branch that all of it
passes, times the branch's weight c_l (1 unless given). Neither depends on the reference bus or on which end of a branch
is called its start. (Klein and Randic, "Resistance distance", J. Math. Chem. 12, 1993; Cuffe and Keane, "Visualizing the
electrical structure of power systems", IEEE Systems Journal 11(3), 2017; Baroche et al., "Exogenous cost allocation in
peer-to-peer electricity markets", IEEE Trans. Power Systems 34(4), 2019.)

Thevenin distance with w = x, r or |z| of each branch is a resistance distance: a metric, and where the grid is radial the
sum of w along the path. With the complex z = r + jx it is the modulus of the sum along the path, which is less than the
sum of moduli as soon as two branches differ in r / x: not additive.

`electrical_distance_fees` turns distances into fees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csc_array, csr_array, diags_array
from scipy.sparse.linalg import splu
from scipy.spatial.distance import pdist, squareform

from backend.domain.errors import UnknownReference

from .grid_branches import GridBranch, TheveninKind, branch_weights, check_grid, unknown_kind

FloatMatrix: TypeAlias = npt.NDArray[np.float64]

# Bounds the memory of a solve to this many columns of the grid's height.
_COLUMNS_AT_ONCE = 256


def thevenin_distances(
    buses: Sequence[str],
    branches: Sequence[GridBranch],
    kind: TheveninKind = "thevenin-reactance",
    between: Sequence[str] | None = None,
) -> FloatMatrix:
    """|Z_nn + Z_mm - 2 Z_nm| for every pair, Z the inverse nodal matrix of reactances, resistances, |z| or complex z.

    One sparse factorisation, one solve for each bus of `between`.

    Args:
        between: the buses wanted, in the order of rows and columns, repeated if need be; all by default.

    Returns:
        Shape (K, K) for K buses, in ohm; symmetric, zero on the diagonal.

    Raises:
        InputError: as `check_grid`; a branch without the impedance that `kind` is about; unknown bus in `between`.
    """
    check_grid(buses, branches)
    if kind not in get_args(TheveninKind):
        raise unknown_kind(kind, get_args(TheveninKind))
    places = _places(buses, between)
    weights = branch_weights(branches, kind)
    if kind == "thevenin-complex":
        impedance = np.array([complex(b.resistance_ohm, b.reactance_ohm) for b in branches])
        return _seen_between(_FactorisedGrid(buses, branches, 1 / impedance), places)
    ohms = np.array([float(weight) for weight in weights], dtype=np.float64)
    return _seen_between(_FactorisedGrid(buses, branches, 1 / ohms), places)


def ptdf_distances(
    buses: Sequence[str], branches: Sequence[GridBranch], between: Sequence[str] | None = None
) -> FloatMatrix:
    """Sum over branches of ptdf_weight |PTDF_l,n - PTDF_l,m| for every pair.

    One sparse factorisation, one solve for each branch; then each pair's sum, K^2 times branches in all.

    Args:
        between: the buses wanted, in the order of rows and columns, repeated if need be; all by default.

    Returns:
        Shape (K, K) for K buses, in branches (or in the unit of `ptdf_weight`); symmetric, zero on the diagonal.

    Raises:
        InputError: as `check_grid`; a branch without reactance; unknown bus in `between`.
    """
    check_grid(buses, branches)
    places = _places(buses, between)
    branch_weights(branches, "thevenin-reactance")
    reactance = np.array([branch.reactance_ohm for branch in branches], dtype=np.float64)
    weight = np.array([branch.ptdf_weight for branch in branches], dtype=np.float64)
    grid = _FactorisedGrid(buses, branches, 1 / reactance)
    pairs = np.zeros(len(places) * (len(places) - 1) // 2)
    for chunk in _chunks(len(branches)):
        # Z is symmetric, so Z A'_l is row l of A Z: the angles that make one unit flow along branch l.
        angles = grid.solve(grid.incidence[chunk].toarray().T)[places]
        shares = angles * (weight[chunk] / reactance[chunk])
        if len(places) > 1:
            pairs += pdist(shares, "cityblock")
    return squareform(pairs) if len(places) > 1 else np.zeros((len(places), len(places)))


def _seen_between(grid: _FactorisedGrid, places: npt.NDArray[np.int64]) -> FloatMatrix:
    """|Z_nn + Z_mm - 2 Z_nm| for every pair of places."""
    mutual = np.empty((len(places), len(places)), dtype=grid.admittance.dtype)
    for chunk in _chunks(len(places)):
        columns = places[chunk]
        injected = np.zeros((grid.bus_count, len(columns)), dtype=mutual.dtype)
        injected[columns, np.arange(len(columns))] = 1
        mutual[:, chunk] = grid.solve(injected)[places]
    mutual = (mutual + mutual.T) / 2
    own = mutual.diagonal()
    distances: FloatMatrix = np.abs(own[:, None] + own[None, :] - 2 * mutual)
    np.fill_diagonal(distances, 0)
    return distances


class _FactorisedGrid:
    """Y with the first bus as reference, factorised once.

    Args:
        admittance: shape (branches,), in siemens, real or complex.
    """

    def __init__(
        self,
        buses: Sequence[str],
        branches: Sequence[GridBranch],
        admittance: npt.NDArray[Any],
    ) -> None:
        self.bus_count = len(buses)
        self.admittance = admittance
        self.incidence = _incidence(buses, branches)
        reduced = self.incidence[:, 1:]
        nodal = csc_array(reduced.T @ diags_array(admittance) @ reduced)
        # Symmetric and (its real part) diagonally dominant: no pivoting needed, so an ordering for symmetric matrices.
        self._factors = (
            splu(
                nodal,
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.0,
                options={"SymmetricMode": True},
            )
            if len(buses) > 1
            else None
        )

    def solve(self, injected: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Z times `injected`; both of shape (buses, columns)."""
        answer = np.zeros_like(injected)
        if self._factors is not None:
            answer[1:] = self._factors.solve(np.ascontiguousarray(injected[1:]))
        return answer


def _incidence(buses: Sequence[str], branches: Sequence[GridBranch]) -> csr_array[np.float64]:
    place = {bus: index for index, bus in enumerate(buses)}
    row = np.arange(len(branches))
    start = np.array([place[branch.from_bus] for branch in branches], dtype=np.int64)
    end = np.array([place[branch.to_bus] for branch in branches], dtype=np.int64)
    ones = np.ones(len(branches))
    return coo_array(
        (
            np.concatenate((ones, -ones)),
            (np.concatenate((row, row)), np.concatenate((start, end))),
        ),
        shape=(len(branches), len(buses)),
    ).tocsr()


def _chunks(count: int) -> Iterator[slice]:
    for start in range(0, count, _COLUMNS_AT_ONCE):
        yield slice(start, min(start + _COLUMNS_AT_ONCE, count))


def _places(buses: Sequence[str], between: Sequence[str] | None) -> npt.NDArray[np.int64]:
    if between is None:
        return np.arange(len(buses))
    place = {bus: index for index, bus in enumerate(buses)}
    for index, bus in enumerate(between):
        if bus not in place:
            raise UnknownReference(
                f"between[{index}]", bus, "no such bus", "add the bus or correct the name"
            )
    return np.array([place[bus] for bus in between], dtype=np.int64)
