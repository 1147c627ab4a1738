"""Read models against what the demonstration says of itself, which is made from the run and not from bundles or chain."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.api.client import ApiProblem
from backend.api.site import Standing
from backend.api.views import (
    auditor,
    community,
    coordinator,
    dso,
    installation,
    member,
    member_statements,
    member_trades,
    membership,
)
from backend.api.views.values import (
    EXACT_LIMIT,
    SMALLEST_AGGREGATE,
    EnergyState,
    energy_state,
    page,
)
from backend.domain.case import CaseInterval
from backend.grid.cases import scenario, scenario_grid, scenario_offers
from backend.grid.coordination import Coordinator
from backend.grid.power_flow import GridPowerFlow
from backend.grid.settlement import settlement_zones, zone_fees
from backend.grid.statement import fee_notice
from backend.settlement.batch import interval_steps
from tests.support.demo_site import DemoWorld
from tests.support.grid_cases import feeder

FIELDS = {
    "import_wh": ("bought_inside_wh", "bought_outside_wh"),
    "export_wh": ("sold_inside_wh", "sold_outside_wh"),
}


def test_a_members_day_is_what_the_run_settled(world: DemoWorld) -> None:
    for household in world.day["households"]:
        day = member.member_day(world.site, household["slot"], world.first)
        assert day is not None
        assert day.standing is Standing.SETTLED
        totals = day.totals
        assert totals.bought_inside_wh == household["bought_inside_wh"]
        assert totals.sold_inside_wh == household["sold_inside_wh"]
        assert totals.bought_outside_wh == household["bought_outside_wh"]
        assert totals.sold_outside_wh == household["sold_outside_wh"]
        assert totals.amount_nano == household["amount_nano"]
        assert totals.outside_amount_nano == household["outside_amount_nano"]
        assert totals.saved_nano == household["saved_nano"] >= 0
        # What the meter shows keeps both directions apart, also within an interval.
        assert (
            totals.import_wh - totals.export_wh == household["import_wh"] - household["export_wh"]
        )


def test_every_interval_adds_up(world: DemoWorld) -> None:
    for facts in world.site.participants():
        day = member.member_day(world.site, facts.slot, world.first)
        assert day is not None
        for item in day.intervals:
            net = item.export_wh - item.import_wh
            bought = item.bought_inside_wh + item.bought_outside_wh
            sold = item.sold_inside_wh + item.sold_outside_wh
            assert sold - bought == net
            assert min(bought, sold) == 0
            assert min(item.bought_inside_wh, item.bought_outside_wh, sold) >= 0
            prices = item.prices
            assert prices.buy_nano_per_wh <= prices.outside_import_nano_per_wh
            assert prices.sell_nano_per_wh >= prices.outside_export_nano_per_wh
            assert item.amount_nano >= item.outside_amount_nano


def test_the_communitys_day_is_what_the_run_cleared(world: DemoWorld) -> None:
    day = community.community_day(world.site, world.first)
    assert day is not None
    for found, told in zip(day.intervals, world.day["intervals"], strict=True):
        for name in ("demand_wh", "supply_wh", "traded_wh", "imported_wh", "exported_wh"):
            assert getattr(found, name) == told[name]
        assert found.prices.buy_nano_per_wh == told["buy_price_nano_per_wh"]
        assert found.prices.sell_nano_per_wh == told["sell_price_nano_per_wh"]
        assert found.start.strftime("%Y-%m-%dT%H:%M:%SZ") == told["start"]
    totals = world.day["totals"]
    assert day.totals.traded_wh == totals["traded_wh"]
    share = totals["traded_wh"] * 10**6 // totals["demand_wh"]
    assert day.totals.self_sufficiency_millionths == share


def test_reasons_of_prices_follow_the_rule(world: DemoWorld) -> None:
    share = world.run.community.tariff.share_millionths
    steps = [interval_steps(item, share) for item in world.run.prepared[0].cleared]
    first = world.run.prepared[0].period.first_interval
    for slot in (3, 8):
        for trade in member_trades.member_trades(world.site, slot, world.first):
            why = trade.why
            assert (why.discount_nano_per_wh, why.premium_nano_per_wh) == steps[
                trade.interval - first
            ]
            assert why.saved_nano is not None
            assert why.discount_nano_per_wh == why.saved_nano * share // (10**6 * why.demand_wh)
            assert why.matched_wh >= trade.energy_wh
            sign = 1 if trade.side == "sold" else -1
            assert trade.amount_nano == sign * trade.energy_wh * trade.price_nano_per_wh


def test_trades_are_the_runs(world: DemoWorld) -> None:
    told = Counter(
        (trade.seller_slot, trade.buyer_slot, trade.energy_wh, trade.interval)
        for trade in world.run.prepared[0].batch.trades
    )
    found = Counter(
        (slot, trade.partner_slot, trade.energy_wh, trade.interval)
        for slot in (item.slot for item in world.site.participants())
        for trade in member_trades.member_trades(world.site, slot, world.first)
        if trade.side == "sold"
    )
    assert found == told
    pairs = community.pairs(world.site, world.first, None)
    assert pairs is not None
    assert sum(item.energy_wh for item in pairs.items) == world.day["totals"]["traded_wh"]


def test_places_show_sums_of_five_members_or_more(world: DemoWorld) -> None:
    for period in (world.first, world.site.running_period().number):
        found = community.trade_network(world.site, period)
        assert found is not None
        assert not found.hidden
        assert all(place.members >= SMALLEST_AGGREGATE for place in found.places)
        assert sum(place.members for place in found.places) == len(world.site.participants())
        day = community.community_day(world.site, period)
        assert day is not None
        assert sum(item.energy_wh for item in found.trades) == day.totals.traded_wh


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 12), max_size=8))
def test_places_are_large_enough_whatever_the_nodes(sizes: dict[str, int]) -> None:
    found = community.places_of(sizes)
    inhabited = {node for node, size in sizes.items() if size}
    if sum(sizes.values()) < SMALLEST_AGGREGATE:
        assert found == []
        return
    assert sorted(node for place in found for node in place) == sorted(inhabited)
    assert all(sum(sizes[node] for node in place) >= SMALLEST_AGGREGATE for place in found)


def test_the_running_day_becomes_the_settled_one(world: DemoWorld) -> None:
    """What was shown of an interval while the day ran is what is settled of it: all readings were there."""
    site = world.site
    begun = int(world.hours // 24) * 24
    world.until(begun + 6)
    period = site.running_period().number
    running = {
        item.slot: member.member_day(site, item.slot, period) for item in site.participants()
    }
    network = community.trade_network(site, period)
    assert all(day is not None and day.standing is Standing.RUNNING for day in running.values())
    assert member_statements.statement_summaries(site, 3)[0].kind == "preview"
    # The day is over, and its batch comes half an hour later: nobody's day is empty meanwhile.
    for hours in (24.1, 24.3):
        world.until(begun + hours)
        shown = member.today(site, 3)
        assert [item.period for item in shown.waiting] == [period] == list(site.waiting_periods())
        assert (shown.day is None) == (hours == 24.1)
        whole = shown.waiting[0]
        assert (whole.standing, len(whole.intervals)) == (Standing.WAITING, 96)
        before = running[3]
        assert before is not None
        assert whole.intervals[: len(before.intervals)] == before.intervals
        kinds = [item.kind for item in member_statements.statement_summaries(site, 3)]
        assert kinds.count("preview") == 1 + (hours == 24.3)
        everybody = community.community_day(site, period)
        assert everybody is not None
        assert everybody.standing is Standing.WAITING
        page = world.signed_in("member").get("/demo/today").text
        assert "Provisional, not on the chain yet" in page
    world.until(begun + 25)
    assert site.waiting_periods() == ()
    assert member_statements.statement(site, 3, period).day.intervals == whole.intervals
    for slot, before in running.items():
        settled = member.member_day(site, slot, period)
        assert before is not None and settled is not None
        assert settled.standing is Standing.PROVISIONAL
        assert settled.challenge_until is not None
        assert settled.intervals[: len(before.intervals)] == before.intervals
    kinds = [item.kind for item in member_statements.statement_summaries(site, 3)]
    assert kinds[:2] == ["preview", "provisional"]
    assert kinds[-1] == "final"
    after = community.trade_network(site, period)
    assert network is not None and after is not None
    assert after.trades[: len(network.trades)] == network.trades


def test_a_day_is_finalised_when_it_can_no_longer_be_challenged(world: DemoWorld) -> None:
    """By itself, without running anything else; too early, it is said until when."""
    world.until((int(world.hours // 24) + 1) * 24 + 1)
    site, client = world.site, world.client("coordinator")
    newest = site.batches()[-1]
    assert newest.standing is Standing.PROVISIONAL
    period = newest.header.period
    until = datetime.fromtimestamp(newest.final_at, UTC).isoformat()
    with pytest.raises(ApiProblem, match=re.escape(f"can be challenged until {until}")) as early:
        client.finalise(period)
    assert (early.value.status, early.value.code) == (409, "operator.not_final")
    with pytest.raises(ApiProblem, match="was not begun"):
        client.finalise(period + 1)
    # Only the demonstration lets its chain's time pass.
    site.web3.provider.advance(newest.final_at - site.chain_time() + 60)  # type: ignore[attr-defined]
    before = {item.period: item.state for item in client.periods()}
    assert before[period] == "submitted"
    for _ in range(2):
        after = {item.period: item.state for item in client.finalise(period).periods}
        assert after == before | {period: "stated"}


def test_the_operator_sees_its_fees_and_flows(world: DemoWorld) -> None:
    fees = dso.fees(world.site)
    first = fees.periods[-1]
    assert first.fees_nano == world.day["totals"]["fees_nano"]
    flows = dso.flows(world.site, world.first)
    assert flows is not None
    # Every nano of the fees is for access or for a border.
    assert flows.access_fees_nano + sum(edge.fees_nano for edge in flows.edges) == first.fees_nano
    told = {(item["from"], item["to"]): item["energy_wh"] for item in world.day["zone_flows"]}
    found = {}
    for edge in flows.edges:
        found[edge.from_node, edge.to_node] = edge.forward_wh
        found[edge.to_node, edge.from_node] = edge.backward_wh
    assert {key: value for key, value in found.items() if value} == told
    limits = dso.limits(world.site, world.first)
    assert limits is not None
    assert all(item.largest_export_wh <= item.connection_limit_wh for item in limits.nodes)


def test_the_operator_sees_its_notices(
    world: DemoWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the coordination of the grid writes them, which is run here for an interval of the day."""
    site, client = world.site, world.client("dso")
    assert client.notices(world.first).notices == ()
    case = scenario("winter-evening")
    grid = scenario_grid(case, feeder())
    flow, offers = GridPowerFlow(grid), scenario_offers(case, feeder(), case.peak_interval)
    interval = site.rules.period(world.first).first_interval + 70
    named = CaseInterval(start=site.interval_start(interval), minutes=15)
    offers = offers.model_copy(update={"interval": named})
    points = [member.connection_point for member in offers.members]
    outcome = Coordinator(flow, zone_of=settlement_zones(grid, points)).coordinate(offers)
    (tmp_path / f"{interval}.json").write_text(json.dumps(fee_notice(outcome, flow)))
    monkeypatch.setattr(site, "grid_notices", tmp_path)
    (found,) = client.notices(world.first).notices
    assert (found.interval, found.status) == (interval, "healed")
    assert {item.zone: item.fee_nano_per_wh for item in found.zones} == zone_fees(outcome)
    charged = [item for item in found.limits if item.charges]
    assert charged and all(abs(item.value_per_unit or 9) < 9 for item in charged)
    assert any((item.before_per_unit or 0) > item.bound_per_unit for item in found.limits)
    page = world.signed_in("dso").get(f"/demo/dso?day={site.day(world.first)}").text
    assert "Limits that were in danger" in page
    for limit in found.limits:
        assert limit.element in page
        if limit.before_per_unit is not None:
            assert f"{limit.before_per_unit * 100:.1f}%" in page
    # Under another name it would be shown for another interval.
    (tmp_path / f"{interval}.json").rename(tmp_path / f"{interval + 1}.json")
    with pytest.raises(ApiProblem, match="of another interval"):
        client.notices(world.first)


