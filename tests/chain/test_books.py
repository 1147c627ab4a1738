"""The journal follows the chain: across voided batches, pauses, crashes and blocks that are taken back; and can be built again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, select
from web3 import HTTPProvider, Web3

from backend.chain.client import ChainClient
from backend.chain.indexer import Indexer
from backend.chain.networks import Network
from backend.domain.errors import BundleUnavailable, NodeError, ReorgTooDeep
from backend.ledger.check import check
from backend.ledger.journal import balances_nano, entries, export
from backend.ledger.store import LedgerStore
from backend.ledger.tables import ChainEventRow, IndexedBlockRow
from backend.settlement.batch import Batch
from contracts.events import EventDecoder
from tests.support.anvil import ask, mine, running_anvil
from tests.support.town import CHALLENGE_SECONDS, NANO_PER_TOKEN, Town, build_town

FINALITY_DEPTH = 4


class Killed(BaseException):
    """What kill -9 looks like from inside: nothing after it runs."""


def new_store(folder: Path, name: str) -> LedgerStore:
    return LedgerStore(f"sqlite:///{folder / name}.sqlite")


def exported(store: LedgerStore) -> bytes:
    with Session(store.engine) as session:
        return export(session)


def balances(store: LedgerStore) -> dict[str, int]:
    with Session(store.engine) as session:
        return balances_nano(session)


# --- A whole history with batches, on the embedded chain ----------------------------------------------------------------


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, LedgerStore, Batch]]:
    """Deposits, a false batch that is overturned, two honest ones, a withdrawal; followed as it happened."""
    folder = tmp_path_factory.mktemp("town")
    town = build_town(ChainClient.open(None), folder)
    store = new_store(folder, "lived")
    books, coordinator = town.books(store), town.coordinator(store)
    coordinator.post_bond()
    for slot in town.people.members:
        town.deposit(slot.slot, 20_000_000)
        books.follow()
    first = town.prepare(coordinator, 0, None)
    lie = town.submit_lie(coordinator, first)
    books.follow()
    town.challenge(lie)
    coordinator.post_bond()
    coordinator.seal(first)
    coordinator.submit(first)
    books.follow()
    town.client.advance(CHALLENGE_SECONDS // 2)
    second = town.prepare(coordinator, 1, first.batch)
    coordinator.submit(second)
    town.deposit(3, 7)
    town.client.advance(CHALLENGE_SECONDS // 2 + 1)
    books.follow()
    town.client.advance(CHALLENGE_SECONDS)
    town.withdraw(second.batch, 4)
    books.follow()
    yield town, store, second.batch
    store.close()


def test_the_journal_agrees_with_vault_and_last_final_batch(
    history: tuple[Town, LedgerStore, Batch],
) -> None:
    town, store, batch = history
    found = balances(store)
    for slot, leaf in batch.leaves.items():
        deposited, withdrawn = town.contracts.vault_balances(slot)
        assert found[f"slot:{slot}"] == deposited - withdrawn + leaf.cumulative_nano
    held = town.contracts.token_balance(town.contracts.addresses["Vault"])
    assert -found["vault"] == held * NANO_PER_TOKEN
    assert check(store.engine) == []


def test_a_batch_is_booked_once_final_and_a_voided_one_never(
    history: tuple[Town, LedgerStore, Batch],
) -> None:
    _, store, _ = history
    with Session(store.engine) as session:
        booked = [entry for _, entry in entries(session)]
        submitted = session.exec(
            select(ChainEventRow).where(ChainEventRow.name == "BatchSubmitted")
        ).all()
    kinds = [entry.kind for entry in booked]
    # The second deposit of member 3 came after the first batch was submitted and before it was final.
    assert kinds == ["deposit"] * 7 + ["batch", "batch", "withdrawal"]
    assert [entry.occurred_at for entry in booked] == sorted(e.occurred_at for e in booked)
    assert len(submitted) == 3
    assert [entry.occurred_at for entry in booked if entry.kind == "batch"] == [
        event.timestamp + CHALLENGE_SECONDS for event in submitted[1:]
    ]


def test_chain_and_bundles_alone_give_the_same_bytes(
    history: tuple[Town, LedgerStore, Batch], database: str
) -> None:
    """On either database; the ledger that lived through it is on SQLite."""
    town, store, _ = history
    rebuilt = LedgerStore(database)
    assert town.books(rebuilt).follow() == 10
    assert exported(rebuilt) == exported(store)
    assert town.books(rebuilt).follow() == 0
    rebuilt.close()


@pytest.mark.parametrize("damage", ["missing", "changed", "personal"])
def test_without_a_true_bundle_booking_waits_and_then_goes_on(
    history: tuple[Town, LedgerStore, Batch], tmp_path: Path, damage: str
) -> None:
    town, store, _ = history
    bundles = tmp_path / "bundles"
    shutil.copytree(town.folder / "bundles", bundles)
    path = bundles / "1" / ("personal/4.json" if damage == "personal" else "public.json")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    rebuilt = new_store(tmp_path, "rebuilt")
    books = Town(town.client, town.network, town.people, town.contracts, tmp_path).books(rebuilt)
    for _ in range(2):
        with pytest.raises(BundleUnavailable, match=path.name):
            books.follow()
        with Session(rebuilt.engine) as session:
            assert [entry.kind for _, entry in entries(session)] == ["deposit"] * 7
    shutil.copy(town.folder / "bundles" / path.relative_to(bundles), path)
    assert books.follow() == 3
    assert exported(rebuilt) == exported(store)
    rebuilt.close()


def test_a_crash_at_any_commit_loses_and_doubles_nothing(
    history: tuple[Town, LedgerStore, Batch],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed before or after each transaction of the database, then started again."""
    town, store, _ = history
    wanted = exported(store)
    monkeypatch.setattr("backend.chain.indexer._BLOCKS_AT_ONCE", 60)
    commit = Session.commit
    for after in (False, True):
        for fatal in range(1, 50):
            rebuilt = new_store(tmp_path, f"crashed-{after}-{fatal}")
            count = 0

            def dying(session: Session, fatal: int = fatal, after: bool = after) -> None:
                nonlocal count
                count += 1
                if count == fatal and not after:
                    raise Killed
                commit(session)
                if count == fatal:
                    raise Killed

            with monkeypatch.context() as patch:
                patch.setattr(Session, "commit", dying)
                try:
                    town.books(rebuilt).follow()
                    survived = True
                except Killed:
                    survived = False
            town.books(rebuilt).follow()
            assert exported(rebuilt) == wanted, (fatal, after)
            rebuilt.close()
            if survived:
                assert count < fatal
                break
        else:
            raise AssertionError("never ran through")


