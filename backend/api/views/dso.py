"""What the operator of the network sees: fees, flows by edge, limits."""

from __future__ import annotations

from datetime import datetime

from backend.domain.values import Value

from ..site import Standing
from .values import Exact, HexText


class FeePeriod(Value):
    """Fees of a batch; of a correction what it changes."""

    period: int
    day: str
    version: int
    batch_number: int
    standing: Standing
    fees_nano: Exact
    cumulative_nano: Exact
    transaction_hash: HexText


class Fees(Value):
    """Fees received, newest first."""

    currency: str
    settled_nano: Exact
    provisional_nano: Exact
    withdrawn_nano: Exact
    periods: tuple[FeePeriod, ...]


class EdgeFlow(Value):
    """Traded energy over a border in an interval; positive goes from `from_node` to `to_node`."""

    interval: int
    start: datetime
    flow_wh: Exact


class EdgeDay(Value):
    """A border's day: sums by direction, the largest interval, and the fees it earned."""

    from_node: str
    to_node: str
    fee_nano_per_wh: Exact
    forward_wh: Exact
    backward_wh: Exact
    largest_wh: Exact
    fees_nano: Exact
    intervals: tuple[EdgeFlow, ...]


class Flows(Value):
    """Flows of a day by border. Only what was traded: the rest goes through the supplier."""

    period: int
    day: str
    standing: Standing
    access_fees_nano: Exact
    edges: tuple[EdgeDay, ...]


class OperatorLimit(Value):
    """Fees and limits that the operator has set, by place, as the tariff of a period has them."""

    from_period: int
    node: str
    access_fee_nano_per_wh: Exact
    base_fee_nano_per_wh: Exact
    extra_fee_nano_per_wh: Exact


class Limits(Value):
    """What the operator's limits have come to: fees above the first tariff's, by place and period."""

    items: tuple[OperatorLimit, ...]
