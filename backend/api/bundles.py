"""Parts of bundles, checked against the hashes that the chain names, and kept."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from eth_hash.auto import keccak

from backend.domain.errors import BundleUnavailable
from backend.operator.bundle_store import BundleStore
from backend.settlement.encoding import BatchHeader

# Of a thousand members a few days each, as they are: parsed they would be a million objects, and the garbage collector, which stops
# everything, would look at each.
_PARTS_KEPT = 8192
_PARSED_KEPT = 128
_PUBLIC_KEPT = 64


class Bundles:
    """Parts by batch; a part never changes, so it is kept.

    Args:
        store: where they are.
    """

    def __init__(self, store: BundleStore) -> None:
        self.store = store
        self.public = lru_cache(_PUBLIC_KEPT)(self._public)
        self.personal = lru_cache(_PARSED_KEPT)(self._personal)
        self._part = lru_cache(_PARTS_KEPT)(self._checked_part)

    def forget(self) -> None:
        """After an erasure."""
        self.personal.cache_clear()
        self._part.cache_clear()

    def _public(self, header: BatchHeader) -> dict[str, Any]:
        """The public part as JSON data.

        Raises:
            BundleUnavailable: it is missing, or not what the chain names.
        """
        data = self.store.public(header.bundle_hash)
        if data is None or keccak(data) != header.bundle_hash:
            raise _unavailable(f"the public part of batch {header.number}")
        found: dict[str, Any] = json.loads(data)
        return found

    def _personal(self, header: BatchHeader, slot: int) -> dict[str, Any] | None:
        """A slot's part as JSON data; None if the batch has none, or it was erased.

        Raises:
            BundleUnavailable: it is not what the chain names.
        """
        data = self._part(header, slot)
        if data is None:
            return None
        found: dict[str, Any] = json.loads(data)
        return found

    def _checked_part(self, header: BatchHeader, slot: int) -> bytes | None:
        expected = self.public(header)["personal_hashes"].get(str(slot))
        data = self.store.personal(header.bundle_hash, slot) if expected else None
        if data is None:
            return None
        if "0x" + keccak(data).hex() != expected:
            raise _unavailable(f"the personal part of slot {slot} in batch {header.number}")
        return data


def _unavailable(what: str) -> BundleUnavailable:
    return BundleUnavailable(
        f"{what} is missing or damaged", "put the bundle back as it was published"
    )
