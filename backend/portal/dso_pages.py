"""The network operator's page: fees received, flows over the network's edges, limits."""

from __future__ import annotations

from collections import defaultdict

from fastapi import APIRouter, Request
from fastapi.responses import Response

from backend.api.roles import Role
from backend.api.sessions import AnyCaller
from backend.api.views import dso
from backend.domain.units import NANO_PER_UNIT, WH_PER_KWH

from .days import DayQuery, chosen_day
from .network_picture import network_picture
from .pictures import bar_chart
from .rendering import look_of, page
from .words import series_words

router = APIRouter(prefix="/{community}/dso")


@router.get("")
def network(request: Request, caller: AnyCaller, day: DayQuery = None) -> Response:
    """Fees, flows by edge, limits."""
    caller.need(Role.DSO)
    site, language = caller.site, look_of(request).language
    words = series_words(language)
    fees = dso.fees(site)
    # A day with its corrections.
    by_day: dict[str, int] = defaultdict(int)
    for item in fees.periods:
        by_day[item.day] += item.fees_nano
    newest = sorted(by_day)[-31:]
    fee_chart = bar_chart(
        [language.day(item, "d MMM") for item in newest],
        [(words["fees"], "dso", [by_day[item] / NANO_PER_UNIT for item in newest])],
        site.currency,
        2,
    )
    chosen = chosen_day(site, day)
    flows = dso.flows(site, chosen.period)
    edge_charts = [
        bar_chart(
            [language.clock(item.start) for item in edge.intervals],
            [
                (
                    f"{edge.from_node} – {edge.to_node}",
                    "dso",
                    [item.flow_wh / WH_PER_KWH for item in edge.intervals],
                )
            ],
            "kWh",
            3,
        )
        for edge in (flows.edges if flows else ())
    ]
    limits = dso.limits(site, chosen.period)
    picture = network_picture(flows, limits) if flows and flows.edges and limits else None
    return page(
        request, "dso", caller, picture=picture, fees=fees, fee_chart=fee_chart, chosen=chosen, flows=flows,
        edge_charts=edge_charts, limits=limits,
    )  # fmt: skip
