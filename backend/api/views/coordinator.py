"""What the coordinator sees: completeness, how far periods are, exceptions with their mend, members, tariffs, roles, health."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Literal

from web3 import Web3

from backend.audit.chain_reader import ChainReader
from backend.domain.community import FIRST_MEMBER_SLOT, small_groups
from backend.domain.errors import NodeError
from backend.domain.readings import Quality
from backend.domain.states import CycleState
from backend.domain.values import Value
from backend.ledger.cycle import Item
from backend.settlement.clearing_encoding import tariff_hash
from oracle.wire import unpack_readings

from ..roles import ROLE_NUMBERS
from ..site import Site
from .community import community_day
from .settled import settled_of
from .values import Exact, HexText, Wei

_NANO_DECIMALS = 9
_SHOWN_DAYS = 14
# A coordinator with less than this many batches' worth of gas money is warned.
_FEW_BATCHES = 20
_BATCH_GAS = 1_000_000
# Reading all grants anew takes a node a while; whether they still hold is asked every time.
_GRANTS_SECONDS = 600


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


# --- Completeness and periods --------------------------------------------------------------------------------------------------


def completeness(site: Site, days: int = _SHOWN_DAYS) -> Completeness:
    """How many readings of each member's newest days came about how.

    Args:
        site: the community.
        days: how many, the running one included.
    """
    return site.made_once(("completeness", days), lambda: _completeness(site, days))


def _completeness(site: Site, days: int) -> Completeness:
    running = site.running_period().number
    known = {item.period for item in site.cycle.items()}
    known |= {batch.header.period for batch in site.batches()} | {running}
    periods = sorted(known)[-days:]
    members = site.participants()
    counts = {period: _qualities(site, period) for period in periods}
    return Completeness(
        periods=tuple(periods),
        days=tuple(site.day(period) for period in periods),
        rows=tuple(
            CompletenessRow(
                slot=member.slot,
                name=member.name,
                cells=tuple(_cell(period, counts[period].get(member.slot)) for period in periods),
            )
            for member in members
        ),
    )


def _cell(period: int, counts: Counter[Quality] | None) -> CompletenessCell:
    found = counts or Counter()
    return CompletenessCell(
        period=period,
        measured=found[Quality.MEASURED],
        substituted=found[Quality.SUBSTITUTED],
        missing=found[Quality.MISSING],
    )


def _qualities(site: Site, period: int) -> dict[int, Counter[Quality]]:
    """By slot how many intervals are of which quality: as settled, as reported, or as far as the day has gone."""
    batch = site.newest_of(period)
    slots = [member.slot for member in site.rules.members(period)]
    if batch is not None:
        parts = {slot: settled_of(site).own(batch.header, slot) for slot in slots}
        return {
            slot: Counter(item.quality for item in part.readings)
            for slot, part in parts.items()
            if part is not None
        }
    versions = [item.version for item in site.cycle.items() if item.period == period]
    report = site.cycle.report(period, max(versions)) if versions else None
    if report is not None:
        return {
            slot: Counter(item.quality for item in unpack_readings(vector))
            for slot, (_, vector) in report.slots.items()
        }
    first = site.rules.period(period).first_interval
    return {
        slot: Counter(
            Quality(row.quality) for row in site.previewed(slot).readings if row.interval >= first
        )
        for slot in slots
    }


def periods(site: Site) -> tuple[PeriodState, ...]:
    """How far every version of every period is, newest first."""
    batches = {batch.batch_hash: batch for batch in site.batches()}
    found = []
    for item in reversed(site.cycle.items()):
        batch = batches.get(item.batch_hash)
        found.append(
            PeriodState(
                period=item.period,
                day=site.day(item.period),
                version=item.version,
                state=item.state.value,
                since=site.moment(item.at),
                attempts=item.attempts,
                batch_number=batch.number if batch else None,
                batch_hash=item.batch_hash or None,
                transaction_hash=batch.transaction_hash if batch else None,
                challenge_until=site.moment(batch.final_at) if batch else None,
                reason=item.reason,
            )
        )
    return tuple(found)


def position(site: Site, period: int) -> PeriodPosition | None:
    """What is to be bought and sold outside for a day; None if there is nothing of it."""
    day = community_day(site, period)
    if day is None:
        return None
    return PeriodPosition(
        period=period,
        day=day.day,
        buy_wh=day.totals.imported_wh,
        sell_wh=day.totals.exported_wh,
        intervals=tuple(
            OutsidePosition(
                interval=item.interval,
                start=item.start,
                end=item.end,
                buy_wh=item.imported_wh,
                sell_wh=item.exported_wh,
            )
            for item in day.intervals
        ),
    )


# --- Exceptions ------------------------------------------------------------------------------------------------------------------

_WAITING = {
    CycleState.COLLECTING: "see that enough oracle signers answer and have the day's readings",
    CycleState.COLLECTED: "run the cycle; it is prepared next",
    CycleState.PREPARED: "run the cycle; its bundle is published next",
    CycleState.PUBLISHED: "run the cycle; it is submitted next",
    CycleState.SUBMITTING: "see that the node answers and the coordinator's key can pay",
    CycleState.REFUSED: "read the reason; the cycle prepares it again by itself",
    CycleState.VOIDED: "read the reason; the cycle prepares it again by itself",
}


def exceptions(site: Site) -> tuple[ExceptionItem, ...]:
    """What wants attention, the worst first."""
    found = [
        *_stuck(site),
        *_overturned(site),
        *_failing(site),
        *_gaps(site),
        *_registered_otherwise(site),
        *_small(site),
    ]
    return tuple(sorted(found, key=lambda item: item.level != "wrong"))


def _stuck(site: Site) -> Iterator[ExceptionItem]:
    for item in site.cycle.items():
        if item.state in _WAITING:
            failed = item.state in (CycleState.REFUSED, CycleState.VOIDED)
            yield _exception(
                f"period.{item.state.value}",
                f"{site.day(item.period)} version {item.version} is {item.state.value}"
                + (f": {item.reason}" if item.reason else ""),
                _WAITING[item.state],
                wrong=failed,
                item=item,
            )


def _overturned(site: Site) -> Iterator[ExceptionItem]:
    standing = {batch.header.period for batch in site.batches()}
    for event in site.voided():
        if event["period"] not in standing:
            yield ExceptionItem(
                code="batch.voided",
                level="wrong",
                period=event["period"],
                slot=None,
                message=f"batch {event['number']} was overturned by {event['challenger']}",
                remedy="find out what was wrong before it is prepared again",
            )


def _failing(site: Site) -> Iterator[ExceptionItem]:
    for failure in site.failures():
        yield ExceptionItem(
            code=failure.code,
            level="wrong",
            period=None,
            slot=None,
            message=failure.message,
            remedy=failure.remedy,
        )


def _gaps(site: Site) -> Iterator[ExceptionItem]:
    """Members whose newest days lack readings."""
    matrix = completeness(site, 2)
    for row in matrix.rows:
        for cell, day in zip(row.cells, matrix.days, strict=True):
            if cell.missing:
                yield ExceptionItem(
                    code="readings.missing",
                    level="warning",
                    period=cell.period,
                    slot=row.slot,
                    message=f"{row.name}: {cell.missing} readings of {day} are missing",
                    remedy="look after the meter and its gateway; what comes in late leads to a correction",
                )


def _registered_otherwise(site: Site) -> Iterator[ExceptionItem]:
    """Members on chain that the configuration does not know, or knows otherwise."""
    known = {item.slot: item for item in site.participants()}
    for event in site.events("MemberAdmitted"):
        slot, account = event["slot"], event["account"]
        if slot < FIRST_MEMBER_SLOT:
            continue
        item = known.get(slot)
        if item is None:
            what = f"slot {slot} is registered for {account} and not in the configuration"
        elif item.account.lower() != account.lower():
            what = f"slot {slot} is registered for {account}, and the configuration says {item.account}"
        else:
            continue
        yield ExceptionItem(
            code="member.differs",
            level="wrong",
            period=None,
            slot=slot,
            message=what,
            remedy="put the member into the configuration as it is registered",
        )


def _small(site: Site) -> Iterator[ExceptionItem]:
    members = site.rules.members(site.running_period().number)
    for (node, tariff_class), size in small_groups(members).items():
        yield ExceptionItem(
            code="group.small",
            level="warning",
            period=None,
            slot=None,
            message=f"{size} members at {node} in {tariff_class}: the chain shows their sum",
            remedy="merge nodes or tariff classes until every group is large enough",
        )


def _exception(code: str, message: str, remedy: str, *, wrong: bool, item: Item) -> ExceptionItem:
    return ExceptionItem(
        code=code,
        level="wrong" if wrong else "warning",
        period=item.period,
        slot=None,
        message=message,
        remedy=remedy,
    )


def overview(site: Site) -> Overview:
    """The coordinator's start page."""
    running = site.running_period().number
    return Overview(
        running=running,
        running_day=site.day(running),
        completeness=completeness(site),
        periods=periods(site)[:_SHOWN_DAYS],
        position=position(site, running),
        exceptions=exceptions(site),
    )


