"""Run as a process of its own by test_sender.py, which kills it: sends a mint for each of the keys it is told."""

from __future__ import annotations

import sys

from web3 import HTTPProvider, Web3

from backend.chain.client import account_from_secret
from backend.chain.networks import Network
from backend.chain.sender import Sender, SendState
from backend.ledger.outbox import Outbox
from backend.ledger.store import LedgerStore
from contracts.artifact import artifact


def main(url: str, database: str, token: str, secret: str, first: int, count: int) -> None:
    web3 = Web3(HTTPProvider(url))
    store = LedgerStore(database)
    key = account_from_secret(bytes.fromhex(secret))
    sender = Sender(web3, Network("anvil", 31337, 1), key, Outbox(store.engine))
    sender.push_all()
    print("ready", flush=True)
    contract = web3.eth.contract(
        address=Web3.to_checksum_address(token), abi=artifact("TestToken")["abi"]
    )
    for number in range(first, first + count):
        sender.submit(f"mint {number}", contract.functions.mint(key.address, 1))
        sender.wait(f"mint {number}", SendState.MINED, poll_seconds=0.01)
        print(number, flush=True)
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]), int(sys.argv[6]))  # type: ignore[arg-type]
