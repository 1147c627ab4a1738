"""Every file of deploy/ is what the program that reads it expects, and names only what is there."""

from __future__ import annotations

import json
import queue
import re
import shutil
import socket
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client import CollectorRegistry

from backend.chain.failover import shown
from backend.cli import app
from backend.operator.metrics import CoordinatorMetrics
from deploy.networks import load_network, network_names
from tests import services
from tests.support.broker import free_port

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose" / "compose.yml"


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


def metric_names() -> set[str]:
    """Of both kinds of process, with the suffix that counters get."""
    source = (ROOT / "oracle" / "metrics.py").read_text()
    registry: CollectorRegistry = CoordinatorMetrics().registry
    names = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in registry.collect()
    }
    names |= {"peerwatt_oracle_" + n for n in re.findall(r'"peerwatt_oracle_(\w+)"', source)}
    names |= {f"peerwatt_oracle_{n}_total" for n in re.findall(r'f"\{name\}_(\w+)"', source)}
    return names


def used_metrics(text: str) -> set[str]:
    return set(re.findall(r"peerwatt_[a-z_]+", text))


class TestCompose:
    def test_what_a_service_names_is_there(self) -> None:
        given = compose()
        for name, service in given["services"].items():
            assert set(service.get("secrets", [])) <= set(given["secrets"]), name
            assert set(service.get("networks", [])) <= set(given["networks"]), name
            assert set(service.get("depends_on", {})) <= set(given["services"]), name
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if not source.startswith("."):
                    assert source in given["volumes"], (name, source)
                elif "installation" not in source:
                    assert (COMPOSE.parent / source).exists(), (name, source)

    def test_everything_the_issue_names_is_a_service(self) -> None:
        assert set(compose()["services"]) == {
            "coordinator", "signer-1", "signer-2", "signer-3", "postgres", "mosquitto", "node", "prometheus",
            "alertmanager", "grafana",
        }  # fmt: skip

    def test_our_commands_exist(self) -> None:
        from typer.main import get_command

        root: Any = get_command(app)
        for name in ("coordinator", "signer-1", "signer-2", "signer-3"):
            group, command, *arguments = compose()["services"][name]["command"]
            assert command in root.commands[group].commands
            assert len(arguments) == 1

    def test_secrets_are_files_and_nothing_else_is_secret(self) -> None:
        given = compose()
        assert all(set(item) == {"file"} for item in given["secrets"].values())
        for name, service in given["services"].items():
            for key, value in service.get("environment", {}).items():
                if "PASSWORD" in key:
                    assert key.upper().endswith("_FILE"), (name, key)
                    assert str(value).startswith("/run/secrets/")

    def test_nothing_listens_to_the_world(self) -> None:
        for service in compose()["services"].values():
            assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))

    def test_ours_stop_in_order_and_are_watched(self) -> None:
        for name, service in compose()["services"].items():
            if service["image"] == "peerwatt:latest":
                assert service["stop_grace_period"], name
                assert service["healthcheck"]["test"], name
                assert service["restart"] == "unless-stopped"

    def test_the_schema(self) -> None:
        """With the engine's own reader, where there is one."""
        program = shutil.which("docker-compose")
        if program is None:
            pytest.skip("no docker-compose here; the other tests read the file themselves")
        subprocess.run([program, "-f", str(COMPOSE), "config", "-q"], check=True)


def test_the_dockerfile_copies_what_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert (ROOT / "deploy" / "requirements.lock").is_file()
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE)[0].startswith("python:3.11")
    assert "USER peerwatt" in text
    assert "--require-hashes" in text


def test_the_servers_packages_are_locked_as_those_of_the_tests() -> None:
    """The extras `postgres` and `s3` with all they need, at the versions that were tested; nothing that the plain lock has."""
    locks = [locked(DEPLOY / f"requirements{name}.lock") for name in ("", "-server", "-dev")]
    plain, server, tested = locks
    assert not plain.keys() & server.keys()
    assert server.items() <= tested.items()
    wanted = [Requirement("psycopg[binary]"), Requirement("boto3")]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert [Requirement(text).name for name in ("postgres", "s3") for text in extras[name]] == [
        item.name for item in wanted
    ]
    needed: set[str] = set()
    while wanted:
        item = wanted.pop()
        name = canonicalize_name(item.name)
        for extra in {"", *item.extras}:
            for text in metadata.requires(name) or []:
                part = Requirement(text)
                is_new = canonicalize_name(part.name) not in needed
                if is_new and (part.marker is None or part.marker.evaluate({"extra": extra})):
                    wanted.append(part)
        needed.add(name)
    assert server.keys() <= needed <= plain.keys() | server.keys()