# --- Members and tariffs -----------------------------------------------------------------------------------------------------------


def nano_per_token(site: Site) -> int:
    """Nano currency units of the vault token's smallest unit."""
    decimals = site.kept("token decimals", site.contracts.token_decimals)
    return int(10 ** (_NANO_DECIMALS - decimals))


def members(site: Site) -> tuple[MemberEntry, ...]:
    """The members, with their accounts."""
    return site.made_once("members", lambda: _members(site))


def _members(site: Site) -> tuple[MemberEntry, ...]:
    unit = nano_per_token(site)
    paid = _tokens(site.events("Deposited"))
    taken = _tokens(site.events("Withdrawn"))
    admitted = {event["slot"]: event for event in site.events("MemberAdmitted")}
    left = {event["slot"]: event["untilPeriod"] for event in site.events("MemberLeft")}
    newest = site.batches()[-1] if site.batches() else None
    found = []
    for item in site.participants():
        own = settled_of(site).own(newest.header, item.slot) if newest else None
        found.append(
            MemberEntry(
                slot=item.slot,
                name=item.name,
                account=item.account,
                meter=item.meter,
                node=item.node,
                tariff_class=item.tariff_class,
                from_period=item.from_period,
                until_period=left.get(item.slot, item.until_period),
                balance_nano=own.cumulative_nano if own else 0,
                deposited_nano=paid[item.slot] * unit,
                withdrawn_nano=taken[item.slot] * unit,
                collateral_steps=admitted.get(item.slot, {}).get("collateralSteps", 0),
            )
        )
    return tuple(found)


