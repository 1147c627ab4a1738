"""Sends each transaction exactly once, whatever crashes.

An intent is stored with its nonce before anything is signed, and each signed transaction before it is sent. All transactions of
an intent have the same nonce, so the chain takes at most one; after a crash they are found again by their hashes. Nothing
is ever sent under a new nonce because an answer was lost.

    intent stored -> attempt stored -> sent -> (waits too long: attempt with a higher fee) -> mined -> final: outcome stored

Until its block is final an intent stays open: if the chain takes the block back, the same transaction is offered again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_typing import BlockNumber, ChecksumAddress
from hexbytes import HexBytes
from web3 import Web3
from web3.contract.contract import ContractConstructor, ContractFunction
from web3.exceptions import ContractLogicError, TransactionNotFound
from web3.types import Nonce, TxParams, TxReceipt, Wei

from backend.domain.errors import (
    AlreadyKnown,
    ContractRefused,
    FeeTooLow,
    NodeError,
    NonceTooLow,
    NotMined,
)
from backend.ledger.outbox import NewIntent, Outbox
from backend.ledger.tables import AttemptRow, IntentRow, OutcomeRow
from contracts.bindings import decode_revert

from .client import revert_data
from .networks import Network
from .node_errors import node_error

_LOG = logging.getLogger("peerwatt.chain.sender")
# Room above the estimate: what a transaction costs depends on the block it ends up in.
_GAS_MARGIN_PERCENT = 15


class SendState(StrEnum):
    """How far an intent is."""

    PENDING = "pending"
    MINED = "mined"
    FINAL = "final"


@dataclass(frozen=True, slots=True)
class SendProgress:
    """How far an intent is; all but `state` is there from `mined` on."""

    state: SendState
    transaction_hash: bytes = b""
    block_number: int = 0
    succeeded: bool = False
    gas_used: int = 0


_PENDING = SendProgress(SendState.PENDING)


class Sender:
    """Sends for one key on one chain.

    Args:
        web3: the chain.
        network: its finality and fees.
        key: signs and pays; nothing else may send with it.
        outbox: where intents are stored.
        now: present time in seconds since the Unix epoch.
        sleep: waits for seconds.
        about: what log lines say besides of the intent under a key, such as its trace.
    """

    def __init__(
        self,
        web3: Web3,
        network: Network,
        key: LocalAccount,
        outbox: Outbox,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        about: Callable[[str], Mapping[str, Any]] = lambda key: {},
    ) -> None:
        self.web3 = web3
        self.network = network
        self.key = key
        self._outbox = outbox
        self._now = now
        self._sleep = sleep
        self._about = about
        # By intent: the transaction and block that a log line has told of.
        self._told: dict[str, tuple[str, int]] = {}

    def mark(self) -> int:
        """What was decided last, for `submit` to tell whether anything was since."""
        return self._outbox.newest_nonce(self.key.address)

    def submit(
        self,
        key: str,
        call: ContractFunction | ContractConstructor,
        value_wei: int = 0,
        since: int | None = None,
    ) -> None:
        """Decides on a transaction and sends it; with a known key it only goes on with what was decided.

        Args:
            key: what the transaction is for.
            call: the contract function with its arguments, or a deployment.
            value_wei: what goes along.
            since: the mark after which nothing else may have been decided.

        Raises:
            LeadershipLost: something was.
            ContractRefused: the call would revert now; nothing was decided.
            NodeError: the node failed. What was decided is stored, and `push` goes on with it.
        """
        own = self._own(key)
        if self._outbox.intent(own) is None:
            self._decide(own, call, value_wei, since)
        self.push(own)

    def is_decided(self, key: str) -> bool:
        """Whether there is an intent under a key."""
        return self._outbox.intent(self._own(key)) is not None

    def next_key(self, base: str) -> str:
        """What to decide under: another key for each time that what was decided before came to nothing."""
        attempt = 0
        while True:
            key = f"{base} {attempt}"
            outcome = self.outcome(key)
            if outcome is None or outcome.succeeded:
                return key
            attempt += 1

    def is_open(self, key: str) -> bool:
        """Whether this sender decided on something of which it is not final what becomes."""
        return self._own(key) in self._outbox.open_keys(self.key.address)

    def is_any_open(self, prefix: str) -> bool:
        """Whether there is an intent of this sender, under a key that begins so, of which it is not final what becomes."""
        return bool(self.open_keys(prefix))

    def open_keys(self, prefix: str) -> list[str]:
        """Keys of those, in the order of their nonces."""
        return [key for key in self._outbox.open_keys(self.key.address) if key.startswith(prefix)]

    def outcome(self, key: str) -> OutcomeRow | None:
        """What finally became of an intent; None as long as that is open, or nothing was decided."""
        return self._outbox.outcome(self._own(key))

    def refusal(self, key: str, block_number: int) -> ContractRefused | None:
        """Why the contract refused a transaction that is in a block; None where the chain does not tell any more.

        A receipt has no reason: the same call once more, with what the block left behind and then with what it found, because
        others in the same block may have changed either.
        """
        intent = self._outbox.intent(self._own(key))
        assert intent is not None, f"nothing was decided under {key}"
        repeat: TxParams = {
            "from": _sender(intent),
            "data": HexBytes(intent.data),
            "value": Wei(int(intent.value_wei)),
            "gas": intent.gas,
        }
        if intent.to_address:
            repeat["to"] = Web3.to_checksum_address(intent.to_address)
        for block in (block_number, block_number - 1):
            try:
                self.web3.eth.call(repeat, BlockNumber(block))
            except Exception as error:  # eth-tester's errors have no base in common with web3's
                data = revert_data(error)
                if data:
                    return decode_revert(data)
        return None

    def why_failed(self, key: str, block_number: int) -> str:
        """In words what became of a transaction that is in a block and did not succeed, or whose nonce another one used."""
        outcome = self.outcome(key)
        if outcome is not None and not outcome.transaction_hash:
            return f"another transaction used its nonce, as of block {block_number}"
        refused = self.refusal(key, block_number)
        return f"reverted in block {block_number}" + (f": {refused.message}" if refused else "")

    def push(self, key: str) -> SendProgress:
        """Goes on with an intent: looks what became of it, sends again or with a higher fee where it must.

        Raises:
            NonceTooLow: somebody else used the nonce of this intent; raised once, from then on the intent counts as failed.
            InsufficientFunds: there is not enough to pay for it.
            NodeError: the node failed otherwise.
        """
        intent = self._outbox.intent(self._own(key))
        assert intent is not None, f"nothing was decided under {key}"
        progress = self._progress(intent)
        if progress.state is SendState.PENDING and intent.sender == self.key.address:
            self._offer(intent)
        return progress

    def push_all(self) -> int:
        """Goes on with everything open, in the order of nonces; returns how many are open still."""
        return sum(
            self.push(key).state is not SendState.FINAL
            for key in self._outbox.open_keys(self.key.address)
        )

    def wait(
        self,
        key: str,
        until: SendState = SendState.MINED,
        timeout_seconds: float = 600,
        poll_seconds: float = 1,
    ) -> SendProgress:
        """Pushes until an intent is mined or final.

        Raises:
            NotMined: not within the time; it stays open, and may still be mined.
        """
        key = self._own(key)
        deadline = self._now() + timeout_seconds
        enough = {SendState.FINAL, until}
        while True:
            progress = self.push(key)
            if progress.state in enough:
                return progress
            if self._now() >= deadline:
                raise NotMined(
                    f"{key} is {progress.state} after {timeout_seconds:.0f} seconds",
                    "see that the node works and raise the network's fee_limit_gwei; it goes on by itself",
                )
            self._sleep(poll_seconds)

    def _own(self, key: str) -> str:
        """The key of the intent that this sender goes on with.

        What a former sender decided stays as it is if it got into a block. If not, nobody can send it again, and this sender
        decides anew under a key of its own; that the same is not done twice is the contract's to see.
        """
        intent = self._outbox.intent(key)
        if intent is None or intent.sender == self.key.address:
            return key
        if self._outbox.outcome(key) is not None or self._newest_receipt(intent) is not None:
            return key
        return f"{key} by {self.key.address}"

    # --- Deciding --------------------------------------------------------------------------------------------------------

    def _decide(
        self,
        key: str,
        call: ContractFunction | ContractConstructor,
        value_wei: int,
        since: int | None,
    ) -> None:
        given: TxParams = {"from": self.key.address, "value": Wei(value_wei)}
        # Fees and nonce come later; without these here web3 would ask the node for them.
        unused: TxParams = {"chainId": self.network.chain_id, "gas": 0, "gasPrice": Wei(0)}
        data = call.build_transaction({**given, **unused})["data"]
        try:
            gas = call.estimate_gas(given)
        except NodeError:
            raise
        except Exception as error:  # eth-tester's errors have no base in common with web3's
            data = revert_data(error)
            if data or isinstance(error, ContractLogicError):
                raise decode_revert(data) from None
            raise node_error(error) from error
        new = NewIntent(
            key=key,
            sender=self.key.address,
            to_address="" if isinstance(call, ContractConstructor) else str(call.address),
            data=bytes(HexBytes(data)),
            value_wei=value_wei,
            gas=gas + gas * _GAS_MARGIN_PERCENT // 100,
        )
        count = self.web3.eth.get_transaction_count(self.key.address)
        self._outbox.add_intent(new, count, since)

    # --- Sending ---------------------------------------------------------------------------------------------------------

    def _offer(self, intent: IntentRow) -> None:
        """Sends the newest attempt, or a new one where there is none or it has waited long enough."""
        attempts = self._outbox.attempts(intent.key)
        last = attempts[-1] if attempts else None
        waited = self._now() - last.signed_at if last else 0
        # Less than none: the clock has been set back since.
        if last is None or not 0 <= waited < self.network.replace_after_seconds:
            last = self._sign(intent, last) or last
        assert last is not None
        try:
            self._send(last)
        except FeeTooLow:
            dearer = self._sign(intent, last)
            if dearer is None:
                raise
            self._send(dearer)

    def _send(self, attempt: AttemptRow) -> None:
        try:
            self.web3.eth.send_raw_transaction(HexBytes(attempt.raw))
        except Exception as error:  # eth-tester's errors have no base in common with web3's
            failed = error if isinstance(error, NodeError) else node_error(error)
            # Sent before, or mined between the question and this: the next push sees it.
            if not isinstance(failed, AlreadyKnown | NonceTooLow):
                raise failed from error

    def _sign(self, intent: IntentRow, last: AttemptRow | None) -> AttemptRow | None:
        """Stores a new attempt with the fee of the day, or enough above the last one; None where the limit is reached."""
        head = self.web3.eth.get_block("latest")
        tip = self.network.priority_fee_wei
        fee = 2 * int(head.get("baseFeePerGas", 0)) + tip
        if last is not None:
            factor = 100 + self.network.replace_percent
            tip = max(tip, int(last.priority_fee_wei) * factor // 100 + 1)
            fee = max(fee, int(last.max_fee_wei) * factor // 100 + 1)
            if fee > self.network.fee_limit_wei:
                return None
        fee = min(fee, self.network.fee_limit_wei)
        transaction: TxParams = {
            "from": self.key.address,
            "data": HexBytes(intent.data),
            "value": Wei(int(intent.value_wei)),
            "gas": intent.gas,
            "nonce": Nonce(intent.nonce),
            "maxFeePerGas": Wei(fee),
            "maxPriorityFeePerGas": Wei(min(tip, fee)),
            "chainId": self.network.chain_id,
            "type": 2,
        }
        if intent.to_address:
            transaction["to"] = Web3.to_checksum_address(intent.to_address)
        signed = self.key.sign_transaction(transaction)  # type: ignore[arg-type]  # eth-account has a type of its own for these fields
        transaction_hash = "0x" + bytes(signed.hash).hex()
        attempt = self._outbox.add_attempt(
            AttemptRow(
                transaction_hash=transaction_hash,
                intent_key=intent.key,
                number=last.number + 1 if last else 0,
                raw=bytes(signed.raw_transaction),
                max_fee_wei=str(fee),
                priority_fee_wei=str(min(tip, fee)),
                signed_at=int(self._now()),
            )
        )
        told = {"transaction": transaction_hash, "nonce": intent.nonce, "fee_wei": fee}
        self._tell("transaction signed", intent, told)
        return attempt

    # --- Watching --------------------------------------------------------------------------------------------------------

    def _progress(self, intent: IntentRow) -> SendProgress:
        outcome = self._outbox.outcome(intent.key)
        if outcome is not None:
            return SendProgress(
                SendState.FINAL,
                bytes.fromhex(outcome.transaction_hash[2:]),
                outcome.block_number,
                outcome.succeeded,
                outcome.gas_used,
            )
        used = self.web3.eth.get_transaction_count(_sender(intent)) > intent.nonce
        mined = self._newest_receipt(intent)
        if mined is None and used:
            final = self._used_for_good(intent)
            # Once more: the one question may have gone to a node that lags behind.
            mined = self._newest_receipt(intent)
            if final is not None and mined is None:
                raise self._superseded(intent, final)
        return _PENDING if mined is None else self._mined(intent, *mined)

    def _newest_receipt(self, intent: IntentRow) -> tuple[AttemptRow, TxReceipt] | None:
        for attempt in reversed(self._outbox.attempts(intent.key)):
            receipt = self._receipt(attempt.transaction_hash)
            if receipt is not None:
                return attempt, receipt
        return None

    def _used_for_good(self, intent: IntentRow) -> int | None:
        """The final block as of which the nonce is used; None if it still may be taken back."""
        final = self.network.final_block(self.web3)["number"]
        count = self.web3.eth.get_transaction_count(_sender(intent), final)
        return final if count > intent.nonce else None

    def _superseded(self, intent: IntentRow, final: int) -> NonceTooLow:
        """Notes that an intent never comes to anything, so that whoever decided on it can decide again."""
        self._outbox.add_outcome(
            OutcomeRow(
                intent_key=intent.key,
                transaction_hash="",
                block_number=final,
                succeeded=False,
                gas_used=0,
            )
        )
        return NonceTooLow(
            f"nonce {intent.nonce} of {intent.sender}, meant for {intent.key}, was used by somebody else",
            "let no other program send with this key, or give the coordinator a new one; what was meant is looked at anew",
        )

    def _mined(self, intent: IntentRow, attempt: AttemptRow, receipt: TxReceipt) -> SendProgress:
        succeeded = receipt["status"] == 1
        block = receipt["blockNumber"]
        state = SendState.MINED
        told = {"transaction": attempt.transaction_hash, "block": block, "succeeded": succeeded}
        if self._told.get(intent.key) != (attempt.transaction_hash, block):
            self._told[intent.key] = (attempt.transaction_hash, block)
            self._tell("transaction mined", intent, told)
        if block <= self.network.final_block(self.web3)["number"]:
            state = SendState.FINAL
            self._outbox.add_outcome(
                OutcomeRow(
                    intent_key=intent.key,
                    transaction_hash=attempt.transaction_hash,
                    block_number=block,
                    succeeded=succeeded,
                    gas_used=receipt["gasUsed"],
                )
            )
            del self._told[intent.key]
            self._tell("transaction final", intent, told)
        return SendProgress(
            state, bytes.fromhex(attempt.transaction_hash[2:]), block, succeeded, receipt["gasUsed"]
        )

    def _tell(self, event: str, intent: IntentRow, told: Mapping[str, Any]) -> None:
        _LOG.info(event, extra={"intent": intent.key, **told, **self._about(intent.key)})

    def _receipt(self, transaction_hash: str) -> TxReceipt | None:
        try:
            return self.web3.eth.get_transaction_receipt(HexBytes(transaction_hash))
        except TransactionNotFound:
            return None


def _sender(intent: IntentRow) -> ChecksumAddress:
    return Web3.to_checksum_address(intent.sender)
