"""Reads the parts of a bundle (docs/files.md, `peerwatt/bundle/2` and `peerwatt/personal/2`), trusting not a byte of them.

Whatever is wrong with a part is one `Unreadable` that names the field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from .hashing import ACCOUNT_LEVELS, ZERO, Node, split_sums

PUBLIC_FORMAT, PERSONAL_FORMAT = "peerwatt/bundle/2", "peerwatt/personal/2"
READING_BYTES = 16
MISSING = 2
_MONEY_LIMIT = 1 << 127
_SLOTS = 1 << ACCOUNT_LEVELS

Integers = NDArray[np.int64]


class Unreadable(Exception):
    """A part of a bundle is not what it should be; says which field and why."""


@dataclass(frozen=True)
class Series:
    """A member's readings of a period, one entry for each interval, and what its trades before delivery brought, in nano."""

    packed: bytes
    import_wh: Integers
    export_wh: Integers
    quality: Integers
    traded_nano: int = 0

    def of_period(self, count: int) -> Series:
        """The same for a period of `count` intervals: 16 bytes more are what trades before delivery brought."""
        if len(self.quality) != count + 1:
            return self
        brought = int.from_bytes(self.packed[-READING_BYTES:], "big", signed=True)
        fields = (self.import_wh[:-1], self.export_wh[:-1], self.quality[:-1])
        return Series(self.packed, *fields, brought)

    @cached_property
    def net_wh(self) -> Integers:
        """Export less import; nothing where the reading is missing."""
        return np.where(self.quality == MISSING, 0, self.export_wh - self.import_wh)


class Trade(NamedTuple):
    """One trade as shown to its parties."""

    position: int
    interval: int
    seller: int
    buyer: int
    energy_wh: int
    fee_nano: int
    salt: bytes


@dataclass(frozen=True)
class Personal:
    """One account's part.

    Attributes:
        place: chain, contract, batch, period, version and slot that it says it is of.
        amount, cumulative: nano.
        ledger_salt, ledger_proof: of its leaf.
        group: names of node and tariff class; None without a meter.
        series: readings, or None.
        readings_salt, readings_proof: of the readings' leaf.
        trades: its own.
    """

    place: tuple[int, str, int, int, int, int]
    amount: int
    cumulative: int
    ledger_salt: bytes
    ledger_proof: tuple[Node, ...]
    name: str
    group: tuple[str, str] | None
    series: Series | None
    readings_salt: bytes
    readings_proof: tuple[bytes, ...]
    trades: tuple[Trade, ...]


@dataclass(frozen=True)
class Public:
    """The public part, as data whose form is known to be right."""

    data: Mapping[str, Any]
    clearing: bytes
    prices: bytes
    trade_leaves: tuple[bytes, ...]
    personal_hashes: dict[int, bytes]


def parse(data: bytes) -> Any:
    """JSON from somebody who may mean harm: what is nested too deeply would overflow the stack of the standard parser.

    Raises:
        ValueError: it is none, or is nested too deeply.
    """
    return from_json(data, allow_inf_nan=False)


def read_json(data: bytes) -> Any:
    """A part's JSON.

    Raises:
        Unreadable: it is none, or not written in the one canonical way, so that two readers could read two things.
    """
    try:
        value = parse(data)
        again = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        raise Unreadable(f"not JSON: {error}") from None
    if again != data:
        raise Unreadable("not canonical JSON: names out of order, twice, or spaces between")
    return value


def unpack_readings(data: bytes) -> Series:
    """Import, export, quality per interval."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, READING_BYTES)

    def number(start: int, size: int) -> Integers:
        wide = np.zeros((len(rows), 8), np.uint8)
        wide[:, 8 - size :] = rows[:, start : start + size]
        return wide.view(">i8")[:, 0].astype(np.int64)

    return Series(data, number(0, 7), number(7, 7), number(14, 2))


class Fields:
    """The fields of an object, taken one by one; every one of them must be known.

    Args:
        value: the object.
        where: its path.
    """

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise Unreadable(f"{where or 'the part'} is no object")
        self.value, self.where = value, where

    def of(self, name: str) -> Any:
        """What stands in a field."""
        if name not in self.value:
            raise Unreadable(f"{self.path(name)} is missing")
        return self.value[name]

    def path(self, name: str) -> str:
        """Where a field is."""
        return f"{self.where}.{name}" if self.where else name

    def number(self, name: str, low: int = 0, high: int = 1 << 63) -> int:
        """A whole number from `low` to below `high`."""
        found = self.of(name)
        if type(found) is not int or not low <= found < high:
            raise Unreadable(
                f"{self.path(name)} is {_short(found)}, no number from {low} to {high}"
            )
        return found

    def money(self, name: str) -> int:
        """Money that fits the chain's type."""
        return self.number(name, -_MONEY_LIMIT, _MONEY_LIMIT)

    def text(self, name: str) -> str:
        """A text."""
        found = self.of(name)
        if type(found) is not str:
            raise Unreadable(f"{self.path(name)} is {_short(found)}, no text")
        return found

    def binary(self, name: str, size: int | None = None) -> bytes:
        """Bytes, of a length if it is known."""
        return to_bytes(self.of(name), self.path(name), size)

    def items(self, name: str, limit: int) -> list[Any]:
        """A list."""
        found = self.of(name)
        if type(found) is not list or len(found) > limit:
            raise Unreadable(f"{self.path(name)} is no list of at most {limit}")
        return found

    def words(self, name: str, limit: int) -> list[bytes]:
        """A list of 32 bytes each."""
        found = self.items(name, limit)
        return [to_bytes(item, self.path(name), 32) for item in found]


