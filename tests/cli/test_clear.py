"""`peerwatt clear`: good cases come back certified; bad ones name field, value and mend, and exit with 2."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backend.cli import app

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "two-zones.case.json").read_text())
Change = Callable[[dict[str, Any]], Any]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["clear", *arguments])


def write(folder: Path, content: object) -> str:
    path = folder / "case.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


@pytest.mark.parametrize("solver", ["highs", "clarabel", "scs"])
def test_a_case_comes_back_cleared(tmp_path: Path, solver: str) -> None:
    result = run(write(tmp_path, GOLDEN), "--solver", solver)
    assert result.exit_code == 0
    clearing = json.loads(result.stdout)
    assert clearing["format"] == "peerwatt/clearing/1"
    assert clearing["cost_nano"] == 109_000_000
    assert clearing["duality_gap_nano"] == 0


def test_rule_and_share_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path, GOLDEN)
    buyers = json.loads(run(path, "--share", "1").stdout)
    assert buyers["groups"][0]["sell_price_nano_per_wh"] == 60_000
    competitive = json.loads(run(path, "--rule", "competitive").stdout)
    assert competitive["price_rule"] == "competitive"
    assert competitive["groups"][0]["sell_price_nano_per_wh"] == 275_000


def set_(*path: Any) -> Callable[[Any], Change]:
    def with_value(value: Any) -> Change:
        def change(case: dict[str, Any]) -> None:
            target: Any = case
            for part in path[:-1]:
                target = target[part]
            target[path[-1]] = value

        return change

    return with_value


def drop(*path: Any) -> Change:
    def change(case: dict[str, Any]) -> None:
        target: Any = case
        for part in path[:-1]:
            target = target[part]
        del target[path[-1]]

    return change


BAD_CASES: list[tuple[str, Change, str, str]] = [
    ("unknown format", set_("format")("other/1"), "format", "input.malformed"),
    ("no members", drop("members"), "members", "input.malformed"),
    ("extra field", set_("surprise")(1), "surprise", "input.malformed"),
    ("misspelt", set_("members", 0, "net_kwh")(1), "members[0].net_kwh", "input.malformed"),
    ("fraction", set_("members", 0, "net_wh")(1.5), "members[0].net_wh", "input.malformed"),
    ("text", set_("members", 0, "net_wh")("7"), "members[0].net_wh", "input.malformed"),
    ("true", set_("members", 0, "net_wh")(True), "members[0].net_wh", "input.malformed"),
    (
        "too much",
        set_("members", 1, "net_wh")(2**40 + 1),
        "members[1].net_wh",
        "input.out_of_range",
    ),
    ("huge", set_("members", 1, "net_wh")(10**40), "members[1].net_wh", "input.out_of_range"),
    ("empty id", set_("members", 0, "id")(""), "members[0].id", "input.malformed"),
    ("twice", set_("members", 1, "id")("m1"), "members[1].id", "input.duplicate"),
    ("no node", set_("members", 2, "node")("z"), "members[2].node", "input.unknown_reference"),
    (
        "no class",
        set_("members", 2, "tariff_class")("z"),
        "members[2].tariff_class",
        "input.unknown_reference",
    ),
    (
        "price above what the types hold",
        set_("tariff_classes", 0, "import_price_nano_per_wh")(2**40),
        "tariff_classes[0].import_price_nano_per_wh",
        "input.out_of_range",
    ),
    (
        "feed-in above retail",
        set_("tariff_classes", 0, "export_price_nano_per_wh")(300_001),
        "tariff_classes[0].export_price_nano_per_wh",
        "input.out_of_range",
    ),
    (
        "negative fee",
        set_("network", "edges", 0, "fee_nano_per_wh")(-1),
        "network.edges[0].fee_nano_per_wh",
        "input.out_of_range",
    ),
    (
        "negative access fee",
        set_("network", "nodes", 0, "access_fee_nano_per_wh")(-1),
        "network.nodes[0].access_fee_nano_per_wh",
        "input.out_of_range",
    ),
    (
        "edge to nowhere",
        set_("network", "edges", 0, "to")("z"),
        "network.edges[0].to",
        "input.unknown_reference",
    ),
    (
        "edge to itself",
        set_("network", "edges", 0, "to")("a"),
        "network.edges[0].to",
        "input.malformed",
    ),
    (
        "edge twice",
        lambda case: case["network"]["edges"].append(
            {"from": "b", "to": "a", "fee_nano_per_wh": 1}
        ),
        "network.edges[1]",
        "input.duplicate",
    ),
    (
        "disconnected",
        set_("network", "edges")([]),
        "network.nodes[1].id",
        "input.disconnected_network",
    ),
    ("no nodes", set_("network")({"nodes": []}), "network.nodes", "input.malformed"),
    (
        "node twice",
        set_("network", "nodes", 1, "id")("a"),
        "network.nodes[1].id",
        "input.duplicate",
    ),
    (
        "no time zone",
        set_("interval", "start")("2026-06-21T12:00:00"),
        "interval.start",
        "input.malformed",
    ),
    ("10 minutes", set_("interval", "minutes")(10), "interval.minutes", "input.malformed"),
]


@pytest.mark.parametrize(
    ("change", "field", "code"), [row[1:] for row in BAD_CASES], ids=[row[0] for row in BAD_CASES]
)
def test_a_bad_case_names_field_value_and_mend(
    tmp_path: Path, change: Change, field: str, code: str
) -> None:
    case = copy.deepcopy(GOLDEN)
    change(case)
    result = run(write(tmp_path, case), "--json")
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert (error["field"], error["code"]) == (field, code)
    assert error["remedy"]
    assert "value" in error
    assert field in result.stderr
    assert "mend:" in result.stderr


PAIR_FEES = json.loads(
    (Path(__file__).parent.parent / "golden" / "pair-fees.case.json").read_text()
)
FEES = "network.pair_fees_nano_per_wh"


def pair_fees(*path: Any) -> Callable[[Any], Change]:
    return set_("network", "pair_fees_nano_per_wh", *path)


BAD_PAIR_FEES: list[tuple[str, Change, str, str]] = [
    ("no row", pair_fees()([]), FEES, "input.malformed"),
    (
        "a row too few",
        lambda case: case["network"]["pair_fees_nano_per_wh"].pop(),
        FEES,
        "input.malformed",
    ),
    ("a row too short", pair_fees(1)([20000, 0]), f"{FEES}[1]", "input.malformed"),
    ("a row too long", pair_fees(2)([90000, 1000, 0, 0]), f"{FEES}[2]", "input.malformed"),
    ("not symmetric", pair_fees(0, 2)(89999), f"{FEES}[2][0]", "input.malformed"),
    ("negative", pair_fees(0, 0)(-1), f"{FEES}[0][0]", "input.out_of_range"),
    ("too much", pair_fees(1, 1)(2**40), f"{FEES}[1][1]", "input.out_of_range"),
    ("huge", pair_fees(1, 1)(10**40), f"{FEES}[1][1]", "input.out_of_range"),
    ("fraction", pair_fees(0, 1)(0.5), f"{FEES}[0][1]", "input.malformed"),
    ("text", pair_fees(0, 1)("1"), f"{FEES}[0][1]", "input.malformed"),
    ("null", pair_fees(0, 1)(None), f"{FEES}[0][1]", "input.malformed"),
    ("not rows", pair_fees()(7), FEES, "input.malformed"),
    (
        "edges too",
        set_("network", "edges")([{"from": "a", "to": "b", "fee_nano_per_wh": 1}]),
        "network.edges",
        "input.malformed",
    ),
    ("islands too", set_("network", "islands")(True), "network.islands", "input.malformed"),
    (
        "node twice",
        set_("network", "nodes", 1, "id")("a"),
        "network.nodes[1].id",
        "input.duplicate",
    ),
    ("no node", set_("members", 2, "node")("z"), "members[2].node", "input.unknown_reference"),
]


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [row[1:] for row in BAD_PAIR_FEES],
    ids=[row[0] for row in BAD_PAIR_FEES],
)
def test_bad_pair_fees_name_field_value_and_mend(
    tmp_path: Path, change: Change, field: str, code: str
) -> None:
    case = copy.deepcopy(PAIR_FEES)
    change(case)
    result = run(write(tmp_path, case), "--json", "--solver", "auto")
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert (error["field"], error["code"]) == (field, code)
    assert error["remedy"]
    assert "value" in error


@pytest.mark.parametrize("solver", ["sweep", "flow"])
def test_a_matrix_is_refused_by_methods_for_graphs(tmp_path: Path, solver: str) -> None:
    result = run(write(tmp_path, PAIR_FEES), "--json", "--solver", solver)
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "market.solver_unavailable"
    assert "auto" in error["remedy"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": NaN}',
        '{"a": 1, "a": 2}',
        '{"x": ' + "9" * 5000 + "}",
        "[" * 100_000,
        "\x00",
    ],
    ids=["empty", "cut", "list", "null", "nan", "twice", "long", "deep", "binary"],
)
def test_what_is_not_a_json_object_is_refused(tmp_path: Path, text: str) -> None:
    result = run(write(tmp_path, text))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "mend:" in result.stderr


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run(str(tmp_path / "none.json"))
    assert result.exit_code == 2
    assert "none.json" in result.stderr


def test_a_gigantic_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    with path.open("wb") as file:
        file.truncate(512 * 1024 * 1024 + 1)
    result = run(str(path))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "512 MiB" in result.stderr


def test_a_gigantic_line_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    good = json.dumps(GOLDEN)
    monkeypatch.setattr("backend.cli.FILE_LIMIT_BYTES", len(good) + 1)
    lines = "\n".join([good, good + " " * 100, good])
    result = CliRunner().invoke(app, ["clear", "-", "--solver", "auto"], input=lines)
    assert result.exit_code == 2
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [item.get("cost_nano") for item in found] == [109_000_000, None]
    assert "512 MiB" in found[1]["error"]["message"]


@pytest.mark.parametrize(
    "options",
    [
        ("--share", "1.5"),
        ("--share", "-0.1"),
        ("--share", "half"),
        ("--share", "0.1234567"),
        ("--rule", "fair"),
        ("--solver", "guess"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, options: tuple[str, str]) -> None:
    result = run(write(tmp_path, GOLDEN), *options)
    assert result.exit_code == 2
    assert options[1] in result.stderr
