"""A cleared interval as files and people see it: the format `peerwatt/clearing/1` (docs/files.md)."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from .values import Identifier, Value

CLEARING_FORMAT: Final = "peerwatt/clearing/1"


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


class EdgeFlow(Value):
    """Energy that the clearing sends over an edge, in the direction `from` to `to`; edges without energy are left out."""

    from_node: Identifier = Field(alias="from")
    to_node: Identifier = Field(alias="to")
    energy_wh: int


class NodePrice(Value):
    """The dual price of a node: midpoint of the smallest and largest optimal one."""

    node: Identifier
    price_nano_per_wh: int


class MemberAmount(Value):
    """What a member receives (negative: pays) for the interval."""

    id: Identifier
    amount_nano: int


class Trade(Value):
    """Who sold to whom, how much, and the network fee of it."""

    seller: Identifier
    buyer: Identifier
    energy_wh: int
    fee_nano: int


class Clearing(Value):
    """A cleared interval with its certificate (`node_prices`, `duality_gap_nano`).

    Sums: members' amounts + outside bill + fees + dust = 0, where the outside bill is `cost_nano - fees_nano`.
    """

    format: Literal["peerwatt/clearing/1"] = CLEARING_FORMAT
    cost_nano: int
    outside_cost_nano: int
    savings_nano: int
    imported_wh: int
    exported_wh: int
    groups: tuple[GroupResult, ...]
    flows: tuple[EdgeFlow, ...]
    node_prices: tuple[NodePrice, ...]
    duality_gap_nano: int
    price_rule: str
    fees_nano: int
    dust_nano: int
    members: tuple[MemberAmount, ...]
    trades: tuple[Trade, ...]
    solver: str
