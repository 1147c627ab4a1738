"""One demonstration for all tests of the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.demo_site import DemoWorld, running_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoWorld]:
    """For tests that only look; modules whose tests leave something behind have a world of their own."""
    with running_world(tmp_path_factory.mktemp("demo")) as found:
        yield found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They share it, so they stay together."""
    # What a member erases is missing for every test that comes after.
    items.sort(key=lambda item: item.name == "test_export_and_erasure")
    for item in items:
        if "tests/api" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("api"))
