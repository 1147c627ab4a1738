"""Integer arrays, and how a loop over them is run: as it stands, or compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

# Below this many steps of a loop, starting the compiler costs more than it saves.
COMPILE_FROM = 3000
NOWHERE = -1
UNBOUNDED = 1 << 60


@cache
def _numba() -> Any:
    try:
        import numba
    except ImportError:
        return None
    return numba


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    numba = _numba()
    return function if numba is None else numba.njit(function, cache=True, nogil=True)


def kernel(function: Callable[..., Any], *, compiled: bool) -> Callable[..., Any]:
    """The function as it stands, or compiled if numba is there."""
    return _compiled(function) if compiled else function