def test_the_auditor_sees_what_the_chain_has(world: DemoWorld) -> None:
    shown = auditor.audit_batch(world.site, 1)
    header = world.run.prepared[0].batch.header
    assert shown.batch.batch_hash == "0x" + header.hash().hex()
    assert shown.commitments.ledger_root == "0x" + header.ledger_root.hex()
    totals = shown.totals
    assert totals.members_nano == world.day["totals"]["members_nano"]
    assert (
        totals.members_nano + totals.supplier_nano + totals.network_fees_nano + totals.fund_nano
        == 0
    )
    assert sum(item.saved_nano for item in shown.clearing) == world.day["totals"]["savings_nano"]
    assert auditor.recomputed(world.site, 1, personal=False).level == "public"


def test_the_coordinator_sees_completeness_and_position(world: DemoWorld) -> None:
    matrix = coordinator.completeness(world.site)
    assert [row.cells[0].measured for row in matrix.rows] == [96] * len(matrix.rows)
    place = coordinator.position(world.site, world.first)
    assert place is not None
    assert place.buy_wh == world.day["totals"]["imported_wh"]
    assert place.sell_wh == world.day["totals"]["exported_wh"]
    keys = installation.keys(world.site)
    held = {(item.role, item.delay_seconds > 0) for item in keys.roles}
    assert {("coordinator", False), ("administrator", True), ("auditor", False)} <= held
    assert installation.health(world.site).level == "ok"
    assert all(item.announced for item in membership.tariffs(world.site))
    accounts = membership.members(world.site)
    withdrawn = {item["household"]: item["amount_nano"] for item in world.day["withdrawals"]}
    taken = {item.name: item.withdrawn_nano for item in accounts}
    # Others may have withdrawn since, in tests of the relay.
    assert {name: taken[name] for name in withdrawn} == withdrawn


