"""The journal follows the chain: across voided batches, pauses, crashes and blocks that are taken back; and can be built again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from eth_bloom.bloom import BloomFilter
from sqlmodel import Session, select
from web3 import HTTPProvider, Web3
from web3.types import RPCEndpoint, RPCResponse

from backend.chain.client import ChainClient
from backend.chain.indexer import Indexer, _may_name
from backend.chain.networks import Network
from backend.domain.errors import BundleUnavailable, NodeError, ReorgTooDeep
from backend.ledger.check import check
from backend.ledger.journal import balances_nano, entries, export
from backend.ledger.store import LedgerStore
from backend.ledger.tables import ChainEventRow, IndexedBlockRow
from backend.settlement.batch import Batch
from contracts.events import EventDecoder
from tests.support.anvil import ask, mine, running_anvil
from tests.support.databases import NewDatabase
from tests.support.town import CHALLENGE_SECONDS, NANO_PER_TOKEN, Town, build_town

FINALITY_DEPTH = 4


class Killed(BaseException):
    """What kill -9 looks like from inside: nothing after it runs."""


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
    store = LedgerStore(f"sqlite:///{folder}/lived.sqlite")
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
    history: tuple[Town, LedgerStore, Batch],
    tmp_path: Path,
    new_database: NewDatabase,
    damage: str,
) -> None:
    town, store, _ = history
    bundles = tmp_path / "bundles"
    shutil.copytree(town.folder / "bundles", bundles)
    path = bundles / "1" / ("personal/4.json" if damage == "personal" else "public.json")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    rebuilt = LedgerStore(new_database())
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
    new_database: NewDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed before or after each transaction of the database, then started again."""
    town, store, _ = history
    wanted = exported(store)
    monkeypatch.setattr("backend.chain.indexer._BLOCKS_AT_ONCE", 60)
    commit = Session.commit
    for after in (False, True):
        for fatal in range(1, 50):
            rebuilt = LedgerStore(new_database())
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


@pytest.mark.parametrize(
    ("new_database", "seed"),
    [(("sqlite", "postgresql")[seed % 2], seed) for seed in range(5)],
    indirect=["new_database"],
)
def test_reorgs_up_to_the_finality_depth_leave_no_trace(
    anvil_town: Town, new_database: NewDatabase, seed: int
) -> None:
    town, web3 = anvil_town, anvil_town.client.web3
    dice = random.Random(seed)
    store = LedgerStore(new_database())
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
    rebuilt = LedgerStore(new_database())
    town.books(rebuilt).follow()
    assert exported(rebuilt) == exported(store)
    with Session(store.engine) as session:
        assert len(session.exec(select(IndexedBlockRow)).all()) <= FINALITY_DEPTH + 1
    for used in (store, rebuilt):
        used.close()


def test_a_reorg_below_finality_stops_everything(
    anvil_town: Town, new_database: NewDatabase
) -> None:
    town, web3 = anvil_town, anvil_town.client.web3
    store = LedgerStore(new_database())
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


def test_a_node_that_is_behind_is_no_reorg(anvil_town: Town, new_database: NewDatabase) -> None:
    town = anvil_town
    store = LedgerStore(new_database())
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


class LaggingProvider(HTTPProvider):
    """Many nodes behind one URL: whoever is asked for events is some blocks behind.

    Attributes:
        lag: how many.
        is_honest: whether it says that it lacks a block whose hash it is given, as EIP-234 asks; Besu does not.
        full_bloom: whether blooms leave everything open, as those of full blocks nearly do.
        most_blocks: a longer range is refused, as providers do.
    """

    lag = 0
    is_honest = True
    full_bloom = False
    most_blocks = 10**9

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        answer = super().make_request(method, params)
        if method == "eth_getBlockByNumber" and self.full_bloom:
            answer["result"]["logsBloom"] = "0x" + "ff" * 256
        if method != "eth_getLogs":
            return answer
        head = super().make_request(RPCEndpoint("eth_blockNumber"), [])
        newest = int(head["result"], 16) - self.lag
        if "blockHash" in params[0]:
            asked = [params[0]["blockHash"], False]
            block = super().make_request(RPCEndpoint("eth_getBlockByHash"), asked)
            if int(block["result"]["number"], 16) <= newest:
                return answer
            if self.is_honest:
                del answer["result"]
                return {**answer, "error": {"code": -32000, "message": "unknown block"}}
        elif 1 + int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) > self.most_blocks:
            del answer["result"]
            return {**answer, "error": {"code": -32602, "message": "too many blocks"}}
        logs = [log for log in answer["result"] if int(log["blockNumber"], 16) <= newest]
        return {**answer, "result": logs}


def lagging(town: Town) -> LaggingProvider:
    inner = town.client.web3.provider
    assert isinstance(inner, HTTPProvider)
    return LaggingProvider(inner.endpoint_uri)


