"""The file that says what a community is founded with (docs/files.md, `peerwatt/founding/1`)."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from backend.domain.community import FIRST_MEMBER_SLOT, CommunityTariff
from backend.domain.errors import OutOfRange
from backend.domain.intervals import Period, local_day
from backend.domain.values import Value, parse_json
from backend.market.problem import Market, build_market
from backend.operator.config import ChecksumAddress, TariffEntry
from contracts.bindings import MemberRecord, OracleConfig
from oracle.config import read_bytes
from oracle.sources.base import time_zone

from .community import DeploymentSettings, founding_parameters

# A local day on which clocks go back.
_LONGEST_DAY_SECONDS = 25 * 3600
# From a period's end until its batch is on chain: late readings, the report, blocks.
_SETTLING_SECONDS = 6 * 3600


class OracleEntry(Value):
    """`oracle`: who signs reports."""

    threshold: Annotated[int, Field(ge=1)]
    signers: Annotated[tuple[ChecksumAddress, ...], Field(min_length=1, max_length=31)]


class TradeBookEntry(Value):
    """`trade_book`: where members trade before delivery."""

    gate_seconds: Annotated[int, Field(ge=0, le=86_400)] = 300
    strike_seconds: Annotated[int, Field(ge=60, le=30 * 86_400)] = 12 * 3600
    bond_wei: Annotated[int, Field(gt=0, lt=2**96)]


class FoundingMember(Value):
    """`members[]`: who takes part from the first period on, with its signature (EIP-712)."""

    account: ChecksumAddress
    meter: ChecksumAddress
    node: str
    tariff_class: str
    consent: Annotated[str, Field(pattern=r"^0x([0-9a-fA-F]{2})+$")]


class FoundingFile(Value):
    """The file `peerwatt/founding/1`."""

    format: Literal["peerwatt/founding/1"] = "peerwatt/founding/1"
    first_day: str
    time_zone: str = "UTC"
    interval_minutes: Literal[5, 15] = 15
    challenge_seconds: Annotated[int, Field(ge=3)] = 24 * 3600
    correction_seconds: Annotated[int, Field(ge=0)] = 30 * 86_400
    freeze_seconds: Annotated[int, Field(ge=1)] = 14 * 86_400
    shortest_period_seconds: Annotated[int, Field(ge=1)] = 23 * 3600
    # Without them a lie costs nothing, and neither does a demand that the coordinator pays to answer.
    bond_wei: Annotated[int, Field(gt=0, lt=2**96)]
    demand_bond_wei: Annotated[int, Field(gt=0, lt=2**96)]
    collateral_step_nano: Annotated[int, Field(gt=0)]
    # An ERC-20 token; without, a test token is deployed along.
    token: ChecksumAddress | None = None
    token_decimals: Annotated[int, Field(ge=0, le=9)] = 6
    coordinator: ChecksumAddress
    administrator: ChecksumAddress
    # How long everybody sees a change coming; longer than it takes to leave (`exit_seconds`).
    change_delay_seconds: Annotated[int, Field(ge=0)] = 4 * 86_400
    supplier: ChecksumAddress
    dso: ChecksumAddress
    fund: ChecksumAddress
    oracle: OracleEntry
    trade_book: TradeBookEntry | None = None
    tariff: TariffEntry
    collateral_steps: Annotated[int, Field(ge=0)] = 1
    members: tuple[FoundingMember, ...] = ()

    @classmethod
    def from_data(cls, data: Any, where: str = "") -> Self:
        """As any value's; also refuses delays in which a member who sees a change coming cannot leave."""
        file = super().from_data(data, where)
        if file.change_delay_seconds < file.exit_seconds:
            raise OutOfRange(
                f"{where}.change_delay_seconds" if where else "change_delay_seconds",
                file.change_delay_seconds,
                "changes would take effect before a member who sees them coming can leave",
                f"give at least {file.exit_seconds}: a day, twice challenge_seconds and six hours",
            )
        return file

    @property
    def exit_seconds(self) -> int:
        """How long leaving takes with all one's money: the period that has begun, its batch, the time until that is final, and the
        same again for the collateral, which is free to be announced only then.
        """
        longest = max(_LONGEST_DAY_SECONDS, self.shortest_period_seconds)
        return longest + _SETTLING_SECONDS + 2 * self.challenge_seconds

    @property
    def first_period(self) -> Period:
        """The first local day that is settled."""
        return local_day(date.fromisoformat(self.first_day), self.time_zone, self.interval_minutes)

    @property
    def market(self) -> Market:
        """The tariff by index."""
        given = self.tariff
        tariff = CommunityTariff(
            given.network, given.tariff_classes, tuple(sorted(given.groups)), given.share_millionths
        )
        return build_market(tariff.network, tariff.tariff_classes, tariff.group_keys)

    def settings(self) -> DeploymentSettings:
        """What the contracts are deployed with."""
        book = self.trade_book
        return DeploymentSettings(
            parameters=founding_parameters(
                self.first_period,
                challenge_seconds=self.challenge_seconds,
                bond_wei=self.bond_wei,
                demand_bond_wei=self.demand_bond_wei,
                shortest_period_seconds=self.shortest_period_seconds,
                correction_seconds=self.correction_seconds,
                freeze_seconds=self.freeze_seconds,
            ),
            oracle=OracleConfig(self.oracle.threshold, self.oracle.signers),
            collateral_step_nano=self.collateral_step_nano,
            token_decimals=self.token_decimals,
            coordinator=self.coordinator,
            supplier=self.supplier,
            dso=self.dso,
            fund=self.fund,
            token=self.token,
            trade_book=(book.gate_seconds, book.strike_seconds, book.bond_wei) if book else None,
        )

    def records(self) -> dict[int, tuple[MemberRecord, FoundingMember]]:
        """By slot what the registry keeps of each founding member."""
        market, first = self.market, self.first_period.number
        found = {}
        for slot, item in enumerate(self.members, FIRST_MEMBER_SLOT):
            group = market.groups[market.group_index[item.node, item.tariff_class]]
            record = MemberRecord(
                item.account, first, 0, group.node, group.tariff_class, self.collateral_steps
            )
            found[slot] = (record, item)
        return found


def load_founding(path: Path) -> FoundingFile:
    """Reads and checks a founding file.

    Raises:
        InputError: naming the field.
    """
    file = FoundingFile.from_data(parse_json(read_bytes(path), path))
    time_zone(file.time_zone)
    return file
