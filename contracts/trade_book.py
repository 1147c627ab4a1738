"""The trade book's calls, as `bindings.py` has those of the other contracts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from web3 import Web3
from web3.contract.contract import ContractFunction, ContractFunctions

from backend.settlement.encoding import domain_separator
from backend.settlement.forward import SignedTrade, TradeCommitment

from .artifact import artifact
from .wallets import consents


class TradeBookContract:
    """A deployed TradeBook.

    Args:
        web3: connection to the chain.
        address: its address.
        from_block: the block it was deployed in, or any before it.
    """

    def __init__(self, web3: Web3, address: str, from_block: int = 0) -> None:
        self.web3 = web3
        self.from_block = from_block
        self.address = Web3.to_checksum_address(address)
        self._contract = web3.eth.contract(address=self.address, abi=artifact("TradeBook")["abi"])

    @property
    def functions(self) -> ContractFunctions:
        """All of the contract's functions."""
        return self._contract.functions

    def commit(self, first_interval: int, interval_count: int, root: bytes) -> ContractFunction:
        """Commits the trades of some intervals, before the gate of the first one closes."""
        return self.functions.commit(first_interval, interval_count, root)

    def strike(
        self, first_interval: int, signed: SignedTrade, position: int, proof: Sequence[bytes]
    ) -> ContractFunction:
        """Strikes out a trade that one side never signed."""
        given = (
            astuple(signed.trade),
            signed.seller_signature,
            signed.buyer_signature,
            signed.salt,
        )
        return self.functions.strike(first_interval, given, position, list(proof))

    def post_bond(self) -> ContractFunction:
        """Adds to the bond behind the trades; send it with value."""
        return self.functions.postBond()

    def withdraw_bond(self) -> ContractFunction:
        """Returns the bond when nothing can be struck out any more."""
        return self.functions.withdrawBond()

    def bond(self) -> tuple[str, int]:
        """Who posted the bond, and wei."""
        owner, amount = self.functions.bond().call()
        return str(owner), int(amount)

    def bond_wei(self) -> int:
        """What a trade struck out costs."""
        return int(self.functions.bondWei().call())

    def gate_seconds(self) -> int:
        """How long before an interval its trades must be committed."""
        return int(self.functions.gateSeconds().call())

    def commitments(self) -> list[TradeCommitment]:
        """All of them, oldest first."""
        return [
            TradeCommitment(
                int(found["firstInterval"]),
                int(found["intervalCount"]),
                bytes(found["root"]),
                int(found["strikeUntil"]),
            )
            for found in self._events("TradesCommitted")
        ]

    def struck(self) -> frozenset[tuple[int, int]]:
        """First interval of the commitment and position of every trade struck out."""
        return frozenset(
            (int(found["firstInterval"]), int(found["position"]))
            for found in self._events("TradeStruck")
        )

    @property
    def domain(self) -> bytes:
        """EIP-712 domain separator of what members sign."""
        return domain_separator(self.web3.eth.chain_id, self.address)

    def now(self) -> int:
        """Time of the newest block."""
        return int(self.web3.eth.get_block("latest")["timestamp"])

    def consents(self, account: str, digest: bytes, signature: bytes) -> bool:
        """Whether an account that is a contract accepts a signature (ERC-1271)."""
        return consents(self.web3, account, digest, signature)

    def _events(self, name: str) -> list[dict[str, Any]]:
        logs = getattr(self._contract.events, name)().get_logs(from_block=self.from_block)
        return [dict(entry["args"]) for entry in logs]
