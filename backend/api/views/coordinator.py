"""What the coordinator sees: completeness, how far periods are, exceptions with their mend, members, tariffs, roles, health."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from backend.domain.values import Value

from .values import Exact, HexText, Wei


class CompletenessCell(Value):
    """A member's day: how many intervals came about how."""

    period: int
    measured: int
    substituted: int
    missing: int


class CompletenessRow(Value):
    """A member's days."""

    slot: int
    name: str
    cells: tuple[CompletenessCell, ...]


class Completeness(Value):
    """The completeness matrix; columns are `periods`, oldest first."""

    periods: tuple[int, ...]
    days: tuple[str, ...]
    rows: tuple[CompletenessRow, ...]


class PeriodState(Value):
    """How far a version of a period is.

    Attributes:
        state: of the cycle; see backend/domain/states.py.
        attempts: how often it was refused or voided.
    """

    period: int
    day: str
    version: int
    state: str
    since: datetime | None
    attempts: int
    batch_number: int | None
    batch_hash: HexText | None
    transaction_hash: HexText | None
    challenge_until: datetime | None
    reason: str


class OutsidePosition(Value):
    """What the coordinator buys and sells outside in an interval."""

    interval: int
    start: datetime
    end: datetime
    buy_wh: Exact
    sell_wh: Exact


class PeriodPosition(Value):
    """The outside position of a day; of the running one as far as it is over."""

    period: int
    day: str
    buy_wh: Exact
    sell_wh: Exact
    intervals: tuple[OutsidePosition, ...]


class ExceptionItem(Value):
    """Something that wants attention, and what mends it."""

    code: str
    level: Literal["warning", "wrong"]
    period: int | None
    slot: int | None
    message: str
    remedy: str


class MemberEntry(Value):
    """A member as the coordinator knows it."""

    slot: int
    name: str
    account: HexText
    meter: HexText
    node: str
    tariff_class: str
    from_period: int
    until_period: int | None
    balance_nano: Exact
    deposited_nano: Exact
    withdrawn_nano: Exact
    collateral_steps: int


class TariffEntry(Value):
    """A tariff in words."""

    from_period: int
    hash: HexText
    announced: bool
    share_millionths: Exact
    classes: tuple[TariffClassEntry, ...]
    nodes: tuple[TariffNodeEntry, ...]
    edges: tuple[TariffEdgeEntry, ...]


class TariffClassEntry(Value):
    """Outside prices."""

    id: str
    import_price_nano_per_wh: Exact
    export_price_nano_per_wh: Exact


class TariffNodeEntry(Value):
    """A place with its access fee."""

    id: str
    access_fee_nano_per_wh: Exact


class TariffEdgeEntry(Value):
    """A border with its fee."""

    from_node: str
    to_node: str
    fee_nano_per_wh: Exact


class RoleEntry(Value):
    """A role on chain and who holds it; `delay_seconds` passes between announcing and doing."""

    role: str
    number: int | None
    account: HexText
    delay_seconds: int


class Keys(Value):
    """Roles, oracle signers and the bond."""

    contracts: dict[str, HexText]
    roles: tuple[RoleEntry, ...]
    signers: tuple[HexText, ...]
    threshold: int
    bond_owner: HexText
    bond_wei: Wei
    bond_needed_wei: Wei
    coordinator_balance_wei: Wei


class HealthCheck(Value):
    """One thing that was looked after."""

    what: str
    level: Literal["ok", "warning", "wrong"]
    found: str
    mend: str


class Health(Value):
    """How the community's services are."""

    level: Literal["ok", "warning", "wrong"]
    now: datetime
    chain_block: int
    chain_time: datetime
    checks: tuple[HealthCheck, ...]


class Overview(Value):
    """The coordinator's start page."""

    running: int
    running_day: str
    completeness: Completeness
    periods: tuple[PeriodState, ...]
    position: PeriodPosition | None
    exceptions: tuple[ExceptionItem, ...]


TariffEntry.model_rebuild()
