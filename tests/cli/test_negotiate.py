"""`peerwatt negotiate`: result, comparison, trace, picture, fairness, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from backend.cli import app
from tests.market.p2p.cases import IEEE14_OUTSIDE, IEEE39


def run(tmp_path: Path, data: dict[str, Any], *options: str) -> Any:
    path = tmp_path / "case.json"
    path.write_text(json.dumps(data))
    return CliRunner().invoke(app, ["negotiate", str(path), *options])


def test_a_negotiation_with_everything(tmp_path: Path) -> None:
    trace, plot = tmp_path / "trace.jsonl", tmp_path / "plot.svg"
    options = ("--method", "sparse", "--tolerance", "1e-6", "--compare", "central", "--json")
    done = run(tmp_path, IEEE39, *options, "--trace", str(trace), "--plot", str(plot))
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    assert result["format"] == "peerwatt/p2p/1"
    assert result["certified_gap"] <= 1e-6
    assert abs(result["compared"]["objective"]) <= 1e-6
    head, *checks = (json.loads(line) for line in trace.read_text().splitlines())
    assert head["format"] == "peerwatt/p2p-trace/1"
    assert checks[-1]["round"] == result["iterations"]
    assert checks[-1]["gap"] <= 1e-6 < checks[0]["gap"]
    lines = ElementTree.fromstring(plot.read_text()).findall("{*}polyline")
    assert len(lines) == 3
    assert all(line.get("points") for line in lines)


def test_tables_for_people(tmp_path: Path) -> None:
    done = run(tmp_path, IEEE14_OUTSIDE, "--compare", "reference:clarabel")
    assert done.exit_code == 0
    for words in ("Agents", "Trades", "-3395.572619", "objective against reference:clarabel"):
        assert words in done.stdout


def test_no_agreement_is_said_and_fails(tmp_path: Path) -> None:
    done = run(tmp_path, IEEE39, "--method", "rci", "--rounds", "10", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["outcome"] == "no agreement within 10 rounds"


@pytest.mark.parametrize(
    "options",
    [("--tolerance", "0"), ("--rounds", "0"), ("--method", "x"), ("--weight=-1",)],
)
def test_bad_options_exit_with_2(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert run(tmp_path, IEEE39, *options).exit_code == 2


def test_the_manager_weighs_import_peak_and_autarky(tmp_path: Path) -> None:
    """What counts moves what is imported; the objective stays what is paid."""
    found = {}
    for fairness in ("cost", "import", "peak", "autarky"):
        options = ("--organisation", "community", "--fairness", fairness, "--weight", "10")
        done = run(tmp_path, IEEE14_OUTSIDE, *options, "--json")
        found[fairness] = json.loads(done.stdout)
    assert found["cost"]["imported"] == pytest.approx(75.7619, abs=1e-3)
    assert 0 < found["import"]["imported"] < found["cost"]["imported"]
    assert found["autarky"]["imported"] == pytest.approx(0, abs=1e-9)
    assert found["autarky"]["objective"] == pytest.approx(-2462.9832, abs=1e-4)
    assert all(one["objective"] >= found["cost"]["objective"] for one in found.values())


def test_microgrids_trade_with_each_other(tmp_path: Path) -> None:
    agents = [
        agent | {"community": "north" if number % 2 else "south"}
        for number, agent in enumerate(IEEE39["agents"])
    ]
    one = run(tmp_path, IEEE39 | {"agents": agents}, "--organisation", "microgrids", "--json")
    far = IEEE39 | {"agents": agents, "between_fee": 1000.0}
    apart = run(tmp_path, far, "--organisation", "microgrids", "--json")
    together, separate = json.loads(one.stdout), json.loads(apart.stdout)
    assert together["objective"] == pytest.approx(-92547.875, abs=1e-2)
    assert separate["objective"] > together["objective"]
    assert separate["fees"] == 0
