"""Every file of deploy/ is what the program that reads it expects, and names only what is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from backend.chain.failover import shown
from backend.cli import app
from backend.operator.metrics import CoordinatorMetrics
from deploy.networks import load_network, network_names
from tests import services

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
            "coordinator", "signer-1", "signer-2", "signer-3", "postgres", "mosquitto", "node", "prometheus", "grafana"
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
            assert "--require-hashes" in rest or "--no-deps" in rest or ">=" in rest  # DL3013
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

    def test_alerts_go_off_when_they_should(self, tmp_path: Path) -> None:
        """promtool plays made-up series through the rules."""
        program = services.promtool() or services.absent("prometheus")

        def series(name: str, values: str, **labels: str) -> dict[str, str]:
            shown_labels = ",".join(f'{key}="{value}"' for key, value in labels.items())
            return {"series": f"peerwatt_coordinator_{name}{{{shown_labels}}}", "values": values}

        valley = {"community": "valley"}
        cases = {
            "IntervalNotCleared": series(
                "cleared_interval_end_timestamp_seconds", "0x240", **valley
            ),
            "BatchNotFinal": series("oldest_open_period_end_timestamp_seconds", "1x5000", **valley),
            "GasLow": series("batches_affordable", "29x240", **valley),
            "AuditMismatch": series("audit_mismatches", "1x240", **valley),
            "CoordinatorStuck": series("advanced_timestamp_seconds", "0x240", **valley),
        }
        tests = [
            {
                "interval": "1m",
                "input_series": [given],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                        "eval_time": "4000m" if alert == "BatchNotFinal" else "2h",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                ],
            }
            for alert, given in cases.items()
        ]
        tests.append(
            {
                "interval": "1m",
                "input_series": [
                    series("signers_answering", "1x240", **valley),
                    series("signers_needed", "2x240", **valley),
                ],
                "promql_expr_test": [
                    {
                        "expr": 'count(ALERTS{alertname="OracleBelowQuorum",alertstate="firing"})',
                        "eval_time": "1h",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                ],
            }
        )
        rules = DEPLOY / "prometheus" / "alerts.yml"
        path = tmp_path / "tests.yml"
        path.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": tests}))
        done = subprocess.run(
            [program, "test", "rules", str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def test_what_is_scraped_is_a_service(self) -> None:
        given = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        services = compose()["services"]
        for job in given["scrape_configs"]:
            for target in job["static_configs"][0]["targets"]:
                assert target.split(":")[0] in services


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
