"""Price rules: what each promises, and where a promise of the literature cannot be kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.case import ClearingCase
from backend.domain.errors import MalformedInput
from backend.market.pool import clear_case
from backend.market.pricing import PRICE_RULES
from tests.market.strategies import cases

RULES_THAT_KEEP_EVERYBODY = [rule for rule in PRICE_RULES if rule != "bill-sharing"]


@st.composite
def plain_cases(draw: st.DrawFn) -> dict[str, Any]:
    """One outside tariff, no network fees: what the literature's rules are defined for."""
    data = draw(cases(net_wh=st.integers(-3000, 3000)))
    for node in data["network"]["nodes"]:
        node["access_fee_nano_per_wh"] = 0
    for edge in data["network"]["edges"]:
        edge["fee_nano_per_wh"] = 0
    export = draw(st.integers(1, 200_000))
    data["tariff_classes"] = [
        {
            "id": "c0",
            "import_price_nano_per_wh": export + draw(st.integers(0, 300_000)),
            "export_price_nano_per_wh": export,
        }
    ]
    for member in data["members"]:
        member["tariff_class"] = "c0"
    return data


@pytest.mark.parametrize("rule", PRICE_RULES)
@given(data=plain_cases())
def test_every_rule_balances_the_budget(rule: str, data: dict[str, Any]) -> None:
    clearing = clear_case(ClearingCase.parse(data), rule, solver="auto")
    paid = -sum(member.amount_nano for member in clearing.members)
    assert paid == clearing.cost_nano + clearing.dust_nano
    energy = sum(abs(member["net_wh"]) for member in data["members"])
    assert 0 <= clearing.dust_nano <= energy


@pytest.mark.parametrize("rule", RULES_THAT_KEEP_EVERYBODY)
@given(data=plain_cases())
def test_nobody_is_worse_off_than_outside(rule: str, data: dict[str, Any]) -> None:
    clearing = clear_case(ClearingCase.parse(data), rule, solver="auto")
    tariff = data["tariff_classes"][0]
    for group in clearing.groups:
        assert group.buy_price_nano_per_wh <= tariff["import_price_nano_per_wh"]
        assert group.sell_price_nano_per_wh >= tariff["export_price_nano_per_wh"]


@given(plain_cases())
def test_mid_market_rate_is_savings_share_of_one_half(data: dict[str, Any]) -> None:
    case = ClearingCase.parse(data)
    middle = clear_case(case, "mid-market-rate", solver="auto")
    shared = clear_case(case, "savings-share", 500_000, solver="auto")
    for one, other in zip(middle.groups, shared.groups, strict=True):
        assert abs(one.buy_price_nano_per_wh - other.buy_price_nano_per_wh) <= 1
        assert abs(one.sell_price_nano_per_wh - other.sell_price_nano_per_wh) <= 1


@given(cases(), st.integers(0, 10**6))
def test_blend_lies_between_its_parts_and_keeps_everybody(
    data: dict[str, Any], weight: int
) -> None:
    case = ClearingCase.parse(data)
    mixed = clear_case(case, "blend", weight)
    parts = [clear_case(case, rule) for rule in ("savings-share", "competitive")]
    tariffs = {tariff.id: tariff for tariff in case.tariff_classes}
    for number, group in enumerate(mixed.groups):
        buys = [part.groups[number].buy_price_nano_per_wh for part in parts]
        sells = [part.groups[number].sell_price_nano_per_wh for part in parts]
        assert min(buys) <= group.buy_price_nano_per_wh <= max(buys)
        assert min(sells) <= group.sell_price_nano_per_wh <= max(sells)
        outside = tariffs[group.tariff_class]
        assert group.buy_price_nano_per_wh <= outside.import_price_nano_per_wh
        assert group.sell_price_nano_per_wh >= outside.export_price_nano_per_wh
    assert mixed.dust_nano >= 0


def case_with(*nets: int, **changes: Any) -> ClearingCase:
    return ClearingCase.parse(
        {
            "interval": {"start": "2026-06-21T12:00:00Z", "minutes": 15},
            "network": {"nodes": [{"id": "a", **changes}]},
            "tariff_classes": [
                {
                    "id": "c",
                    "import_price_nano_per_wh": 300_000,
                    "export_price_nano_per_wh": 60_000,
                }
            ],
            "members": [
                {"id": f"m{n}", "node": "a", "tariff_class": "c", "net_wh": net}
                for n, net in enumerate(nets)
            ],
        }
    )


def test_supply_demand_ratio_gives_sellers_nothing_when_supply_is_plenty() -> None:
    clearing = clear_case(case_with(500, -500), "supply-demand-ratio")
    assert clearing.groups[0].sell_price_nano_per_wh == 60_000


def test_bill_sharing_can_leave_sellers_worse_off_than_outside() -> None:
    clearing = clear_case(case_with(100, -500), "bill-sharing")
    assert clearing.groups[0].sell_price_nano_per_wh == 0


@pytest.mark.parametrize("rule", ["mid-market-rate", "supply-demand-ratio", "bill-sharing"])
def test_study_rules_refuse_network_fees(rule: str) -> None:
    with pytest.raises(MalformedInput, match="no network fees"):
        clear_case(case_with(100, -500, access_fee_nano_per_wh=1), rule)


@pytest.mark.parametrize("factor", [2, 7, 1000])
def test_scaling_all_energies_scales_the_clearing(factor: int) -> None:
    nets = (700, -300, -200, 40)
    one = clear_case(case_with(*nets), "competitive")
    many = clear_case(case_with(*(net * factor for net in nets)), "competitive")
    assert many.savings_nano == factor * one.savings_nano
    assert [g.buy_price_nano_per_wh for g in many.groups] == [
        g.buy_price_nano_per_wh for g in one.groups
    ]


def test_ties_are_settled_alike_for_equal_members() -> None:
    clearing = clear_case(case_with(300, -100, -100, -100, -100))
    amounts = {member.amount_nano for member in clearing.members if member.state == "shortage"}
    assert len(amounts) == 1
