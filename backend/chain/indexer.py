"""Follows the chain: every event of a community's contracts exactly once, whatever the chain takes back.

Blocks long final are read in ranges. The newest ones are read one by one and kept with their hashes; when the chain has another
block at that height, everything from there on is removed and read again. Each step is one database transaction, so a crash
anywhere leaves a state to go on from, and after downtime nothing is missing.

Behind one URL there may be many nodes, and one that lags behind answers `eth_getLogs` for blocks it does not have with an empty
list. So the events of a new block are asked for by its hash (EIP-234), and none are believed only where the header's bloom says
so too; ranges end well below the last final block.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from eth_hash.auto import keccak
from eth_typing import BlockNumber
from sqlalchemy import Engine, delete
from sqlmodel import Session, col, select
from web3 import EthereumTesterProvider, Web3
from web3.exceptions import BlockNotFound, Web3Exception
from web3.types import BlockData, FilterParams, LogReceipt

from backend.domain.errors import NodeError, ReorgTooDeep
from backend.ledger.tables import ChainEventRow, IndexedBlockRow
from contracts.events import EventDecoder

from .networks import Network, block_at
from .node_errors import node_error

_LOG = logging.getLogger("peerwatt.chain.indexer")
# Nodes limit the range of a query; a range that is refused is halved.
_BLOCKS_AT_ONCE = 2000
# So many blocks up to the last final one are read one by one. Whoever sends our questions to many nodes asks none that is further
# behind than these and what finality takes: no answer tells for a range that whoever gave it has all its blocks.
_NEAR_BLOCKS = 64


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
        """Reads everything up to the newest block that can be read; returns the newest final one, up to which nothing is missing.

        Raises:
            ReorgTooDeep: a final block is gone.
            NodeError: the node failed or is behind; what was read up to there is stored.
        """
        final = self.network.final_block(self.web3)
        self._rewind()
        # The chain in this process is never behind itself.
        self._read_ranges(final["number"] - (0 if self._is_embedded else _NEAR_BLOCKS))
        self._read_blocks(final["number"])
        self._mark_final(final)
        try:
            self._read_blocks(self.web3.eth.block_number)
        except NodeError as error:
            # Nothing rests on these yet, and the next call sees what is there instead.
            _LOG.info("newest blocks not readable yet", extra={"reason": error.message})
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
                if found is None and not row.final:
                    continue  # a node that is behind; a block that is gone has another in its place soon
                if found is None:
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
                extra = {"chain": self.network.chain_id, "block": row.number, "instead": found}
                _LOG.warning("block taken back", extra=extra)
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

    @property
    def _is_embedded(self) -> bool:
        return isinstance(self.web3.provider, EthereumTesterProvider)

    # --- Going on --------------------------------------------------------------------------------------------------------

    def _next_number(self) -> int:
        with Session(self._engine) as session:
            newest = session.exec(
                select(IndexedBlockRow.number).order_by(col(IndexedBlockRow.number).desc()).limit(1)
            ).first()
            return self._first_block if newest is None else newest + 1

    def _read_ranges(self, until: int) -> None:
        """Reads what is long final in ranges."""
        span = _BLOCKS_AT_ONCE
        while (start := self._next_number()) <= until:
            end = min(start + span - 1, until)
            tip = block_at(self.web3, end)
            try:
                logs = self._logs({"fromBlock": BlockNumber(start), "toBlock": BlockNumber(end)})
            except NodeError:
                if start == end:
                    raise
                span = max(1, span // 2)
                continue
            # Before and after: an endpoint that stands still must not be believed because another took over in between.
            if self._hash_at(end) != _hex(tip["hash"]):
                raise _contradiction(end)
            span = min(_BLOCKS_AT_ONCE, 2 * span)
            times = {end: int(tip["timestamp"])}
            for number in {log["blockNumber"] for log in logs} - {end}:
                times[number] = int(block_at(self.web3, number)["timestamp"])
            self._store([*self._rows(logs, times), _block_row(tip, final=True)])

    def _mark_final(self, final: BlockData) -> None:
        """Marks as final what was read before.

        Raises:
            NodeError: it is not what was read.
        """
        with Session(self._engine) as session:
            row = session.get(IndexedBlockRow, final["number"])
            if row is None:  # before the first block that is read
                return
            if row.block_hash != _hex(final["hash"]):
                raise _contradiction(final["number"])
            row.final = True
            session.add(row)
            # Hashes below the last final block tell nothing any more.
            session.exec(
                delete(IndexedBlockRow).where(col(IndexedBlockRow.number) < final["number"])
            )
            session.commit()

    def _read_blocks(self, until: int) -> None:
        """Reads blocks one by one, and stores them together.

        Raises:
            NodeError: one does not follow what was read before; or the node does not have it, or failed. Those before it are stored.
        """
        rows: list[ChainEventRow | IndexedBlockRow] = []
        start = self._next_number()
        with Session(self._engine) as session:
            known = session.get(IndexedBlockRow, start - 1)
            before = known.block_hash if known else None
        try:
            for number in range(start, until + 1):
                block = block_at(self.web3, number)
                logs = self._logs_of(block)
                if before is not None and before != _hex(block["parentHash"]):
                    raise _contradiction(number)
                rows += self._rows(logs, {number: int(block["timestamp"])})
                rows.append(_block_row(block, final=False))
                before = _hex(block["hash"])
        except NodeError:
            self._store(rows)
            raise
        self._store(rows)

    def _store(self, rows: Sequence[ChainEventRow | IndexedBlockRow]) -> None:
        with Session(self._engine) as session:
            session.add_all(rows)
            session.commit()

    def _logs_of(self, block: BlockData) -> Sequence[LogReceipt]:
        """The events of one block.

        Raises:
            NodeError: the node that answered does not have this block.
        """
        number = block["number"]
        if self._is_embedded:  # which cannot be asked by hash
            return self._logs({"fromBlock": number, "toBlock": number})
        addresses = self._decoder.addresses
        logs = self._logs({"blockHash": block["hash"]})
        if not logs and any(_may_name(block["logsBloom"], address) for address in addresses):
            # A bloom may name us by chance, and not every node says that it lacks a block (Besu does not). But whoever has
            # this one has events of somebody in it.
            everything = self._logs({"blockHash": block["hash"]}, of_everybody=True)
            if not everything:
                raise NodeError(
                    f"the node has no events of block {number}, in which there are some: it is behind",
                    "wait until it has caught up, or ask another one",
                )
            logs = [log for log in everything if log["address"] in addresses]
        if any(log["blockHash"] != block["hash"] for log in logs):
            raise _contradiction(number)
        return logs

    def _logs(self, where: FilterParams, *, of_everybody: bool = False) -> Sequence[LogReceipt]:
        if not of_everybody:
            where["address"] = self._decoder.addresses
        try:
            return self.web3.eth.get_logs(where)
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


def _contradiction(number: int) -> NodeError:
    return NodeError(
        f"block {number} is not the one that was just there: taken back, or the endpoints disagree",
        "nothing; it is looked at anew. If it stays so, see whether all endpoints are on one chain",
    )


def _may_name(bloom: bytes, address: str) -> bool:
    """Whether a header's bloom leaves it open that a contract has events in the block (yellow paper, section 4.3.1)."""
    digest = keccak(bytes.fromhex(address[2:]))
    bits = int.from_bytes(bloom, "big")
    return all(bits >> (int.from_bytes(digest[at : at + 2], "big") & 2047) & 1 for at in (0, 2, 4))


def _block_row(block: BlockData, *, final: bool) -> IndexedBlockRow:
    return IndexedBlockRow(
        number=block["number"],
        block_hash=_hex(block["hash"]),
        timestamp=int(block["timestamp"]),
        final=final,
    )


def _hex(data: bytes) -> str:
    return "0x" + bytes(data).hex()
