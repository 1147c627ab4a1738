"""Parts of bundles wherever they are kept, checked against the hashes that the chain names, and parsed once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from eth_hash.auto import keccak

from backend.domain.errors import BundleUnavailable
from backend.operator.bundle_store import BundleStore
from backend.settlement.encoding import BatchHeader

# Of a thousand members a few days each.
_PARTS_KEPT = 8192
_PUBLIC_KEPT = 64


class BundleParts(Protocol):
    """Where a batch's parts come from."""

    def public(self, header: BatchHeader) -> bytes | None:
        """The public part; None if it is not there."""

    def personal(self, header: BatchHeader, slot: int) -> bytes | None:
        """A slot's part; None if there is none (any more)."""


@dataclass(frozen=True)
class StoredParts:
    """The coordinator's store."""

    store: BundleStore

    def public(self, header: BatchHeader) -> bytes | None:
        """See `BundleParts`."""
        return self.store.public(header.bundle_hash)

    def personal(self, header: BatchHeader, slot: int) -> bytes | None:
        """See `BundleParts`."""
        return self.store.personal(header.bundle_hash, slot)


@dataclass(frozen=True)
class FolderParts:
    """A folder as the demonstration writes it: `NUMBER/public.json`, `NUMBER/personal/SLOT.json`."""

    folder: Path

    def public(self, header: BatchHeader) -> bytes | None:
        """See `BundleParts`."""
        return _read(self.folder / str(header.number) / "public.json")

    def personal(self, header: BatchHeader, slot: int) -> bytes | None:
        """See `BundleParts`."""
        return _read(self.folder / str(header.number) / "personal" / f"{slot}.json")


@dataclass
class Bundles:
    """Parts by batch, checked and parsed; a part never changes, so it is kept.

    Args:
        parts: where they come from.
    """

    parts: BundleParts
    _public: Any = field(init=False, repr=False)
    _personal: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._public = lru_cache(_PUBLIC_KEPT)(self._load_public)
        self._personal = lru_cache(_PARTS_KEPT)(self._load_personal)

    def public(self, header: BatchHeader) -> dict[str, Any]:
        """The public part as JSON data.

        Raises:
            BundleUnavailable: it is missing, or not what the chain names.
        """
        found: dict[str, Any] = self._public(header)
        return found

    def personal(self, header: BatchHeader, slot: int) -> dict[str, Any] | None:
        """A slot's part as JSON data; None if the batch has none, or it was erased.

        Raises:
            BundleUnavailable: it is not what the chain names.
        """
        found: dict[str, Any] | None = self._personal(header, slot)
        return found

    def forget(self) -> None:
        """After an erasure."""
        self._personal.cache_clear()

    def _load_public(self, header: BatchHeader) -> dict[str, Any]:
        data = self.parts.public(header)
        if data is None or keccak(data) != header.bundle_hash:
            raise _unavailable(f"the public part of batch {header.number}")
        found: dict[str, Any] = json.loads(data)
        return found

    def _load_personal(self, header: BatchHeader, slot: int) -> dict[str, Any] | None:
        expected = self.public(header)["personal_hashes"].get(str(slot))
        data = self.parts.personal(header, slot) if expected else None
        if data is None:
            return None
        if "0x" + keccak(data).hex() != expected:
            raise _unavailable(f"the personal part of slot {slot} in batch {header.number}")
        found: dict[str, Any] = json.loads(data)
        return found


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unavailable(f"{path.name}: {error.strerror}") from None


def _unavailable(what: str) -> BundleUnavailable:
    return BundleUnavailable(
        f"{what} is missing or damaged", "put the bundle back as it was published"
    )
