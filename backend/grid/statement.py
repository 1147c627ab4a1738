"""The outcome of a coordination for everybody it concerns (`peerwatt/grid-coordination/1`): whole numbers, each fee with its reason.

The extra fee of a connection point is the sum of what each limit charges for a Wh fed in there; drawing pays it with the
opposite sign. Seller n pays its part of a trade and buyer m its own, together fee(n) - fee(m); what is exchanged with the
supplier pays one end's part, because the source moves no limit. All of it goes to the DSO's account, which never has to
pay in on balance, since every limit leaves room to a grid where nobody feeds in or draws.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from backend.domain.case import CaseMember, ClearingCase, TariffClass
from backend.domain.clearing import Clearing
from backend.market.network import uniform_network
from backend.market.pool import clear_case

from .coordination import Coordination
from .power_flow import GridPowerFlow

COORDINATION_FORMAT: Final = "peerwatt/grid-coordination/1"
NOTICE_FORMAT: Final = "peerwatt/fee-notice/1"


def final_clearing(outcome: Coordination) -> Clearing:
    """The certified clearing of the final schedule, without the extra fees: prices, and who trades with whom."""
    offers = outcome.offers
    case = ClearingCase(
        interval=offers.interval,
        network=uniform_network(offers.trade_fee_nano_per_wh),
        tariff_classes=(
            TariffClass(
                id="member",
                import_price_nano_per_wh=offers.import_price_nano_per_wh,
                export_price_nano_per_wh=offers.export_price_nano_per_wh,
            ),
        ),
        members=tuple(
            CaseMember(id=member.id, node="community", tariff_class="member", net_wh=int(net))
            for member, net in zip(offers.members, outcome.after.net_wh, strict=True)
        ),
    )
    return clear_case(case, solver="sweep")


def statement(outcome: Coordination, flow: GridPowerFlow) -> dict[str, Any]:
    """The outcome as JSON data, every number that is money or energy whole."""
    members = [member.id for member in outcome.offers.members]
    parts = outcome.after.fee_parts_nano_per_wh
    fees = parts.sum(axis=0, dtype=np.int64) if len(parts) else np.zeros(len(members), np.int64)
    fee_of = dict(zip(members, fees.tolist(), strict=True))
    clearing = final_clearing(outcome)
    return {
        "format": COORDINATION_FORMAT,
        "interval": outcome.offers.interval.model_dump(mode="json"),
        "status": outcome.status,
        "ac_checks": len(outcome.rounds),
        "rounds": [
            {
                "welfare_nano": item.welfare_nano,
                "margin_per_unit": item.margin,
                "broken_limits": [_limit(flow, k, value) for k, value in item.broken],
            }
            for item in outcome.rounds
        ],
        "curtailment": _curtailment(outcome, flow),
        "scaled_back_permille": outcome.scaled_back_permille,
        "limits": _limits(outcome, flow),
        "members": [
            _member(outcome, flow, index, fee_of[member]) for index, member in enumerate(members)
        ],
        "trades": [
            {
                "seller": trade.seller,
                "buyer": trade.buyer,
                "energy_wh": trade.energy_wh,
                "network_fee_nano": trade.fee_nano,
                "extra_fee_nano_per_wh": fee_of[trade.seller] - fee_of[trade.buyer],
                "extra_fee_nano": trade.energy_wh * (fee_of[trade.seller] - fee_of[trade.buyer]),
            }
            for trade in clearing.trades
        ],
        "dso_account_nano": int((fees * outcome.after.net_wh).sum()),
    }


def fee_notice(outcome: Coordination, flow: GridPowerFlow) -> dict[str, Any]:
    """The fees of a coordination by zone for everybody to see (`peerwatt/fee-notice/1`): no member's name, no member's energy.

    Raises:
        ValueError: the coordination was not by zone.
    """
    if outcome.zones is None:
        raise ValueError("fees differ within zones; coordinate with `zone_of`")
    first = {zone: outcome.zones.index(zone) for zone in sorted(set(outcome.zones))}
    zones = []
    for zone, index in first.items():
        reasons = _reasons(outcome, flow, index)
        zones.append(
            {
                "zone": zone,
                "fee_nano_per_wh": sum(reason["fee_nano_per_wh"] for reason in reasons),
                "reasons": reasons,
            }
        )
    return {
        "format": NOTICE_FORMAT,
        "interval": outcome.offers.interval.model_dump(mode="json"),
        "status": outcome.status,
        "limits": _limits(outcome, flow),
        "zones": zones,
    }


def _limit(flow: GridPowerFlow, k: int, value: float | None) -> dict[str, Any]:
    limit = flow.limits[k]
    sign = -1 if limit.kind == "voltage-low" else 1
    return {
        "kind": limit.kind,
        "element": limit.element,
        "value_per_unit": None if value is None else round(sign * value, 6),
        "bound_per_unit": sign * float(flow.bounds[k]),
    }


def _limits(outcome: Coordination, flow: GridPowerFlow) -> list[dict[str, Any]]:
    """The limits that were broken or that charge somebody, before and after."""
    before, after = outcome.values_before, outcome.values_after
    parts = outcome.after.fee_parts_nano_per_wh
    charged = set(outcome.cuts.limit[parts.any(axis=1)].tolist()) if len(parts) else set()
    broken = set() if before is None else set(np.flatnonzero(before > flow.bounds).tolist())
    found = []
    for k in sorted(broken | charged):
        sign = -1 if flow.limits[k].kind == "voltage-low" else 1
        entry = _limit(flow, k, None if after is None else float(after[k]))
        entry["before_per_unit"] = None if before is None else round(sign * float(before[k]), 6)
        entry["charges"] = k in charged
        found.append(entry)
    return found


def _curtailment(outcome: Coordination, flow: GridPowerFlow) -> dict[str, Any] | None:
    if not outcome.curtailed_permille:
        return None
    return {
        "permille": outcome.curtailed_permille,
        "cause": [_limit(flow, k, None) for k in outcome.cause],
        "rule": "last resort: all members' fixed energy is cut by the same fraction"
        if outcome.affected.all() and outcome.status == "scaled-back"
        else "fixed energy that pushes a limit which offers cannot meet is cut by the same fraction for everybody"
        " with at least a tenth of the strongest effect on it",
    }


def _member(
    outcome: Coordination, flow: GridPowerFlow, index: int, fee_nano_per_wh: int
) -> dict[str, Any]:
    member, net = outcome.offers.members[index], int(outcome.after.net_wh[index])
    return {
        "id": member.id,
        "connection_point": member.connection_point,
        "before_wh": int(outcome.before.net_wh[index]),
        "net_wh": net,
        "zone": None if outcome.zones is None else outcome.zones[index],
        "curtailed_wh": abs(member.fixed_wh) - abs(int(outcome.fixed_wh[index])),
        "extra_fee_nano_per_wh": fee_nano_per_wh,
        "extra_fee_nano": fee_nano_per_wh * net,
        "reasons": _reasons(outcome, flow, index),
    }


def _reasons(outcome: Coordination, flow: GridPowerFlow, index: int) -> list[dict[str, Any]]:
    """What each limit charges the member for a Wh fed in, and why."""
    by_limit: dict[int, int] = {}
    for k, parts in zip(
        outcome.cuts.limit.tolist(), outcome.after.fee_parts_nano_per_wh, strict=False
    ):
        by_limit[k] = by_limit.get(k, 0) + int(parts[index])
    return [_reason(outcome, flow, index, k, part) for k, part in sorted(by_limit.items()) if part]


def _reason(
    outcome: Coordination, flow: GridPowerFlow, index: int, k: int, part: int
) -> dict[str, Any]:
    limit = flow.limits[k]
    assert outcome.sensitivities is not None
    # In percent: of the nominal voltage, of the rated current or of the rated power.
    effect = float(outcome.sensitivities[k, index]) * 1000 * 100
    of = {
        "line": f"the loading of {limit.element}",
        "transformer": f"the loading of {limit.element}",
        "voltage-high": f"the voltage at {limit.element}",
        "voltage-low": f"the voltage at {limit.element}",
    }[limit.kind]
    effect = -effect if limit.kind == "voltage-low" else effect
    verb = "raises" if effect > 0 else "lowers"
    where = "in here" if outcome.zones is None else f"into {outcome.zones[index]}, on average,"
    return {
        "kind": limit.kind,
        "element": limit.element,
        "fee_nano_per_wh": part,
        "effect_percent_per_kw": round(effect, 6),
        "text": f"each kW fed {where} {verb} {of} by {abs(effect):.3g} percentage points",
    }
