"""Paying everybody out: many withdrawals in a transaction, each to its account's owner, who need not have a coin for gas.

A withdrawal alone to a wallet that never held the token costs more than 90 000 gas, whatever the contract does; of several together each
costs less, because the transaction and the proof that the batch is final are paid for once (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from eth_hash.auto import keccak

from backend.chain.sender import Sender
from backend.domain.errors import ContractRefused, NotFinal
from backend.ledger.cycle import CycleStore
from backend.settlement.batch import LedgerState
from backend.settlement.trees import SumTree
from contracts.bindings import CommunityContracts

from .bundle_store import BundleStore

# Far below a transaction's limit (EIP-7825) with the deepest tree, and few enough that a fee can be bumped.
MOST_TOGETHER = 100
_KEY = "payout"


@dataclass(frozen=True, slots=True)
class Payout:
    """What a slot's owner is paid.

    Attributes:
        slot: of the account.
        tokens: in the token's smallest unit.
    """

    slot: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Paid:
    """Payouts that were tried together.

    Attributes:
        payouts: by slot.
        transaction_hash: empty if the contract refused it.
        gas_used: by the transaction.
        reason: why it was refused; empty if it was not.
    """

    payouts: tuple[Payout, ...]
    transaction_hash: bytes = b""
    gas_used: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Payouts:
    """Pays out of one community's vault.

    Args:
        contracts: the community on its chain.
        sender: sends and pays the gas.
        store: the cycle, as far as the chain was read.
        bundles: where the accounts are.
        now: present time in seconds since the Unix epoch.
    """

    contracts: CommunityContracts
    sender: Sender
    store: CycleStore
    bundles: BundleStore
    now: Callable[[], float]

    def state(self) -> LedgerState:
        """The accounts of the newest batch.

        Raises:
            NotFinal: there is none, or it can still be challenged: money leaves only by announcement then.
            BundleUnavailable: a part of it is missing.
        """
        live = self.store.live(final_only=False)
        if not live:
            raise NotFinal("no batch stands on the chain", "run the cycle first")
        number, (batch_hash, header) = max(live.items())
        submitted = self.store.submitted_at(batch_hash)
        assert submitted is not None
        until = submitted + self.contracts.parameters().challenge_seconds
        if self.now() < until:
            raise NotFinal(
                f"batch {number} can be challenged until {datetime.fromtimestamp(until, UTC).isoformat()}",
                "pay out after that, before another batch is submitted; meanwhile money leaves only if its owner announced it",
            )
        leaves = self.bundles.leaves(header)
        return LedgerState(header, leaves, SumTree(leaves, header.ledger_depth))

    def due(
        self,
        state: LedgerState,
        least_tokens: int,
        slots: Collection[int] | None = None,
        progress: Callable[[int], None] = lambda slot: None,
    ) -> list[Payout]:
        """What each account has to get, in slot order.

        Args:
            state: of the newest final batch.
            least_tokens: accounts with less are left out; their money stays theirs.
            slots: of these accounts only; None for all.
            progress: told each slot that was looked at.
        """
        found = []
        for slot in sorted(state.leaves):
            if slots is None or slot in slots:
                tokens = self.contracts.withdrawable(slot, state)
                if tokens >= max(1, least_tokens):
                    found.append(Payout(slot, tokens))
            progress(slot)
        return found

    def finish(self) -> None:
        """Waits for what an earlier run decided and did not see in a block.

        Raises:
            NotMined: it takes too long; it goes on by itself, or when this is called again.
        """
        for key in self.sender.open_keys(f"{_KEY} "):
            self.sender.wait(key)

    def pay(self, state: LedgerState, payouts: Sequence[Payout]) -> Iterator[Paid]:
        """Pays, `MOST_TOGETHER` in a transaction, each mined before the next; yields how each ended.

        Whoever cannot be paid (a token may refuse somebody) is found by halving, and holds nobody else up.

        Raises:
            NodeError: the node failed; what was decided goes on when this is called again.
            NotMined: it takes too long; the same.
        """
        for first in range(0, len(payouts), MOST_TOGETHER):
            yield from self._pay(state, tuple(payouts[first : first + MOST_TOGETHER]))

    def _pay(self, state: LedgerState, payouts: tuple[Payout, ...]) -> Iterator[Paid]:
        tokens = {item.slot: item.tokens for item in payouts}
        call = self.contracts.withdraw_many(tokens, state)
        key = self._key(state, tokens)
        try:
            self.sender.submit(key, call)
        except ContractRefused as error:
            if len(payouts) == 1:
                yield Paid(payouts, reason=f"{error.error_name}: {error.message}")
                return
            half = len(payouts) // 2
            yield from self._pay(state, payouts[:half])
            yield from self._pay(state, payouts[half:])
            return
        done = self.sender.wait(key)
        # Something that happened in between (a withdrawal by its owner) made it fail; the next run looks anew.
        reason = "" if done.succeeded else "something changed meanwhile; look again"
        yield Paid(payouts, done.transaction_hash, done.gas_used, reason)

    def _key(self, state: LedgerState, tokens: Mapping[int, int]) -> str:
        """The intent's name. Amounts and batch are in it, so that after a crash the same only goes on, unless it has failed for good."""
        named = keccak(repr((state.header.hash(), sorted(tokens.items()))).encode()).hex()[:16]
        return self.sender.next_key(f"{_KEY} {state.header.number} {named}")