def to_bytes(value: Any, where: str, size: int | None) -> bytes:
    """Bytes as bundles spell them."""
    if type(value) is str and value.startswith("0x") and value == value.lower():
        try:
            found = bytes.fromhex(value[2:])
        except ValueError:
            found = None
        if found is not None and 2 * len(found) == len(value) - 2 and size in (None, len(found)):
            return found
    raise Unreadable(
        f"{where} is {_short(value)}, not {'' if size is None else f'{size} '}bytes in hex"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "..."


def read_public(data: bytes) -> Public:
    """The public part.

    Raises:
        Unreadable: naming the field.
    """
    top = Fields(read_json(data), "")
    _format(top, PUBLIC_FORMAT)
    for name in ("chain_id", "period", "report", "tariff", "ledger", "clearing_house"):
        top.of(name)
    hashes = Fields(top.of("personal_hashes"), "personal_hashes")
    slots = {}
    for text in hashes.value:
        if not text.isdecimal() or str(int(text)) != text or int(text) >= _SLOTS:
            raise Unreadable(f"personal_hashes has {_short(text)}, which is no slot")
        slots[int(text)] = hashes.binary(text, 32)
    return Public(
        data=top.value,
        clearing=top.binary("clearing"),
        prices=top.binary("prices"),
        trade_leaves=tuple(top.words("trade_leaves", 1 << 32)),
        personal_hashes=slots,
    )


def read_personal(data: bytes) -> Personal:
    """A personal part.

    Raises:
        Unreadable: naming the field.
    """
    top = Fields(read_json(data), "")
    _format(top, PERSONAL_FORMAT)
    place = (
        top.number("chain_id", high=1 << 256), top.text("clearing_house"), top.number("batch_number"),
        top.number("period"), top.number("version"), top.number("slot", high=_SLOTS),
    )  # fmt: skip
    words = top.words("ledger_proof", 2 * ACCOUNT_LEVELS)
    if len(words) % 2:
        raise Unreadable("ledger_proof has half a pair")
    proof = tuple((words[at], *split_sums(words[at + 1])) for at in range(0, len(words), 2))
    money = (top.money("amount_nano"), top.money("cumulative_nano"), top.binary("ledger_salt", 32))
    if "readings" not in top.value:
        return Personal(place, *money, proof, "", None, None, ZERO, (), ())
    packed = top.binary("readings")
    if not packed or len(packed) % READING_BYTES:
        raise Unreadable(f"readings has {len(packed)} bytes, no multiple of {READING_BYTES}")
    return Personal(
        place,
        *money,
        ledger_proof=proof,
        name=top.text("member"),
        group=(top.text("node"), top.text("tariff_class")),
        series=unpack_readings(packed),
        readings_salt=top.binary("readings_salt", 32),
        readings_proof=tuple(top.words("readings_proof", ACCOUNT_LEVELS)),
        trades=tuple(_trades(top)),
    )


_TRADE_NUMBERS = ("position", "interval", "seller_slot", "buyer_slot", "energy_wh", "fee_nano")
_trade_values = itemgetter(*_TRADE_NUMBERS, "salt")
_INTEGERS = (int,) * len(_TRADE_NUMBERS)


def _trades(top: Fields) -> list[Trade]:
    """Millions in a year, hence without `Fields`."""
    found = []
    for number, item in enumerate(top.items("trades", 1 << 32)):
        try:
            *numbers, spelled = _trade_values(item)
            salt = bytes.fromhex(spelled[2:])
            position, interval, seller, buyer, energy_wh, fee_nano = numbers
            right = (
                tuple(map(type, numbers)) == _INTEGERS
                and min(numbers) >= 0
                and position < 1 << 32
                and max(seller, buyer) < _SLOTS
                and max(interval, energy_wh) < 1 << 63
                and fee_nano < _MONEY_LIMIT
                and spelled[:2] == "0x"
                and len(spelled) == 66
                and len(item) == len(_TRADE_NUMBERS) + 1
            )
        except (TypeError, KeyError, ValueError):
            right = False
        if not right:
            raise Unreadable(f"trades[{number}] is {_short(item)}, no trade")
        found.append(Trade(position, interval, seller, buyer, energy_wh, fee_nano, salt))
    return found


def _format(top: Fields, name: str) -> None:
    if top.text("format") != name:
        raise Unreadable(f"format is {_short(top.of('format'))}, not {name}")
