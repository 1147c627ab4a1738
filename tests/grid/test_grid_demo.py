"""`peerwatt demo --grid`: limits really broken, healed, settled to the operator's account, audited, and drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backend.cli import app
from backend.demo import grid_day
from backend.demo.day import Progress
from backend.demo.grid_day import CASE_FILES, GRID_FILES, GridDemoOptions, run_grid_demo
from backend.domain.errors import OutOfRange
from backend.portal.grid_page import render_grid_page
from tests.docs.test_documentation import documented_names, names_in

FILES = Path(__file__).parents[2] / "docs" / "files.md"


def check_case(case: dict[str, Any]) -> None:
    """What holds of every case, from the summary alone."""
    owed = booked = 0
    for item in case["quarter_hours"]:
        assert item["status"] == "healed"
        assert item["before"]["broken_limits"] > 0
        assert item["after"]["broken_limits"] == 0
        assert item["after"]["highest_loading_percent"] <= 100
        assert item["after"]["highest_voltage_per_unit"] <= 1.1
        assert item["after"]["lowest_voltage_per_unit"] >= 0.9
        assert any(zone["fee_nano_per_wh"] for zone in item["zones"])
        assert all(zone["reasons"] for zone in item["zones"] if zone["fee_nano_per_wh"])
        owed += item["operator_fees_through_supplier_nano"]
        booked += item["trade_fees_nano"] + item["operator_fees_on_trades_nano"]
    account = case["operator_account"]
    assert account["booked_nano"] == booked
    assert 0 <= account["deposited_tokens"] * 1000 - owed < 1000
    assert account["withdrawn_tokens"] == (booked + account["deposited_tokens"] * 1000) // 1000
    members = sum(item["members_nano"] for item in case["quarter_hours"])
    assert members + account["booked_nano"] + account["supplier_nano"] + account["fund_nano"] == 0
    assert case["audit"]["verdict"] == "verified"


def test_the_command_runs_a_case_that_anybody_can_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid_day, "GRID_CASES", ("summer-noon",))
    output = tmp_path / "out"
    run = CliRunner().invoke(app, ["demo", "--grid", "--output", str(output)])
    assert run.exit_code == 0, run.output
    assert "Summer noon" in run.output
    assert "withdrawn; audit verified" in run.output
    day = json.loads((output / "grid.json").read_text())
    (case,) = day["cases"]
    assert len(case["quarter_hours"]) == 4
    check_case(case)
    # The voltage band was broken too, not only the transformer.
    assert case["quarter_hours"][0]["before"]["highest_voltage_per_unit"] > 1.1

    folder = output / "summer-noon"
    assert {path.name for path in folder.iterdir()} == {*CASE_FILES, ".peerwatt-demo"}
    audited = CliRunner().invoke(app, ["audit", str(folder), "--json"])
    assert json.loads(audited.stdout)["verdict"] == "verified"
    notice = json.loads(
        (folder / "fees" / f"{case['quarter_hours'][0]['period']}.json").read_text()
    )
    assert notice["zones"] == case["quarter_hours"][0]["zones"]
    bundle = json.loads((folder / "bundles" / "1" / "public.json").read_text())
    # The tariff under which it was settled has the notice's fees in its prices.
    prices = {item["id"]: item for item in bundle["tariff"]["tariff_classes"]}
    for zone in notice["zones"]:
        assert prices[zone["zone"]]["export_price_nano_per_wh"] == 60_000 - zone["fee_nano_per_wh"]
    assert names_in(notice) - documented_names("peerwatt/fee-notice/1") == set()
    assert names_in(day) - documented_names("peerwatt/grid-day/1") == set()
    listed = FILES.read_text()
    assert [name for name in (*CASE_FILES, *GRID_FILES) if name not in listed] == []
    page = (output / "grid.html").read_text()
    assert "<svg" in page
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page)


def test_a_winter_evening_is_healed_and_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid_day, "GRID_CASES", ("winter-evening",))
    options = GridDemoOptions(7, "highs", tmp_path / "out", quarter_hours=1)
    day, pictures = run_grid_demo(options, Progress())
    (case,) = day["cases"]
    check_case(case)
    assert case["quarter_hours"][0]["supply_wh"] == 0
    assert case["operator_account"]["booked_nano"] == 0
    assert "no limits broken" in pictures["winter-evening"]
    with pytest.raises(ValueError, match="format"):
        render_grid_page(day | {"format": "other"}, pictures)


@pytest.mark.parametrize("option", [("--members", "8"), ("--days", "2"), ("--chain", "http://x")])
def test_options_without_effect_are_refused(tmp_path: Path, option: tuple[str, str]) -> None:
    output = tmp_path / "out"
    run = CliRunner().invoke(app, ["demo", "--grid", *option, "--output", str(output), "--json"])
    assert run.exit_code == 2
    assert option[0].removeprefix("--") in json.loads(run.stdout)["error"]["message"]
    assert not output.exists()


def test_an_unsuitable_number_of_quarter_hours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutOfRange, match="quarter_hours"):
        run_grid_demo(GridDemoOptions(0, "highs", tmp_path, quarter_hours=0), Progress())
