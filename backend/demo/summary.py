"""The run as data: the format `peerwatt/day/1` (docs/files.md), from which terminal and page are drawn."""

from __future__ import annotations

from collections import defaultdict
from importlib.metadata import version
from typing import Any

from backend.domain.community import FIRST_MEMBER_SLOT
from backend.market.certificate import outside_cost_nano
from backend.operator.cycle import PreparedPeriod
from backend.settlement.batch import interval_steps

from .community import CURRENCY, ORACLE_SIGNERS, ORACLE_THRESHOLD
from .day import DemoRun

DAY_FORMAT = "peerwatt/day/1"
_TOKEN_SYMBOL = "tEUR"
# Which tariff class's outside prices bound the price chart: most members have it.
_CHART_CLASS = "household"
_ACTORS = {
    "deploy": "deployer",
    "announce tariff": "tariff role",
    "admit": "registrar",
    "activate meters": "meter role",
    "hand over": "deployer",
    "deposit": "members",
    "submit batch": "coordinator",
    "challenge": "the member billed wrongly",
    "withdraw": "members",
}


def day_summary(run: DemoRun) -> dict[str, Any]:
    """Everything people and programs are shown of a run.

    Returns:
        JSON data; money in nano, energy in Wh, prices in nano per Wh, all integers but
        `gas.per_member_and_interval`.
    """
    community = run.community
    intervals = [entry for prepared in run.prepared for entry in _intervals(run, prepared)]
    households = _households(run)
    return {
        "format": DAY_FORMAT,
        "generated_by": f"peerwatt {version('peerwatt')}",
        "currency": CURRENCY,
        "community": {
            "name": "SimBench 1-LV-rural3, scenario 2",
            "member_count": len(community.participants),
            "zones": list(community.zones),
            "chain": run.options.chain_url or "eth-tester (embedded)",
            "chain_id": run.chain_id,
            "clearing_house": run.contracts.addresses["ClearingHouse"],
            "vault": run.contracts.addresses["Vault"],
            "solver": run.options.solver,
            "price_class": _CHART_CLASS,
        },
        "periods": [_period(prepared) for prepared in run.prepared],
        "intervals": intervals,
        "households": households,
        "trades": _trades(run),
        "zone_flows": _zone_flows(run),
        "totals": _totals(run, intervals),
        "gas": _gas(run),
        "verification": _verification(run),
        "lies": [
            {"what": lie.what, "outcome": lie.outcome, "by": lie.by, "detail": lie.detail}
            for lie in run.lies
        ],
        "withdrawals": [
            {
                "household": community.participants[item.slot - FIRST_MEMBER_SLOT].member.name,
                "amount_nano": item.tokens * 1000,
                "tokens": f"{item.tokens / 10**6:.6f} {_TOKEN_SYMBOL}",
            }
            for item in run.withdrawals
        ],
        "timeline": [
            {
                "step": kind,
                "by": _ACTORS[kind],
                "transactions": len(used),
                "gas": sum(used),
            }
            for kind, used in run.gas.used.items()
        ]
        + [_rest(run)],
        "audit": _audit(run),
    }


def _rest(run: DemoRun) -> dict[str, Any]:
    """Transactions that the other steps do not list: mints, approvals, refused and voided batches, bonds."""
    listed = [gas for used in run.gas.used.values() for gas in used]
    return {
        "step": "everything else",
        "by": "all",
        "transactions": run.transactions - len(listed),
        "gas": run.gas_used - sum(listed),
    }


def _period(prepared: PreparedPeriod) -> dict[str, Any]:
    header = prepared.batch.header
    return {
        "number": header.period,
        "day": prepared.period.day.isoformat(),
        "interval_minutes": prepared.period.interval_minutes,
        "interval_count": header.interval_count,
        "batch_hash": "0x" + header.hash().hex(),
        "bundle_hash": "0x" + header.bundle_hash.hex(),
        "version": header.version,
        "final": True,
        "bundle": f"bundles/{header.number}/public.json",
    }


def _intervals(run: DemoRun, prepared: PreparedPeriod) -> list[dict[str, Any]]:
    tariff = next(item for item in run.community.tariff.tariff_classes if item.id == _CHART_CLASS)
    found = []
    for index, interval in enumerate(prepared.cleared):
        problem, solution = interval.problem, interval.solution
        discount, premium = interval_steps(interval, run.community.tariff.share_millionths)
        demand, supply = sum(problem.demand_wh), sum(problem.supply_wh)
        traded = sum(solution.matched_demand_wh)
        found.append(
            {
                "start": prepared.period.interval_start(index).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "demand_wh": demand,
                "supply_wh": supply,
                "traded_wh": traded,
                "imported_wh": demand - traded,
                "exported_wh": supply - traded,
                "outside_import_price_nano_per_wh": tariff.import_price_nano_per_wh,
                "outside_export_price_nano_per_wh": tariff.export_price_nano_per_wh,
                "buy_price_nano_per_wh": tariff.import_price_nano_per_wh - discount,
                "sell_price_nano_per_wh": tariff.export_price_nano_per_wh + premium,
                "fees_nano": interval.fees_nano,
                "savings_nano": outside_cost_nano(problem)
                - interval.supplier_nano
                - interval.fees_nano,
            }
        )
    return found