def _tokens(events: Iterable[dict[str, Any]]) -> Counter[int]:
    found: Counter[int] = Counter()
    for event in events:
        found[event["slot"]] += event["tokens"]
    return found


def tariffs(site: Site) -> tuple[TariffEntry, ...]:
    """Every tariff that was announced, newest first, in the words that the community has of it."""
    return site.made_once("tariffs", lambda: tuple(_tariffs(site)))


def _tariffs(site: Site) -> Iterator[TariffEntry]:
    for event in reversed(site.events("TariffAnnounced")):
        preparer = site.rules.preparer(event["fromPeriod"])
        given = preparer.tariff
        found = "0x" + tariff_hash(preparer.market, given.share_millionths).hex()
        yield TariffEntry(
            from_period=event["fromPeriod"],
            hash=event["tariffHash"],
            announced=found == event["tariffHash"],
            share_millionths=given.share_millionths,
            classes=tuple(
                TariffClassEntry(
                    id=item.id,
                    import_price_nano_per_wh=item.import_price_nano_per_wh,
                    export_price_nano_per_wh=item.export_price_nano_per_wh,
                )
                for item in given.tariff_classes
            ),
            nodes=tuple(
                TariffNodeEntry(id=node.id, access_fee_nano_per_wh=node.access_fee_nano_per_wh)
                for node in given.network.nodes
            ),
            edges=tuple(
                TariffEdgeEntry(
                    from_node=edge.from_node,
                    to_node=edge.to_node,
                    fee_nano_per_wh=edge.fee_nano_per_wh,
                )
                for edge in given.network.edges
            ),
        )


# --- Keys and health ---------------------------------------------------------------------------------------------------------------


