"""What tests share: hypothesis profiles, an embedded chain per worker, the example community deployed on it.

`HYPOTHESIS_PROFILE=dev` looks for new cases; the default, `ci`, tries the same ones on every machine and has no deadline,
because a test must not depend on how fast the machine is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from web3.contract import Contract

from backend.chain.client import ChainClient
from contracts.artifact import artifact
from contracts.bindings import constructor
from tests.support.chain import restored
from tests.support.community import (
    ETHER,
    Community,
    LiveCommunity,
    account,
    deploy_example,
    example_community,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("dev", deadline=None, max_examples=500)
# That a test fails is enough: no smaller example is looked for. mutmut collects the tests anew for each run within one process, and
# nothing is kept between runs that this could confuse.
settings.register_profile(
    "mutation",
    settings.get_profile("ci"),
    max_examples=20,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.differing_executors],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser; one for each worker, because Playwright does not start twice in one thread."""
    from tests.support.chromium import open_chromium

    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def chain() -> ChainClient:
    """An embedded chain; one for each worker."""
    return ChainClient.open(None)


@pytest.fixture(scope="session")
def deployed(chain: ChainClient) -> LiveCommunity:
    """The example community, deployed; tests take `community`, which starts from here every time."""
    return deploy_example(chain)


@pytest.fixture
def community(deployed: LiveCommunity) -> Iterator[LiveCommunity]:
    """The example community just deployed; what a test does to it is undone."""
    with restored(deployed.client.web3):
        yield deployed.reopened()


@pytest.fixture(scope="session")
def deployed_ahead() -> LiveCommunity:
    """The same on a chain of its own, with a first period that has not begun: an hour after the chain's present."""
    client = ChainClient.open(None)
    # The first block that is mined has the machine's time.
    client.fund([account("deployer").address], 1)
    now = client.web3.eth.get_block("latest")["timestamp"]
    return deploy_example(client, now // 900 + 8)


@pytest.fixture
def ahead(deployed_ahead: LiveCommunity) -> Iterator[LiveCommunity]:
    """The community whose first period has not begun; what a test does to it is undone."""
    with restored(deployed_ahead.client.web3):
        yield deployed_ahead.reopened()


@pytest.fixture(scope="session")
def paper() -> Community:
    """The example community without a chain."""
    return example_community()


@pytest.fixture(scope="session")
def harness() -> Contract:
    """The contracts' internal libraries, opened for calls; on a chain of its own that no test turns back."""
    client = ChainClient.open(None)
    client.fund([account("deployer").address], ETHER)
    sent = client.send(constructor(client.web3, "LibraryHarness"), account("deployer"))
    found: Contract = client.web3.eth.contract(
        address=sent.contract_address, abi=artifact("LibraryHarness")["abi"]
    )
    return found