def locked(path: Path) -> dict[str, str]:
    """Everything that a lock says of a package, by name."""
    parts = re.split(r"^(?=\w)", path.read_text(), flags=re.MULTILINE)
    return {re.split(r"[=\s]", part)[0]: part.strip() for part in parts if part.strip()}


def test_the_dockerfile_keeps_to_the_usual_rules() -> None:
    """Those of hadolint that matter here, where hadolint itself cannot be had."""
    steps = [
        line.split(maxsplit=1)
        for line in re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text()).splitlines()
        if line and not line.startswith("#")
    ]
    names = [name for name, _ in steps]
    assert "ADD" not in names  # DL3020
    images = [rest.split()[0] for name, rest in steps if name == "FROM"]
    assert all(":" in image and not image.endswith(":latest") for image in images)  # DL3006, 3007
    assert len(set(images)) == 1, "what is built must run on the same"
    assert [rest for name, rest in steps if name == "USER"][-1] not in ("root", "0")  # DL3002
    last = names[len(names) - 1 - names[::-1].index("FROM") :]
    assert "USER" in last and last.index("USER") < last.index("ENTRYPOINT")
    for name, rest in steps:
        if name in ("ENTRYPOINT", "CMD"):
            assert json.loads(rest), "in JSON, so that signals reach the process"  # DL3025
        if name == "RUN" and "pip install" in rest:
            assert "--no-cache-dir" in rest  # DL3042
            assert "--require-hashes" in rest or "--no-deps" in rest  # DL3013
        if name == "WORKDIR":
            assert rest.startswith("/")  # DL3000
        if name == "COPY" and "--from" not in rest:
            assert all((ROOT / source).exists() for source in rest.split()[:-1]), rest
    # What is secret or large must not get into the image.
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", "**/node_modules", "deploy/compose/installation"} <= set(ignored)


