"""Empty databases of both kinds: fixtures that a conftest takes over by importing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support import postgres
from tests.support.postgres import Cluster

# A new empty database; returns its URL.
NewDatabase = Callable[[], str]
_NUMBERS = count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One PostgreSQL server for all tests of this worker."""
    with postgres.cluster() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> NewDatabase:
    """Makes empty databases of the kind that the test runs on."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path}/ledger-{next(_NUMBERS)}.sqlite"
    cluster: Cluster = request.getfixturevalue("cluster")
    return lambda: cluster.create(f"ledger{next(_NUMBERS)}")


@pytest.fixture
def database(new_database: NewDatabase) -> str:
    """The URL of one empty database."""
    return new_database()


__all__ = ["NewDatabase", "cluster", "database", "new_database"]