@pytest.mark.parametrize(
    ("new_database", "is_honest", "depth"),
    [
        ("sqlite", True, 0),
        ("postgresql", True, FINALITY_DEPTH),
        ("postgresql", False, 0),
        ("sqlite", False, FINALITY_DEPTH),
    ],
    indirect=["new_database"],
)
def test_a_node_that_gives_no_events_of_a_block_it_lacks(
    anvil_town: Town, new_database: NewDatabase, is_honest: bool, depth: int
) -> None:
    """Nothing is taken for empty that is not; what is not there yet is read later. Far below, where ranges are read, and near."""
    town, slot = anvil_town, anvil_town.people.members[0].slot
    provider = lagging(town)
    provider.is_honest = is_honest
    network = Network("anvil", town.client.chain_id, depth)
    store = LedgerStore(new_database())
    decoder = EventDecoder(town.client.web3, town.contracts.addresses)
    indexer = Indexer(Web3(provider), network, decoder, store.engine)
    fresh = ChainClient(town.client.web3, embedded=False)
    mine(town.client.web3, max(1, 130 - town.client.web3.eth.block_number))
    for lag in (0, 1, 2, 3, 4, 5, 0):
        fresh.send(town.contracts.deposit(slot, 100 + lag), town.wallet(slot))
        provider.lag = lag
        # With no depth the newest block counts as final, and what it lacks is no secret.
        with nullcontext() if lag <= depth else pytest.raises(NodeError, match="block"):
            final = indexer.follow()
            read = [event for event in events_in(store) if event[0] <= final["number"]]
            assert read == [event for event in events_on(town) if event[0] <= final["number"]]
    indexer.follow()
    assert events_in(store) == events_on(town)
    store.close()


def test_a_range_that_is_too_long_is_asked_for_in_parts(anvil_town: Town, database: str) -> None:
    town = anvil_town
    mine(town.client.web3, max(1, 130 - town.client.web3.eth.block_number))
    provider = lagging(town)
    store = LedgerStore(database)
    decoder = EventDecoder(town.client.web3, town.contracts.addresses)
    indexer = Indexer(Web3(provider), town.network, decoder, store.engine)
    provider.most_blocks = 0
    with pytest.raises(NodeError, match="too many blocks"):
        indexer.follow()
    provider.most_blocks = 7
    indexer.follow()
    assert events_in(store) == events_on(town)
    store.close()


def test_a_bloom_that_only_seems_to_name_us(anvil_town: Town, new_database: NewDatabase) -> None:
    town, payer = anvil_town, anvil_town.wallet(anvil_town.people.members[0].slot)
    provider = lagging(town)
    provider.full_bloom = True
    fresh = ChainClient(town.client.web3, embedded=False)
    # Events of a contract that is none of ours.
    sent = [fresh.send(town.contracts.mint(payer.address, 1), payer) for _ in range(FINALITY_DEPTH)]
    store = LedgerStore(new_database())
    decoder = EventDecoder(town.client.web3, town.contracts.addresses)
    first = sent[0].block_number
    Indexer(Web3(provider), town.network, decoder, store.engine, first).follow()
    with Session(store.engine) as session:
        read = session.exec(select(IndexedBlockRow.number)).all()
    assert max(read) == sent[-1].block_number
    assert events_in(store) == []
    store.close()


def test_blooms_name_whose_events_a_block_has(anvil_town: Town) -> None:
    """Against the blooms that the node made, and those of py-evm's library."""
    web3, named = anvil_town.client.web3, 0
    addresses = list(anvil_town.contracts.addresses.values())
    logs: dict[int, set[str]] = {0: set(), web3.eth.block_number: set()}
    for log in web3.eth.get_logs({"fromBlock": 0}):
        logs.setdefault(log["blockNumber"], set()).add(log["address"])
    for number in sorted(logs)[:40]:
        bloom = web3.eth.get_block(number)["logsBloom"]
        theirs = BloomFilter(int.from_bytes(bloom, "big"))
        for address in addresses:
            found = _may_name(bloom, address)
            assert found is (bytes.fromhex(address[2:]) in theirs)
            assert found or address not in logs[number]
            named += found
    assert named > 20


def test_the_chains_own_finalized_block(anvil_town: Town, new_database: NewDatabase) -> None:
    """anvil counts 64 blocks; a deposit is booked when the chain calls it final and not before."""
    town = anvil_town
    by_tag = Town(
        town.client,
        Network("anvil", town.client.chain_id, finality_depth=None),
        town.people,
        town.contracts,
        town.folder,
    )
    store = LedgerStore(new_database())
    slot = town.people.members[0].slot
    books = by_tag.books(store)
    before = books.follow()
    fresh = ChainClient(town.client.web3, embedded=False)
    tokens = 5000 + town.client.web3.eth.block_number  # as in no other test
    fresh.send(town.contracts.deposit(slot, tokens), town.wallet(slot))
    final = town.client.web3.eth.get_block("finalized")["number"]
    assert final < town.client.web3.eth.block_number
    books.follow()
    assert ("deposit", tokens * NANO_PER_TOKEN) not in kinds_and_amounts(store, slot)
    mine(town.client.web3, 70)
    books.follow()
    assert ("deposit", tokens * NANO_PER_TOKEN) in kinds_and_amounts(store, slot)
    assert before >= 0
    store.close()


def kinds_and_amounts(store: LedgerStore, slot: int) -> list[tuple[str, int]]:
    with Session(store.engine) as session:
        return [
            (entry.kind, entry.postings.get(f"slot:{slot}", 0)) for _, entry in entries(session)
        ]
