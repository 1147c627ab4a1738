"""How a deployment's transactions get onto the chain: each once, whatever stops the program, with higher fees where they wait too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.contract.contract import ContractConstructor, ContractFunction

from backend.chain.client import ChainClient
from backend.chain.networks import Network
from backend.chain.sender import Sender, SendProgress, SendState
from backend.domain.errors import NonceTooLow, NotMined
from backend.ledger.outbox import Outbox
from backend.ledger.store import LedgerStore
from contracts.bindings import decode_revert

Call = ContractFunction | ContractConstructor


class EmbeddedSending:
    """On a chain that ends with this process: nothing is there to go on with."""

    def __init__(self, client: ChainClient, deployer: LocalAccount) -> None:
        self._client, self._deployer = client, deployer

    def next_nonce(self) -> int:
        """What the next transaction will have."""
        return self._client.web3.eth.get_transaction_count(self._deployer.address)

    def go_on(self) -> None:
        """Nothing."""

    def send(self, what: str, call: Call) -> None:
        """Sends a step's transaction.

        Raises:
            ContractRefused: it reverts.
        """
        self._client.send(call, self._deployer)

    def close(self) -> None:
        """Nothing."""


class StoredSending:
    """On a node: transactions are stored before they are sent, as the coordinator's are.

    Args:
        web3: the chain.
        network: its fees.
        deployer: signs and pays.
        database: file of what was sent.
        timeout_seconds: for one transaction.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        web3: Web3,
        network: Network,
        deployer: LocalAccount,
        database: Path,
        *,
        timeout_seconds: float = 600,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = LedgerStore(f"sqlite:///{database}")
        self._outbox = Outbox(self._store.engine)
        self._sender = Sender(web3, network, deployer, self._outbox, sleep=sleep)
        self._timeout_seconds = timeout_seconds

    def next_nonce(self) -> int:
        """What the next transaction will have."""
        address = self._sender.key.address
        # A node that is behind may not have the newest one yet.
        return max(self._sender.web3.eth.get_transaction_count(address), self._sender.mark() + 1)

    def go_on(self) -> None:
        """Waits until what an earlier run sent is in a block, sends it again where it must.

        Raises:
            NotMined: it is in none after the time allowed.
            NodeError: the node failed.
        """
        for key in self._outbox.open_keys(self._sender.key.address):
            try:
                self._wait(key)
            except NonceTooLow:
                continue  # it never comes to anything: the step is looked at anew

    def send(self, what: str, call: Call) -> None:
        """Sends a step's transaction and waits until it is in a block.

        Raises:
            ContractRefused: it reverts.
            NotMined: it is in no block after the time allowed.
            NodeError: the node failed.
        """
        attempt = 0
        # What came of earlier ones is final, and the step is not done: they failed.
        while self._sender.outcome(key := f"{what} {attempt}") is not None:
            attempt += 1
        self._sender.submit(key, call)
        done = self._wait(key)
        if not done.succeeded:
            raise self._sender.refusal(key, done.block_number) or decode_revert(b"")

    def close(self) -> None:
        """Lets go of the file."""
        self._store.close()

    def _wait(self, key: str) -> SendProgress:
        try:
            return self._sender.wait(key, SendState.MINED, self._timeout_seconds)
        except NotMined as error:
            raise NotMined(
                error.message,
                "see that the node works, raise the network's fee_limit_gwei, and run it again: it goes on with this transaction",
            ) from None


Sending = EmbeddedSending | StoredSending
