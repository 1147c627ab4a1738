"""The configuration of an oracle signer: one file, which names the others. No key, password or name of a person is in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from eth_utils.address import to_checksum_address
from pydantic import Field

from backend.domain.case import Network, TariffClass
from backend.domain.community import FIRST_MEMBER_SLOT, Member
from backend.domain.errors import DuplicateIdentifier, MalformedInput, UnknownReference
from backend.domain.intervals import EPOCH_DATE, Period, local_day
from backend.domain.units import ENERGY_LIMIT_WH, SLOT_LIMIT
from backend.domain.values import Value, parse_json
from backend.market.problem import Market, build_market
from backend.settlement.encoding import domain_separator, oracle_config_digest

from .collector import Device, meter_address
from .directory import Address
from .sources.base import time_zone
from .substitution import SubstitutionPolicy
from .wire import address_bytes

_FILE_LIMIT_BYTES = 512 * 1024 * 1024


class MemberEntry(Value):
    """`members[]`."""

    slot: Annotated[int, Field(ge=FIRST_MEMBER_SLOT, lt=SLOT_LIMIT)]
    # Signs the member's trades before delivery.
    account: Address | None = None
    meter: Address
    node: str
    tariff_class: str
    fuse_limit_wh: Annotated[int, Field(gt=0, le=ENERGY_LIMIT_WH)]
    from_period: Annotated[int, Field(ge=0)] = 0
    until_period: int | None = None


class CommitteeEntry(Value):
    """`committees[]`: who signs from a period on."""

    from_period: Annotated[int, Field(ge=0)] = 0
    threshold: Annotated[int, Field(ge=1)]
    signers: Annotated[tuple[Address, ...], Field(min_length=1, max_length=31)]


class SubstitutionEntry(Value):
    """`substitution`."""

    rules: tuple[Literal["linear", "weekday", "zero"], ...] = ("linear", "weekday")
    linear_limit_intervals: Annotated[int, Field(ge=1, le=300)] = 8


class DeviceEntry(Value):
    """`collector.devices[]`."""

    source: str
    device: str
    meter: Address | None = None
    has_import: bool = True
    has_export: bool = True


class CollectorEntry(Value):
    """`collector`: for meters that cannot sign."""

    keystore: str
    tolerance_seconds: Annotated[int, Field(ge=0, le=450)] = 30
    devices: tuple[DeviceEntry, ...]


class MeterRegistryEntry(Value):
    """`meter_registry`: the contract that says which keys count."""

    contract: Address
    rpc_url: Annotated[str, Field(pattern=r"^https?://")]
    token_file: str | None = None
    from_block: Annotated[int, Field(ge=0)] = 0
    confirmations: Annotated[int, Field(ge=0, le=10_000)] = 12
    poll_seconds: Annotated[float, Field(gt=0)] = 15
    stale_seconds: Annotated[float, Field(gt=0)] = 3600
    kept_file: str = "meter-registry.json"


class TradeBooksEntry(Value):
    """`trade_books`: where members trade before delivery."""

    contract: Address
    rpc_url: Annotated[str, Field(pattern=r"^https?://")]
    token_file: str | None = None
    from_block: Annotated[int, Field(ge=0)] = 0
    confirmations: Annotated[int, Field(ge=0, le=10_000)] = 12
    folder: str = "trade-books"
    fee_slot: Annotated[int, Field(ge=FIRST_MEMBER_SLOT, lt=SLOT_LIMIT)]


class PeerEntry(Value):
    """`peers[]`: the other signers."""

    url: str


class OtherEntry(Value):
    """`transformer.others[]`: known meters behind the transformer that are no members."""

    meter: Address
    fuse_limit_wh: Annotated[int, Field(gt=0, le=ENERGY_LIMIT_WH)]


class TransformerEntry(Value):
    """`transformer`: the meter that bounds the members', its import register counting what comes from the grid above."""

    meter: Address
    fuse_limit_wh: Annotated[int, Field(gt=0, le=ENERGY_LIMIT_WH)]
    fixed_loss_wh: Annotated[int, Field(ge=0, le=ENERGY_LIMIT_WH)]
    loss_permille: Annotated[int, Field(ge=0, le=1000)]
    rounding_wh: Annotated[int, Field(ge=0, le=ENERGY_LIMIT_WH)] | None = None
    others: tuple[OtherEntry, ...] = ()


