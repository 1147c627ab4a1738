"""The coordinator's configuration: one file for all communities of an installation. Keys, passwords and tokens are in files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from eth_utils.address import to_checksum_address
from pydantic import AfterValidator, Field

from backend.domain.case import Network, TariffClass
from backend.domain.community import FIRST_MEMBER_SLOT, CommunityTariff, Member
from backend.domain.errors import DuplicateIdentifier, MalformedInput, UnknownReference
from backend.domain.intervals import EPOCH_DATE, Period, local_day
from backend.domain.units import ENERGY_LIMIT_WH, SLOT_LIMIT
from backend.domain.values import Value, parse_json
from deploy.networks import NetworkFile, load_network
from oracle.config import read_bytes
from oracle.directory import Address
from oracle.sources.base import time_zone

from .bundle_store import FolderStore, ObjectStore, S3Store
from .preparation import Preparer
from .sharing import refuse_sharing

# In the one way of writing them that the chain's library takes.
ChecksumAddress = Annotated[Address, AfterValidator(to_checksum_address)]


class TariffEntry(Value):
    """`tariffs[]`: what holds from a period on, as announced on chain."""

    from_period: Annotated[int, Field(ge=0)] = 0
    share_millionths: Annotated[int, Field(ge=0, le=1_000_000)]
    network: Network
    tariff_classes: Annotated[tuple[TariffClass, ...], Field(min_length=1)]
    # (node, tariff class), all that there are.
    groups: Annotated[tuple[tuple[str, str], ...], Field(min_length=1)]


class MemberEntry(Value):
    """`members[]`."""

    slot: Annotated[int, Field(ge=FIRST_MEMBER_SLOT, lt=SLOT_LIMIT)]
    name: str
    account: ChecksumAddress
    meter: ChecksumAddress
    node: str
    tariff_class: str
    fuse_limit_wh: Annotated[int, Field(gt=0, le=ENERGY_LIMIT_WH)]
    from_period: Annotated[int, Field(ge=0)] = 0
    until_period: int | None = None
    # What the other members are told.
    generation_peak_w: Annotated[int, Field(ge=0, lt=2**40)] | None = None
    heat_pump: bool = False
    ev: bool = False


class SignerEntry(Value):
    """`signers[]`."""

    url: str
    token_file: str


class S3Entry(Value):
    """`bundles.s3`."""

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str = "us-east-1"
    # First line key id, second line secret; without, what the environment has.
    credentials_file: str | None = None


class BundlesEntry(Value):
    """`bundles`: a folder, or an S3-compatible store."""

    folder: str | None = None
    s3: S3Entry | None = None


class TradesEntry(Value):
    """`trades`: where members trade before delivery."""

    folder: str = "trade-books"
    close_before_seconds: Annotated[int, Field(ge=0, le=86_400)] = 120


class CommunityEntry(Value):
    """`communities[]`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    # For people; the name without.
    title: str = ""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    network: str
    # One endpoint a line, where they are secret; otherwise the network's.
    rpc_file: str | None = None
    address_book: str
    database: str | None = None
    database_file: str | None = None
    keystore: str
    password_file: str
    salt_file: str
    # Pays for what the web site sends for members; with the same password.
    relay_keystore: str | None = None
    # The operator's fee notices, named by interval, for its page.
    grid_notices: str | None = None
    signers: Annotated[tuple[SignerEntry, ...], Field(min_length=1)]
    interval_minutes: Literal[5, 15] = 15
    time_zone: str = "UTC"
    settle_after_minutes: Annotated[int, Field(ge=0, le=14 * 1440)] = 60
    credit_limit_nano: Annotated[int, Field(ge=0, lt=2**64)] = 0
    correction_check_minutes: Annotated[int, Field(ge=1, le=1440)] = 60
    preview_after_seconds: Annotated[int, Field(ge=0, le=3600)] = 120
    solver: str = "auto"
    trades: TradesEntry | None = None
    bundles: BundlesEntry
    tariffs: Annotated[tuple[TariffEntry, ...], Field(min_length=1)]
    members: tuple[MemberEntry, ...]


