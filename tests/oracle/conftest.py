"""What the oracle's tests share: both kinds of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from oracle.store import ReadingStore
from tests.support.oracle import own_file
from tests.support.postgres import Cluster, cluster, fresh_database


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server."""
    with cluster() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'readings.sqlite'}"
    return fresh_database(request.getfixturevalue("postgres"))


@pytest.fixture
def store(store_url: str) -> Iterator[ReadingStore]:
    """A store in it."""
    opened = ReadingStore(store_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def new_store(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Names an empty store for each signer that asks; all of one kind."""
    if request.param == "sqlite":
        return own_file
    return partial(fresh_database, request.getfixturevalue("postgres"))
