"""The oracle's signers in this process: real nodes and stores, requests that get lost, readings that come late, twice or to one only."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from eth_keys.datatypes import PrivateKey

from backend.domain.errors import PeerwattError
from backend.domain.intervals import Period
from backend.settlement.encoding import pack_readings
from oracle.config import ConfigFile, OracleConfig
from oracle.directory import FileDirectory
from oracle.intake import Intake
from oracle.node import OracleNode
from oracle.peers import SignerClient, SignerFailed
from oracle.service import _draft_data
from oracle.store import ReadingStore
from oracle.wire import address_bytes
from tests.simulator.faults import Faults


class ShortPeriods(OracleConfig):
    """A configuration whose periods are an hour."""

    period_at: Callable[[int], Period]

    def period(self, number: int) -> Period:
        return self.period_at(number)


def signer_config(
    file: ConfigFile, folder: Path, period_at: Callable[[int], Period]
) -> OracleConfig:
    config = ShortPeriods(file, folder)
    # A frozen dataclass; the period is not part of the file.
    object.__setattr__(config, "period_at", period_at)
    return config


def make_node(
    config: OracleConfig,
    store: str,
    key: tuple[str, PrivateKey],
    salts: Mapping[int, bytes],
    clock: Callable[[], float],
) -> OracleNode:
    readings = ReadingStore(store)
    directory = FileDirectory(config.path(config.file.meters_file))
    intake = Intake(readings, directory, config.domain, 15, 30, clock, None, 1)
    return OracleNode(config, readings, directory, dict([key]), salts, intake, clock)


@dataclass(frozen=True)
class LocalSigner(SignerClient):
    """What the coordinator calls; answers as `oracle.service` does."""

    node: OracleNode | None = None
    faults: Callable[[], Faults] | None = None
    # Requests to one signer follow each other, those to several do not: each has a stream of its own.
    stream: random.Random = field(default_factory=random.Random)
    down: list[bool] = field(default_factory=lambda: [False])

    def __hash__(self) -> int:
        return hash(self.url)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalSigner) and other.url == self.url

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        assert self.node is not None and self.faults is not None
        faults = self.faults()
        if self.down[0] or faults.strikes("signer_fails", self.stream):
            raise SignerFailed("does not answer: simulated")
        try:
            place = urlsplit(path)
            query = dict(parse_qsl(place.query, keep_blank_values=True))
            answer = self._answer(method, place.path.strip("/").split("/"), query, body or b"")
        except PeerwattError as error:
            raise SignerFailed(f"answers 409: {error.message}") from None
        if faults.strikes("signer_fails", self.stream):
            raise SignerFailed("does not answer: simulated, after the effect")
        return answer

    def _answer(self, method: str, parts: list[str], query: dict[str, str], body: bytes) -> bytes:
        node = self.node
        assert node is not None
        match method, parts:
            case "GET", ["health"]:
                return json.dumps({"status": "ok", "time": node.clock()}).encode()
            case "GET", ["periods", number, "digests"]:
                found = node.readings.digests(int(number))
                return json.dumps({m.hex(): d.hex() for m, d in found.items()}).encode()
            case "POST", ["periods", number, "readings"]:
                meters = [address_bytes(item) for item in json.loads(body)["meters"]]
                return node.readings.packed(int(number), meters)
            case "GET", ["retractions"]:
                return b"[]"
            case "POST", ["readings"]:
                node.intake.take(body, "http")
                return b"{}"
            case "GET", ["periods", number, version, "draft"]:
                return json.dumps(_draft_data(node.offered(int(number), int(version)))).encode()
            case "GET", ["periods", number, version, "vectors"]:
                wanted = bytes.fromhex(query["report"][2:])
                made = node.draft_with(int(number), int(version), wanted)
                chosen = {int(slot) for slot in query["slots"].split(",") if slot}
                return b"".join(
                    item.member.slot.to_bytes(4, "big") + item.salt + pack_readings(item.readings)
                    for item in made.member_periods
                    if not chosen or item.member.slot in chosen
                )
            case "POST", ["periods", number, version, "confirm"]:
                wanted = bytes.fromhex(json.loads(body)["hash"][2:])
                signed = node.confirm(int(number), int(version), wanted)
                return json.dumps({"signature": "0x" + signed.signature.hex()}).encode()
        raise AssertionError((method, parts))
