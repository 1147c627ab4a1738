"""The loop heals what it says it heals, at prices everybody is content with; curtailment is the stated rule; all money adds up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from backend.bench.grid import pandapower_net, pandapower_values
from backend.bench.optimal_power_flow import optimal_power_flow
from backend.cli import app
from backend.domain.errors import DuplicateIdentifier, MemberWithoutBus, OutOfRange
from backend.grid.cases import SCENARIOS, scenario, scenario_grid, scenario_offers
from backend.grid.coordination import Coordination, Coordinator, Rules
from backend.grid.offers import GridOffers
from backend.grid.operating_limits import operating_limits
from backend.grid.pictures import coordination_svg
from backend.grid.power_flow import Floats, GridPowerFlow
from backend.grid.settlement import settlement_zones, zone_fees
from backend.grid.statement import fee_notice, statement
from tests.support.grid_cases import feeder, offers_for, quietly, small_grids

_RUNNER = CliRunner()


def prepared(name: str) -> tuple[GridPowerFlow, GridOffers]:
    item = scenario(name)
    flow = GridPowerFlow(scenario_grid(item, feeder()))
    return flow, scenario_offers(item, feeder(), item.peak_interval)


def flow_of(flow: GridPowerFlow, offers: GridOffers, net_wh: Floats) -> Floats:
    """The power flow of a schedule, made without the coordinator."""
    points = list(flow.model.connection_points)
    power, reactive = np.zeros(len(points)), np.zeros(len(points))
    for member, net in zip(offers.members, net_wh, strict=True):
        power[points.index(member.connection_point)] += net * 60 / offers.interval.minutes
        reactive[points.index(member.connection_point)] += (
            member.reactive_varh * 60 / offers.interval.minutes
        )
    return flow.run(power, reactive).values()[0]


def check_outcome(flow: GridPowerFlow, offers: GridOffers, outcome: Coordination) -> None:
    """What holds whatever happened."""
    found = statement(outcome, flow)
    after = outcome.after
    for j, (n, offer) in enumerate((n, o) for n, m in enumerate(offers.members) for o in m.offers):
        assert 0 <= after.accepted_wh[j] <= offer.limit_wh, n
    if outcome.status != "unsolved":
        assert (flow_of(flow, offers, after.net_wh) <= flow.bounds + 1e-8).all()
    # Money: members' fees are the sum of their reasons', trades' and supplier's parts the members', all the DSO's.
    assert found["dso_account_nano"] == sum(m["extra_fee_nano"] for m in found["members"])
    left = {m["id"]: m["net_wh"] for m in found["members"]}
    paid = 0
    for trade in found["trades"]:
        left[trade["seller"]] -= trade["energy_wh"]
        left[trade["buyer"]] += trade["energy_wh"]
        paid += trade["extra_fee_nano"]
    fee = {m["id"]: m["extra_fee_nano_per_wh"] for m in found["members"]}
    assert paid + sum(left[m] * fee[m] for m in left) == found["dso_account_nano"]
    for member in found["members"]:
        reasons = sum(r["fee_nano_per_wh"] for r in member["reasons"])
        assert reasons == member["extra_fee_nano_per_wh"]
    # The rule of curtailment, recomputed.
    keep = 1000 - outcome.curtailed_permille
    for index, member in enumerate(offers.members):
        kept = abs(member.fixed_wh)
        if outcome.affected[index]:
            kept = kept * keep // 1000
        assert abs(outcome.fixed_wh[index]) == kept
    json.dumps(found, allow_nan=False)


class TestScenarios:
    @pytest.mark.parametrize("name", sorted(SCENARIOS))
    def test_breaks_limits_and_is_healed(self, name: str) -> None:
        flow, offers = prepared(name)
        outcome = Coordinator(flow).coordinate(offers)
        assert outcome.status == ("healed" if scenario(name).flexible else "curtailed")
        assert len(outcome.rounds[0].broken) > 10
        assert len(outcome.rounds) <= 3
        check_outcome(flow, offers, outcome)

    @pytest.mark.parametrize("name", ["summer-noon", "winter-evening"])
    def test_the_healed_state_holds_in_pandapower_too(self, name: str) -> None:
        flow, offers = prepared(name)
        outcome = Coordinator(flow).coordinate(offers)
        reactive = np.array([4.0 * m.reactive_varh for m in offers.members])
        with quietly():
            net = pandapower_net(flow.model)
            for schedule, holds in ((outcome.before, False), (outcome.after, True)):
                values = pandapower_values(net, 4.0 * schedule.net_wh, reactive, compiled=False)
                assert (values <= flow.bounds + 1e-6).all() == holds

    def test_little_is_lost_against_an_optimal_power_flow(self) -> None:
        flow, offers = prepared("summer-noon-reinforced")
        outcome = Coordinator(flow).coordinate(offers)
        best = optimal_power_flow(flow, offers)
        # Its schedule is one that the AC power flow bears.
        assert (flow_of(flow, offers, best.net_wh) <= flow.bounds + 1e-4).all()
        ours = outcome.program.welfare_nano(outcome.after)
        assert 0.99 * best.welfare_nano <= ours <= 1.001 * best.welfare_nano

    def test_fees_are_higher_where_the_limit_feels_it_more(self) -> None:
        flow, offers = prepared("summer-noon-reinforced")
        outcome = Coordinator(flow).coordinate(offers)
        fees = outcome.after.fee_parts_nano_per_wh.sum(axis=0)
        (charging,) = np.unique(outcome.cuts.limit[outcome.after.fee_parts_nano_per_wh.any(axis=1)])
        assert outcome.sensitivities is not None
        effect = outcome.sensitivities[charging]
        np.testing.assert_allclose(fees, effect * fees.max() / effect.max(), atol=1)

    def test_rounds_bounded_to_one_scale_offers_back(self) -> None:
        flow, offers = prepared("winter-evening")
        outcome = Coordinator(flow, Rules(most_rounds=1)).coordinate(offers)
        assert outcome.status == "scaled-back"
        assert 0 < outcome.scaled_back_permille < 1000
        check_outcome(flow, offers, outcome)
        more = (outcome.before.accepted_wh * (outcome.scaled_back_permille + 1)) // 1000
        net = outcome.program.net_wh(more, outcome.fixed_wh)
        assert (flow_of(flow, offers, net) > flow.bounds).any()

    def test_what_members_did_not_cause_they_cannot_mend(self) -> None:
        flow, offers = prepared("summer-noon")
        grid = flow.model
        (bus, *_) = grid.connection_points.values()
        burdened = GridPowerFlow(replace(grid, background_w={bus: 900_000.0}))
        outcome = Coordinator(burdened).coordinate(offers)
        assert outcome.status == "unsolved"
        assert outcome.values_after is None
        statement(outcome, burdened)


@settings(max_examples=40)
@given(st.data())
def test_any_offers_on_any_grid_end_well(data: st.DataObject) -> None:
    grid = data.draw(small_grids(loops=data.draw(st.booleans())))
    offers = data.draw(offers_for(grid, data.draw(st.sampled_from([300, 20_000]))))
    flow = GridPowerFlow(grid)
    outcome = Coordinator(flow).coordinate(offers)
    assert len(outcome.rounds) <= Rules().most_rounds
    # The grid holds with nobody on it, so curtailment is always enough.
    assert outcome.status != "unsolved"
    check_outcome(flow, offers, outcome)
    if outcome.status == "healed":
        check_everybody_is_content(offers, outcome)
        assert statement(outcome, flow)["dso_account_nano"] >= -1_000_000


def check_everybody_is_content(offers: GridOffers, outcome: Coordination) -> None:
    """There is one price in the community with which, fee included, no offer wants another amount."""
    fees = outcome.after.fee_parts_nano_per_wh.sum(axis=0)
    lowest, highest = offers.export_price_nano_per_wh, offers.import_price_nano_per_wh
    # What a seller gets and a buyer pays before the fee; they differ by the network fee at most.
    sell_above, sell_below, buy_above, buy_below = -np.inf, np.inf, -np.inf, np.inf
    flat = [(n, offer) for n, member in enumerate(offers.members) for offer in member.offers]
    for (n, offer), accepted in zip(flat, outcome.after.accepted_wh.tolist(), strict=True):
        own = offer.price_nano_per_wh + int(fees[n])
        net = int(outcome.after.net_wh[n])
        # At a rounded Wh the price is that of the whole one.
        if net > 1:
            if accepted > 1 and offer.limit_wh > 2:
                (sell_above, sell_below) = (
                    (max(sell_above, own), sell_below)
                    if offer.kind == "sell"
                    else (sell_above, min(sell_below, own))
                )
            if accepted < offer.limit_wh - 1:
                (sell_above, sell_below) = (
                    (sell_above, min(sell_below, own))
                    if offer.kind == "sell"
                    else (max(sell_above, own), sell_below)
                )
        elif net < -1:
            if accepted > 1 and offer.limit_wh > 2:
                (buy_above, buy_below) = (
                    (max(buy_above, own), buy_below)
                    if offer.kind == "sell"
                    else (buy_above, min(buy_below, own))
                )
            if accepted < offer.limit_wh - 1:
                (buy_above, buy_below) = (
                    (buy_above, min(buy_below, own))
                    if offer.kind == "sell"
                    else (max(buy_above, own), buy_below)
                )
    tolerance = 50  # nano per Wh, of prices up to 600 000
    assert max(sell_above, lowest) <= min(sell_below, highest) + tolerance
    assert max(buy_above, lowest) <= min(buy_below, highest) + tolerance


class TestZones:
    """One fee for all of a zone, as it is settled on chain."""

    @pytest.mark.parametrize("name", ["summer-noon", "summer-noon-reinforced", "winter-evening"])
    def test_a_zone_has_one_fee_and_the_limits_hold(self, name: str) -> None:
        flow, offers = prepared(name)
        points = [member.connection_point for member in offers.members]
        zone_of = settlement_zones(flow.model, points)
        outcome = Coordinator(flow, zone_of=zone_of).coordinate(offers)
        assert outcome.status == "healed"
        assert len(outcome.rounds) <= 3
        check_outcome(flow, offers, outcome)
        check_everybody_is_content(offers, outcome)
        found = statement(outcome, flow)
        fees = {(m["zone"], m["extra_fee_nano_per_wh"]) for m in found["members"]}
        assert len(fees) == len(set(zone_of.values()))
        assert fees == {
            (zone["zone"], zone["fee_nano_per_wh"]) for zone in fee_notice(outcome, flow)["zones"]
        }
        by_point = Coordinator(flow).coordinate(offers)
        lost = by_point.rounds[-1].welfare_nano - outcome.rounds[-1].welfare_nano
        assert lost <= 0.02 * by_point.rounds[-1].welfare_nano
        with pytest.raises(ValueError, match="within zones"):
            fee_notice(by_point, flow)
        with pytest.raises(ValueError, match="within zones"):
            zone_fees(by_point)

    def test_a_notice_names_nobody(self) -> None:
        flow, offers = prepared("winter-evening")
        points = [member.connection_point for member in offers.members]
        outcome = Coordinator(flow, zone_of=settlement_zones(flow.model, points)).coordinate(offers)
        text = json.dumps(fee_notice(outcome, flow))
        assert not any(f'"{member.id}"' in text for member in offers.members)
        assert "net_wh" not in text

    def test_command(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        run = _RUNNER.invoke(app, ["grid", "coordinate", "--by-zone", "--output", str(out)])
        assert run.exit_code == 0, run.output
        notice = json.loads((out / "fees.json").read_text())
        found = json.loads((out / "coordination.json").read_text())
        fees = {zone["zone"]: zone["fee_nano_per_wh"] for zone in notice["zones"]}
        assert all(fees[m["zone"]] == m["extra_fee_nano_per_wh"] for m in found["members"])


class TestOperatingLimits:
    def test_hold_whatever_others_do_within_theirs(self) -> None:
        flow, _ = prepared("summer-noon-reinforced")
        wish = np.full(118, 12_000)
        found = operating_limits(flow, wish, wish)
        for limit, common in zip(
            (found.draw_w, found.feed_in_w), found.common_fraction, strict=True
        ):
            assert (limit >= np.floor(common * wish) - 1).all()
            assert (limit <= wish).all()
            assert limit.max() > limit.min()
        random = np.random.default_rng(7)
        mixtures = random.uniform(-found.draw_w, found.feed_in_w, (100, 118))
        corners = np.array([-found.draw_w, found.feed_in_w])
        states = flow.run(np.concatenate((mixtures, corners))).values()
        assert (states <= flow.bounds + 1e-9).all()
        # They are not there for nothing.
        assert (flow.run(np.array([-wish, wish])).values() > flow.bounds).any(axis=1).all()

    def test_wishes_that_fit_are_granted(self) -> None:
        flow, _ = prepared("summer-noon")
        wish = np.full(118, 1000)
        found = operating_limits(flow, wish, wish)
        assert (found.draw_w == wish).all()
        assert (found.feed_in_w == wish).all()
        with pytest.raises(OutOfRange, match="feed_in_wish_w"):
            operating_limits(flow, wish, -wish)


class TestCommand:
    def test_writes_result_and_picture(self, tmp_path: Path) -> None:
        run = _RUNNER.invoke(
            app,
            [
                "grid",
                "coordinate",
                "--case",
                "summer-noon-reinforced",
                "--operating-limits",
                "5000",
                "--output",
                str(tmp_path / "out"),
                "--json",
            ],
        )
        assert run.exit_code == 0, run.output
        found = json.loads(run.stdout)
        assert found == json.loads((tmp_path / "out" / "coordination.json").read_text())
        assert len(found["operating_limits"]) == 118
        picture = (tmp_path / "out" / "feeder.svg").read_text()
        assert "before: " in picture
        assert "14 limits broken" in picture
        assert "no limits broken" in picture

    def test_operating_limits_are_shown(self) -> None:
        run = _RUNNER.invoke(app, ["grid", "coordinate", "--operating-limits", "11000"])
        assert run.exit_code == 0, run.output
        assert "may feed in, kW" in run.output
        (together,) = [line for line in run.output.splitlines() if line.startswith(" together")]
        drawn, fed_in = (float(cell) for cell in together.split("│")[1:])
        # Wishes are 1298 kW in all, behind a transformer of 400 kVA.
        assert 300 < drawn < 500
        assert 300 < fed_in < 500

    def test_offers_of_ones_own(self, tmp_path: Path) -> None:
        _, offers = prepared("winter-evening")
        path = tmp_path / "offers.json"
        path.write_text(offers.model_dump_json())
        run = _RUNNER.invoke(app, ["grid", "coordinate", "--offers", str(path), "--json"])
        assert run.exit_code == 0, run.output
        by_case = _RUNNER.invoke(app, ["grid", "coordinate", "--case", "winter-evening", "--json"])
        assert json.loads(run.stdout) == json.loads(by_case.stdout)
        shown = _RUNNER.invoke(app, ["grid", "coordinate", "--offers", str(path)])
        assert "to the DSO's account: 34.38 EUR" in shown.output

    @pytest.mark.parametrize(
        ("error", "change"),
        [
            (MemberWithoutBus, {"connection_point": "nowhere"}),
            (DuplicateIdentifier, {"id": "cp002"}),
        ],
    )
    def test_wrong_offers_are_named(self, error: type[Exception], change: dict[str, str]) -> None:
        flow, offers = prepared("summer-noon")
        members = (offers.members[0].model_copy(update=change), *offers.members[1:])
        with pytest.raises(error):
            Coordinator(flow).coordinate(offers.model_copy(update={"members": members}))

    def test_a_member_without_a_bus_is_named_and_exits_with_2(self, tmp_path: Path) -> None:
        _, offers = prepared("summer-noon")
        away = offers.members[0].model_copy(update={"connection_point": "nowhere"})
        path = tmp_path / "offers.json"
        path.write_text(
            offers.model_copy(update={"members": (away, *offers.members[1:])}).model_dump_json()
        )
        run = _RUNNER.invoke(app, ["grid", "coordinate", "--offers", str(path), "--json"])
        assert run.exit_code == 2
        error = json.loads(run.stdout)["error"]
        assert error["code"] == "grid.member_without_bus"
        assert "nowhere" in error["message"]

    def test_prices_that_make_buying_and_feeding_back_pay_are_refused(self) -> None:
        flow, offers = prepared("summer-noon")
        with pytest.raises(OutOfRange, match="export_price"):
            Coordinator(flow).coordinate(
                offers.model_copy(update={"export_price_nano_per_wh": 400_000})
            )

    def test_validation_of_a_day_exits_with_1_where_limits_break(self) -> None:
        run = _RUNNER.invoke(app, ["grid", "check", "--case", "winter-evening", "--json"])
        assert run.exit_code == 1
        found = json.loads(run.stdout)["validation"]
        assert len(found) == 96
        assert {limit["kind"] for item in found for limit in item["broken_limits"]} == {
            "line",
            "transformer",
        }
        assert _RUNNER.invoke(app, ["grid", "check"]).exit_code == 0


def test_picture_says_so_where_there_is_no_power_flow() -> None:
    flow, _ = prepared("summer-noon")
    quiet = flow.run(np.zeros((1, 118))).values()[0]
    assert "before: no power flow" in coordination_svg(flow, None, quiet, "<title>")
