"""Every kind of source in one configuration: tried out by the command, against what it will meet; and a new one in one file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import oracle.sources
from backend.cli import app
from oracle.sources.registry import kinds, open_source
from tests.support.broker import Broker
from tests.support.http_server import KEY, PASSWORD, USER, serving
from tests.support.oracle import Signer, key, past_period, signer_addresses, write_keystore

DATA = Path(__file__).parent / "data"
NEW_SOURCE = """
from pathlib import Path
from backend.domain.values import Value
from oracle.sources.base import ConnectionTest, Delivery, Sighting

class Settings(Value):
    wh: int
    def open(self, name, folder: Path):
        return Fixed(name, self.wh)

class Fixed:
    def __init__(self, name, wh):
        self.name, self.wh = name, wh
    def test_connection(self):
        return ConnectionTest(True, "always")
    def deliveries(self, stop):
        yield Delivery((Sighting("a", 1_780_000_000_000, self.wh, 0),))
"""


def tried(path: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and by name what the connection tests said."""
    done = CliRunner().invoke(app, ["oracle", "status", str(path), "--sources", "--json"])
    return done.exit_code, {item["name"]: item for item in json.loads(done.stdout)}


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    made = Signer(tmp_path / "signer", 0)
    made.write(signer_addresses())
    write_keystore(made.folder / "collector.json", key("collector"))
    (made.folder / "key").write_text(KEY)
    (made.folder / "user-password").write_text(PASSWORD)
    return made


def configure(signer: Signer, url: str, broker: Broker) -> None:
    keys = json.loads((DATA / "ocmf-keys.json").read_text())
    topics = ("tele/+/SENSOR", "tasmota"), ("+/events/rpc", "shelly"), ("dsmr/telegram", "dsmr")
    subscriptions = [
        {"topic": topic, "payload": payload}
        | ({"time_zone": "UTC"} if payload == "tasmota" else {})
        for topic, payload in topics
    ]
    user = {"username": USER, "password_file": "user-password"}
    signer.change(
        collector={"keystore": "collector.json", "devices": []},
        sources=[
            {"kind": "smart-me", "url": url, "api_key_file": "key"},
            {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port, "subscriptions": subscriptions},
            {"kind": "files", "name": "ocmf", "location": "ocmf", "public_keys": keys},
            {"kind": "files", "name": "tables", "location": "tables", "time_zone": "UTC"},
            {"kind": "files", "name": "cache", "location": f"{url}/cache", **user},
            {"kind": "simbench", "start": str(past_period(3).day)},
        ],
    )  # fmt: skip


def test_each_is_tried_out_before_it_is_used(signer: Signer, tmp_path: Path) -> None:
    for name, file in (("ocmf", "ocmf-keba-p256.ocmf"), ("tables", "readings.csv")):
        (signer.folder / name).mkdir()
        shutil.copy(DATA / file, signer.folder / name)
    served, broker_folder = tmp_path / "served", tmp_path / "broker"
    (served / "cache").mkdir(parents=True)
    broker_folder.mkdir()
    shutil.copy(DATA / "smart-me-devices.json", served)
    devices = json.loads((DATA / "smart-me-devices.json").read_text())
    (served / "cache" / "day.jsonl").write_text(json.dumps(devices[0]) + "\n")
    (served / "cache" / "index.txt").write_text("day.jsonl\n")
    broker = Broker.in_folder(broker_folder)
    broker.start()
    try:
        with serving(served) as url:
            configure(signer, url, broker)
            code, found = tried(signer.path)
    finally:
        broker.stop()
    assert code == 0, found
    assert {item["kind"] for item in json.loads(signer.path.read_text())["sources"]} == {*kinds()}
    assert all(item["works"] and item["detail"] for item in found.values())
    assert found["ocmf"]["devices"] == ["17619300"]
    assert found["smart-me"]["devices"][0] == found["cache"]["devices"][0] == devices[0]["Id"]
    # Nobody is there any more: each that needs somebody says what to do about it, none shows a secret.
    code, found = tried(signer.path)
    assert code == 1
    failed = {name: item["detail"] for name, item in found.items() if not item["works"]}
    assert set(failed) == {"smart-me", "mqtt", "cache"}
    assert all("mend:" in detail for detail in failed.values())
    assert not any(secret in str(failed) for secret in (KEY, PASSWORD))


def test_a_new_source_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fixed_value.py").write_text(NEW_SOURCE)
    monkeypatch.setattr(oracle.sources, "__path__", [*oracle.sources.__path__, str(tmp_path)])
    assert "fixed-value" in kinds()
    source = open_source({"kind": "fixed-value", "wh": 7}, tmp_path)
    assert source.test_connection().works
    (delivery,) = source.deliveries(None)  # type: ignore[arg-type]
    assert delivery.items[0].import_wh == 7  # type: ignore[union-attr]
