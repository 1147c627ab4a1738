"""What was said to be kept is there after a power cut, and what was erased is not: bundles, trades, backups."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, Thread
from typing import cast

import pytest
from eth_hash.auto import keccak

from backend.chain.networks import embedded_network
from backend.chain.sender import Sender
from backend.domain.community import Member
from backend.domain.intervals import Period
from backend.durable_files import make_folder, sync_folder, write_atomically
from backend.ledger.backup import backup
from backend.ledger.outbox import Outbox
from backend.ledger.store import LedgerStore
from backend.operator.bundle_store import BundleStore, FolderStore
from backend.operator.config import ConfiguredRules
from backend.operator.preparation import Preparer
from backend.operator.publication import publish_bundle
from backend.operator.statements import make_statement
from backend.operator.trade_desk import TradeDesk
from backend.settlement.bundle import Bundle
from backend.settlement.forward import book_data
from tests.support.community import (
    PAPER,
    Community,
    LiveCommunity,
    account,
    energy_of,
    period_number,
    secret,
)
from tests.support.forward_market import Market
from tests.support.power_cut import present, watched


@pytest.fixture
def bundle(paper: Community) -> Bundle:
    period = period_number(0)
    return paper.bundle(paper.paper_batch(period, energy_of(0)), period, PAPER)


def test_a_published_bundle_is_there_and_an_erased_part_is_not(
    bundle: Bundle, tmp_path: Path
) -> None:
    with watched() as disk:
        store = BundleStore(FolderStore(tmp_path / "coordinator" / "bundles"))
        store.publish(bundle)
        assert disk.left(tmp_path) == present(tmp_path)
        assert len(present(tmp_path)) == len(bundle.personal) + 1
        parts = {
            slot: make_statement(bundle.public, part) for slot, part in bundle.personal.items()
        }
        store.add_statements(bundle.hash, parts)
        assert disk.left(tmp_path) == present(tmp_path)
        # A process that was killed in the middle of it left a piece.
        part = keccak(bundle.personal[4]).hex()
        personal = tmp_path / "coordinator" / "bundles" / "personal"
        write_atomically(personal / f"{part}.json.1.2.part", bundle.personal[4][:100])
        assert store.erase(bundle.hash, 4)
        assert disk.left(tmp_path) == present(tmp_path)
        assert not [name for name in present(personal) if name.startswith(part)]


def test_a_bundle_in_folders_by_number_is_there(bundle: Bundle, tmp_path: Path) -> None:
    with watched() as disk:
        publish_bundle(tmp_path / "bundles" / "1", bundle)
        # What an earlier attempt left goes for good.
        (tmp_path / "bundles" / "1" / "personal" / "9999.json").write_text("{}")
        publish_bundle(tmp_path / "bundles" / "1", bundle)
        assert disk.left(tmp_path) == present(tmp_path)
        assert len(present(tmp_path)) == len(bundle.personal) + 1


def test_a_backup_is_there(database: str, tmp_path: Path) -> None:
    store = LedgerStore(database)
    (tmp_path / "backups").mkdir()
    with watched() as disk:
        sync_folder(tmp_path)
        backup(store.engine, tmp_path / "backups" / "monday.backup")
        assert disk.left(tmp_path / "backups") == {"monday.backup"}
    store.close()


@dataclass
class OnePeriod:
    """A configuration with the market's one period, whatever its number."""

    market: Market

    def period(self, number: int) -> Period:
        return self.market.period

    def members(self, number: int) -> Sequence[Member]:
        return self.market.community.paper.members

    def preparer(self, number: int) -> Preparer:
        community = self.market.community
        place = community.place
        return Preparer(
            community.paper.tariff, place.chain_id, place.clearing_house, place.genesis, b""
        )


def test_a_trade_that_was_acknowledged_is_there(ahead: LiveCommunity, tmp_path: Path) -> None:
    market = Market(ahead, tmp_path)
    chain_id, interval = ahead.place.chain_id, market.period.first_interval
    store = LedgerStore(f"sqlite:///{tmp_path}/ledger.sqlite")
    now = [float(ahead.now())]
    place = tmp_path / "installation"
    place.mkdir()
    desk = TradeDesk(
        contract=market.book,
        sender=Sender(
            ahead.client.web3,
            embedded_network(chain_id),
            account("coordinator"),
            Outbox(store.engine),
            now=lambda: now[0],
        ),
        folder=place / "trade-books" / "valley",
        rules=cast(ConfiguredRules, OnePeriod(market)),
        chain_id=chain_id,
        salt_key=secret("trade salts"),
        interval_seconds=900,
        close_before_seconds=0,
        clients=(),
        now=lambda: now[0],
    )
    trade = market.trade(0, 3, 6, 600, 250_000)
    with watched() as disk:
        assert desk.take(book_data([trade], interval, 1, chain_id, market.book.address)) == 1
        pending = f"trade-books/valley/pending/{interval}/3-6.json"
        assert disk.left(place) == present(place) == {pending}
        now[0] = float(desk.closes_at(interval))
        desk.commit_due()
        assert market.book.commitments()
        book = f"trade-books/valley/books/{interval}.json"
        assert book in disk.left(place)
        assert present(place) == {book}
    store.close()


def test_what_is_not_synced_is_seen_to_be_lost(tmp_path: Path) -> None:
    """The measure itself: each step that is left out shows."""
    with watched() as disk:
        make_folder(tmp_path / "a" / "b")
        write_atomically(tmp_path / "a" / "b" / "named", b"1")
        write_atomically(tmp_path / "a" / "b" / "unnamed", b"1", sync_name=False)
        (tmp_path / "a" / "b" / "torn").write_bytes(b"1")
        assert disk.left(tmp_path) == {"a/b/named"}
        sync_folder(tmp_path / "a" / "b")
        assert disk.left(tmp_path) == {"a/b/named", "a/b/unnamed", "a/b/!torn"}
        (tmp_path / "a" / "b" / "unnamed").unlink()
        assert "a/b/!unnamed" in disk.left(tmp_path)
        (tmp_path / "c").mkdir()
        write_atomically(tmp_path / "c" / "named", b"1")
        assert "c/named" not in disk.left(tmp_path)


def test_several_that_write_one_file_at_once_leave_it_whole(tmp_path: Path) -> None:
    path, together = tmp_path / "file", Barrier(8)

    def write(number: int) -> None:
        together.wait()
        for _ in range(20):
            write_atomically(path, bytes([number]) * 100_000)

    threads = [Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            data = path.read_bytes()
            assert data == data[:1] * 100_000
    for thread in threads:
        thread.join()
    assert present(tmp_path) == {"file"}


def test_a_full_disk_does_not_stay_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "file", b"before")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "simulated")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="simulated"):
        write_atomically(tmp_path / "file", b"after")
    assert present(tmp_path) == {"file"}
    assert (tmp_path / "file").read_bytes() == b"before"


def test_a_file_system_that_syncs_no_folders_is_taken_at_its_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def refuses(number: int) -> None:
        def folders_not(handle: int) -> None:
            if Path(f"/proc/self/fd/{handle}").is_dir():
                raise OSError(number, "simulated")
            sync(handle)

        monkeypatch.setattr(os, "fsync", folders_not)

    refuses(errno.EINVAL)
    write_atomically(tmp_path / "file", b"1")
    refuses(errno.EIO)
    with pytest.raises(OSError, match="simulated"):
        write_atomically(tmp_path / "file", b"2")
