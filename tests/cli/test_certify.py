"""`peerwatt certify` accepts what `peerwatt clear` writes and names whatever is changed in it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
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

FOLDER = Path(__file__).parent.parent / "golden"
GOLDEN = json.loads((FOLDER / "two-zones.case.json").read_text())
PAIR_FEES = json.loads((FOLDER / "pair-fees.case.json").read_text())
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


# What the case cannot tell: who cleared it, and by which rule.
UNTOLD = {"format", "solver", "solver_gap_nano", "price_rule"}


def tampered(data: Any) -> Iterator[tuple[str, Any]]:
    """Copies with one thing changed: every number up and down, every name and state another, every entry gone or doubled."""
    if isinstance(data, dict):
        for name, value in data.items():
            for where, changed in tampered(value):
                yield f".{name}{where}", data | {name: changed}
    elif isinstance(data, list):
        for index, value in enumerate(data):
            before, after = data[:index], data[index + 1 :]
            yield f"[{index}] gone", before + after
            yield f"[{index}] doubled", [*before, value, value, *after]
            for where, changed in tampered(value):
                yield f"[{index}]{where}", [*before, changed, *after]
    elif isinstance(data, int):
        yield from ((f" by {step}", data + step) for step in (1, -1, 10**9))
    else:
        yield from (
            (f" to {other}", other)
            for other in ("a", "b", "c", "m1", "m2", "m3", "stranger", "surplus", "balanced")
            if other != data
        )


@pytest.mark.parametrize("case", [GOLDEN, PAIR_FEES], ids=["graph", "pair fees"])
@pytest.mark.parametrize("rule", ["savings-share", "competitive"])
def test_whatever_is_changed_is_told(case: dict[str, Any], rule: str) -> None:
    parsed = ClearingCase.parse(case)
    clearing = clear_case(parsed, rule).model_dump(mode="json", by_alias=True)
    assert certify(case, clearing) == []
    untold = []
    for where, changed in tampered({k: v for k, v in clearing.items() if k not in UNTOLD}):
        try:
            faults = certify(case, changed)
        except KeyError:  # a name that the case does not have, which the command tells
            continue
        if not faults:
            untold.append(where)
    assert untold == []


@pytest.mark.parametrize(
    ("case", "change"),
    [
        (PAIR_FEES, lambda clearing: clearing["groups"][1].pop("demand_value_nano_per_wh")),
        (PAIR_FEES, lambda clearing: clearing.update(node_prices=CLEARING["node_prices"])),
        (GOLDEN, lambda clearing: clearing["groups"][0].update(supply_value_nano_per_wh=0)),
    ],
)
def test_the_proof_of_another_kind_of_network_is_told(case: Any, change: Any) -> None:
    clearing = clear_case(ClearingCase.parse(case)).model_dump(mode="json", by_alias=True)
    change(clearing)
    assert certify(case, clearing)


@pytest.mark.parametrize("pair", [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)])
def test_the_checker_looks_at_every_pair(pair: tuple[int, int]) -> None:
    """A fee one nano lower: the prices of a pair that breaks even prove nothing any more, or its trades' fees are wrong."""
    clearing = clear_case(ClearingCase.parse(PAIR_FEES)).model_dump(mode="json", by_alias=True)
    case = copy.deepcopy(PAIR_FEES)
    for one, other in {pair, pair[::-1]}:
        case["network"]["pair_fees_nano_per_wh"][one][other] -= 1
    # From b to itself is the only pair that does not break even.
    assert bool(certify(case, clearing)) == (pair != (1, 1))


def test_values_that_add_up_but_that_a_pair_contradicts_are_told() -> None:
    clearing = clear_case(ClearingCase.parse(PAIR_FEES)).model_dump(mode="json", by_alias=True)
    assert clearing["solver_gap_nano"] == 0  # of HiGHS, which is exact here
    # 400 Wh at a, 500 at b: the bound stays what it was.
    clearing["groups"][0]["demand_value_nano_per_wh"] += 5
    clearing["groups"][1]["demand_value_nano_per_wh"] -= 4
    assert any("a pair gains 4 more" in fault for fault in certify(PAIR_FEES, clearing))


@pytest.mark.parametrize("data", [GOLDEN, PAIR_FEES], ids=["graph", "pair fees"])
def test_energy_given_to_another_seller_of_the_group_is_told(data: dict[str, Any]) -> None:
    case = copy.deepcopy(data)
    # Twice as much surplus as anybody needs.
    case["members"].append(case["members"][0] | {"id": "m9", "net_wh": 9000})
    clearing = clear_case(ClearingCase.parse(case)).model_dump(mode="json", by_alias=True)
    assert certify(case, clearing) == []
    first = next(trade for trade in clearing["trades"] if trade["seller"] == "m1")
    first["seller"] = "m9"
    assert any("energy traded by m1" in fault for fault in certify(case, clearing))


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
    sources = list((Path(__file__).parents[2] / "backend" / "audit").glob("certify*.py"))
    assert len(sources) == 2
    for source in sources:
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


def test_lines_may_mix_graphs_and_pair_fees() -> None:
    bad = copy.deepcopy(PAIR_FEES)
    bad["network"]["pair_fees_nano_per_wh"][2][0] = 1
    lines = "\n".join(map(json.dumps, (GOLDEN, PAIR_FEES, bad, PAIR_FEES, GOLDEN)))
    for solver in ("auto", "highs"):
        result = CliRunner().invoke(app, ["clear", "-", "--solver", solver], input=lines)
        assert result.exit_code == 2
        found = [json.loads(line) for line in result.stdout.splitlines()]
        costs = [109_000_000, 266_000_000, None, 266_000_000, 109_000_000]
        assert [item.get("cost_nano") for item in found] == costs
        assert found[2]["error"]["field"] == "network.pair_fees_nano_per_wh[2][0]"
        used = [item["solver"] for item in found if "solver" in item]
        assert used == (["sweep", "pairs", "pairs", "sweep"] if solver == "auto" else ["highs"] * 4)


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