# --- Blocks that are taken back, on a real node -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def anvil_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with running_anvil() as url:
        client = ChainClient.open(url)
        network = Network("anvil", client.chain_id, FINALITY_DEPTH)
        town = build_town(client, tmp_path_factory.mktemp("anvil"), network, members=4)
        for member in town.people.members:
            key = town.wallet(member.slot)
            client.send(town.contracts.mint(key.address, 10**12), key)
            client.send(town.contracts.approve(10**12), key)
        # No reorg of a test may take the community itself back.
        mine(client.web3, FINALITY_DEPTH + 1)
        yield town


def events_in(store: LedgerStore) -> list[tuple[Any, ...]]:
    with Session(store.engine) as session:
        rows = session.exec(select(ChainEventRow)).all()
    return sorted(
        (row.block_number, row.log_index, row.name, row.arguments, row.timestamp) for row in rows
    )


def events_on(town: Town) -> list[tuple[Any, ...]]:
    """The same straight from the node."""
    web3, decoder = town.client.web3, EventDecoder(town.client.web3, town.contracts.addresses)
    found = []
    for log in web3.eth.get_logs({"address": decoder.addresses, "fromBlock": 0}):
        event = decoder.decode(log)
        assert event is not None
        time = web3.eth.get_block(log["blockNumber"])["timestamp"]
        found.append((log["blockNumber"], log["logIndex"], event.name, event.arguments, time))
    return sorted(found)


