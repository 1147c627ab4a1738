"""Chains described in files (docs/files.md, `peerwatt/network/1`)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from web3 import Web3

from backend.chain.failover import FailoverProvider
from backend.chain.networks import GWEI, Network
from backend.domain.errors import MalformedInput
from backend.domain.values import Value, parse_json


class NetworkFile(Value):
    """The file `peerwatt/network/1`."""

    format: Literal["peerwatt/network/1"] = "peerwatt/network/1"
    name: str
    chain_id: Annotated[int, Field(gt=0)]
    rpc: tuple[str, ...]
    finality_depth: Annotated[int, Field(ge=0, le=1000)] | None
    block_seconds: Annotated[int, Field(ge=1, le=600)] = 12
    priority_fee_gwei: Annotated[int, Field(ge=0)] = 1
    fee_limit_gwei: Annotated[int, Field(ge=1)] = 500
    replace_after_seconds: Annotated[int, Field(ge=1)] = 60
    test: bool = False
    note: str = ""

    def network(self) -> Network:
        """As the chain client uses it."""
        return Network(
            self.name,
            self.chain_id,
            self.finality_depth,
            self.priority_fee_gwei * GWEI,
            self.fee_limit_gwei * GWEI,
            self.replace_after_seconds,
        )

    def connect(self, rpc: tuple[str, ...] = ()) -> Web3:
        """The chain, through its endpoints.

        Args:
            rpc: other endpoints than the file's.

        Raises:
            MalformedInput: there is no endpoint.
        """
        return Web3(FailoverProvider(rpc or self.rpc, self.chain_id))


def network_names() -> list[str]:
    """The networks that come along."""
    found = (item.name for item in files(__name__).iterdir())
    return sorted(name.removesuffix(".json") for name in found if name.endswith(".json"))


def load_network(name: str) -> NetworkFile:
    """A network that comes along, by its name, or any by the path of its file.

    Raises:
        InputError: no such network, or the file is not what it should be.
    """
    if name in network_names():
        text = files(__name__).joinpath(f"{name}.json").read_text()
        return NetworkFile.from_data(parse_json(text, name))
    path = Path(name)
    if not path.is_file():
        raise MalformedInput(
            "network",
            name,
            "no such network",
            f"name a file, or one of: {', '.join(network_names())}",
        )
    return NetworkFile.from_data(parse_json(path.read_bytes(), path))
