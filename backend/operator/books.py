"""A community's books: follows its chain and books what is final."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine
from web3 import Web3

from backend.chain.indexer import Indexer
from backend.chain.networks import Network
from backend.ledger.bookkeeper import Bookkeeper, LeavesOf
from backend.ledger.bundles import read_leaves
from contracts.bindings import CommunityContracts
from contracts.events import EventDecoder

_NANO_DECIMALS = 9


class CommunityBooks:
    """Indexer and bookkeeper of one community.

    Args:
        web3: the chain.
        network: its finality.
        contracts: the community on it.
        engine: the community's database.
        bundle_folder: with a folder for each batch number, or what reads a batch's accounts.
        first_block: where the contracts were deployed, or any before.
    """

    def __init__(
        self,
        web3: Web3,
        network: Network,
        contracts: CommunityContracts,
        engine: Engine,
        bundle_folder: Path | LeavesOf,
        first_block: int = 0,
    ) -> None:
        decoder = EventDecoder(web3, contracts.addresses)
        self.indexer = Indexer(web3, network, decoder, engine, first_block)
        self.bookkeeper = Bookkeeper(
            engine,
            contracts.parameters().challenge_seconds,
            10 ** (_NANO_DECIMALS - contracts.token_decimals()),
            _reader(bundle_folder) if isinstance(bundle_folder, Path) else bundle_folder,
        )

    def follow(self) -> int:
        """Catches up with the chain; returns how many bookings are new.

        Raises:
            NodeError: the node failed, or took back what was final.
            BundleUnavailable: a final batch's bundle is missing.
        """
        final = self.indexer.follow()
        return self.bookkeeper.book_until(final["number"], int(final["timestamp"]))


def _reader(folder: Path) -> LeavesOf:
    return lambda header: read_leaves(folder / str(header.number), header)
