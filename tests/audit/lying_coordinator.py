"""Run as a process of its own by test_watch.py: a coordinator that tells every lie of the dispute table, one after the other, and
signs a trade in a member's place.

Before each honest batch it submits lies, publishes bundles that fit them, and waits until each has been overturned; what it did is a
line of JSON on standard output.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from eth_typing import Hash32

from backend.operator.publication import publish_bundle
from backend.settlement.batch import Batch, with_ledger
from backend.settlement.bundle import canonical_json
from backend.settlement.encoding import EMPTY, LedgerLeaf, typed_data_digest
from backend.settlement.forward import ForwardTrade, SignedTrade, book_data, trade_book
from deploy.trade_book import deploy_trade_book
from tests.support.lies import Forgery, shift_cumulative, with_forged_tree, with_leaf

from .honest import CHALLENGE_SECONDS, RING, Town, key_of

MONEY = 1_000_003
IDLE_SLOT = 4
LEFT_SLOT, FUTURE_SLOT, FIRST_FREE_SLOT = 5, 8, 9
# The same community, with somebody who neither uses nor makes energy.
PLAN = replace(RING, idle=(IDLE_SLOT,))


def moved(batch: Batch, one: int, other: int) -> Batch:
    """Money booked from one account to another."""
    for slot, money in ((one, -MONEY), (other, MONEY)):
        leaf = batch.leaves.get(slot) or LedgerLeaf(slot, 0, 0, EMPTY, bytes(range(32)))
        batch = with_ledger(batch, dict(batch.leaves) | {slot: leaf})
        batch = with_leaf(
            batch, slot, amount_nano=leaf.amount_nano + money, cumulative_nano=leaf.cumulative_nano + money
        )  # fmt: skip
    return batch


def missing(batch: Batch) -> Batch:
    """An account without money left out."""
    leaves = {slot: leaf for slot, leaf in batch.leaves.items() if slot != IDLE_SLOT}
    return with_ledger(batch, leaves)


def sums(level: int, one: int, other: int) -> Callable[[Batch], Batch]:
    """Nodes counted with other sums."""
    return lambda batch: with_forged_tree(
        batch, Forgery(level, one, amount_nano=MONEY), Forgery(level, other, amount_nano=-MONEY)
    )


def same(batch: Batch) -> Batch:
    """The honest batch."""
    return batch


# By position of the honest batch in PLAN.batches: name, what is submitted, whether it is shown.
LIES: dict[int, list[tuple[str, Callable[[Batch], Batch], bool]]] = {
    0: [
        ("amount", lambda batch: moved(batch, 3, 6), True),
        ("system amount", lambda batch: moved(batch, 0, 1), True),
        ("missing", missing, True),
        ("tree sum", sums(2, 0, 1), True),
        ("leaf sum", sums(0, 3, 4), True),
        ("outside", lambda batch: moved(batch, FIRST_FREE_SLOT, FIRST_FREE_SLOT + 1), True),
    ],
    1: [
        ("cumulative", lambda batch: shift_cumulative(batch, 3, 6, MONEY), True),
        ("inactive", lambda batch: moved(batch, LEFT_SLOT, FUTURE_SLOT), True),
        ("withheld", same, False),
        ("uncovered", same, True),
    ],
    2: [("corrected amount", lambda batch: moved(batch, 3, 6), True)],
}


def uncover(town: Town, batch: Batch) -> None:
    """The account that pays most in a batch takes its deposit away first."""
    final = town.batches[-1]
    members = final.leaves.keys() & batch.member_periods.keys()
    debtor = min(members, key=lambda slot: batch.leaves[slot].cumulative_nano)
    assert batch.leaves[debtor].cumulative_nano < 0
    tokens = town.contracts.withdrawable(debtor, final)
    town.client.send(town.contracts.withdraw(tokens, final, debtor), town.coordinator)


def cover(town: Town) -> None:
    """Somebody pays in for everybody."""
    deployer = key_of("deployer")
    slots = range(3, 3 + len(town.members))
    town.client.send(town.contracts.mint(deployer.address, len(slots) * 10**12), deployer)
    town.client.send(town.contracts.approve(len(slots) * 10**12), deployer)
    for slot in slots:
        town.client.send(town.contracts.deposit(slot, 10**12), deployer)


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not done():
        assert time.monotonic() < deadline, "nobody overturned it"
        time.sleep(0.05)


def forge(town: Town, folder: Path) -> None:
    """Commits a trade book with a trade that the buyer never signed, next to one that both did."""
    _, book, _ = deploy_trade_book(
        town.client, key_of("deployer"), town.contracts,
        gate_seconds=300, strike_seconds=CHALLENGE_SECONDS, bond_wei=10**16,
    )  # fmt: skip
    town.client.send(book.post_bond(), town.coordinator, 10**16)
    first = book.now() // 900 + 2
    seller, honest_buyer, buyer = (key_of(f"wallet {number}") for number in range(3))
    trades = []
    for slot, key in ((4, honest_buyer), (5, town.coordinator)):
        terms = ForwardTrade(first, 3, slot, 400, 200_000, 10**6)
        digest = Hash32(typed_data_digest(book.domain, terms.struct_hash()))
        signatures = (bytes(one.unsafe_sign_hash(digest).signature) for one in (seller, key))
        trades.append(SignedTrade(terms, *signatures, salt=bytes([slot] * 32)))
    assert town.members[2].account == buyer.address
    data = book_data(trades, first, 1, town.client.chain_id, book.address)
    path = folder / "trade-books" / f"{first}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(canonical_json(data))
    town.client.send(book.commit(first, 1, trade_book(trades).root), town.coordinator)
    say(lie="forged trade", number=0)
    wait_until(lambda: (first, 1) in book.struck())
    assert book.bond()[1] == 0


def tell(town: Town, folder: Path) -> Iterator[None]:
    """All lies, then the truth, batch by batch."""
    for place, target in enumerate(town.targets()):
        number = target.batch.header.number
        published = folder / str(number)
        corrected = town.batches[0] if target.corrected else None
        for name, make, shown in LIES.get(place, []):
            if name == "uncovered":
                town.client.advance(CHALLENGE_SECONDS + 1)
                uncover(town, target.batch)
            lie = make(target.batch)
            bundle = town.bundle(lie)
            lie = lie.with_bundle_hash(bundle.hash)
            if shown:
                publish_bundle(published, bundle)
            given = (lie, town.market, PLAN.share_millionths, town.oracle)
            call = (
                town.contracts.submit_correction(*given, corrected.header)
                if corrected
                else town.contracts.submit_batch(*given)
            )
            town.client.send(call, town.coordinator)
            say(lie=name, number=number)
            wait_until(lambda below=number: town.contracts.head_number() < below)  # type: ignore[misc]
            town.client.send(town.contracts.post_bond(), town.coordinator, 10**17)
            if name == "uncovered":
                cover(town)
        publish_bundle(published, town.bundle(target.batch))
        yield
        say(honest=number)


def main(url: str, folder: str) -> None:
    town = Town(url, PLAN, seed=7)
    say(community=town.contracts.addresses["ClearingHouse"])
    forge(town, Path(folder))
    for _ in tell(town, Path(folder)):
        pass
    say(done=len(town.batches))


if __name__ == "__main__":
    main(*sys.argv[1:])
