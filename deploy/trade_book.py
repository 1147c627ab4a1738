"""Adds a trade book to a community whose members trade before delivery."""

from __future__ import annotations

from eth_account.signers.local import LocalAccount

from backend.chain.client import ChainClient
from contracts.bindings import CommunityContracts, constructor
from contracts.trade_book import TradeBookContract

from .community import TRADE_BOOK_RESTRICTED


def deploy_trade_book(
    client: ChainClient,
    deployer: LocalAccount,
    contracts: CommunityContracts,
    *,
    gate_seconds: int,
    strike_seconds: int,
    bond_wei: int,
) -> tuple[CommunityContracts, TradeBookContract, list[int]]:
    """Deploys it and lets only the coordinator commit; before `hand_over`, since it takes the administrator.

    Args:
        client: the chain.
        deployer: still the administrator.
        contracts: the community.
        gate_seconds: how long before an interval its trades must be committed.
        strike_seconds: how long after the last interval of a commitment its trades can be struck out.
        bond_wei: what a trade struck out costs the coordinator.

    Returns:
        The community with the trade book among its contracts, the trade book, and gas of each transaction.
    """
    made = client.send(
        constructor(
            client.web3,
            "TradeBook",
            contracts.addresses["AccessManager"],
            contracts.addresses["ClearingHouse"],
            contracts.addresses["MemberRegistry"],
            gate_seconds,
            strike_seconds,
            bond_wei,
        ),
        deployer,
    )
    assert made.contract_address is not None
    extended = CommunityContracts(
        client.web3, {**contracts.addresses, "TradeBook": made.contract_address}
    )
    sent = client.send(extended.restrict(*TRADE_BOOK_RESTRICTED), deployer)
    found = TradeBookContract(client.web3, made.contract_address, made.block_number)
    return extended, found, [made.gas_used, sent.gas_used]