@pytest.mark.parametrize("seed", range(5))
def test_reorgs_up_to_the_finality_depth_leave_no_trace(
    anvil_town: Town, tmp_path: Path, seed: int
) -> None:
    town, web3 = anvil_town, anvil_town.client.web3
    dice = random.Random(seed)
    store = new_store(tmp_path, "lived")
    books = town.books(store)
    mine(web3, FINALITY_DEPTH + 1)
    seen = b""
    for _ in range(14):
        action = dice.choice(["deposit", "deposit", "mine", "reorg", "follow", "follow"])
        if action == "deposit":
            slot = dice.choice(town.people.members).slot
            fresh = ChainClient(
                web3, embedded=False
            )  # asks for its nonce: a reorg may have lowered it
            fresh.send(town.contracts.deposit(slot, dice.randint(1, 999)), town.wallet(slot))
        elif action == "mine":
            mine(web3, dice.randint(1, 6))
        elif action == "reorg":
            ask(web3, "anvil_reorg", dice.randint(1, FINALITY_DEPTH), [])
        else:
            books.follow()
            assert events_in(store) == events_on(town)
            assert exported(store).startswith(seen), "a booking was changed"
            seen = exported(store)
    mine(web3, FINALITY_DEPTH)
    books.follow()
    assert events_in(store) == events_on(town)
    found = balances(store)
    for member in town.people.members:
        deposited, _ = town.contracts.vault_balances(member.slot)
        assert found.get(f"slot:{member.slot}", 0) == deposited
    rebuilt = new_store(tmp_path, "rebuilt")
    town.books(rebuilt).follow()
    assert exported(rebuilt) == exported(store)
    with Session(store.engine) as session:
        assert len(session.exec(select(IndexedBlockRow)).all()) <= FINALITY_DEPTH + 1
    for used in (store, rebuilt):
        used.close()


def test_a_reorg_below_finality_stops_everything(anvil_town: Town, tmp_path: Path) -> None:
    town, web3 = anvil_town, anvil_town.client.web3
    store = new_store(tmp_path, "lived")
    mine(web3, FINALITY_DEPTH)
    # An empty block may come again with the same hash; one that loses a transaction cannot.
    slot = town.people.members[0].slot
    fresh = ChainClient(web3, embedded=False)
    fresh.send(town.contracts.deposit(slot, 11), town.wallet(slot))
    mine(web3, FINALITY_DEPTH)
    town.books(store).follow()
    before = exported(store)
    assert kinds_and_amounts(store, slot)[-1] == ("deposit", 11 * NANO_PER_TOKEN)
    ask(web3, "anvil_reorg", FINALITY_DEPTH + 1, [])
    with pytest.raises(ReorgTooDeep):
        town.books(store).follow()
    assert exported(store) == before
    mine(web3, FINALITY_DEPTH + 3)
    store.close()


def test_a_node_that_is_behind_is_no_reorg(anvil_town: Town, tmp_path: Path) -> None:
    town = anvil_town
    store = new_store(tmp_path, "lived")
    town.books(store).follow()
    before = events_in(store)
    with running_anvil() as url:
        lagging = Web3(HTTPProvider(url))
        decoder = EventDecoder(lagging, town.contracts.addresses)
        indexer = Indexer(lagging, town.network, decoder, store.engine)
        with pytest.raises(NodeError, match="behind") as caught:
            indexer.follow()
    assert not isinstance(caught.value, ReorgTooDeep)
    assert events_in(store) == before, "nothing was removed"
    store.close()


def test_the_chains_own_finalized_block(anvil_town: Town, tmp_path: Path) -> None:
    """anvil counts 64 blocks; a deposit is booked when the chain calls it final and not before."""
    town = anvil_town
    by_tag = Town(
        town.client,
        Network("anvil", town.client.chain_id, finality_depth=None),
        town.people,
        town.contracts,
        town.folder,
    )
    store = new_store(tmp_path, "tag")
    slot = town.people.members[0].slot
    books = by_tag.books(store)
    before = books.follow()
    fresh = ChainClient(town.client.web3, embedded=False)
    fresh.send(town.contracts.deposit(slot, 5), town.wallet(slot))
    final = town.client.web3.eth.get_block("finalized")["number"]
    assert final < town.client.web3.eth.block_number
    books.follow()
    assert ("deposit", 5 * NANO_PER_TOKEN) not in kinds_and_amounts(store, slot)
    mine(town.client.web3, 70)
    books.follow()
    assert ("deposit", 5 * NANO_PER_TOKEN) in kinds_and_amounts(store, slot)
    assert before >= 0
    store.close()


def kinds_and_amounts(store: LedgerStore, slot: int) -> list[tuple[str, int]]:
    with Session(store.engine) as session:
        return [
            (entry.kind, entry.postings.get(f"slot:{slot}", 0)) for _, entry in entries(session)
        ]
