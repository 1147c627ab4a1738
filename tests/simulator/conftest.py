"""One node with the community on it, for all runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator.world import World, world


@pytest.fixture(scope="session")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """In memory where there is room: what is tested does not depend on how durable the disk is."""
    memory = Path("/dev/shm")
    base = memory / f"peerwatt-{os.getpid()}" if memory.is_dir() else tmp_path_factory.mktemp("w")
    base.mkdir(exist_ok=True)
    with world(base) as made:
        yield made
    for path in sorted(base.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    base.rmdir()
