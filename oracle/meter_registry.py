"""Meters by the registry of keys on chain.

What was read last stands in a file too: while the node is away the signer goes on with it and says so, for as long as its
configuration allows.

Rights go by interval, not by block: a key revoked today from an interval of last week on loses last week's readings today. The blocks
only say how much of the registry a signer knows, and signers that know different blocks for a moment draft the same again once both have
the later one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from backend.domain.errors import InputError, NodeUnreachable
from backend.domain.values import Value, parse_json

from .config import OracleConfig
from .directory import (
    Address,
    FileDirectory,
    Freshness,
    MeterDirectory,
    MeterRecord,
    SignerGrant,
    SignerKind,
)
from .ethereum_node import BLOCKS_AT_ONCE
from .registry_reader import RegisteredKey, RegistryReader, RegistryState
from .sources.http import secret
from .wire import address_bytes

# --- The file ----------------------------------------------------------------------------------------------------------


class KeptKey(Value):
    """`keys[]` of the file."""

    key: Address
    slot: int
    from_interval: int
    until_interval: int | None


class KeptRegistry(Value):
    """The file `peerwatt/meter-registry/1`."""

    format: Literal["peerwatt/meter-registry/1"] = "peerwatt/meter-registry/1"
    chain_id: int
    contract: Address
    block: int
    block_hash: str
    keys: tuple[KeptKey, ...]


@dataclass(frozen=True, slots=True)
class RegistryFile:
    """The registry as it was read last. The file's time is when the node last confirmed it.

    Args:
        path: of the file.
        chain_id, contract: whose registry.
    """

    path: Path
    chain_id: int
    contract: str

    def read(self) -> tuple[RegistryState, float] | None:
        """What is kept, and the Unix time it was last known to be so; None if there is nothing of use."""
        try:
            kept = KeptRegistry.from_data(parse_json(self.path.read_bytes(), self.path))
            checked_at = self.path.stat().st_mtime
        except (OSError, InputError):
            return None
        if (kept.chain_id, kept.contract.lower()) != (self.chain_id, self.contract.lower()):
            return None
        keys = {
            address_bytes(item.key): RegisteredKey(
                item.slot, item.from_interval, item.until_interval
            )
            for item in kept.keys
        }
        return RegistryState(kept.block, kept.block_hash, keys), checked_at

    def write(self, state: RegistryState, checked_at: float, *, whole: bool) -> None:
        """Keeps a state; only the time, unless it is to be written whole."""
        if whole:
            kept = KeptRegistry(
                chain_id=self.chain_id,
                contract=self.contract,
                block=state.block,
                block_hash=state.block_hash,
                keys=tuple(
                    KeptKey(key="0x" + address.hex(), **item._asdict())
                    for address, item in state.keys.items()
                ),
            )
            new = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            new.write_text(kept.model_dump_json(), encoding="utf-8")
            new.replace(self.path)
        os.utime(self.path, (checked_at, checked_at))


# --- The directory -----------------------------------------------------------------------------------------------------


class ChainDirectory:
    """Meters by the registry on chain; the file adds what is not on chain.

    A key registered for a member's slot may sign for the member's meter, whether it is the meter's own or a gateway's. The collector's is
    registered nowhere, being the oracle's own: the file names it, and it may sign as long as the meter's address is registered. The
    file's other rights count for nothing.

    Args:
        reader: of the registry.
        file: with the collector's rights, rollovers and exchanges.
        slots: by meter, the member's slot.
        kept: the registry as it was read last.
        clock: seconds since the Unix epoch.

    Raises:
        NodeUnreachable: the node does not answer, and nothing is kept.
        MalformedInput: the node is of another chain, or there is no contract.
    """

    def __init__(
        self,
        reader: RegistryReader,
        file: FileDirectory,
        slots: Mapping[bytes, int],
        kept: RegistryFile,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reader = reader
        self._file = file
        self._slots = slots
        self._kept = kept
        self._clock = clock
        self._checked = False
        self._failure: str | None = None
        found = kept.read()
        self._checked_at = found[1] if found else 0.0
        self._written = found[0] if found else None
        # Replaced together, so that no record of an earlier state is ever kept with a later one.
        self._view: tuple[RegistryState, dict[bytes, MeterRecord]] | None = None
        if found:
            self._view = found[0], {}
        self.reload()

    def reload(self) -> bool:
        """Asks the node; says whether a key was activated or revoked. Without an answer everything stays as it was.

        Raises:
            NodeUnreachable: there is no answer, and there never was one.
            MalformedInput: the node is of another chain, or there is no contract.
        """
        known = self._view[0] if self._view else None
        try:
            if not self._checked:
                self._reader.check()
                self._checked = True
            state = self._reader.follow(known)
        except NodeUnreachable as error:
            self._failure = error.message
            if known is None:
                raise
            return False
        self._failure = None
        self._checked_at = self._clock()
        changed = known is None or state.keys != known.keys
        if changed or self._view is None:
            self._view = state, {}
        else:
            self._view = state, self._view[1]
        # The file only spares time and bridges an absence: that it cannot be written must not stop a signer.
        with suppress(OSError):
            self._keep(state)
        return changed

    def _keep(self, state: RegistryState) -> None:
        before = self._written
        whole = (
            before is None
            or state.keys != before.keys
            or state.block >= before.block + BLOCKS_AT_ONCE
            or state.block < before.block
        )
        self._kept.write(state, self._checked_at, whole=whole)
        if whole:
            self._written = state

    def freshness(self) -> Freshness:
        """How old what is known may be."""
        assert self._view is not None
        age = max(0.0, self._clock() - self._checked_at)
        return Freshness(self._view[0].block, age, self._failure)

    def record(self, meter: bytes) -> MeterRecord | None:
        """The meter's record, or None if no key may sign for it."""
        assert self._view is not None
        state, records = self._view
        found = records.get(meter)
        if found is None:
            found = self._record(state, meter)
            # Not what is unknown: strangers could send ever new addresses.
            if found is not None:
                records[meter] = found
        return found

    def _record(self, state: RegistryState, meter: bytes) -> MeterRecord | None:
        own = state.keys.get(meter)
        slot = self._slots.get(meter, own.slot if own else None)
        if slot is None:
            return None
        grants = [
            SignerGrant(
                address,
                SignerKind.METER if address == meter else SignerKind.GATEWAY,
                state.keys[address].from_interval,
                state.keys[address].until_interval,
            )
            for address in state.by_slot.get(slot, ())
        ]
        added = self._file.record(meter) or MeterRecord(meter, ())
        if own and own.slot == slot:
            grants += [
                _within(grant, own) for grant in added.grants if grant.kind is SignerKind.COLLECTOR
            ]
        return replace(added, grants=tuple(grants)) if grants else None


def _within(grant: SignerGrant, key: RegisteredKey) -> SignerGrant:
    ends = [end for end in (grant.until_interval, key.until_interval) if end is not None]
    return replace(
        grant,
        from_interval=max(grant.from_interval, key.from_interval),
        until_interval=min(ends, default=None),
    )


def open_directory(config: OracleConfig, clock: Callable[[], float] = time.time) -> MeterDirectory:
    """Who may sign for which meter: by the chain if the configuration names the registry there, else by the file alone.

    Raises:
        InputError: something in the configuration or the file is wrong.
        NodeUnreachable: the node does not answer, and nothing is kept from earlier.
    """
    file = FileDirectory(config.path(config.file.meters_file))
    entry = config.file.meter_registry
    if entry is None:
        return file
    reader = RegistryReader(
        entry.rpc_url,
        secret(config.folder, entry.token_file),
        config.file.chain_id,
        entry.contract,
        entry.from_block,
        entry.confirmations,
    )
    slots = {address_bytes(item.meter): item.slot for item in config.file.members}
    kept = RegistryFile(config.path(entry.kept_file), config.file.chain_id, entry.contract)
    return ChainDirectory(reader, file, slots, kept, clock)