def _households(run: DemoRun) -> list[dict[str, Any]]:
    market = run.community.market
    bought: dict[int, int] = defaultdict(int)
    sold: dict[int, int] = defaultdict(int)
    for prepared in run.prepared:
        for trade in prepared.batch.trades:
            sold[trade.seller_slot] += trade.energy_wh
            bought[trade.buyer_slot] += trade.energy_wh
    found = []
    for participant in run.community.participants:
        member, household = participant.member, participant.household
        group = market.groups[market.group_index[member.node, member.tariff_class]]
        imported = exported = outside = amount = 0
        for prepared in run.prepared:
            amount += prepared.batch.leaves[member.slot].amount_nano
            for reading in prepared.batch.member_periods[member.slot].readings:
                imported += max(0, -reading.net_wh)
                exported += max(0, reading.net_wh)
                price = (
                    group.import_price_nano_per_wh
                    if reading.net_wh < 0
                    else group.export_price_nano_per_wh
                )
                outside += reading.net_wh * price
        found.append(
            {
                "slot": member.slot,
                "name": member.name,
                "zone": member.node,
                "tariff_class": member.tariff_class,
                "pv_peak_w": household.pv_peak_w,
                "heat_pump": household.has_heat_pump,
                "ev": household.has_ev,
                "import_wh": imported,
                "export_wh": exported,
                "bought_inside_wh": bought[member.slot],
                "sold_inside_wh": sold[member.slot],
                "bought_outside_wh": imported - bought[member.slot],
                "sold_outside_wh": exported - sold[member.slot],
                "amount_nano": amount,
                "outside_amount_nano": outside,
                "saved_nano": amount - outside,
            }
        )
    return found


def _trades(run: DemoRun) -> list[dict[str, Any]]:
    names = {item.member.slot: item.member.name for item in run.community.participants}
    pairs: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for prepared in run.prepared:
        for trade in prepared.batch.trades:
            pair = pairs[trade.seller_slot, trade.buyer_slot]
            pair[0] += trade.energy_wh
            pair[1] += trade.fee_nano
    return [
        {
            "seller": names[seller],
            "buyer": names[buyer],
            "energy_wh": energy,
            "fee_nano": fee,
        }
        for (seller, buyer), (energy, fee) in sorted(pairs.items())
    ]


def _zone_flows(run: DemoRun) -> list[dict[str, Any]]:
    names = run.community.market.node_names
    graph = run.community.market.graph
    flows: dict[tuple[int, int], int] = defaultdict(int)
    for prepared in run.prepared:
        for interval in prepared.cleared:
            for tail, head, flow in zip(
                graph.edge_from, graph.edge_to, interval.solution.flow_wh, strict=True
            ):
                if flow:
                    flows[(tail, head) if flow > 0 else (head, tail)] += abs(flow)
    return [
        {"from": names[tail], "to": names[head], "energy_wh": energy}
        for (tail, head), energy in sorted(flows.items())
    ]


def _totals(run: DemoRun, intervals: list[dict[str, Any]]) -> dict[str, int]:
    headers = [prepared.batch.header for prepared in run.prepared]
    summed = ("demand_wh", "supply_wh", "traded_wh", "imported_wh", "exported_wh", "savings_nano")
    return {name: sum(interval[name] for interval in intervals) for name in summed} | {
        "fees_nano": sum(header.network_fees_nano for header in headers),
        "supplier_nano": sum(header.supplier_nano for header in headers),
        "fund_nano": sum(header.fund_nano for header in headers),
        "members_nano": -sum(
            header.network_fees_nano + header.supplier_nano + header.fund_nano for header in headers
        ),
    }


def _gas(run: DemoRun) -> dict[str, Any]:
    submit = run.gas.typical("submit batch")
    intervals = max(prepared.period.interval_count for prepared in run.prepared)
    return {
        "submit_batch": submit,
        "per_member_and_interval": round(submit / (len(run.community.participants) * intervals), 1),
        "total": run.gas_used,
        **{kind: run.gas.typical(kind) for kind in ("deposit", "withdraw", "challenge", "admit")},
        "deploy": sum(run.gas.used["deploy"]),
    }


def _verification(run: DemoRun) -> list[dict[str, Any]]:
    intervals = sum(prepared.period.interval_count for prepared in run.prepared)
    periods = len(run.prepared)
    verdict = run.verdict
    checks = verdict.all_checks if verdict else ()
    return [
        {
            "who": f"{ORACLE_SIGNERS} oracle signers, each",
            "what": "meter signatures",
            "count": run.signatures_verified,
            "result": f"{ORACLE_THRESHOLD} signatures on {_times(periods, 'report')}",
        },
        {
            "who": "ClearingHouse contract",
            "what": "oracle signatures",
            "count": ORACLE_THRESHOLD * periods,
            "result": f"{_times(periods, 'report')} accepted",
        },
        {
            "who": "ClearingHouse contract",
            "what": "intervals proved least-cost",
            "count": intervals,
            "result": "duality gap 0 in every one",
        },
        {
            "who": "each member's software",
            "what": "own bills recomputed",
            "count": run.bills_recomputed,
            "result": "one wrong bill found and overturned",
        },
        {
            "who": "independent auditor",
            "what": "checks from chain and bundle",
            "count": sum(check.count for check in checks),
            "result": verdict.verdict if verdict else "not run",
        },
    ]


def _times(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _audit(run: DemoRun) -> dict[str, Any]:
    assert run.verdict is not None
    first = run.verdict.periods[0]
    return {
        "agreed": run.verdict.verdict == "verified",
        "checked": [
            f"{check.what} ({check.count})" for check in (*run.verdict.checks, *first.checks)
        ],
        "differences": [check.detail for check in run.verdict.all_checks if not check.passed],
        "voided": list(run.verdict.voided),
    }
