"""A negotiation in the terminal: live while it runs, tables at the end."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from backend.domain.p2p import P2PResult
from backend.market.p2p.sparse import Check

_MOST_ROWS = 40


class LiveChecks:
    """Shows the latest price check while a negotiation runs; on other than terminals nothing."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, transient=True, refresh_per_second=8)
        self._shows = console.is_terminal

    def __enter__(self) -> Self:
        if self._shows:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shows:
            self._live.stop()

    def __call__(self, check: Check) -> None:
        """Takes a check."""
        if self._shows:
            self._live.update(
                f"round {check.round:,}: certified gap {check.gap:.1e}, limits broken by"
                f" {check.primal_residual:.1e}, {check.links:,} links, {check.messages:,} messages"
            )


def show_result(result: P2PResult, difference: dict[str, Any] | None, console: Console) -> None:
    """Prints a result; of long lists the first rows."""
    agents = Table("agent", "sells", "buys", "price", title="Agents", show_edge=False)
    for agent in result.agents[:_MOST_ROWS]:
        agents.add_row(
            agent.id,
            f"{agent.power:.4f}" if agent.power > 0 else "",
            f"{-agent.power:.4f}" if agent.power < 0 else "",
            f"{agent.price:.5f}",
        )
    trades = Table("seller", "buyer", "energy", "price", title="Trades", show_edge=False)
    for trade in sorted(result.trades, key=lambda one: -one.energy)[:_MOST_ROWS]:
        trades.add_row(trade.seller, trade.buyer, f"{trade.energy:.4f}", f"{trade.price:.5f}")
    summary = Table("what", "value", title="Market", show_edge=False)
    for name, value in (
        ("organisation", result.organisation),
        ("method", result.method),
        ("outcome", result.outcome),
        ("objective", f"{result.objective:.6f}"),
        ("certified relative gap", f"{result.certified_gap:.1e}"),
        ("limits broken by", f"{result.primal_residual:.1e}"),
        (
            "rounds, messages, numbers",
            f"{result.iterations:,}, {result.messages:,}, {result.scalars:,}",
        ),
        ("imported, exported", f"{result.imported:.4f}, {result.exported:.4f}"),
        ("network fees", f"{result.fees:.4f}"),
    ):
        summary.add_row(name, value)
    if difference is not None:
        for name in ("objective", "power", "price"):
            summary.add_row(f"{name} against {difference['method']}", f"{difference[name]:.1e}")
    for table in (agents, trades, summary):
        console.print(table)
    more = max(len(result.agents), len(result.trades)) - _MOST_ROWS
    if more > 0:
        console.print(f"[dim]first {_MOST_ROWS} rows; all with --json[/dim]")
