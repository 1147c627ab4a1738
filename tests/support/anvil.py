"""A real node on a free port, with the powers that only development nodes have."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from web3 import HTTPProvider, Web3
from web3.types import RPCEndpoint

ANVIL = Path(__file__).parents[2] / "contracts" / "node_modules" / ".bin" / "anvil"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def running_anvil(*arguments: str, port: int | None = None) -> Iterator[str]:
    """The URL of a fresh node; skips the test where there is none."""
    if not ANVIL.exists():
        pytest.skip("no anvil: npm could not install contracts/package.json")
    port = port or free_port()
    node = subprocess.Popen(
        [str(ANVIL), "--port", str(port), "--silent", *arguments], stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        node.terminate()
        node.wait()


def ask(web3: Web3, method: str, *params: Any) -> Any:
    """The result of a method that web3 does not know."""
    assert isinstance(web3.provider, HTTPProvider)
    answer = web3.provider.make_request(RPCEndpoint(method), list(params))
    assert "error" not in answer, answer["error"]
    return answer["result"]


def mine(web3: Web3, blocks: int = 1) -> None:
    """New blocks at once."""
    ask(web3, "anvil_mine", hex(blocks))