class TestPrometheus:
    def test_alerts_and_dashboard_use_metrics_that_exist(self) -> None:
        names = metric_names()
        for path in (DEPLOY / "prometheus/alerts.yml", DEPLOY / "grafana/dashboards/peerwatt.json"):
            assert used_metrics(path.read_text()) - names == set(), path

    def test_every_alert_that_matters_is_there_with_its_mend(self) -> None:
        given = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
        rules = [rule for group in given["groups"] for rule in group["rules"]]
        assert {
            "IntervalNotCleared", "BatchNotFinal", "OracleBelowQuorum", "GasLow", "AuditMismatch"
        } <= {rule["alert"] for rule in rules}  # fmt: skip
        for rule in rules:
            assert rule["annotations"]["mend"], rule["alert"]
            assert rule["labels"]["severity"] in ("warning", "critical")

    def test_promtool_agrees(self) -> None:
        program = services.promtool() or services.absent("prometheus")
        config = DEPLOY / "prometheus" / "prometheus.yml"
        done = subprocess.run(
            [program, "check", "config", str(config)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def test_what_is_scraped_is_a_service(self) -> None:
        given = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        services = compose()["services"]
        for job in given["scrape_configs"]:
            for target in job["static_configs"][0]["targets"]:
                assert target.split(":")[0] in services


class TestAlertmanager:
    def test_the_receivers_are_there(self) -> None:
        """With Alertmanager's own reader too, where there is one."""
        path = DEPLOY / "prometheus" / "alertmanager.yml"
        given = yaml.safe_load(path.read_text())
        assert set(given) <= {"global", "route", "receivers", "inhibit_rules"}
        routes = [given["route"], *given["route"]["routes"]]
        assert {item["receiver"] for item in routes} == {
            item["name"] for item in given["receivers"]
        }
        rules = (DEPLOY / "prometheus" / "alerts.yml").read_text()
        for rule in given["inhibit_rules"]:
            matchers = [*rule["source_matchers"], *rule["target_matchers"]]
            for alert in re.findall(r"[A-Z]\w+", " ".join(matchers)):
                assert f"- alert: {alert}\n" in rules, alert
        if program := shutil.which("amtool"):
            subprocess.run([program, "check-config", str(path)], check=True)

    def test_prometheus_knows_it_and_it_has_its_secret(self) -> None:
        given = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        (manager,) = given["alerting"]["alertmanagers"]
        (target,) = manager["static_configs"][0]["targets"]
        service = compose()["services"][target.split(":")[0]]
        assert set(service["networks"]) & set(compose()["services"]["prometheus"]["networks"])
        own = yaml.safe_load((DEPLOY / "prometheus/alertmanager.yml").read_text())["global"]
        assert own["smtp_auth_password_file"] == f"/run/secrets/{service['secrets'][0]}"


class TestGrafana:
    def test_dashboard_and_provisioning(self) -> None:
        board = json.loads((DEPLOY / "grafana/dashboards/peerwatt.json").read_text())
        source = yaml.safe_load(
            (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text()
        )["datasources"][0]
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids) >= 8
        for panel in board["panels"]:
            assert panel["datasource"]["uid"] == source["uid"]
            assert all(target["expr"] for target in panel["targets"])
            assert 0 <= panel["gridPos"]["x"] <= panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        provider = yaml.safe_load(
            (DEPLOY / "grafana/provisioning/dashboards/peerwatt.yml").read_text()
        )["providers"][0]
        folder = provider["options"]["path"]
        assert f"../grafana/dashboards:{folder}:ro" in compose()["services"]["grafana"]["volumes"]


@pytest.mark.parametrize("path", sorted((DEPLOY / "systemd").iterdir()), ids=lambda path: path.name)
def test_systemd_reads_the_unit(path: Path, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd here")
    # The program is where it will be installed, not here.
    text = path.read_text().replace("/opt/peerwatt/bin/peerwatt", "/bin/true")
    unit = tmp_path / path.name
    unit.write_text(text)
    if path.suffix == ".timer":
        shutil.copy(path.with_suffix(".service"), tmp_path)
        service = tmp_path / path.with_suffix(".service").name
        service.write_text(service.read_text().replace("/opt/peerwatt/bin/peerwatt", "/bin/true"))
    named = str(unit).replace("@.", "@one.")
    if named != str(unit):
        shutil.copy(unit, named)
    done = subprocess.run([program, "verify", named], capture_output=True, text=True, check=False)
    # The machine's own units may have faults; ours must not be named.
    said = [line for line in done.stderr.splitlines() if "peerwatt" in line]
    assert said == []


def test_a_backup_may_open_an_sqlite_ledger() -> None:
    """Opening it writes beside it, and every community has a backup of its own."""
    unit = (DEPLOY / "systemd" / "peerwatt-backup@.service").read_text()
    (state,) = re.findall(r"^StateDirectory=(.+)$", unit, re.MULTILINE)
    assert state.split()[0] == "peerwatt"
    assert "ProtectSystem=strict" in unit
    assert all(
        "%i" in line for line in unit.splitlines() if "backups" in line or "env" in line.lower()
    )


class TestMosquitto:
    """A real broker with the file that is shipped, but for places and port."""

    @pytest.fixture
    def port(self) -> Iterator[int]:
        program = services.mosquitto() or services.absent("mosquitto")
        passwords = services.mosquitto_passwd() or services.absent("mosquitto")
        port = free_port()
        # Not below pytest's own folder: the broker takes a user of its own, who may not look into that.
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o777)
            text = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text()
            for shipped, here in (
                ("listener 1883", f"listener {port} 127.0.0.1"),
                ("/mosquitto/passwords/passwords", f"{folder}/passwords"),
                ("/mosquitto/data/", f"{folder}/"),
            ):
                assert text.count(shipped) == 1
                text = text.replace(shipped, here)
            (folder / "mosquitto.conf").write_text(text)
            subprocess.run(
                [passwords, "-b", "-c", str(folder / "passwords"), "meter", "secret"], check=True
            )
            (folder / "passwords").chmod(0o644)
            with subprocess.Popen([program, "-c", str(folder / "mosquitto.conf")]) as process:
                deadline = time.monotonic() + 60
                while not answers(port):
                    assert process.poll() is None and time.monotonic() < deadline
                    time.sleep(0.02)
                yield port
                process.terminate()
                process.wait(60)
                # What waits for a signer is there after a restart.
                assert (folder / "mosquitto.db").stat().st_size > 0

    @pytest.mark.parametrize(
        ("password", "accepted"), [("secret", True), ("guessed", False), (None, False)]
    )
    def test_who_has_a_password_comes_in(
        self, port: int, password: str | None, accepted: bool
    ) -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2)
        told: queue.Queue[bool] = queue.Queue()
        client.on_connect = lambda _client, _data, _flags, reason, _properties: told.put(
            not reason.is_failure
        )
        if password is not None:
            client.username_pw_set("meter", password)
        client.connect("127.0.0.1", port)
        client.loop_start()
        assert told.get(timeout=30) is accepted
        client.disconnect()
        client.loop_stop()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class TestNetworks:
    def test_those_of_the_issue_come_along(self) -> None:
        assert set(network_names()) == {
            "anvil", "besu-qbft", "chiado", "eth-tester", "gnosis", "sepolia"
        }  # fmt: skip

    @pytest.mark.parametrize("name", network_names())
    def test_each_can_be_read(self, name: str) -> None:
        found = load_network(name)
        assert found.name == name
        assert found.network().chain_id == found.chain_id
        for url in found.rpc:
            assert shown(url).startswith("http")
        if not found.test:
            # A chain with real money is believed only when it says that it is final, or cannot take back.
            assert found.finality_depth in (None, 0)
