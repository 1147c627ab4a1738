"""What can be known of a batch's trees: every node as its parent takes it, found from the top down among what was published.

A liar's tree need not be a tree: a node may be counted with other sums than its children have, or be made of nothing that
anybody has seen. So nothing is recomputed from the leaves up and believed; a node counts as known once its hash is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from .facts import SubmittedBatch
from .hashing import (
    ACCOUNT_LEVELS,
    NOTHING,
    ZERO,
    Node,
    from_hex,
    ledger_leaf,
    ledger_node,
    ledger_parent,
    ledger_root_above,
    plain_node,
    plain_root_above,
    readings_leaf,
    split_sums,
    two_sums,
)

# Personal parts of a bundle by slot.
Parts = Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True)
class Leaf:
    """An account in the ledger."""

    slot: int
    amount: int
    cumulative: int
    commitment: bytes
    salt: bytes

    def node(self) -> Node:
        """As an honest parent takes it."""
        digest = ledger_leaf(self.slot, self.amount, self.cumulative, self.commitment, self.salt)
        return digest, self.amount, self.cumulative

    def values(self) -> tuple[Any, ...]:
        """In the contracts' order."""
        return (self.slot, two_sums(self.amount, self.cumulative), self.commitment, self.salt)


def path_words(siblings: Sequence[Node]) -> list[bytes]:
    """A path in the contracts' form: hash and sums, alternating, upwards."""
    return [
        word
        for digest, amount, cumulative in siblings
        for word in (digest, two_sums(amount, cumulative))
    ]


@dataclass(frozen=True)
class Place:
    """A place in the tree that can be proved.

    Attributes:
        level: levels above the leaves.
        index: position within its level.
        node: as its parent takes it.
        path: siblings from its level upwards.
        children: what its hash is made of; None for leaves and where nobody has shown it.
    """

    level: int
    index: int
    node: Node
    path: tuple[Node, ...]
    children: tuple[Node, Node] | None

    @property
    def adds_up(self) -> bool:
        """Whether its sums are its children's and no empty child has money."""
        if self.children is None:
            return self.node[0] != ZERO or self.node == NOTHING
        left, right = self.children
        return ledger_parent(left, right) == self.node and not any(
            child[0] == ZERO and child != NOTHING for child in self.children
        )


