"""`peerwatt negotiate`: a case by one method, live, with a trace and a picture of how it converged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from backend.domain.errors import MalformedInput
from backend.domain.p2p import P2PCase, P2PResult
from backend.durable_files import write_atomically
from backend.market.p2p.methods import solve_case
from backend.market.p2p.sparse import Check

from .chart import Axis, Series, line_chart

TRACE_FORMAT: Final = "peerwatt/p2p-trace/1"


@dataclass(frozen=True, slots=True)
class NegotiateOptions:
    """How to solve a case; fields as the arguments of `solve_case`."""

    organisation: str = "full"
    method: str = "central"
    tolerance: float = 1e-4
    most_rounds: int = 5000
    fairness: str = "cost"
    fairness_weight: float = 0.0


@dataclass(slots=True)
class Run:
    """A result and how it came about."""

    result: P2PResult
    checks: list[Check] = field(default_factory=list)


def run_case(
    case: P2PCase,
    options: NegotiateOptions,
    progress: Callable[[Check], None] = lambda _: None,
    broker: str | None = None,
) -> Run:
    """Solves a case and keeps every check.

    Args:
        case: checked.
        options: how.
        progress: told each check.
        broker: HOST:PORT, to negotiate in a process for each agent.

    Raises:
        PeerwattError: as `solve_case` and `negotiate_over_broker`.
    """
    checks: list[Check] = []

    def note(check: Check) -> None:
        checks.append(check)
        progress(check)

    if broker is not None:
        return _run_processes(case, options, broker, note, checks)
    return Run(solve_case(case, **asdict(options), progress=note), checks)


def _run_processes(
    case: P2PCase,
    options: NegotiateOptions,
    broker: str,
    note: Callable[[Check], None],
    checks: list[Check],
) -> Run:
    from .agent import ROUNDS
    from .board import EpochCheck
    from .gateways import sweep_over_broker
    from .processes import negotiate_over_broker

    host, _, port = broker.rpartition(":")
    if not host or not port.isdigit():
        raise MalformedInput("broker", broker, "not HOST:PORT", "write localhost:1883, say")
    if (options.organisation, options.method) == ("full", "sweep"):
        return Run(sweep_over_broker(case, (host, int(port))), checks)
    if (options.organisation, options.method) != ("full", "sparse"):
        raise MalformedInput(
            "method", options.method, "not between processes", "choose full, and sparse or sweep"
        )

    def tell(check: EpochCheck) -> None:
        rounds = (check.epoch + 1) * ROUNDS
        note(Check(rounds, check.gap, check.broken, 0.0, 0.0, check.cost, 0, check.step, 0, 0))

    result, _ = negotiate_over_broker(
        case, (host, int(port)), tolerance=options.tolerance, progress=tell
    )
    return Run(result, checks)


def compared(result: P2PResult, reference: P2PResult) -> dict[str, Any]:
    """How far a result is from another of the same case.

    Returns:
        `method`; `objective`, the relative difference; `power` and `price`, the largest differences of any agent.
    """
    scale = max(1.0, abs(reference.objective))
    pairs = list(zip(result.agents, reference.agents, strict=True))
    return {
        "method": reference.method,
        "objective": (result.objective - reference.objective) / scale,
        "power": max(abs(one.power - other.power) for one, other in pairs),
        "price": max(abs(one.price - other.price) for one, other in pairs),
    }


def write_trace(path: Path, run: Run) -> None:
    """Writes a line for each price check, after one that says what it is.

    Raises:
        OSError: the file cannot be written.
    """
    head = {
        "format": TRACE_FORMAT,
        "method": run.result.method,
        "organisation": run.result.organisation,
        "agents": len(run.result.agents),
    }
    # Prices are the agents' own; the result has the last ones.
    checks = (asdict(replace(check, price=None)) for check in run.checks)
    lines = [head, *({k: v for k, v in check.items() if k != "price"} for check in checks)]
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def convergence_chart(run: Run) -> str:
    """The certified gap and both residuals by round, as SVG."""
    result = run.result
    title = f"{result.method}, {len(result.agents)} agents: {result.outcome}"

    def series(name: str, attribute: str) -> Series:
        return Series(name, [(check.round, abs(getattr(check, attribute))) for check in run.checks])

    return line_chart(
        title,
        Axis("rounds"),
        Axis("certified gap (relative), residuals", logarithmic=True),
        [
            series("certified gap", "gap"),
            series("ends disagree by", "apart"),
            series("energies move by", "moved"),
        ],
    )
