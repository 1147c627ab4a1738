"""What the chain says about a community and its batches, as plain values: nothing here asks a node."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from eth_utils.abi import collapse_if_tuple

from contracts.artifact import artifact

from .hashing import batch_hash, ledger_head


def components(contract: str, entry: str, index: int) -> list[dict[str, Any]]:
    """The fields of a struct that a function or event of ours takes."""
    found = next(item for item in artifact(contract)["abi"] if item.get("name") == entry)
    parts: list[dict[str, Any]] = found["inputs"][index]["components"]
    return parts


# The trade book takes no commitment for more.
MAX_INTERVALS = 300
_HEADER = components("ClearingHouse", "BatchSubmitted", 3)


def header_hash(header: dict[str, Any]) -> bytes:
    """A batch's hash, recomputed."""
    return batch_hash(head_values(header))


def head_values(header: dict[str, Any]) -> tuple[Any, ...]:
    """A header's ledger head in the contracts' order."""
    return ledger_head(header, [collapse_if_tuple(part) for part in _HEADER], header_values(header))


def header_values(header: dict[str, Any]) -> tuple[Any, ...]:
    """A header's fields in the contracts' order."""
    return tuple(header[part["name"]] for part in _HEADER)


@dataclass(frozen=True)
class SubmittedBatch:
    """A batch as submitted.

    Attributes:
        header: from the event, by Solidity name.
        submission: what was submitted, by Solidity name; empty where neither the transaction nor its trace shows it.
        header_hash: recomputed from `header`.
        submitted_at: block time.
        corrected: header of the batch that this one corrects, as submitted along; None if it corrects none.
        recorded_hash: what the contract has on record under its number.
        tariff_in_force: hash that the tariff book has for its period.
        final: whether it can no longer be challenged.
    """

    header: dict[str, Any]
    submission: dict[str, Any]
    header_hash: bytes
    submitted_at: int
    corrected: dict[str, Any] | None
    recorded_hash: bytes = b""
    tariff_in_force: bytes = b""
    final: bool = False

    @property
    def number(self) -> int:
        """Consecutive number of the batch."""
        return int(self.header["number"])


@dataclass(frozen=True)
class Commitment:
    """A trade book as the chain knows it.

    Attributes:
        first_interval, interval_count: for which intervals.
        root: of which the last five bytes are not known.
        strike_until: until when its trades can be struck out.
        committed_at: block time.
        struck: positions struck out.
    """

    first_interval: int
    interval_count: int
    root: bytes
    strike_until: int
    committed_at: int
    struck: frozenset[int] = frozenset()

    def meets(self, first: int, count: int) -> bool:
        """Whether it has intervals in common with others."""
        return (
            self.first_interval < first + count
            and first < self.first_interval + self.interval_count
        )


Item = TypeVar("Item")


def meeting(
    ordered: Sequence[Item], batch: SubmittedBatch, commitment: Callable[[Item], Commitment]
) -> list[Item]:
    """Those whose commitments share an interval with a batch; a year has 100,000.

    Args:
        ordered: by first interval.
        batch: as submitted.
        commitment: of each.
    """
    first, count = batch.header["firstInterval"], batch.header["intervalCount"]
    low, high = (
        bisect_left(ordered, limit, key=lambda item: commitment(item).first_interval)
        for limit in (first - MAX_INTERVALS, first + count)
    )
    return [item for item in ordered[low:high] if commitment(item).meets(first, count)]


@dataclass(frozen=True)
class CommunityFacts:
    """What holds for all batches of a community.

    Attributes:
        chain_id: which chain.
        addresses: of the contracts by name.
        parameters: what the community was founded with, by Solidity name.
        members: everybody ever admitted, by slot, by Solidity name; `untilPeriod` is 0 while they stay.
        config_digests: oracle configurations that were announced.
        time: of the block that the audit looks at, in seconds since the epoch.
        frozen: whether the community is frozen.
    """

    chain_id: int
    addresses: dict[str, str]
    parameters: dict[str, int]
    members: dict[int, dict[str, Any]]
    config_digests: frozenset[bytes]
    time: int
    frozen: bool

    def is_active(self, slot: int, period: int) -> bool:
        """Whether an account takes part in a period."""
        return is_active(self.members.get(slot), period)


def is_active(member: dict[str, Any] | None, period: int) -> bool:
    """Whether an account, as admitted, takes part in a period."""
    return member is not None and (
        member["fromPeriod"] <= period
        and (member["untilPeriod"] == 0 or period < member["untilPeriod"])
    )