def keys(site: Site) -> Keys:
    """Roles as the chain has them, the oracle's signers, the bond."""
    return site.made_once("keys", lambda: _keys(site))


def _keys(site: Site) -> Keys:
    oracle = site.contracts.oracle_config()
    owner, amount = site.contracts.bond()
    roles = tuple(_roles(site))
    coordinator = next((item.account for item in roles if item.role == "coordinator"), owner)
    return Keys(
        contracts=dict(site.contracts.addresses),
        roles=roles,
        signers=oracle.signers,
        threshold=oracle.threshold,
        bond_owner=owner,
        bond_wei=str(amount),
        bond_needed_wei=str(site.parameters.bond_wei),
        coordinator_balance_wei=str(
            site.web3.eth.get_balance(Web3.to_checksum_address(coordinator))
        ),
    )


def _roles(site: Site) -> Iterator[RoleEntry]:
    """Who was ever granted a role and still has it."""
    numbers = {number: role for role, number in ROLE_NUMBERS.items()}
    known = site.extras.get("role grants", (float("-inf"), ()))
    if time.monotonic() - known[0] > _GRANTS_SECONDS:
        reader = ChainReader(site.web3, site.contracts.addresses["ClearingHouse"])
        events = reader.events("AccessManager", "RoleGranted")
        granted = {(int(item["args"]["roleId"]), str(item["args"]["account"])) for item in events}
        known = site.extras["role grants"] = (time.monotonic(), tuple(sorted(granted)))
    for number, account in known[1]:
        address = Web3.to_checksum_address(account)
        holds, delay = site.contracts.has_role(number, address)
        if holds:
            yield RoleEntry(
                role=str(numbers.get(number, f"role {number}")),
                number=number,
                account=address,
                delay_seconds=delay,
            )


def health(site: Site) -> Health:
    """How chain, database, oracle and coordinator are."""
    checks = list(_checks(site))
    levels = {check.level for check in checks}
    level: Literal["ok", "warning", "wrong"] = "ok"
    if "wrong" in levels:
        level = "wrong"
    elif "warning" in levels:
        level = "warning"
    return Health(
        level=level,
        now=site.moment(site.now()),
        chain_block=site.cycle.booked_block(),
        chain_time=site.moment(site.chain_time()),
        checks=tuple(checks),
    )


def _checks(site: Site) -> Iterator[HealthCheck]:
    booked = site.cycle.booked_block()
    try:
        head = site.web3.eth.block_number
    except NodeError as error:
        yield _check("the chain's node", "wrong", error.message, error.remedy)
        return
    behind = head - booked
    yield _check(
        "the chain's node", "ok" if behind < 500 else "warning",
        f"block {head}, books {behind} behind", "see that the coordinator runs",
    )  # fmt: skip
    if site.contracts.is_frozen():
        yield _check("the community", "wrong", "frozen", "everybody leaves on the last final batch")
    found = keys(site)
    lacking = int(found.bond_wei) < int(found.bond_needed_wei)
    yield _check(
        "the bond", "warning" if lacking else "ok",
        f"{found.bond_wei} of {found.bond_needed_wei} wei",
        "the cycle adds what it lacks before it submits" if lacking else "",
    )  # fmt: skip
    fee = int(site.web3.eth.get_block("latest").get("baseFeePerGas", 0)) + 10**9
    batches = int(found.coordinator_balance_wei) // (fee * _BATCH_GAS)
    yield _check(
        "the coordinator's gas money", "ok" if batches >= _FEW_BATCHES else "warning",
        f"enough for {batches} batches", "send its key some native coins",
    )  # fmt: skip
    for what, fault in site.services():
        yield _check(
            what,
            "ok" if fault is None else "wrong",
            "answers" if fault is None else fault.message,
            "" if fault is None else fault.remedy,
        )
    for failure in site.failures():
        yield _check("the cycle", "wrong", failure.message, failure.remedy)


def _check(
    what: str, level: Literal["ok", "warning", "wrong"], found: str, mend: str
) -> HealthCheck:
    return HealthCheck(what=what, level=level, found=found, mend="" if level == "ok" else mend)
