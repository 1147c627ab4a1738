"""`peerwatt certify` accepts what `peerwatt clear` writes and names whatever is changed in it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from typer.testing import CliRunner

from backend.audit.certify import certify
from backend.cli import app
from backend.domain.case import ClearingCase
from backend.market.pool import clear_case
from tests.market.strategies import cases

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "two-zones.case.json").read_text())
CLEARING = clear_case(ClearingCase.parse(GOLDEN)).model_dump(mode="json", by_alias=True)


@given(cases())
def test_every_clearing_is_certified(data: dict[str, Any]) -> None:
    for rule in ("savings-share", "competitive", "blend"):
        clearing = clear_case(ClearingCase.parse(data), rule)
        assert certify(data, clearing.model_dump(mode="json", by_alias=True)) == []


def add(*path: Any, by: int = 1) -> Callable[[dict[str, Any]], None]:
    def change(clearing: dict[str, Any]) -> None:
        target: Any = clearing
        for part in path[:-1]:
            target = target[part]
        target[path[-1]] += by

    return change


CHANGES = [
    add("cost_nano"),
    add("outside_cost_nano"),
    add("savings_nano"),
    add("fees_nano"),
    add("dust_nano"),
    add("groups", 0, "demand_wh"),
    add("groups", 0, "supply_wh"),
    add("groups", 0, "matched_demand_wh", by=-1),
    add("groups", 0, "matched_supply_wh", by=-1),
    add("groups", 1, "matched_demand_wh"),
    add("groups", 0, "buy_price_nano_per_wh", by=-1),
    add("groups", 0, "sell_price_nano_per_wh"),
    add("flows", 0, "energy_wh"),
    add("flows", 0, "energy_wh", by=-700),
    add("node_prices", 0, "price_nano_per_wh"),
    add("node_prices", 1, "price_nano_per_wh", by=-1),
    add("members", 0, "amount_nano"),
    add("trades", 0, "energy_wh"),
    add("trades", 1, "fee_nano"),
    lambda clearing: clearing["members"].pop(),
    lambda clearing: clearing["trades"].pop(),
    lambda clearing: clearing["groups"].pop(),
    lambda clearing: clearing["node_prices"].pop(),
    lambda clearing: clearing["flows"].clear(),
]


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_every_change_is_noticed(tmp_path: Path, number: int) -> None:
    clearing = copy.deepcopy(CLEARING)
    CHANGES[number](clearing)
    for name, data in (("case", GOLDEN), ("clearing", clearing)):
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    arguments = [str(tmp_path / "case.json"), str(tmp_path / "clearing.json")]
    result = CliRunner().invoke(app, ["certify", *arguments])
    assert result.exit_code == 1
    assert "wrong: " in result.stdout
    told = json.loads(CliRunner().invoke(app, ["certify", "--json", *arguments]).stdout)
    assert not told["right"]
    assert told["faults"]


def test_the_untouched_one_is_right(tmp_path: Path) -> None:
    for name, data in (("case", GOLDEN), ("clearing", CLEARING)):
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    result = CliRunner().invoke(
        app, ["certify", str(tmp_path / "case.json"), str(tmp_path / "clearing.json")]
    )
    assert result.exit_code == 0


def test_a_clearing_of_the_wrong_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "case.json").write_text(json.dumps(GOLDEN))
    broken = copy.deepcopy(CLEARING)
    broken["cost_nano"] = 1.5
    (tmp_path / "clearing.json").write_text(json.dumps(broken))
    result = CliRunner().invoke(
        app, ["certify", str(tmp_path / "case.json"), str(tmp_path / "clearing.json")]
    )
    assert result.exit_code == 2
    assert "cost_nano" in result.stderr


def test_the_checker_stays_under_a_hundred_lines() -> None:
    source = Path(__file__).parents[2] / "backend" / "audit" / "certify.py"
    assert len(source.read_text().splitlines()) < 100


def test_cases_on_standard_input_come_back_a_line_each() -> None:
    bad = copy.deepcopy(GOLDEN)
    bad["members"][0]["net_wh"] = 1.5
    lines = "\n".join([json.dumps(GOLDEN), "", json.dumps(bad), "not json", json.dumps(GOLDEN)])
    result = CliRunner().invoke(app, ["clear", "-", "--solver", "auto"], input=lines)
    assert result.exit_code == 2
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [item.get("cost_nano") for item in found] == [109_000_000, None, None, 109_000_000]
    assert found[1]["error"]["field"] == "members[0].net_wh"
    assert found[2]["line"] == 4
    good = CliRunner().invoke(app, ["clear", "-"], input=json.dumps(GOLDEN))
    assert good.exit_code == 0


def test_a_name_the_case_does_not_have_is_told(tmp_path: Path) -> None:
    clearing = copy.deepcopy(CLEARING)
    clearing["trades"][0]["seller"] = "stranger"
    (tmp_path / "case.json").write_text(json.dumps(GOLDEN))
    (tmp_path / "clearing.json").write_text(json.dumps(clearing))
    result = CliRunner().invoke(
        app, ["certify", str(tmp_path / "case.json"), str(tmp_path / "clearing.json")]
    )
    assert result.exit_code == 1
    assert "stranger" in result.stdout