class ConfigFile(Value):
    """The file `peerwatt/oracle/1`."""

    format: Literal["peerwatt/oracle/1"] = "peerwatt/oracle/1"
    chain_id: Annotated[int, Field(ge=0)]
    clearing_house: Address
    oracle_contract: Address
    interval_minutes: Literal[5, 15] = 15
    time_zone: str = "UTC"
    store: str
    meters_file: str
    meter_registry: MeterRegistryEntry | None = None
    trade_books: TradeBooksEntry | None = None
    salts_file: str
    keystores: str
    password_file: str
    token_file: str
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, lt=65536)] = 8700
    workers: Annotated[int, Field(ge=0, le=64)] = 0
    clock_tolerance_seconds: Annotated[int, Field(ge=0, le=900)] = 30
    correction_days: Annotated[int, Field(ge=0, le=400)] = 10
    committees: Annotated[tuple[CommitteeEntry, ...], Field(min_length=1)]
    substitution: SubstitutionEntry = SubstitutionEntry()
    network: Network
    tariff_classes: tuple[TariffClass, ...]
    members: tuple[MemberEntry, ...]
    transformer: TransformerEntry | None = None
    peers: tuple[PeerEntry, ...] = ()
    collector: CollectorEntry | None = None
    sources: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Committee:
    """Who signs a period, and how many must agree.

    Attributes:
        signers: in ascending order of their addresses as numbers.
        threshold: k.
        config_digest: what reports must name.
    """

    signers: tuple[str, ...]
    threshold: int
    config_digest: bytes


@dataclass(frozen=True)
class OracleConfig:
    """The configuration with what follows from it.

    Attributes:
        file: as written.
        folder: what paths in it are relative to.
    """

    file: ConfigFile
    folder: Path

    @cached_property
    def domain(self) -> bytes:
        """EIP-712 domain separator."""
        return domain_separator(self.file.chain_id, self.file.oracle_contract)

    @cached_property
    def market(self) -> Market:
        """Groups of members, for the totals."""
        keys = sorted({(item.node, item.tariff_class) for item in self.file.members})
        return build_market(self.file.network, self.file.tariff_classes, keys)

    @property
    def store_url(self) -> str:
        """The store's URL; a relative SQLite path is as seen from the configuration's folder."""
        prefix, separator, path = self.file.store.partition(":///")
        if prefix == "sqlite" and separator and not path.startswith("/"):
            return f"sqlite:///{self.folder / path}"
        return self.file.store

    def path(self, name: str) -> Path:
        """A path that the file names."""
        return self.folder / name

    def period(self, number: int) -> Period:
        """A period by its number: the local day.

        Raises:
            MalformedInput: no such day.
        """
        try:
            day = EPOCH_DATE + timedelta(days=number)
            return local_day(day, self.file.time_zone, self.file.interval_minutes)
        except (ValueError, OverflowError) as error:
            raise MalformedInput(
                "period", number, str(error), "give days since 1970-01-01"
            ) from None

    def number_of(self, interval: int) -> int:
        """The number of the period that an interval belongs to."""
        seconds = interval * self.file.interval_minutes * 60
        day = datetime.fromtimestamp(seconds, ZoneInfo(self.file.time_zone)).date()
        return (day - EPOCH_DATE).days

    def committee(self, period: int) -> Committee:
        """Who signs the period.

        Raises:
            UnknownReference: nobody does yet.
        """
        valid = [item for item in self.file.committees if item.from_period <= period]
        if not valid:
            raise UnknownReference(
                "committees",
                period,
                "no committee for this period",
                "add one with an earlier from_period",
            )
        entry = max(valid, key=lambda item: item.from_period)
        signers = sorted((to_checksum_address(item) for item in entry.signers), key=address_bytes)
        digest = oracle_config_digest(
            self.file.chain_id,
            self.file.clearing_house,
            self.file.oracle_contract,
            entry.threshold,
            signers,
        )
        return Committee(tuple(signers), entry.threshold, digest)

    def members(self, period: int) -> list[Member]:
        """The members of the period, in slot order; their names are not the oracle's business, nor their wallets unless they trade."""
        return [
            Member(
                entry.slot,
                "",
                to_checksum_address(entry.account) if entry.account else "",
                to_checksum_address(entry.meter),
                entry.node,
                entry.tariff_class,
                entry.fuse_limit_wh,
            )
            for entry in sorted(self.file.members, key=lambda item: item.slot)
            if entry.from_period <= period
            and (entry.until_period is None or period < entry.until_period)
        ]

    def other_meters(self, period: int) -> set[bytes]:
        """Meters that send readings and are no active member's: the transformer's, those behind it, former and future members'."""
        known = [entry.meter for entry in self.file.members]
        if self.file.transformer is not None:
            known.append(self.file.transformer.meter)
            known += [entry.meter for entry in self.file.transformer.others]
        active = {address_bytes(member.meter) for member in self.members(period)}
        return {address_bytes(meter) for meter in known} - active

    def policy(self, period: Period) -> SubstitutionPolicy:
        """How the period's gaps are filled."""
        week_earlier = self.period(period.number - 7)
        return SubstitutionPolicy(
            self.file.substitution.rules,
            self.file.substitution.linear_limit_intervals,
            period.first_interval - week_earlier.first_interval,
        )

    def devices(self) -> dict[tuple[str, str], Device]:
        """What the collector collects for."""
        entries = self.file.collector.devices if self.file.collector else ()
        return {
            (item.source, item.device): Device(
                address_bytes(item.meter)
                if item.meter
                else meter_address(item.source, item.device),
                item.has_import,
                item.has_export,
            )
            for item in entries
        }


