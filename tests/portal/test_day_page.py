"""The page `peerwatt demo` writes: complete without its script, and safe whatever the names in it."""

from __future__ import annotations

import base64
import copy
import hashlib
import importlib.resources
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from backend.portal.day_page import TRADE_ROWS_LIMIT, format_scaled, render_day_page

PORTAL = Path(str(importlib.resources.files("backend.portal")))
HOSTILE = "</script><img src=x onerror=alert(1)>'\"&<!--"
RETAIL, FEED_IN = 300_000, 80_000


class Page(HTMLParser):
    """What a browser would see: cells of tables, elements with their attributes, text of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "script" in self._open:
            self.scripts[-1] += data
        elif "style" not in self._open:
            self.text += data
            if "td" in self._open or "th" in self._open:
                self.cells[-1] += data

    def has_cell(self, text: str) -> bool:
        return any(cell.strip() == text for cell in self.cells)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def household(slot: int, name: str, net: int, inside: int, amount: int) -> dict[str, Any]:
    outside = net * (FEED_IN if net > 0 else RETAIL)
    imported, exported = max(0, -net), max(0, net)
    bought, sold = (inside, 0) if net < 0 else (0, inside)
    return {
        "slot": slot,
        "name": name,
        "zone": "feeder-1",
        "pv_peak_w": 6000 if net > 0 else 0,
        "heat_pump": net < 0,
        "ev": False,
        "import_wh": imported,
        "export_wh": exported,
        "bought_inside_wh": bought,
        "sold_inside_wh": sold,
        "bought_outside_wh": imported - bought,
        "sold_outside_wh": exported - sold,
        "amount_nano": amount,
        "outside_amount_nano": outside,
        "saved_nano": amount - outside,
    }


def sample(
    seller: str = "house-01", buyer: str = "house-02", traded: int = 2_000
) -> dict[str, Any]:
    """One day in which, at noon, the seller exports 5.4 kWh and the buyer draws 2 kWh."""
    demand, supply = 2_000, 5_400 if traded else 0
    fees = 10_000 * traded
    savings = (RETAIL - FEED_IN) * traded - fees
    discount = savings // (2 * demand)
    premium = savings // (2 * supply) if supply else 0
    households = [
        household(3, seller, supply, traded, supply * (FEED_IN + premium)),
        household(4, buyer, -demand, traded, -demand * (RETAIL - discount)),
    ]
    supplier = (demand - traded) * RETAIL - (supply - traded) * FEED_IN
    quiet = {
        "demand_wh": 0,
        "supply_wh": 0,
        "traded_wh": 0,
        "imported_wh": 0,
        "exported_wh": 0,
        "outside_import_price_nano_per_wh": RETAIL,
        "outside_export_price_nano_per_wh": FEED_IN,
        "buy_price_nano_per_wh": RETAIL,
        "sell_price_nano_per_wh": FEED_IN,
        "fees_nano": 0,
        "savings_nano": 0,
    }
    energy = {
        "demand_wh": demand,
        "supply_wh": supply,
        "traded_wh": traded,
        "imported_wh": demand - traded,
        "exported_wh": supply - traded,
    }
    intervals = [
        {"start": f"2016-06-21T{index // 4:02d}:{15 * (index % 4):02d}:00Z", **quiet}
        for index in range(96)
    ]
    intervals[48] |= {
        **energy,
        "buy_price_nano_per_wh": RETAIL - discount,
        "sell_price_nano_per_wh": FEED_IN + premium,
        "fees_nano": fees,
        "savings_nano": savings,
    }
    amounts = sum(house["amount_nano"] for house in households)
    return {
        "format": "peerwatt/day/1",
        "generated_by": "peerwatt 0.1.0",
        "currency": "EUR",
        "community": {
            "name": "Sunny Lane",
            "member_count": 2,
            "zones": ["feeder-1"],
            "chain": "eth-tester (embedded)",
            "chain_id": 131277322940537,
            "clearing_house": "0x" + "c1" * 20,
            "vault": "0x" + "7a" * 20,
        },
        "periods": [
            {
                "number": 16973,
                "day": "2016-06-21",
                "interval_minutes": 15,
                "batch_hash": "0x" + "ba" * 32,
                "version": 0,
                "final": True,
                "bundle": "bundles/16973/public.json",
            }
        ],
        "intervals": intervals,
        "households": households,
        "trades": [{"seller": seller, "buyer": buyer, "energy_wh": traded, "fee_nano": fees}]
        if traded
        else [],
        "zone_flows": [{"from": "feeder-1", "to": "busbar", "energy_wh": 1_234}] if traded else [],
        "totals": {
            **energy,
            "fees_nano": fees,
            "supplier_nano": supplier,
            "fund_nano": -amounts - supplier - fees,
            "savings_nano": savings,
        },
        "gas": {
            "submit_batch": 210_123,
            "per_member_and_interval": 12.3,
            "deposit": 98_001,
            "withdraw": 121_402,
            "challenge": 183_210,
            "deploy": 11_420_000,
        },
        "verification": [
            {"who": "oracle", "what": "signatures verified", "count": 1940, "result": "2 of 3"}
        ],
        "lies": [
            {
                "what": "a clearing that is not the cheapest",
                "outcome": "refused",
                "by": "ClearingHouse contract",
                "detail": "NotOptimal(interval 44, gap 1234 nano)",
            },
            {
                "what": f"{buyer} billed 5.00 EUR too much",
                "outcome": "overturned",
                "by": buyer,
                "detail": "challengeAmount",
            },
        ],
        "withdrawals": [
            {"household": seller, "amount_nano": 1_234_567_891, "tokens": "1.234567 tEUR"}
        ],
        "timeline": [{"step": "deposit", "by": "2 members", "transactions": 2, "gas": 196_002}],
        "audit": {"agreed": True, "checked": ["amounts sum to zero"], "differences": []},
    }


def several_days(count: int) -> dict[str, Any]:
    day = sample()
    period, intervals = day["periods"][0], day["intervals"]
    day["periods"] = [
        {**period, "number": 16973 + index, "day": f"2016-06-{21 + index}"}
        for index in range(count)
    ]
    day["intervals"] = [
        {**interval, "start": interval["start"].replace("06-21", f"06-{21 + index}")}
        for index in range(count)
        for interval in intervals
    ]
    for key, value in day["totals"].items():
        day["totals"][key] = count * value
    return day


def spaced(text: str) -> str:
    """A number as the page writes it: thin spaces between thousands, a real minus sign."""
    return text.replace(",", "\u202f").replace("-", "\u2212")


# --- what it shows


def test_every_household_stands_in_a_table_with_its_figures() -> None:
    day = sample()
    page = Page(render_day_page(day))
    for house in day["households"]:
        assert any(cell.startswith(house["name"]) for cell in page.cells)
    for text in ("5.400", "+0.64", "+0.43", "0.21"):  # the seller's kWh, here, outside, saved
        assert page.has_cell(text)
    for text in ("2.000", "-0.39", "-0.60"):  # the buyer's
        assert page.has_cell(spaced(text))
    assert "solar 6.0 kWp" in page.text
    assert "heat pump" in page.text


def test_every_total_stands_in_a_table() -> None:
    day = several_days(2)
    page = Page(render_day_page(day))
    totals = day["totals"]
    for name in ("demand_wh", "supply_wh", "traded_wh", "imported_wh", "exported_wh"):
        assert page.has_cell(format_scaled(totals[name], 1000, 3)), name
    assert page.has_cell(format_scaled(totals["savings_nano"], 10**9, 2))
    for name in ("fees_nano", "fund_nano"):
        assert page.has_cell(format_scaled(totals[name], 10**9, 9, signed=True)), name


def test_imports_and_exports_of_the_supplier_are_not_netted() -> None:
    day = sample(traded=1_500)
    page = Page(render_day_page(day))
    assert page.has_cell("+0.150000000")  # 0.5 kWh imported at 0.30
    assert page.has_cell(spaced("-0.312000000"))  # 3.9 kWh exported at 0.08


def test_supplier_is_one_account_where_prices_do_not_tell_the_two_apart() -> None:
    day = sample()
    day["totals"]["supplier_nano"] += 7
    day["totals"]["fund_nano"] -= 7
    page = Page(render_day_page(day))
    assert page.has_cell(spaced("-0.271999993"))
    assert "imports less exports" in page.text


def test_money_sums_to_zero_and_the_page_says_so_only_then() -> None:
    day = sample()
    page = Page(render_day_page(day))
    assert "sums to zero, exactly" in page.text
    assert page.has_cell("0.000000000")
    day["totals"]["fund_nano"] += 1
    page = Page(render_day_page(day))
    assert "sums to zero, exactly" not in page.text
    assert page.has_cell("+0.000000001")


def test_headline_figures() -> None:
    text = Page(render_day_page(sample())).text
    for figure in ("2.0\xa0kWh", "0.42\xa0EUR", "100.0 %", "37.0 %", "12.3 gas"):
        assert figure in text
    assert "two attempted lies failed" in text


def test_a_lie_that_went_through_is_not_called_a_failure() -> None:
    day = sample()
    day["lies"][0]["outcome"] = "accepted"
    assert "lies failed" not in Page(render_day_page(day)).text


def test_an_audit_that_does_not_agree_is_the_first_thing_said() -> None:
    day = sample()
    day["audit"] = {"agreed": False, "checked": ["amounts"], "differences": ["slot 3: 1 nano"]}
    page = Page(render_day_page(day))
    assert "does not agree, 1 difference." in " ".join(page.text.split())
    assert "slot 3: 1 nano" in page.text
    assert "it agrees" not in page.text


def test_chain_data_are_there() -> None:
    day = sample()
    text = Page(render_day_page(day)).text
    for item in (day["community"]["clearing_house"], day["community"]["vault"], "131277322940537"):
        assert item in text
    for item in ("0x" + "ba" * 32, "bundles/16973/public.json", "1.234567 tEUR", "1.234567891"):
        assert item in text
    for gas in ("210,123", "98,001", "121,402", "183,210", "47,000", "105,000", "221,000"):
        assert spaced(gas) in text


def test_works_with_nothing_traded() -> None:
    page = Page(render_day_page(sample(traded=0)))
    assert "Nothing was traded inside" in page.text
    assert not [element for _, element in page.elements if element.get("id") == "chart-trades"]
    assert page.has_cell("–")  # no supply, so no share of it


def test_several_days_have_a_row_each_and_a_choice() -> None:
    page = Page(render_day_page(several_days(3)))
    for day in ("21 June 2016", "22 June 2016", "23 June 2016"):
        assert page.has_cell(day)
    assert page.has_cell("All 3 days")
    assert len(page.attributes("option")) == 4


def test_intervals_of_a_day_when_clocks_change() -> None:
    day = sample()
    day["intervals"] = day["intervals"][:92]
    with pytest.raises(ValueError, match="92 intervals, but the periods have 96"):
        render_day_page(day)
    day["periods"][0]["interval_count"] = 92
    assert "All 92 intervals as a table" in Page(render_day_page(day)).text


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="peerwatt/day/2"):
        render_day_page({**sample(), "format": "peerwatt/day/2"})


def test_too_many_intervals_for_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.portal.day_page.INTERVAL_ROWS_LIMIT", 95)
    page = Page(render_day_page(sample()))
    assert "96 intervals are too many for a table here" in page.text
    assert "All 96 intervals" not in page.text


def test_too_many_pairs_are_summed_up_in_one_row() -> None:
    day = sample()
    names = [f"h{number}" for number in range(60)]
    day["trades"] = [
        {"seller": seller, "buyer": buyer, "energy_wh": 10, "fee_nano": 1_000_000}
        for seller in names
        for buyer in names
        if seller != buyer
    ]
    page = Page(render_day_page(day))
    left = len(day["trades"]) - TRADE_ROWS_LIMIT
    assert page.has_cell(spaced(f"{left:,} smaller pairs"))
    assert page.has_cell(format_scaled(10 * left, 1000, 3))
    assert page.has_cell(format_scaled(10 * len(day["trades"]), 1000, 3))


@pytest.mark.parametrize(
    ("value", "scale", "places", "text"),
    [
        (0, 1000, 1, "0.0"),
        (49, 1000, 1, "0.0"),
        (50, 1000, 1, "0.1"),
        (-49, 1000, 1, "0.0"),
        (-50, 1000, 1, "-0.1"),
        (1_234_567, 1000, 3, "1,234.567"),
        (-1_234_567_890_123_456_789, 10**9, 9, "-1,234,567,890.123456789"),
        (221_000, 1, 0, "221,000"),
    ],
)
def test_numbers_are_rounded_half_away_from_zero(
    value: int, scale: int, places: int, text: str
) -> None:
    assert format_scaled(value, scale, places) == spaced(text)


def test_a_sign_is_shown_only_beside_something() -> None:
    assert format_scaled(4, 1000, 2, signed=True) == "0.00"
    assert format_scaled(5, 1000, 2, signed=True) == "+0.01"


# --- what it must never do


def test_hostile_names_stay_text() -> None:
    day = sample(seller=HOSTILE, buyer="{{ 7 * 7 }}<svg onload=alert(1)>")
    day["community"]["name"] = HOSTILE
    day["community"]["chain"] = HOSTILE
    day["periods"][0]["bundle"] = HOSTILE
    for house in day["households"]:
        house["zone"] = HOSTILE
    day["zone_flows"] = [{"from": HOSTILE, "to": "busbar", "energy_wh": 5}]
    for table in ("verification", "lies", "timeline"):
        for row in day[table]:
            for key, value in row.items():
                row[key] = HOSTILE if isinstance(value, str) else value
    day["audit"] = {"agreed": False, "checked": [HOSTILE], "differences": [HOSTILE]}
    page = Page(render_day_page(day))
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"img", "svg", "iframe", "object", "embed"}
    assert not [
        name for _, attributes in page.elements for name in attributes if name.startswith("on")
    ]
    assert len(page.scripts) == 3
    assert any(HOSTILE in cell for cell in page.cells)
    assert "{{ 7 * 7 }}" in page.text


def test_embedded_data_are_the_data_and_cannot_end_their_element() -> None:
    day = sample(seller=HOSTILE)
    before = copy.deepcopy(day)
    page = Page(render_day_page(day))
    embedded = page.scripts[0]
    assert json.loads(embedded) == day == before
    assert not set(embedded) & set("<>&")


def test_nothing_is_loaded_from_anywhere() -> None:
    html = render_day_page(sample())
    page = Page(html)
    for tag, attributes in page.elements:
        for name in ("src", "srcset", "data", "action", "poster", "background"):
            assert name not in attributes, (tag, name)
        link = attributes.get("href")
        if tag == "a":
            assert link is not None
            assert link.startswith("#")
        elif link is not None:
            assert (tag, link) == ("link", "data:,")
    style = (PORTAL / "static" / "day.css").read_text(encoding="utf-8")
    assert "url(" not in style
    assert "@import" not in style


def test_policy_allows_the_page_its_own_two_scripts_and_no_request() -> None:
    page = Page(render_day_page(sample()))
    policy = next(
        attributes["content"] or ""
        for attributes in page.attributes("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    allowed = next(part for part in policy.split("; ") if part.startswith("script-src "))
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in page.scripts[1:]
    ]
    assert allowed.split()[1:] == [f"'sha256-{value}'" for value in hashes]


def test_charts_and_tables_have_names_for_those_who_do_not_see_them() -> None:
    page = Page(render_day_page(several_days(2)))
    charts = [item for _, item in page.elements if "chart" in (item.get("class") or "").split()]
    assert len(charts) == 4
    for chart in charts:
        assert chart["role"] == "img"
        assert chart["aria-label"]
    assert len(page.attributes("table")) == len(page.attributes("caption"))
    headings = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3")]
    assert headings[0] == 1
    assert headings.count(1) == 1
    identifiers = [item["id"] for _, item in page.elements if "id" in item]
    assert len(identifiers) == len(set(identifiers))
    targets = [(item["href"] or "")[1:] for item in page.attributes("a")]
    assert set(targets) <= set(identifiers)


def test_vendored_files_are_those_that_were_checked() -> None:
    folder = PORTAL / "static" / "vendor"
    lines = (folder / "CHECKSUMS.sha256").read_text(encoding="ascii").splitlines()
    named = {name: digest for digest, name in (line.split() for line in lines)}
    assert "echarts.min.js" in named
    for name, digest in named.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    assert {path.name for path in folder.iterdir()} == {*named, "CHECKSUMS.sha256"}
