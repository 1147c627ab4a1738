"""What every challenge and demand takes, each against a lie that it overturns: part of `peerwatt bench gas`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from web3.contract.contract import ContractFunction

from backend.chain.client import ChainClient
from backend.chain.embedded import embedded_tester
from backend.domain.community import DSO_SLOT, FIRST_MEMBER_SLOT
from backend.settlement.batch import Batch, shift_money, with_ledger
from backend.settlement.trees import SumNode, SumTree, sum_parent

if TYPE_CHECKING:
    from .gas import Day

_SHIFTED_NANO = 10**9


def challenge_gas(day: Day, batch: Batch, correction: Batch) -> dict[str, int]:
    """Gas by the function's name.

    Args:
        day: a community in which nothing is submitted yet; left as it was.
        batch: the honest batch of its first period.
        correction: an honest correction of that, in which every amount differs.
    """
    return dict(_first_version(day, batch)) | dict(_second_version(day, batch, correction))


def _first_version(day: Day, batch: Batch) -> Iterator[tuple[str, int]]:
    contracts, slot, other = day.contracts, FIRST_MEMBER_SLOT, FIRST_MEMBER_SLOT + 1
    shifted = shift_money(batch, slot, other, _SHIFTED_NANO)
    given = (slot, day.market, day.share_millionths)
    yield _overturned(day, shifted, contracts.challenge_amount(shifted, *given))

    # Its account exists, but does not take part yet.
    early = shift_money(batch, day.newcomer, slot, _SHIFTED_NANO)
    yield _overturned(day, early, contracts.challenge_inactive(early, day.newcomer))

    behind = day.newcomer + 1
    node, proof = batch.ledger.node(0, behind), batch.ledger.proof(behind)
    call = contracts.challenge_outside(batch.header, 0, behind, node, proof)
    yield _overturned(day, batch, call)

    without = _without(batch, slot, other)
    yield _overturned(day, without, contracts.challenge_missing(without, slot))

    false = _counted_falsely(batch, 1)
    (left, right), top = (false.ledger.node(0, index) for index in (0, 1)), false.ledger.node(1, 0)
    children = (left.hash, left.sums, right.hash, right.sums)
    proof = false.ledger.proof(0, 1)
    call = contracts.challenge_tree_sum(false.header, 1, 0, top.sums, children, proof)
    yield _overturned(day, false, call)

    false = _counted_falsely(batch, 0)
    sums, proof = false.ledger.node(0, 0).sums, false.ledger.proof(0)
    call = contracts.challenge_leaf_sum(false.header, 0, false.leaves[0], sums, proof)
    yield _overturned(day, false, call)

    with _undone(day):
        day.submit(batch)
        demand = contracts.demand_data(batch.header, slot)
        yield demand.fn_name, day.send(demand, contracts.parameters().demand_bond_wei)
        with _undone(day):
            answer = contracts.answer_demand(batch, slot)
            yield answer.fn_name, day.send(answer)
        debtor = min(batch.leaves, key=lambda item: batch.leaves[item].cumulative_nano)
        demand = contracts.demand_cover(batch, debtor)
        yield demand.fn_name, day.send(demand)
        day.client.advance(contracts.parameters().challenge_seconds // 3 + 1)
        for call in (
            contracts.void_unanswered(batch.header, slot),
            contracts.void_uncovered(batch, debtor),
        ):
            with _undone(day):
                yield call.fn_name, day.send(call)


def _second_version(day: Day, batch: Batch, correction: Batch) -> Iterator[tuple[str, int]]:
    contracts, slot, other = day.contracts, FIRST_MEMBER_SLOT, FIRST_MEMBER_SLOT + 1
    with _undone(day):
        day.submit(batch)
        day.client.advance(contracts.parameters().challenge_seconds + 1)

        lie = shift_money(correction, slot, other, _SHIFTED_NANO)
        call = contracts.challenge_amount(lie, slot, day.market, day.share_millionths, batch)
        yield _overturned(day, lie, call, batch)

        lie = shift_money(correction, DSO_SLOT, other, _SHIFTED_NANO)
        call = contracts.challenge_system_amount(lie, DSO_SLOT, batch)
        yield _overturned(day, lie, call, batch)

        leaves = dict(correction.leaves)
        for moved, sign in ((slot, 1), (other, -1)):
            nano = leaves[moved].cumulative_nano + sign * _SHIFTED_NANO
            leaves[moved] = replace(leaves[moved], cumulative_nano=nano)
        lie = with_ledger(correction, leaves)
        yield _overturned(day, lie, contracts.challenge_cumulative(lie, slot, batch), batch)


def _overturned(
    day: Day, lie: Batch, call: ContractFunction, corrected: Batch | None = None
) -> tuple[str, int]:
    with _undone(day):
        number = day.contracts.head_number()
        day.submit(lie, corrected)
        gas = day.send(call)
        assert day.contracts.head_number() == number
        return call.fn_name, gas


@contextmanager
def _undone(day: Day) -> Iterator[None]:
    """What is done to the chain meanwhile is taken back."""
    tester = embedded_tester(day.client.web3)
    snapshot = tester.take_snapshot()
    try:
        yield
    finally:
        tester.revert_to_snapshot(snapshot)
        # The former one has counted nonces.
        day.client = ChainClient(day.client.web3, embedded=True)


def _without(batch: Batch, slot: int, friend: int) -> Batch:
    leaves = dict(batch.leaves)
    gone, stays = leaves.pop(slot), leaves[friend]
    leaves[friend] = replace(
        stays,
        amount_nano=stays.amount_nano + gone.amount_nano,
        cumulative_nano=stays.cumulative_nano + gone.cumulative_nano,
    )
    return with_ledger(batch, leaves)


def _counted_falsely(batch: Batch, level: int) -> Batch:
    """Its tree counts the first node of a level with more than it has, and the second with as much less."""
    tree = SumTree(batch.leaves, batch.ledger.depth)
    for index, nano in ((0, _SHIFTED_NANO), (1, -_SHIFTED_NANO)):
        node = tree.node(level, index)
        tree._levels[level][index] = SumNode(
            node.hash, node.amount_nano + nano, node.cumulative_nano + nano
        )
    for height in range(level + 1, tree.depth + 1):
        children = tree.node(height - 1, 0), tree.node(height - 1, 1)
        tree._levels[height][0] = sum_parent(*children)
    header = replace(batch.header, ledger_root=tree.root.hash)
    return replace(batch, ledger=tree, header=header)
