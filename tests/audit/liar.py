"""A coordinator that lies in every way it can think of, and answers demands as well as it can."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from eth_hash.auto import keccak

from backend.settlement.batch import Batch
from backend.settlement.encoding import EMPTY, LEDGER_NODE_TAG, LedgerLeaf, OracleReport
from backend.settlement.encoding import domain_separator as domain_of
from backend.settlement.trees import ACCOUNT_DEPTH, EMPTY_NODE, SumNode, SumTree, depth_for
from contracts.bindings import leaf_tuple
from oracle.signing import private_key, sign_report

from .fields import changed, other_number, with_field
from .honest import HEADER, SUBMISSION, Target, unnamed

_LIMIT = 1 << 127
Forgeries = Mapping[tuple[int, int], Callable[[SumNode], SumNode]]


class LiarTree(SumTree):
    """A ledger tree in which nodes may be counted with other sums, or be named by another hash, than they have.

    Args:
        leaves: by position; a leaf need not be its position's.
        depth: levels.
        forgeries: by level and index, what parents take the node for.
    """

    def __init__(self, leaves: Mapping[int, LedgerLeaf], depth: int, forgeries: Forgeries) -> None:
        self.depth = depth
        level = {
            place: SumNode(leaf.hash(), leaf.amount_nano, leaf.cumulative_nano)
            for place, leaf in leaves.items()
        }
        self._levels = [_forged(0, level, forgeries)]
        for height in range(1, depth + 1):
            below = self._levels[-1]
            level = {
                index: _parent(
                    below.get(2 * index, EMPTY_NODE), below.get(2 * index + 1, EMPTY_NODE)
                )
                for index in {place >> 1 for place in below}
            }
            self._levels.append(_forged(height, level, forgeries))


def _forged(level: int, nodes: dict[int, SumNode], forgeries: Forgeries) -> dict[int, SumNode]:
    for (height, index), forge in forgeries.items():
        if height == level:
            nodes[index] = forge(nodes.get(index, EMPTY_NODE))
    return nodes


def _parent(left: SumNode, right: SumNode) -> SumNode:
    if left == right == EMPTY_NODE:
        return EMPTY_NODE
    digest = keccak(LEDGER_NODE_TAG + left.hash + left.sums + right.hash + right.sums)
    sums = left.amount_nano + right.amount_nano, left.cumulative_nano + right.cumulative_nano
    return SumNode(digest, *(total if -_LIMIT <= total < _LIMIT else 0 for total in sums))


@dataclass(frozen=True)
class Lie:
    """What the coordinator submits, and the ledger that it has behind it.

    Attributes:
        what: in words.
        submission: by Solidity name.
        corrected_header: by Solidity name.
        batch: leaves and tree; header and clearing are the honest ones.
        shown: which slots' personal parts are published.
        is_tree: whether the ledger is a tree, every node made of its children.
    """

    what: str
    submission: dict[str, Any]
    corrected_header: dict[str, Any] | None
    batch: Batch
    shown: frozenset[int]
    is_tree: bool = True

    def call(self) -> tuple[str, tuple[Any, ...]]:
        """Function and arguments."""
        given = unnamed(SUBMISSION, self.submission)
        if self.corrected_header is None:
            return "submitBatch", (given,)
        return "submitCorrection", (given, unnamed(HEADER, self.corrected_header))

    def answer(self, slot: int) -> tuple[Any, list[bytes]] | None:
        """The best answer to a demand: what the ledger has at the slot, and the path of its readings."""
        if slot >> self.batch.ledger.depth:
            return None
        leaf = self.batch.leaves.get(slot)
        shown = leaf_tuple(leaf) if leaf else (slot, EMPTY, EMPTY, EMPTY)
        entry = (leaf is None, shown, self.batch.ledger.proof(slot))
        return entry, self.batch.readings_tree.proof(slot)


class Liar:
    """Makes lies about honest batches.

    Args:
        seed: the same lies for the same seed.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def lie(self, target: Target) -> Lie:
        """A random lie, or a random change that may turn out to be none."""
        families = (self._field, self._clearing, self._leaf, self._tree, self._replay, self._report)
        (family,) = self.random.choices(families, weights=(27, 10, 28, 25, 5, 5))
        made = family(target)
        hidden = self.random.random()
        leaves, honest = made.batch.leaves, target.batch.leaves
        if hidden < 0.1:
            return replace(made, shown=frozenset())
        if hidden < 0.3:
            same = {slot for slot in leaves if leaves[slot] == honest.get(slot)}
            return replace(made, shown=frozenset(same))
        return made

    def _made(self, target: Target, what: str, **fields: Any) -> Lie:
        given: dict[str, Any] = {
            "submission": target.submission,
            "corrected_header": target.corrected_header,
            "batch": target.batch,
            "shown": frozenset(target.batch.leaves),
        }
        return Lie(what, **(given | fields))

    def _field(self, target: Target) -> Lie:
        """Any field of what is submitted."""
        if target.corrected_header is not None and self.random.random() < 0.3:
            header, path = changed(HEADER, target.corrected_header, self.random)
            return self._made(target, f"corrected header {path}", corrected_header=header)
        # Each member of the submission as often as any other, however many fields it has.
        part = self.random.choice(SUBMISSION["components"])
        inner, path = changed(part, target.submission[part["name"]], self.random)
        submission = {**target.submission, part["name"]: inner}
        return self._made(target, f"{part['name']} {path}", submission=submission)

    def _clearing(self, target: Target) -> Lie:
        """Another certificate: numbers of one interval's record, alone or two at a time, so that they may still balance."""
        data = bytearray(target.submission["clearing"])
        width, tariff = data[0], target.submission["tariff"]
        groups, count = len(tariff["groups"]), target.batch.header.interval_count
        start = 1 + 2 * width * groups * count
        record = 2 * width * groups + 6 * tariff["nodeCount"] + 8 * tariff["chordCount"]
        records = (len(data) - start) // record
        if not records:
            return self._field(target)
        at = start + record * self.random.randrange(records)
        sizes = [width] * (2 * groups) + [6] * tariff["nodeCount"] + [8] * tariff["chordCount"]
        step = self.random.choice((1, -1, 100, -100, 9_999))
        every = (
            self.random.random() < 0.15
        )  # all node prices, which is harmless if nothing binds them
        for _ in range(self.random.choice((1, 2, 2, 3))):
            chosen = self.random.randrange(len(sizes))
            for number, size in enumerate(sizes):
                if number == chosen or (every and size == 6):
                    place = at + sum(sizes[:number])
                    value = int.from_bytes(data[place : place + size], "big") + step
                    data[place : place + size] = (value % (1 << (8 * size))).to_bytes(size, "big")
        return self._made(
            target, "clearing record", submission={**target.submission, "clearing": bytes(data)}
        )

    def _money(self, old: int) -> int:
        return other_number("int100", old, self.random)

    def _leaf(self, target: Target) -> Lie:
        """Leaves altered, left out, moved, added or exchanged; the sums made up for elsewhere, or not."""
        honest = target.batch.leaves
        leaves = dict(honest)
        slot, other = self.random.sample(sorted(leaves), 2)
        free = self.random.choice(
            [place for place in range(2 * len(leaves)) if place not in leaves]
        )
        leaf = leaves[slot]
        what = self.random.choice(
            [
                "amount",
                "cumulative",
                "both",
                "both",
                "commitment",
                "salt",
                "slot",
                "left-out",
                "moved",
                "added",
                "added",
                "exchanged",
                "doubled",
            ]
        )
        match what:
            case "amount":
                leaves[slot] = replace(leaf, amount_nano=self._money(leaf.amount_nano))
            case "cumulative":
                leaves[slot] = replace(leaf, cumulative_nano=self._money(leaf.cumulative_nano))
            case "both":
                amount = self._money(leaf.amount_nano)
                carried = leaf.cumulative_nano - leaf.amount_nano
                leaves[slot] = replace(leaf, amount_nano=amount, cumulative_nano=carried + amount)
            case "commitment":
                words = (EMPTY, self.random.randbytes(32), leaves[other].readings_commitment)
                leaves[slot] = replace(leaf, readings_commitment=self.random.choice(words))
            case "salt":
                leaves[slot] = replace(leaf, salt=self.random.randbytes(32))
            case "slot":
                leaves[slot] = replace(leaf, slot=self.random.choice((other, free, slot ^ 1)))
            case "left-out":
                del leaves[slot]
            case "moved":
                leaves[free] = replace(leaves.pop(slot), slot=free)
            case "added":
                money = self.random.choice((0, 0, self._money(0)))
                carried = self.random.choice((money, money, 0, self._money(0)))
                word = self.random.choice((EMPTY, EMPTY, self.random.randbytes(32)))
                leaves[free] = LedgerLeaf(free, money, carried, word, self.random.randbytes(32))
            case "exchanged":
                leaves[slot] = replace(leaves[other], slot=slot)
                leaves[other] = replace(leaf, slot=other)
            case "doubled":
                leaves[free] = leaf
        if self.random.random() < 0.85:
            self._make_up(leaves, slot)
        depth = max(target.batch.ledger.depth, depth_for(leaves))
        if self.random.random() < 0.1:
            depth = min(ACCOUNT_DEPTH, depth + self.random.randrange(1, 4))
        return self._with_ledger(target, f"leaf {slot} {what}", leaves, depth, {})

    def _make_up(self, leaves: dict[int, LedgerLeaf], slot: int) -> None:
        """Another leaf, or several, take what one was given."""
        others = [place for place in leaves if place != slot]
        if not others:
            return
        chosen = self.random.choice(others)
        amount = sum(leaf.amount_nano for leaf in leaves.values())
        carried = sum(leaf.cumulative_nano for leaf in leaves.values())
        leaf = leaves[chosen]
        leaves[chosen] = replace(
            leaf,
            amount_nano=leaf.amount_nano - amount,
            cumulative_nano=leaf.cumulative_nano - carried,
        )

    def _tree(self, target: Target) -> Lie:
        """Nodes counted with other sums or named by other hashes; made up for at another node, or not."""
        depth = target.batch.ledger.depth
        level = self.random.randrange(depth)
        index = self.random.randrange(1 << (depth - level))
        if self.random.random() < 0.6:  # where there is something
            index = self.random.choice(sorted(target.batch.leaves)) >> level
        what = self.random.choice(("amount", "cumulative", "both", "hash", "empty", "gone"))
        amount = self._money(0) if what in ("amount", "both", "empty") else 0
        carried = self._money(0) if what in ("cumulative", "both", "empty") else 0
        digest = self.random.randbytes(32)

        def forge(node: SumNode) -> SumNode:
            if what == "gone":
                return EMPTY_NODE
            named = {"hash": digest, "empty": EMPTY}.get(what, node.hash)
            return SumNode(named, node.amount_nano + amount, node.cumulative_nano + carried)

        forgeries: dict[tuple[int, int], Callable[[SumNode], SumNode]] = {(level, index): forge}
        leaves = dict(target.batch.leaves)
        tree = LiarTree(leaves, depth, forgeries)
        left, right = tree.root_children
        missing = (
            left.amount_nano + right.amount_nano,
            left.cumulative_nano + right.cumulative_nano,
        )

        def make_up(node: SumNode) -> SumNode:
            return SumNode(
                node.hash, node.amount_nano - missing[0], node.cumulative_nano - missing[1]
            )

        how = self.random.random()
        if how < 0.4:
            # At a node that is not above the forged one, whose forgery would hide it.
            place = (depth - 1, (index >> (depth - 1 - level)) ^ 1)
            forgeries[place] = make_up
        elif how < 0.8:
            chosen = self.random.choice(sorted(leaves))
            leaf = leaves[chosen]
            leaves[chosen] = replace(
                leaf,
                amount_nano=leaf.amount_nano - missing[0],
                cumulative_nano=leaf.cumulative_nano - missing[1],
            )
        return self._with_ledger(target, f"node {level}/{index} {what}", leaves, depth, forgeries)

    def _with_ledger(
        self,
        target: Target,
        what: str,
        leaves: dict[int, LedgerLeaf],
        depth: int,
        forgeries: Forgeries,
    ) -> Lie:
        try:
            tree = LiarTree(leaves, depth, forgeries)
            left, right = tree.root_children
            ledger = {
                "depth": depth,
                "left": left.hash,
                "leftSums": left.sums,
                "right": right.hash,
                "rightSums": right.sums,
            }
        except OverflowError:  # a sum that cannot even be written down
            return self._field(target)
        if ledger == target.submission["ledger"]:
            return self._field(target)
        return self._made(
            target,
            what,
            submission={**target.submission, "ledger": ledger},
            batch=replace(target.batch, leaves=leaves, ledger=tree),
            shown=frozenset(leaves),
            is_tree=tree._levels == LiarTree(leaves, depth, {})._levels,
        )

    def _replay(self, target: Target) -> Lie:
        """Parts of another batch of the community, or of the corrected one."""
        others = [item for item in target.town.published if item.batch.number > 0]
        if not others:
            return self._field(target)
        other = self.random.choice(others).batch
        names = self.random.choice(
            (
                ("report", "signatures"),
                ("report", "signatures", "clearing"),
                ("clearing",),
                ("ledger",),
                ("signatures",),
                tuple(target.submission),
            )
        )
        submission = {**target.submission, **{name: other.submission[name] for name in names}}
        if submission == target.submission:
            return self._field(target)
        header = target.corrected_header
        if header is not None and self.random.random() < 0.5:
            header = other.header
        return self._made(
            target, f"replay of {names}", submission=submission, corrected_header=header
        )

    def _report(self, target: Target) -> Lie:
        """Another report, signed by whoever the liar has: strangers, or too few signers."""
        part = next(item for item in SUBMISSION["components"] if item["name"] == "report")
        report, path = changed(part, target.submission["report"], self.random)
        town = target.town
        names = [one["name"] for one in part["components"]]
        stranger = private_key(keccak(b"stranger"))
        signer = town.signers[0]
        keys = self.random.choice(
            ([stranger], [stranger, stranger], [signer], [signer, signer], [signer, stranger])
        )
        domain = domain_of(town.client.chain_id, town.contracts.addresses["ReadingOracle"])
        signed = OracleReport(*(report[name] for name in names))
        signatures = [sign_report(key, domain, signed) for key in keys]
        submission = with_field(
            {**target.submission, "report": report}, ("signatures",), signatures
        )
        return self._made(target, f"report {path} signed anew", submission=submission)
