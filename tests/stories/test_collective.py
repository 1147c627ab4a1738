"""`peerwatt demo --market collective`: a few intervals on the real contracts, recomputed by the settlement of single intervals."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backend.audit.command import AuditOptions, repeat_audit, run_audit
from backend.audit.statements import S
from backend.cli import app
from backend.demo.collective import CollectiveRun, run_collective
from backend.demo.day import DemoOptions, Progress
from backend.domain.case import CaseInterval, CaseMember, ClearingCase
from backend.domain.errors import OutOfRange
from backend.market.pool import PoolBook
from backend.negotiation.settlement import settle_interval
from backend.portal.collective_page import render_collective_page

INTERVALS = 4
pytestmark = pytest.mark.xdist_group("collective")


def options(folder: Path, **changes: Any) -> DemoOptions:
    given: dict[str, Any] = {
        "members": 12,
        "days": 1,
        "first_day": datetime.date(2016, 6, 29),
        "seed": 1,
        "chain_url": None,
        "solver": "sweep",
        "output": folder,
    }
    return DemoOptions(**given | changes)


@pytest.fixture(scope="module")
def collective(tmp_path_factory: pytest.TempPathFactory) -> CollectiveRun:
    return run_collective(options(tmp_path_factory.mktemp("collective")), INTERVALS, Progress())


def test_it_ends_verified_with_trades_and_a_strike(collective: CollectiveRun) -> None:
    found = collective.summary()
    assert found["audit"] == "verified"
    assert found["struck_out"]
    assert found["lies"][0]["outcome"] == "struck out"
    assert len(found["intervals"]) == INTERVALS
    assert sum(item["energy_wh"] for item in found["intervals"]) > 0
    assert all(item["certified_gap"] <= 1e-4 for item in found["intervals"])
    assert sum(found["accounts"].values()) == 0


def test_the_ledger_is_the_two_step_settlement_of_each_interval(collective: CollectiveRun) -> None:
    """Single intervals settled by another route: metered net energy and standing trades."""
    demo, prepared = collective.demo, collective.run.prepared[0]
    period, batch = prepared.period, prepared.batch
    standing = demo._traded(period).trades
    expected = dict.fromkeys((household.name for household in demo.households), 0)
    book = PoolBook(solver="sweep", share_millionths=demo.community.tariff.share_millionths)
    names = {household.slot: household.name for household in demo.households}
    metered = [demo._metered(item, period) for item in demo.community.participants]
    fees = 0
    for index in range(INTERVALS):
        case = ClearingCase(
            interval=CaseInterval(start=period.interval_start(index), minutes=5),
            network=demo.community.tariff.network,
            tariff_classes=demo.community.tariff.tariff_classes,
            members=tuple(
                CaseMember(
                    id=item.member.name,
                    node=item.member.node,
                    tariff_class=item.member.tariff_class,
                    net_wh=given[index] - taken[index],
                )
                for item, (taken, given) in zip(demo.community.participants, metered, strict=True)
            ),
        )
        trades = [one for one in standing if one.interval == period.first_interval + index]
        settled = settle_interval(case, trades, names, book)
        fees += settled.network_fees_nano
        for name, amount in settled.members.items():
            expected[name] += amount
    assert {
        household.name: batch.leaves[household.slot].amount_nano for household in demo.households
    } == expected
    accounts = collective.summary()["accounts"]
    assert accounts["trade_fees_nano"] + accounts["pool_fees_nano"] == fees


def test_nobody_is_worse_off_than_its_signed_limits_and_outside(collective: CollectiveRun) -> None:
    """The demonstration's households sign their outside prices as limits: deviations apart no trade is worse than outside."""
    demo = collective.demo
    for item in collective.summary()["households"]:
        household = next(one for one in demo.households if one.name == item["name"])
        floor = (
            item["sold_ahead_wh"] * household.wishes.sell_limit
            - item["bought_ahead_wh"] * household.wishes.buy_limit
        )
        assert item["traded_nano"] >= floor


def test_the_page_shows_everybody_and_loads_nothing(collective: CollectiveRun) -> None:
    found = collective.summary()
    page = render_collective_page(found)
    assert all(item["name"] in page for item in found["households"])
    assert page.count("<svg") == 4
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)
    rounds = found["convergence"]["rounds"]
    assert all(len(prices) == len(rounds) for prices in found["convergence"]["prices"].values())
    assert sum(item["energy_wh"] for item in found["trades"]) == sum(
        item["sold_ahead_wh"] for item in found["households"]
    )
    with pytest.raises(ValueError, match="this page shows"):
        render_collective_page(found | {"format": "peerwatt/day/1"})


def test_the_folder_can_be_audited_again_and_by_a_second_auditor(
    collective: CollectiveRun, tmp_path: Path
) -> None:
    """From the folder, and from the evidence alone: trade books, strikes, fees and what they brought included."""
    folder, evidence = collective.run.options.output, tmp_path / "evidence.zip"
    options = AuditOptions(folder, save_evidence=evidence)
    verdict = run_audit(options, lambda _: None).verdict
    assert verdict.verdict == "verified"
    (period,) = verdict.periods
    counts = {check.what: check.count for check in period.checks}
    assert counts[S.BOOKS] == INTERVALS and counts[S.BOOKS_SIGNED] > INTERVALS
    fee_slot = collective.demo.fee_account.slot
    assert any(check.what.endswith(f"slot {fee_slot}") for check in verdict.checks)
    again = repeat_audit(evidence, (), 1, lambda _: None).verdict
    assert again.verdict == "verified"


def test_a_household_s_invoice_has_what_it_traded_ahead(
    collective: CollectiveRun, tmp_path: Path
) -> None:
    output = tmp_path / "statements"
    given = ["export", "statements", str(collective.run.options.output), "--output", str(output)]
    done = CliRunner().invoke(app, [*given, "--format", "xml"])
    assert done.exit_code == 0, done.output
    households = collective.summary()["households"]
    for item in households:
        slot = next(one.slot for one in collective.demo.households if one.name == item["name"])
        text = (output / f"{slot}-invoice.xml").read_text()
        for word, key in (("sold", "sold_ahead_wh"), ("bought", "bought_ahead_wh")):
            assert (f"Electricity {word} before delivery" in text) == bool(item[key])
    fees = (output / f"{collective.demo.fee_account.slot}-invoice.xml").read_text()
    assert "Trades before delivery" in fees


def test_books_are_on_disk_with_both_signatures(collective: CollectiveRun) -> None:
    folder = collective.run.options.output / "bundles" / "trade-books"
    books = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    assert len(books) == INTERVALS
    assert all(len(trade["buyer_signature"]) == 132 for book in books for trade in book["trades"])


@pytest.mark.parametrize("wrong", [{"first_day": datetime.date(2016, 1, 25)}, {}])
def test_what_cannot_be_run_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(OutOfRange):
        run_collective(options(tmp_path, **wrong), 4 if wrong else 289, Progress())


def test_the_command_refuses_other_markets(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["demo", "--market", "bazaar", "--output", str(tmp_path)])
    assert done.exit_code == 2
    assert "choose pool or collective" in done.stderr
