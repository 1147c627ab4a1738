"""Follows the chain: every event of a community's contracts exactly once, whatever the chain takes back.

Final blocks are read in ranges. Above the last final block each block is read by itself and kept with its hash; when the
chain has another block at that height, everything from there on is removed and read again. Each step is one database
transaction, so a crash anywhere leaves a state to go on from, and after downtime nothing is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from eth_typing import BlockNumber
from sqlalchemy import Engine, delete
from sqlmodel import Session, col, select
from web3 import Web3
from web3.exceptions import BlockNotFound, Web3Exception
from web3.types import BlockData, FilterParams, LogReceipt

from backend.domain.errors import NodeError, ReorgTooDeep
from backend.ledger.tables import ChainEventRow, IndexedBlockRow
from contracts.events import EventDecoder

from .networks import Network
from .node_errors import node_error

_LOG = logging.getLogger(__name__)
# Nodes limit the range of a query; a range that is refused is halved.
_BLOCKS_AT_ONCE = 2000


class Indexer:
    """Brings the chain's events into the database.

    Args:
        web3: the chain.
        network: its finality.
        decoder: of the community's contracts.
        engine: the community's database.
        first_block: where its contracts were deployed, or any before.
    """

    def __init__(
        self,
        web3: Web3,
        network: Network,
        decoder: EventDecoder,
        engine: Engine,
        first_block: int = 0,
    ) -> None:
        self.web3 = web3
        self.network = network
        self._decoder = decoder
        self._engine = engine
        self._first_block = first_block

    def follow(self) -> BlockData:
        """Reads everything up to the newest block; returns the newest final one.

        Raises:
            ReorgTooDeep: a final block is gone.
            NodeError: the node failed or is behind; what was read up to there is stored.
        """
        final = self.network.final_block(self.web3)
        self._rewind()
        self._read_final(final)
        head = self.web3.eth.block_number
        for number in range(self._next_number(), head + 1):
            if not self._read_block(number):
                break  # taken back while it was read; the next call sees what is there instead
        return final

    # --- Going back ------------------------------------------------------------------------------------------------------

    def _rewind(self) -> None:
        """Removes blocks that the chain no longer has, newest first."""
        with Session(self._engine) as session:
            newest_first = select(IndexedBlockRow).order_by(col(IndexedBlockRow.number).desc())
            for row in session.exec(newest_first).all():
                found = self._hash_at(row.number)
                if found == row.block_hash:
                    break
                if row.final and found is None:
                    raise NodeError(
                        f"the node has no block {row.number}, which was final: it is behind",
                        "wait until it has caught up, or ask another one",
                    )
                if row.final:
                    raise ReorgTooDeep(
                        f"block {row.number} ({row.block_hash}) was final and is gone",
                        "see whether the node is on the right chain; if so, raise the network's finality "
                        "depth and rebuild the ledger from chain and bundles",
                    )
                _LOG.warning("block taken back", extra={"block": row.number})
                session.exec(
                    delete(ChainEventRow).where(col(ChainEventRow.block_number) >= row.number)
                )
                # Whatever another process has added behind it meanwhile goes along, with its events.
                session.exec(
                    delete(IndexedBlockRow).where(col(IndexedBlockRow.number) >= row.number)
                )
            session.commit()

    def _hash_at(self, number: int) -> str | None:
        try:
            block = self.web3.eth.get_block(BlockNumber(number))
        except BlockNotFound:
            return None
        return _hex(block["hash"])

    # --- Going on --------------------------------------------------------------------------------------------------------

    def _next_number(self) -> int:
        with Session(self._engine) as session:
            newest = session.exec(
                select(IndexedBlockRow.number).order_by(col(IndexedBlockRow.number).desc()).limit(1)
            ).first()
            return self._first_block if newest is None else newest + 1

    def _read_final(self, final: BlockData) -> None:
        """Reads what is final already in ranges, and marks as final what was read before."""
        span = _BLOCKS_AT_ONCE
        while (start := self._next_number()) <= final["number"]:
            end = min(start + span - 1, final["number"])
            try:
                logs = self._logs(start, end)
            except NodeError:
                if span == 1 or start == end:
                    raise
                span = max(1, span // 2)
                continue
            tip = final if end == final["number"] else self.web3.eth.get_block(BlockNumber(end))
            times = {end: int(tip["timestamp"])}
            for number in {log["blockNumber"] for log in logs} - {end}:
                times[number] = int(self.web3.eth.get_block(number)["timestamp"])
            with Session(self._engine) as session:
                session.add_all(self._rows(logs, times))
                session.add(_block_row(tip, final=True))
                session.commit()
        with Session(self._engine) as session:
            row = session.get(IndexedBlockRow, final["number"])
            if row is not None and row.block_hash == _hex(final["hash"]):
                row.final = True
                session.add(row)
                # Hashes below the last final block tell nothing any more.
                session.exec(
                    delete(IndexedBlockRow).where(col(IndexedBlockRow.number) < final["number"])
                )
                session.commit()

    def _read_block(self, number: int) -> bool:
        """Reads one block that may still be taken back; returns whether it follows what was read before."""
        block = self.web3.eth.get_block(BlockNumber(number))
        logs = self._logs(number, number)
        with Session(self._engine) as session:
            before = session.get(IndexedBlockRow, number - 1)
            if before is not None and before.block_hash != _hex(block["parentHash"]):
                return False
            if any(log["blockHash"] != block["hash"] for log in logs):
                return False
            # Without logs there is no hash to compare: the block must still be there.
            if self._hash_at(number) != _hex(block["hash"]):
                return False
            session.add_all(self._rows(logs, {number: int(block["timestamp"])}))
            session.add(_block_row(block, final=False))
            session.commit()
        return True

    def _logs(self, start: int, end: int) -> Sequence[LogReceipt]:
        query: FilterParams = {
            "address": self._decoder.addresses,
            "fromBlock": BlockNumber(start),
            "toBlock": BlockNumber(end),
        }
        try:
            return self.web3.eth.get_logs(query)
        except (Web3Exception, ValueError) as error:
            raise node_error(error) from error

    def _rows(self, logs: Sequence[LogReceipt], times: dict[int, int]) -> list[ChainEventRow]:
        rows = []
        for log in logs:
            event = self._decoder.decode(log)
            if event is None:
                continue
            rows.append(
                ChainEventRow(
                    block_number=log["blockNumber"],
                    log_index=log["logIndex"],
                    timestamp=times[log["blockNumber"]],
                    transaction_hash=_hex(log["transactionHash"]),
                    contract=event.contract,
                    name=event.name,
                    arguments=event.arguments,
                )
            )
        return rows


def _block_row(block: BlockData, *, final: bool) -> IndexedBlockRow:
    return IndexedBlockRow(
        number=block["number"],
        block_hash=_hex(block["hash"]),
        timestamp=int(block["timestamp"]),
        final=final,
    )


def _hex(data: bytes) -> str:
    return "0x" + bytes(data).hex()
