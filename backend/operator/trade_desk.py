"""The coordinator's desk for trades before delivery: takes what both sides signed, commits it before the gate closes, hands it to signers.

A trade is on disk before it is acknowledged. When an interval is closed its trades become a book, a file that never changes;
only then its root is sent, under a key of its own, so that a crash anywhere changes nothing. A book whose commitment came too late
counts for nobody: the pool settles the interval.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backend.chain.sender import Sender, SendState
from backend.domain.community import Member
from backend.domain.errors import ContractRefused, MalformedInput, OutOfRange, ReadingRejected
from backend.domain.intervals import Period
from backend.domain.values import parse_json
from backend.durable_files import make_folder, write_atomically
from backend.settlement.bundle import canonical_json
from backend.settlement.encoding import derive_salt, typed_data_digest
from backend.settlement.forward import (
    SignedTrade,
    book_data,
    parse_book,
    trade_book,
)
from contracts.trade_book import TradeBookContract
from oracle.peers import SignerClient, SignerFailed
from oracle.signing import recover

from .config import ConfiguredRules

BOOKS_FOLDER = "books"
_NO_SALT = "0x" + "00" * 32
_DAY_SECONDS = 86_400


@dataclass
class TradeDesk:
    """Trades of one community.

    Args:
        contract: the trade book.
        sender: of the coordinator's key.
        folder: for pending trades and books.
        rules: periods, tariffs, members.
        chain_id: for the books.
        salt_key: secret behind the leaves' salts.
        interval_seconds: of the community.
        close_before_seconds: how long before the gate an interval is closed, for the transaction to get into a block.
        clients: the oracle's signers.
        now: seconds since the Unix epoch.
    """

    contract: TradeBookContract
    sender: Sender
    folder: Path
    rules: ConfiguredRules
    chain_id: int
    salt_key: bytes = field(repr=False)
    interval_seconds: int
    close_before_seconds: int
    clients: Sequence[SignerClient]
    now: Callable[[], float]
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _delivered: set[tuple[str, int]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._gate_seconds = self.contract.gate_seconds()
        self._domain = self.contract.domain

    # --- Taking trades ---------------------------------------------------------------------------------------------------

    def take(self, data: Any) -> int:
        """Takes trades that both sides signed; returns how many are new.

        Args:
            data: as `peerwatt/trade-book/1` has them; what it says of salts is nothing.

        Raises:
            InputError: one is not as it should be; nothing of all is taken.
        """
        # Who trades knows no salt: it is the coordinator's.
        if isinstance(data, dict) and isinstance(data.get("trades"), list):
            salted = [
                item | {"salt": _NO_SALT} if isinstance(item, dict) else item
                for item in data["trades"]
            ]
            data = data | {"trades": salted}
        trades = parse_book(data, "body")
        with self._lock:
            for one in trades:
                self._check(one)
            return sum(self._keep(one) for one in trades)

    def closes_at(self, interval: int) -> int:
        """Until when trades of an interval are taken."""
        return interval * self.interval_seconds - self._gate_seconds - self.close_before_seconds

    def _check(self, one: SignedTrade) -> None:
        trade = one.trade
        if self.now() >= self.closes_at(trade.interval) or self._path(trade.interval).exists():
            raise OutOfRange(
                "trades[].interval",
                trade.interval,
                "is closed",
                "trade a later interval; this one is settled by the pool",
            )
        period = self._period(trade.interval)
        members = {member.slot: member for member in self.rules.members(period.number)}
        if {trade.seller_slot, trade.buyer_slot} - members.keys() or trade.energy_wh <= 0:
            raise MalformedInput(
                "trades[]", str(trade), "not between two members", "name slots of members"
            )
        # Sparse matrices take a while to load, and most communities trade nothing.
        from backend.market.electrical_distance_fees import network_pair_fees

        seller, buyer = members[trade.seller_slot], members[trade.buyer_slot]
        network = self.rules.preparer(period.number).tariff.network
        fee = network_pair_fees(network).between(seller.node, buyer.node)
        if trade.seller_slot == trade.buyer_slot or trade.fee_nano_per_wh < fee:
            raise OutOfRange(
                "trades[].fee_nano_per_wh",
                trade.fee_nano_per_wh,
                "less than the network's fee, or a trade with oneself",
                f"sign the trade with {fee}",
            )
        digest = typed_data_digest(self._domain, trade.struct_hash())
        for member, signature in ((seller, one.seller_signature), (buyer, one.buyer_signature)):
            if not self._signed(member, digest, signature):
                raise MalformedInput(
                    "trades[]",
                    f"slot {member.slot}",
                    "has not signed this trade",
                    "sign the trade's EIP-712 digest with the member's account",
                )

    def _signed(self, member: Member, digest: bytes, signature: bytes) -> bool:
        try:
            if recover(digest, signature) == member.account:
                return True
        except ReadingRejected:
            pass
        return self.contract.consents(member.account, digest, signature)

    def _keep(self, one: SignedTrade) -> bool:
        """Between the same two the first one counts, however often it is sent."""
        trade = one.trade
        folder = self.folder / "pending" / str(trade.interval)
        path = folder / f"{trade.seller_slot}-{trade.buyer_slot}.json"
        if path.exists():
            return False
        make_folder(folder)
        pair = trade.seller_slot << 32 | trade.buyer_slot
        salt = derive_salt(self.salt_key, "forward", trade.interval, 0, pair)
        write_atomically(
            path, canonical_json(self._data([replace(one, salt=salt)], trade.interval))
        )
        return True

    def _data(self, trades: Sequence[SignedTrade], first: int) -> dict[str, Any]:
        return book_data(trades, first, 1, self.chain_id, self.contract.address)

    # --- Committing ------------------------------------------------------------------------------------------------------

    def commit_due(self) -> None:
        """Closes intervals whose time has come, and commits their books, oldest first.

        Raises:
            ContractRefused: a book came too late; its trades count for nobody.
            NodeError: the node failed; the next call goes on.
        """
        for interval in self._pending():
            if self.now() < self.closes_at(interval):
                return
            path = self._path(interval)
            with self._lock:
                if not path.exists():
                    make_folder(path.parent)
                    write_atomically(
                        path, canonical_json(self._data(self._closed(interval), interval))
                    )
            if not self._commit(interval):
                return
            shutil.rmtree(self.folder / "pending" / str(interval), ignore_errors=True)

    def _pending(self) -> list[int]:
        return sorted(int(path.name) for path in (self.folder / "pending").glob("*"))

    def _closed(self, interval: int) -> list[SignedTrade]:
        folder = self.folder / "pending" / str(interval)
        found = [one for path in folder.glob("*.json") for one in _read(path)]
        return sorted(found, key=lambda one: one.trade)

    def _commit(self, interval: int) -> bool:
        """Whether it has been decided; the outbox sees to the rest."""
        key = f"trades from {interval}"
        if self.sender.is_decided(key):
            return True
        if not self._bond_stands(interval):
            return False
        try:
            root = trade_book(_read(self._path(interval))).root
            self.sender.submit(key, self.contract.commit(interval, 1, root))
        except ContractRefused:
            shutil.rmtree(self.folder / "pending" / str(interval), ignore_errors=True)
            raise
        return True

    def _bond_stands(self, interval: int) -> bool:
        """Whether the bond behind trades is whole; what it lacks is added once for each book."""
        key = f"bond for trades from {interval}"
        if not self.sender.is_decided(key):
            owner, amount = self.contract.bond()
            missing = self.contract.bond_wei() - (amount if owner == self.sender.key.address else 0)
            if missing <= 0:
                return True
            self.sender.submit(key, self.contract.post_bond(), missing)
        return self.sender.push(key).state is not SendState.PENDING

    # --- Handing books over ----------------------------------------------------------------------------------------------

    def deliver(self, period: Period) -> None:
        """Hands the period's books to every signer; one that does not take it now is offered it again with the next report."""
        for first, path in self._books(period):
            for client in self.clients:
                if (client.url, first) in self._delivered:
                    continue
                try:
                    client.put(f"/trade-books/{first}", path.read_bytes())
                    self._delivered.add((client.url, first))
                except SignerFailed:
                    continue

    def export(self, period: Period, folder: Path) -> Iterator[Path]:
        """Copies the period's books to a folder, each named by its first interval."""
        for first, path in self._books(period):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / f"{first}.json", path.read_bytes())
            yield folder / f"{first}.json"

    def own_trades(self, slot: int, period: Period) -> list[dict[str, Any]]:
        """A member's trades of a period, each with what striking it out takes: its book's first interval, position and proof."""
        found = []
        for first, path in self._books(period):
            book = _read(path)
            tree = trade_book(book)
            for place, one in enumerate(book):
                if slot in (one.trade.seller_slot, one.trade.buyer_slot):
                    data = self._data([one], first)["trades"][0]
                    proof = ["0x" + part.hex() for part in tree.proof(place)]
                    found.append(data | {"position": place, "proof": proof})
        return found

    def _books(self, period: Period) -> Iterator[tuple[int, Path]]:
        for interval in range(period.first_interval, period.end_interval):
            path = self._path(interval)
            if path.exists():
                yield interval, path

    def _path(self, interval: int) -> Path:
        return self.folder / BOOKS_FOLDER / f"{interval}.json"

    def _period(self, interval: int) -> Period:
        day = interval * self.interval_seconds // _DAY_SECONDS
        for number in (day, day - 1, day + 1):
            period = self.rules.period(number)
            if period.first_interval <= interval < period.end_interval:
                return period
        raise OutOfRange("trades[].interval", interval, "in no period", "check the interval")


def _read(path: Path) -> tuple[SignedTrade, ...]:
    return parse_book(parse_json(path.read_bytes(), path), str(path))
