"""What an engine is: all in which a graph of edges and a matrix of pair fees differ when an interval is cleared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from backend.domain.errors import SolverUnavailable

from .kernels.compiling import Integers
from .problem import GroupPrices, Problem, Solution
from .program import SOLVERS, Program
from .trades import TradeArrays

# The engine of record; any other engine gives the same clearing.
DEFAULT_SOLVER = "highs"
AUTO = "auto"

SolutionT = TypeVar("SolutionT", bound=Solution)


@dataclass(frozen=True, slots=True)
class Proof:
    """What anybody needs, besides the groups' energies, to see that a clearing is optimal.

    Attributes:
        flows: from node, to node and Wh, each above zero: over edges, or between pairs of nodes.
        node_prices: by node, of a graph; else empty.
        group_values: supply's u and demand's v by group, of pair fees; else empty.
        duality_gap_nano: how much cheaper another clearing could at most be.
    """

    flows: tuple[tuple[int, int, int], ...]
    node_prices: tuple[int, ...]
    group_values: tuple[tuple[int, int], ...]
    duality_gap_nano: int


class Engine(ABC, Generic[SolutionT]):
    """Solves the intervals of one market.

    Attributes:
        solver: by which name it was chosen, never `auto`.
        program: of the cvxpy solver, if it is one.
    """

    solver: str
    program: Program | None

    @abstractmethod
    def solve_many(self, problems: Sequence[Problem]) -> list[tuple[SolutionT, int]]:
        """The canonical optimum of each interval, proved, and what the solver's own rounded prices left unproved, in nano.

        Raises:
            ClearingFailed: the solver gave up, or its answer could not be certified.
        """

    @abstractmethod
    def fees_nano(self, problem: Problem, solution: SolutionT) -> int:
        """What the DSO receives."""

    @abstractmethod
    def competitive(self, problem: Problem, solution: SolutionT) -> GroupPrices:
        """A competitive equilibrium at the canonical dual prices: no pair could do better by leaving."""

    @abstractmethod
    def trades(
        self, solution: SolutionT, member_group: Integers, member_net_wh: Integers
    ) -> TradeArrays:
        """Who bought from whom, by position in member order."""

    @abstractmethod
    def proof(self, problem: Problem, solution: SolutionT) -> Proof:
        """For the result file."""


def chosen_solver(solver: str, own: tuple[str, ...], foreign: dict[str, str]) -> str:
    """The named solver, if it can do it.

    Args:
        solver: as somebody wrote it.
        own: names of the engine's own methods.
        foreign: what other methods need, by name.

    Raises:
        SolverUnavailable: no such solver, or one for another kind of network.
    """
    if solver in foreign:
        raise SolverUnavailable(foreign[solver], f"choose {AUTO} or a cvxpy solver")
    if solver not in (*own, *SOLVERS):
        raise SolverUnavailable(
            f"no solver {solver!r}",
            f"choose one of: {', '.join((AUTO, *own, *sorted(SOLVERS)))}",
        )
    return solver
