"""A key that delegates itself to a contract (EIP-7702) signs as a key and in no other way, for the trade desk, the oracle's signers and the
auditor alike: the contract's word would be worth nothing once the delegation is gone.
"""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from hexbytes import HexBytes
from web3 import Web3

from backend.audit.chain_reader import ChainReader
from backend.audit.node import open_nodes
from contracts.wallets import consents
from oracle.ethereum_node import EthereumNode
from oracle.trade_book_reader import TradeBookReader
from tests.support.anvil import ask, running_anvil
from tests.support.chain import deploy_code

from .honest import HAMLET, Town, key_of

# Says yes to whatever it is asked.
YES = "631626ba7e60e01b60005260206000f3"


@pytest.mark.parametrize("delegated", [False, True], ids=["contract", "delegated key"])
def test_who_is_asked_what_it_signed(delegated: bool) -> None:
    with running_anvil("--hardfork", "prague") as url:
        town = Town(url, HAMLET, seed=1)
        web3: Web3 = town.client.web3
        contract = deploy_code(town.client, YES, key_of("outsider"))
        member = town.members[0].account
        ask(web3, "anvil_setCode", member, "0xef0100" + contract[2:])
        account = member if delegated else contract
        digest, junk = bytes(range(32)), b"junk"
        question = bytes.fromhex("1626ba7e") + encode(["bytes32", "bytes"], [digest, junk])
        said = web3.eth.call({"to": Web3.to_checksum_address(account), "data": HexBytes(question)})
        assert bytes(said)[:4] == bytes.fromhex("1626ba7e"), "nothing is shown by this"

        book = TradeBookReader(
            EthereumNode(url, None, "trade book", ""), town.client.chain_id, contract, 0, 0
        )
        book.refresh()
        house = town.contracts.addresses["ClearingHouse"]
        reader = ChainReader(open_nodes((url,)), house)
        asked = (
            consents(web3, account, digest, junk),
            book.consents(account, digest, junk),
            reader.consents(account, digest, junk),
        )
        assert asked == (not delegated,) * 3
