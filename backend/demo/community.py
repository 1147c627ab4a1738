"""The demonstration's community: SimBench households on their feeders, keys from a seed, a zonal tariff.

Zones are the feeders that leave the substation, side by side ones together where a zone would show a single household; energy between two of them crosses two borders, at the substation. About the
size of the Svalin co-housing site of the Energy Collective slides: 20 families.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from eth_keys.datatypes import PrivateKey

from backend.chain.client import account_from_secret
from backend.domain.case import TariffClass
from backend.domain.community import (
    FIRST_MEMBER_SLOT,
    SMALLEST_GROUP,
    CommunityTariff,
    Member,
)
from backend.domain.errors import OutOfRange
from backend.market.network import zonal_network
from backend.market.problem import Market, build_market
from oracle.signing import address_of, private_key
from oracle.sources.simbench import (
    Feeder,
    Household,
    available_days,
    load_feeder,
    select_households,
)

DEFAULT_MEMBERS = 20
# A summer day with sun and clouds: surplus at noon, shortage in the morning and evening, trade in every zone.
DEFAULT_DAY = datetime.date(2016, 6, 29)
MEMBER_LIMIT = 2000
CURRENCY = "EUR"
SUBSTATION = "substation"

# Prices of a household in Germany around 2025, all-in; nano EUR per Wh.
_TARIFF_CLASSES = (
    TariffClass(id="heat-pump", import_price_nano_per_wh=270_000, export_price_nano_per_wh=80_000),
    TariffClass(id="household", import_price_nano_per_wh=320_000, export_price_nano_per_wh=80_000),
)
# Each side of a trade pays 1.5 ct/kWh for access; each border crossed costs 1 ct/kWh.
_ACCESS_FEE_NANO_PER_WH = 15_000
_BORDER_FEE_NANO_PER_WH = 10_000
_SHARE_MILLIONTHS = 500_000
# Three phases of 63 A at 230 V for a quarter of an hour.
_FUSE_LIMIT_WH = 3 * 63 * 230 // 4

ORACLE_SIGNERS = 3
ORACLE_THRESHOLD = 2


@dataclass(frozen=True, slots=True)
class Participant:
    """A member with the household behind it and its keys."""

    member: Member
    household: Household
    wallet: LocalAccount
    meter_key: PrivateKey


@dataclass(frozen=True, slots=True)
class DemoCommunity:
    """Everybody who takes part in the demonstration.

    Attributes:
        feeder: the grid and its profiles.
        participants: in slot order.
        tariff: zonal, in words.
        market: the same by index.
        zones: feeders with a member, in order.
    """

    feeder: Feeder
    participants: tuple[Participant, ...]
    tariff: CommunityTariff
    market: Market
    zones: tuple[str, ...]
    seed: int

    @property
    def members(self) -> tuple[Member, ...]:
        """The members in slot order."""
        return tuple(item.member for item in self.participants)

    def key(self, role: str, index: int = 0) -> bytes:
        """32 secret bytes of a role, from the seed."""
        return secret(self.seed, role, index)

    def account(self, role: str, index: int = 0) -> LocalAccount:
        """The key of a role that sends transactions."""
        return account_from_secret(self.key(role, index))


def secret(seed: int, role: str, index: int = 0) -> bytes:
    """32 bytes from seed, role and index. Anybody can make them again: for demonstrations only."""
    return keccak(f"peerwatt demonstration {seed} {role} {index}".encode())


def days_from(first: datetime.date, count: int, feeder: Feeder) -> list[datetime.date]:
    """`count` consecutive days.

    Raises:
        OutOfRange: there are no data for one of them.
    """
    known = set(available_days(feeder))
    days = [first + datetime.timedelta(days=offset) for offset in range(count)]
    for day in days:
        if day not in known:
            raise OutOfRange(
                "days",
                f"{count} from {first}",
                f"no data for {day}",
                f"bundled days run from {min(known)} to {max(known)}, with a gap; choose fewer days",
            )
    return days


def build_community(members: int, seed: int) -> DemoCommunity:
    """The community of the first `members` households.

    Raises:
        OutOfRange: fewer than 4 members or more than the limit.
    """
    if not 4 <= members <= MEMBER_LIMIT:
        raise OutOfRange(
            "members", members, "unsuitable number", f"give a number from 4 to {MEMBER_LIMIT}"
        )
    feeder = load_feeder()
    households = select_households(feeder, members, seed)
    zone_of, classes = _groups(households)
    participants = []
    for index, household in enumerate(households):
        wallet = account_from_secret(secret(seed, "wallet", index))
        meter_key = private_key(secret(seed, "meter", index))
        participants.append(
            Participant(
                member=Member(
                    slot=FIRST_MEMBER_SLOT + index,
                    name=household.household_id,
                    account=wallet.address,
                    meter=address_of(meter_key),
                    node=zone_of[household.zone],
                    tariff_class=classes[household.has_heat_pump],
                    fuse_limit_wh=_FUSE_LIMIT_WH,
                ),
                household=household,
                wallet=wallet,
                meter_key=meter_key,
            )
        )
    zones = tuple(sorted(set(zone_of.values())))
    tariff = _tariff(zones, [item.member for item in participants])
    return DemoCommunity(
        feeder=feeder,
        participants=tuple(participants),
        tariff=tariff,
        market=build_market(tariff.network, tariff.tariff_classes, tariff.group_keys),
        zones=zones,
        seed=seed,
    )


def _groups(households: Sequence[Household]) -> tuple[dict[str, str], dict[bool, str]]:
    """Zones and tariff classes so large that no group shows one household's load on chain.

    Feeders side by side are one zone until each of its groups has enough members; a class that has not enough in the whole
    community is not offered.

    Returns:
        Zone of each feeder; tariff class without and with a heat pump.
    """
    pumps = sum(household.has_heat_pump for household in households)
    classes = {False: "household", True: "heat-pump" if pumps >= SMALLEST_GROUP else "household"}
    zones: list[list[str]] = [[]]
    counts: Counter[str] = Counter()
    for feeder in sorted({household.zone for household in households}):
        if counts and min(counts.values()) >= SMALLEST_GROUP:
            zones.append([])
            counts.clear()
        zones[-1].append(feeder)
        counts.update(
            classes[household.has_heat_pump] for household in households if household.zone == feeder
        )
    if len(zones) > 1 and min(counts.values()) < SMALLEST_GROUP:
        last = zones.pop()
        zones[-1] += last
    return {feeder: _zone_name(zone) for zone in zones for feeder in zone}, classes


def _zone_name(feeders: Sequence[str]) -> str:
    first, last = feeders[0], feeders[-1]
    return first if first == last else f"feeders-{first[7:]}-to-{last[7:]}"


def _tariff(zones: Sequence[str], members: Sequence[Member]) -> CommunityTariff:
    return CommunityTariff(
        network=zonal_network(
            [*zones, SUBSTATION],
            [(zone, SUBSTATION) for zone in zones],
            _BORDER_FEE_NANO_PER_WH,
            _ACCESS_FEE_NANO_PER_WH,
        ),
        tariff_classes=_TARIFF_CLASSES,
        group_keys=tuple(sorted({(member.node, member.tariff_class) for member in members})),
        share_millionths=_SHARE_MILLIONTHS,
    )
