"""One demonstration for all tests of the portal, a browser, and the portal served to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from backend.api.settings import WebSettings
from backend.web_commands import application
from tests.support.demo_site import DemoWorld, demo_world
from tests.support.web_site import served_app


@dataclass(frozen=True)
class Portal:
    """The portal under its address."""

    url: str
    world: DemoWorld


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoWorld]:
    """A community of 12: one day settled, one on the chain, the next one over until the afternoon."""
    with demo_world(tmp_path_factory.mktemp("demo")) as found:
        for hours in (26, 39):
            found.until(hours)
        yield found


@pytest.fixture(scope="session")
def portal(world: DemoWorld) -> Iterator[Portal]:
    """The same community for browsers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        settings = WebSettings(origin=url, requests_per_minute=100_000, sign_ins_per_minute=10_000)
        with served_app(application({world.site.name: world.site}, settings), listening):
            yield Portal(url, world)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They share it, so they stay together."""
    for item in items:
        if "tests/portal" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("portal"))
