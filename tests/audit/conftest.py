"""A settled community on a node, shared by the tests that only read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.operator.publication import publish_bundle
from tests.support.anvil import running_anvil

from .honest import RING
from .settled import Settled, settle


@pytest.fixture(scope="session")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settled]:
    """Four honest batches, one of them a correction; the last can still be challenged."""
    folder = tmp_path_factory.mktemp("bundles")
    with running_anvil() as url:
        town = settle(url, RING, seed=11)
        for batch in town.batches:
            publish_bundle(folder / str(batch.header.number), town.bundle(batch))
        yield Settled(town, url, folder)


@pytest.fixture
def bundles(settled: Settled, tmp_path: Path) -> Path:
    """A copy of the bundles to spoil."""
    return settled.copy(tmp_path / "bundles")
