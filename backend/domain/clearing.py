"""A cleared interval as files and people see it: the format `peerwatt/clearing/1` (docs/files.md)."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from .values import Identifier, Value

CLEARING_FORMAT: Final = "peerwatt/clearing/1"


def _pair_fees_only() -> Any:
    return Field(default=None, exclude_if=lambda value: value is None)


class GroupResult(Value):
    """All members at one node in one tariff class: metered, matched inside, and the price of each Wh."""

    node: Identifier
    tariff_class: Identifier
    demand_wh: int
    supply_wh: int
    matched_demand_wh: int
    matched_supply_wh: int
    buy_price_nano_per_wh: int
    sell_price_nano_per_wh: int
    # Under pair fees the proof: what one more Wh of the group's supply, and of its demand, would save.
    supply_value_nano_per_wh: int | None = _pair_fees_only()
    demand_value_nano_per_wh: int | None = _pair_fees_only()


class EdgeFlow(Value):
    """Energy that the clearing sends over an edge, in the direction `from` to `to`; edges without energy are left out.

    Under pair fees: that members at one node sell to members at another, or at their own.
    """

    from_node: Identifier = Field(alias="from")
    to_node: Identifier = Field(alias="to")
    energy_wh: int


class NodePrice(Value):
    """The dual price of a node: midpoint of the smallest and largest optimal one."""

    node: Identifier
    price_nano_per_wh: int


# The energy cluster's characteristic states (Mrowiec, section 5), of the cluster and of each member.
State = Literal["surplus", "shortage", "balanced"]


def state_of(net_wh: int) -> State:
    """The state that goes with a net position."""
    return "surplus" if net_wh > 0 else "shortage" if net_wh < 0 else "balanced"


class MemberAmount(Value):
    """What a member receives (negative: pays) for the interval, and the state it was in."""

    id: Identifier
    state: State
    amount_nano: int


class Trade(Value):
    """Who sold to whom, how much, and the network fee of it."""

    seller: Identifier
    buyer: Identifier
    energy_wh: int
    fee_nano: int


class Clearing(Value):
    """A cleared interval with its certificate (`node_prices`, or under pair fees the groups' values; `duality_gap_nano`).

    Sums: members' amounts + outside bill + fees + dust = 0, where the outside bill is `cost_nano - fees_nano`.
    """

    format: Literal["peerwatt/clearing/1"] = CLEARING_FORMAT
    cost_nano: int
    outside_cost_nano: int
    savings_nano: int
    # Of the cluster as a whole, and what the coordinator buys and sells outside; with fees both can happen at once.
    state: State
    imported_wh: int
    exported_wh: int
    groups: tuple[GroupResult, ...]
    flows: tuple[EdgeFlow, ...]
    node_prices: tuple[NodePrice, ...]
    duality_gap_nano: int
    # What the solver's own rounded prices leave unproved; the exact step closes it. Zero for an exact engine.
    solver_gap_nano: int
    price_rule: str
    fees_nano: int
    dust_nano: int
    members: tuple[MemberAmount, ...]
    trades: tuple[Trade, ...]
    solver: str
