"""What the coordinator sees of members and tariffs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from backend.domain.values import Value
from backend.settlement.clearing_encoding import tariff_hash

from ..site import Site
from .settled import settled_of
from .values import Exact, HexText

_NANO_DECIMALS = 9


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


class TariffEntry(Value):
    """A tariff in words."""

    from_period: int
    hash: HexText
    announced: bool
    share_millionths: Exact
    classes: tuple[TariffClassEntry, ...]
    nodes: tuple[TariffNodeEntry, ...]
    edges: tuple[TariffEdgeEntry, ...]


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