def load_config(path: Path) -> OracleConfig:
    """Reads and checks a configuration.

    Raises:
        InputError: naming the field.
    """
    file = ConfigFile.from_data(parse_json(read_bytes(path), path))
    time_zone(file.time_zone)
    for name in ("slot", "meter"):
        values = [str(getattr(item, name)).lower() for item in file.members]
        twice = (
            next((value for value in values if values.count(value) > 1), None)
            if (len(set(values)) < len(values))
            else None
        )
        if twice is not None:
            raise DuplicateIdentifier(f"members[].{name}", twice, "is there twice", "keep one")
    for index, committee in enumerate(file.committees):
        if committee.threshold > len({address_bytes(item) for item in committee.signers}):
            raise MalformedInput(
                f"committees[{index}].threshold",
                committee.threshold,
                "more than there are different signers",
                "choose k of n",
            )
    if file.trade_books is not None:
        _check_traders(file, file.trade_books)
    if file.transformer is not None:
        around = [file.transformer.meter, *(item.meter for item in file.transformer.others)]
        taken = {item.meter.lower() for item in file.members}
        for meter in around:
            if meter.lower() in taken:
                raise DuplicateIdentifier(
                    "transformer",
                    meter,
                    "is named twice",
                    "a meter is a member's, the transformer's or another's",
                )
            taken.add(meter.lower())
    return OracleConfig(file, path.resolve().parent)


def _check_traders(file: ConfigFile, entry: TradeBooksEntry) -> None:
    without = next((item.slot for item in file.members if item.account is None), None)
    if without is not None:
        raise MalformedInput(
            "members[].account",
            without,
            "a member of this slot without an account, though members trade before delivery",
            "give the address that signs its trades",
        )
    if entry.fee_slot not in {item.slot for item in file.members}:
        raise UnknownReference(
            "trade_books.fee_slot",
            entry.fee_slot,
            "no member of this slot",
            "name the network operator's account for the fees of trades",
        )


def load_salts(path: Path) -> dict[int, bytes]:
    """The secrets behind the members' salts: a JSON object of 32 bytes in hexadecimal by slot. Deleting one erases.

    Raises:
        MalformedInput: not that; no secret is shown.
    """
    data = parse_json(read_bytes(path), path)
    salts: dict[int, bytes] = {}
    for slot, text in data.items() if isinstance(data, dict) else [("", None)]:
        try:
            salts[int(slot)] = bytes.fromhex(str(text).removeprefix("0x"))
        except ValueError:
            salts = {}
            break
        if len(salts[int(slot)]) != 32:
            salts = {}
            break
    if not salts:
        raise MalformedInput(
            str(path),
            "<secrets>",
            "not 32 bytes by slot",
            'write {"3": "0x..."} with 64 hexadecimal digits',
        )
    return salts


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        MalformedInput: it cannot be read, or is too large.
    """
    try:
        if path.stat().st_size > _FILE_LIMIT_BYTES:
            raise MalformedInput(str(path), path.stat().st_size, "larger than 512 MiB", "split it")
        return path.read_bytes()
    except OSError as error:
        raise MalformedInput(
            str(path), error.strerror, "cannot be read", "name a readable file"
        ) from None
