"""A place for what was made: so many things, of which the one that was not asked for longest goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Kept = TypeVar("Kept")


@dataclass
class Shelf(Generic[Kept]):
    """Keeps values by key, for any number of threads.

    Args:
        limit: how many.
    """

    limit: int
    _items: OrderedDict[Hashable, Kept] = field(default_factory=OrderedDict, init=False, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def get(self, key: Hashable) -> Kept | None:
        """What is kept; None if nothing is."""
        with self._guard:
            found = self._items.get(key)
            if found is not None:
                self._items.move_to_end(key)
            return found

    def put(self, key: Hashable, value: Kept) -> None:
        """Keeps a value."""
        with self._guard:
            self._put(key, value)

    def get_or_put(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """What is kept, or what is made and kept now; of one key nothing is made twice."""
        with self._guard:
            found = self._items.get(key)
            if found is None:
                found = make()
            self._put(key, found)
            return found

    def clear(self) -> None:
        """Forgets everything."""
        with self._guard:
            self._items.clear()

    def _put(self, key: Hashable, value: Kept) -> None:
        self._items[key] = value
        self._items.move_to_end(key)
        while len(self._items) > self.limit:
            self._items.popitem(last=False)