def test_what_is_missing_or_stuck_is_an_exception_with_its_mend(world: DemoWorld) -> None:
    assert all(item.remedy for item in coordinator.exceptions(world.site))


@given(st.lists(st.integers(), max_size=40), st.integers(0, 50), st.integers(1, 20))
def test_pages_together_are_the_list(items: list[int], after: int, limit: int) -> None:
    found: list[int] = []
    place: int | None = 0
    while place is not None:
        part = page(items, place, limit)
        assert part.total == len(items)
        found += part.items
        place = part.next
    assert found == items
    assert page(items, after, limit).items == tuple(items[after : after + limit])


@pytest.mark.parametrize(
    ("demand", "supply", "state"),
    [
        (0, 0, EnergyState.IDLE),
        (5, 5, EnergyState.BALANCED),
        (5, 4, EnergyState.SHORTAGE),
        (0, 1, EnergyState.SURPLUS),
    ],
)
def test_states(demand: int, supply: int, state: EnergyState) -> None:
    assert energy_state(demand, supply) is state


def test_numbers_are_exact_in_a_browser() -> None:
    from pydantic import TypeAdapter, ValidationError

    from backend.api.views.values import Exact

    adapter: TypeAdapter[int] = TypeAdapter(Exact)
    assert adapter.validate_python(EXACT_LIMIT - 1)
    with pytest.raises(ValidationError):
        adapter.validate_python(EXACT_LIMIT)