class ConfigFile(Value):
    """The file `peerwatt/coordinator/1`."""

    format: Literal["peerwatt/coordinator/1"] = "peerwatt/coordinator/1"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, lt=65536)] = 8800
    poll_seconds: Annotated[int, Field(ge=1, le=3600)] = 15
    communities: Annotated[tuple[CommunityEntry, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Configuration:
    """The configuration and where it is.

    Attributes:
        file: as written.
        folder: what paths in it are relative to.
    """

    file: ConfigFile
    folder: Path

    def community(self, name: str) -> CommunityEntry:
        """A community's part.

        Raises:
            UnknownReference: there is none of that name.
        """
        for entry in self.file.communities:
            if entry.name == name:
                return entry
        names = ", ".join(entry.name for entry in self.file.communities)
        raise UnknownReference("community", name, "not configured", f"name one of: {names}")

    def secret(self, name: str) -> str:
        """The text of a file with a secret.

        Raises:
            MalformedInput: it cannot be read, or is empty; the secret is not shown.
        """
        text = read_bytes(self.folder / name).decode(errors="replace").strip()
        if not text:
            raise MalformedInput(name, "", "empty", "put the secret into the file")
        return text

    def database_url(self, entry: CommunityEntry) -> str:
        """A community's database; a relative SQLite path is as seen from the configuration's folder."""
        url = entry.database or self.secret(entry.database_file or "")
        prefix, separator, path = url.partition(":///")
        if prefix == "sqlite" and separator and not path.startswith("/"):
            return f"sqlite:///{self.folder / path}"
        return url

    def network(self, entry: CommunityEntry) -> NetworkFile:
        """A community's chain.

        Raises:
            InputError: no such network, or its file is not what it should be.
        """
        inside = self.folder / entry.network
        return load_network(str(inside) if inside.is_file() else entry.network)

    def endpoints(self, entry: CommunityEntry) -> tuple[str, ...]:
        """Where its chain is asked, in order of preference.

        Raises:
            InputError: no such network, or no such file.
        """
        if entry.rpc_file:
            return tuple(self.secret(entry.rpc_file).split())
        return self.network(entry).rpc

    def salt_key(self, entry: CommunityEntry) -> bytes:
        """The secret behind ledger and trade salts.

        Raises:
            MalformedInput: not 32 bytes in hexadecimal; it is not shown.
        """
        try:
            key = bytes.fromhex(self.secret(entry.salt_file).removeprefix("0x"))
        except ValueError:
            key = b""
        if len(key) != 32:
            raise MalformedInput(
                entry.salt_file, "<secret>", "not 32 bytes", "write 64 hexadecimal digits"
            )
        return key

    def objects(self, entry: CommunityEntry) -> ObjectStore:
        """Where a community's bundles are kept.

        Raises:
            MalformedInput: neither folder nor store, or both.
        """
        given = entry.bundles
        if (given.folder is None) == (given.s3 is None):
            raise MalformedInput(
                "bundles", given.model_dump(), "not one place", "give either folder or s3"
            )
        if given.folder is not None:
            return FolderStore(self.folder / given.folder)
        assert given.s3 is not None
        s3 = given.s3
        key_id, secret = None, None
        if s3.credentials_file:
            key_id, _, secret = self.secret(s3.credentials_file).partition("\n")
        return S3Store(
            s3.bucket, s3.prefix, s3.endpoint_url, key_id, (secret or "").strip() or None, s3.region
        )


def load_configuration(path: Path) -> Configuration:
    """Reads and checks a configuration.

    Raises:
        InputError: naming the field.
    """
    file = ConfigFile.from_data(parse_json(read_bytes(path), path))
    names = [entry.name for entry in file.communities]
    for name in {name for name in names if names.count(name) > 1}:
        raise DuplicateIdentifier("communities[].name", name, "is there twice", "keep one")
    for index, entry in enumerate(file.communities):
        where = f"communities[{index}]"
        time_zone(entry.time_zone)
        if (entry.database is None) == (entry.database_file is None):
            raise MalformedInput(
                f"{where}.database", entry.database, "not one", "give database or database_file"
            )
        slots = [item.slot for item in entry.members]
        for slot in {slot for slot in slots if slots.count(slot) > 1}:
            raise DuplicateIdentifier(f"{where}.members[].slot", slot, "is there twice", "keep one")
    found = Configuration(file, path.resolve().parent)
    refuse_sharing(found)
    return found


@dataclass
class ConfiguredRules:
    """What a community's configuration says of its periods (`periods.CommunityRules`).

    Args:
        entry: the community's part; may be replaced while running.
        chain_id, clearing_house, genesis, salt_key: see `Preparer`.
    """

    entry: CommunityEntry
    chain_id: int
    clearing_house: str
    genesis: bytes
    salt_key: bytes = field(repr=False)
    _preparers: dict[int, Preparer] = field(default_factory=dict, init=False)

    def replace_entry(self, entry: CommunityEntry) -> None:
        """Takes over a changed configuration."""
        self.entry = entry
        self._preparers.clear()

    def period(self, number: int) -> Period:
        """The local day.

        Raises:
            MalformedInput: no such day.
        """
        try:
            day = EPOCH_DATE + timedelta(days=number)
            return local_day(day, self.entry.time_zone, self.entry.interval_minutes)
        except (ValueError, OverflowError) as error:
            raise MalformedInput(
                "period", number, str(error), "give days since 1970-01-01"
            ) from None

    def end(self, number: int) -> int:
        """When a period is over, in seconds since the Unix epoch."""
        period = self.period(number)
        return period.end_interval * period.interval_minutes * 60

    def running(self, now: float) -> int:
        """The number of the period that is running.

        Args:
            now: seconds since the Unix epoch.
        """
        number = int(now // 86_400) - 1
        while now >= self.end(number):
            number += 1
        return number

    def preparer(self, number: int) -> Preparer:
        """With the tariff of the period.

        Raises:
            UnknownReference: no tariff holds yet.
        """
        valid = [item for item in self.entry.tariffs if item.from_period <= number]
        if not valid:
            raise UnknownReference(
                "tariffs",
                number,
                "no tariff for this period",
                "add one with an earlier from_period",
            )
        given = max(valid, key=lambda item: item.from_period)
        if given.from_period not in self._preparers:
            tariff = CommunityTariff(
                given.network,
                given.tariff_classes,
                tuple(sorted(given.groups)),
                given.share_millionths,
            )
            place = (self.chain_id, self.clearing_house, self.genesis, self.salt_key)
            self._preparers[given.from_period] = Preparer(tariff, *place, self.entry.solver)
        return self._preparers[given.from_period]

    def members(self, number: int) -> Sequence[Member]:
        """The members of the period, in slot order."""
        return [
            Member(
                item.slot,
                item.name,
                item.account,
                item.meter,
                item.node,
                item.tariff_class,
                item.fuse_limit_wh,
            )
            for item in sorted(self.entry.members, key=lambda item: item.slot)
            if item.from_period <= number
            and (item.until_period is None or number < item.until_period)
        ]