class LedgerView:
    """A batch's ledger tree as far as it was shown.

    Args:
        batch: as submitted.
        parts: the personal parts that were published, or less of them.
        revealed: entries with which demands were answered.
    """

    def __init__(
        self, batch: SubmittedBatch, parts: Parts, revealed: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.batch = batch
        self.depth = int(batch.header["ledgerDepth"])
        self.leaf_by_hash: dict[bytes, Leaf] = {}
        self._seen: dict[tuple[int, int], set[Node]] = {}
        for slot, part in parts.items():
            if (
                "ledger_salt" not in part
            ):  # what a member has from the oracle, not from the coordinator
                continue
            for leaf in _leaves_of(slot, part):
                self._see(leaf, slot, _siblings(part["ledger_proof"], self.depth))
        for entry in revealed:
            slot, sums, commitment, salt = entry["leaf"].values()
            leaf = Leaf(slot, *split_sums(sums), bytes(commitment), bytes(salt))
            self._see(
                None if entry["isEmpty"] else leaf, slot, _siblings(entry["proof"], self.depth)
            )
        self._children = self._made_of()
        ledger = batch.submission.get("ledger")
        if ledger:
            left, right = (
                (bytes(ledger[side]), *split_sums(ledger[f"{side}Sums"]))
                for side in ("left", "right")
            )
            self._children[ledger_node(left, right)] = left, right
        self.places = list(self._walk())
        self.leaves = {
            place.index: place
            for place in self.places
            if place.level == 0 and place.node[0] != ZERO
        }

    def known_leaf(self, slot: int) -> Leaf | None:
        """What stands at a slot, where that was shown and is rightly counted."""
        place = self.leaves.get(slot)
        leaf = self.leaf_by_hash.get(place.node[0]) if place else None
        if place is None or leaf is None or leaf.node() != place.node or leaf.slot != slot:
            return None
        return leaf

    def empty_path(self, slot: int) -> list[bytes] | None:
        """The path that proves a slot empty; None if it is not, or not known to be."""
        if slot >> self.depth:
            return []
        for place in self.places:
            if place.node == NOTHING and slot >> place.level == place.index:
                return path_words((NOTHING,) * place.level + place.path)
        return None

    def _see(self, leaf: Leaf | None, position: int, siblings: list[Node]) -> None:
        node = leaf.node() if leaf else NOTHING
        if leaf:
            self.leaf_by_hash[node[0]] = leaf
        for level, sibling in enumerate(siblings):
            self._seen.setdefault((level, position), set()).add(node)
            self._seen.setdefault((level, position ^ 1), set()).add(sibling)
            pair = (sibling, node) if position & 1 else (node, sibling)
            node = ledger_parent(*pair)
            position >>= 1

    def _made_of(self) -> dict[bytes, tuple[Node, Node]]:
        """By hash the two children, for every pair of nodes that were seen side by side."""
        found = {}
        for level, index in self._seen:
            if level >= self.depth:
                continue
            left = self._seen.get((level, index & ~1), set()) | {NOTHING}
            right = self._seen.get((level, index | 1), set()) | {NOTHING}
            for pair in product(left, right):
                found[ledger_node(*pair)] = pair
        return found

    def _walk(self) -> Iterator[Place]:
        # The contract has seen the root's children add up to nothing.
        root: Node = (bytes(self.batch.header["ledgerRoot"]), 0, 0)
        pending: list[tuple[int, int, Node, tuple[Node, ...]]] = [(self.depth, 0, root, ())]
        while pending:
            level, index, node, path = pending.pop()
            children = self._children.get(node[0]) if level and node[0] != ZERO else None
            if level and node[0] == ZERO and node != NOTHING:
                children = (NOTHING, NOTHING)
            place = Place(level, index, node, path, children)
            is_root = level == self.depth
            if not (is_root and children):
                yield place
            # Below sums that do not add up nothing can be proved, and nothing needs to be.
            if children and (is_root or place.adds_up):
                one, other = children
                pending.append((level - 1, 2 * index, one, (other, *path)))
                pending.append((level - 1, 2 * index + 1, other, (one, *path)))


def answers_demand(header: Mapping[str, Any], slot: int, arguments: Mapping[str, Any]) -> bool:
    """Whether a call of answerDemand shows what a batch's ledger has at a slot."""
    entry, depth = arguments["entry"], int(header["ledgerDepth"])
    position, sums, commitment, salt = entry["leaf"].values()
    leaf = Leaf(position, *split_sums(sums), bytes(commitment), bytes(salt))
    node = NOTHING if entry["isEmpty"] else leaf.node()
    root = ledger_root_above(node, slot, _siblings(entry["proof"], depth))
    return bool(position == slot and root[0] == bytes(header["ledgerRoot"]))


class ReadingsView:
    """The oracle's tree of a batch as far as it was shown.

    Args:
        batch: as submitted.
        parts: the personal parts that were published.
    """

    def __init__(self, batch: SubmittedBatch, parts: Parts) -> None:
        self.root = bytes(batch.header["readingsRoot"])
        self._shown: dict[int, tuple[bytes, bytes, list[bytes]]] = {}
        leaves = {}
        for slot, part in parts.items():
            if "readings" not in part:
                continue
            readings, salt = from_hex(part["readings"]), from_hex(part["readings_salt"])
            leaves[slot] = readings_leaf(slot, readings, salt)
            path = [from_hex(word) for word in part["readings_proof"]]
            path += [ZERO] * (ACCOUNT_LEVELS - len(path))
            if plain_root_above(leaves[slot], slot, path) == self.root:
                self._shown[slot] = (readings, salt, path)
        self._rows = [leaves]
        for _ in range(ACCOUNT_LEVELS):
            below = self._rows[-1]
            self._rows.append(
                {
                    place: plain_node(below.get(2 * place, ZERO), below.get(2 * place + 1, ZERO))
                    for place in {key // 2 for key in below}
                }
            )

    def evidence(self, slot: int) -> tuple[bytes, bytes, list[bytes]] | None:
        """Readings, salt and path of a slot, or of its emptiness; None if neither can be proved."""
        if slot in self._shown:
            return self._shown[slot]
        if slot in self._rows[0] or self._rows[-1].get(0, ZERO) != self.root:
            return None
        path = [
            row.get((slot >> level) ^ 1, ZERO)
            for level, row in enumerate(self._rows[:ACCOUNT_LEVELS])
        ]
        return b"", ZERO, path


def _leaves_of(slot: int, part: Mapping[str, Any]) -> Iterator[Leaf]:
    """What a personal part may stand for: it does not say whether the leaf commits to the readings."""
    commitments = [ZERO]
    if "readings" in part:
        readings, salt = from_hex(part["readings"]), from_hex(part["readings_salt"])
        commitments.append(readings_leaf(slot, readings, salt))
    for commitment in commitments:
        yield Leaf(
            slot,
            part["amount_nano"],
            part["cumulative_nano"],
            commitment,
            from_hex(part["ledger_salt"]),
        )


def _siblings(words: Sequence[Any], depth: int) -> list[Node]:
    """A path as nodes; a bundle leaves out the empty ones at its end."""
    spelled = [from_hex(word) if isinstance(word, str) else bytes(word) for word in words]
    found: list[Node] = [
        (spelled[at], *split_sums(spelled[at + 1])) for at in range(0, len(spelled), 2)
    ]
    return (found + [NOTHING] * depth)[:depth]
