"""The page `peerwatt demo` writes: a community's run as one HTML file that loads nothing.

Its data are `peerwatt/day/1`. Every figure is printed here, from exact integers, into the page's
text and tables; the script only draws pictures of the same data and sorts tables, so the page says
everything without it. The page's content security policy forbids every request and every script
but the two it was made with, so a hostile household name could not run even if it got through the
escaping.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from backend.domain.units import NANO_PER_UNIT, WH_PER_KWH

DAY_FORMAT: Final = "peerwatt/day/1"

# Gas per member and quarter-hour of other systems: what their code or paper was found to need.
PEERS_GAS: Final = (
    ("One stored reading, the naive way", 47_000, "measured by us"),
    ("Hypha EnergyPPAv2", 105_000, "about, measured by us"),
    ("TRANSAX", 133_000, "about, measured by us"),
    ("BloGPV, which also hides readings", 221_000, "about, as published"),
)
# A browser copes with tables of this length; beyond it the page says what it leaves out.
INTERVAL_ROWS_LIMIT: Final = 3_000
TRADE_ROWS_LIMIT: Final = 2_000

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_NUMBER_WORDS = (
    "No",
    "One",
    "Two",
    "Three",
    "Four",
    "Five",
    "Six",
    "Seven",
    "Eight",
    "Nine",
    "Ten",
)
_CENTS = {"EUR": "cent", "DKK": "øre", "PLN": "gr"}
_THIN_SPACE = "\u202f"
_MINUS = "\u2212"


def render_day_page(day: Mapping[str, Any]) -> str:
    """The page as HTML text, to be written in UTF-8.

    Args:
        day: the data; a period may carry `interval_count` where its day has not the usual number.

    Raises:
        ValueError: another format, or intervals that are not those of the periods.
    """
    if day.get("format") != DAY_FORMAT:
        raise ValueError(f"format {day.get('format')!r}; this page shows {DAY_FORMAT}")
    scripts = [static_text("vendor/echarts.min.js"), static_text("day.js")]
    return (
        page_environment()
        .get_template("day.html.j2")
        .render(
            day=day,
            view=_view(day),
            peers_gas=PEERS_GAS,
            style=Markup(static_text("day.css")),
            scripts=[Markup(script) for script in scripts],
            script_hashes=[_csp_hash(script) for script in scripts],
            data=_json_for_script(day),
        )
    )


def format_scaled(value: int, scale: int, places: int, *, signed: bool = False) -> str:
    """`value / scale` with `places` decimals, rounded half away from zero, thousands apart.

    Args:
        value: the integer.
        scale: how many of it make one of the unit shown; a power of ten.
        places: decimals; `10**places` is at most `scale`.
        signed: whether a positive number gets its plus sign.
    """
    step = scale // 10**places
    rounded = (abs(value) + step // 2) // step
    whole, fraction = divmod(rounded, 10**places)
    sign = "" if not rounded else _MINUS if value < 0 else "+" if signed else ""
    text = f"{sign}{whole:,}".replace(",", _THIN_SPACE)
    return f"{text}.{fraction:0{places}d}" if places else text


def page_environment() -> Environment:
    """Templates with the filters that write exact integers for people."""
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "kwh": _kwh,
        "money": _money,
        "signed": _signed,
        "cents": _cents,
        "whole": _whole,
        "gas": _gas,
        "date": _date,
        "clock": _clock,
        "equipment": _equipment,
    }
    return environment


def static_text(name: str) -> str:
    """A file of the pages' own."""
    return (files("backend.portal") / "static" / name).read_text(encoding="utf-8")


def _template(name: str) -> str:
    return (files("backend.portal") / "templates" / name).read_text(encoding="utf-8")


def _csp_hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json_for_script(day: Mapping[str, Any]) -> Markup:
    """The data as JSON that cannot end the script element it stands in, whatever the names."""
    text = json.dumps(day, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _view(day: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows and the data do not say outright; sums stay exact integers."""
    totals, households = day["totals"], day["households"]
    lies = day["lies"]
    pairs = sorted(
        day["trades"], key=lambda pair: (-pair["energy_wh"], pair["seller"], pair["buyer"])
    )
    return {
        "when": _when(day["periods"]),
        "periods": _period_rows(day),
        "minutes": day["periods"][0]["interval_minutes"],
        "cent": _CENTS.get(day["currency"], f"0.01 {day['currency']}"),
        "self_sufficiency": _percent(totals["traded_wh"], totals["demand_wh"]),
        "self_consumption": _percent(totals["traded_wh"], totals["supply_wh"]),
        "columns": _column_sums(households),
        "accounts": _accounts(day),
        "prices": _price_range(day["intervals"]),
        "pairs": pairs[:TRADE_ROWS_LIMIT],
        "pairs_left_out": _left_out(pairs[TRADE_ROWS_LIMIT:]),
        "sellers": len({pair["seller"] for pair in pairs}),
        "buyers": len({pair["buyer"] for pair in pairs}),
        "pair_fees_nano": sum(pair["fee_nano"] for pair in pairs),
        "pair_energy_wh": sum(pair["energy_wh"] for pair in pairs),
        "show_intervals": len(day["intervals"]) <= INTERVAL_ROWS_LIMIT,
        "lies_word": _NUMBER_WORDS[len(lies)] if len(lies) < len(_NUMBER_WORDS) else len(lies),
        "lies_failed": all(lie["outcome"] in ("refused", "overturned") for lie in lies),
        "peak": max(day["intervals"], key=lambda interval: int(interval["traded_wh"])),
        "gas_scale": max(PEERS_GAS[-1][1], day["gas"]["per_member_and_interval"]),
    }


def _column_sums(households: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    columns = (
        "import_wh",
        "export_wh",
        "bought_inside_wh",
        "sold_inside_wh",
        "bought_outside_wh",
        "sold_outside_wh",
        "amount_nano",
        "outside_amount_nano",
        "saved_nano",
    )
    return {column: sum(household[column] for household in households) for column in columns}


def _accounts(day: Mapping[str, Any]) -> dict[str, Any]:
    """Who received what: the ledger's accounts, with neither households nor supplier netted."""
    totals, intervals = day["totals"], day["intervals"]
    imports = sum(row["imported_wh"] * row["outside_import_price_nano_per_wh"] for row in intervals)
    exports = sum(row["exported_wh"] * row["outside_export_price_nano_per_wh"] for row in intervals)
    supplier = [
        ("import", "Outside supplier, for imports", "sold to the community", imports),
        ("export", "Outside supplier, for exports", "bought from the community", -exports),
    ]
    if imports - exports != totals["supplier_nano"]:
        # Households with different outside tariffs: no price here tells the two apart.
        net = totals["supplier_nano"]
        supplier = [("import", "Outside supplier", "imports less exports", net)]
    amounts = [household["amount_nano"] for household in day["households"]]
    receiving = [amount for amount in amounts if amount > 0]
    paying = [amount for amount in amounts if amount <= 0]
    rows = [
        ("inside", "Households that pay", f"{len(paying)} accounts", sum(paying)),
        ("inside", "Households that receive", f"{len(receiving)} accounts", sum(receiving)),
        *supplier,
        ("dso", "Network operator (DSO)", "network fees of the trades", totals["fees_nano"]),
        ("fund", "Community fund", "what integer division leaves", totals["fund_nano"]),
    ]
    largest = max(1, *(abs(row[3]) for row in rows))
    return {
        "rows": [
            {
                "colour": colour,
                "who": who,
                "what": what,
                "amount_nano": amount,
                "bar_percent": round(100 * abs(amount) / largest, 2),
            }
            for colour, who, what, amount in rows
        ],
        "sum_nano": sum(row[3] for row in rows),
    }


def _period_rows(day: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per period the sums of its intervals, which follow one another in the periods' order."""
    rows, at = [], 0
    intervals = day["intervals"]
    for period in day["periods"]:
        count = period.get("interval_count", 24 * 60 // period["interval_minutes"])
        own = intervals[at : at + count]
        at += count
        keys = ("demand_wh", "supply_wh", "traded_wh", "imported_wh", "exported_wh")
        sums = {key: sum(row[key] for row in own) for key in (*keys, "fees_nano", "savings_nano")}
        rows.append(
            {
                **period,
                **sums,
                "self_sufficiency": _percent(sums["traded_wh"], sums["demand_wh"]),
                "self_consumption": _percent(sums["traded_wh"], sums["supply_wh"]),
            }
        )
    if at != len(intervals):
        raise ValueError(
            f"{len(intervals)} intervals, but the periods have {at}; "
            "give interval_count where clocks change"
        )
    return rows


def _price_range(intervals: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Lowest and highest of each price."""
    names = ("outside_import_price", "outside_export_price", "buy_price", "sell_price")
    values = {name: [row[f"{name}_nano_per_wh"] for row in intervals] for name in names}
    return {
        **{f"{name}_min": min(prices) for name, prices in values.items()},
        **{f"{name}_max": max(prices) for name, prices in values.items()},
    }


def _left_out(pairs: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {
        "count": len(pairs),
        "energy_wh": sum(pair["energy_wh"] for pair in pairs),
        "fee_nano": sum(pair["fee_nano"] for pair in pairs),
    }


def _percent(part: int, of: int) -> str:
    """A share in percent with one decimal; a dash where there is nothing to share."""
    return format_scaled((2000 * part + of) // (2 * of), 10, 1) if of else "–"


def _kwh(energy_wh: int, places: int = 3) -> str:
    return format_scaled(energy_wh, WH_PER_KWH, places)


def _money(amount_nano: int, places: int = 2) -> str:
    return format_scaled(amount_nano, NANO_PER_UNIT, places)


def _signed(amount_nano: int, places: int = 2) -> str:
    return format_scaled(amount_nano, NANO_PER_UNIT, places, signed=True)


def _cents(price_nano_per_wh: int) -> str:
    """A price in hundredths of the currency per kWh, each of which is 10 000 nano per Wh."""
    return format_scaled(price_nano_per_wh, 10_000, 2)


def _whole(number: int) -> str:
    return format_scaled(number, 1, 0)


def _gas(number: float) -> str:
    """Gas; whole from a hundred on, below with the decimal that a share may have."""
    if isinstance(number, int) or number >= 100:
        return format_scaled(round(number), 1, 0)
    return format_scaled(round(number * 10), 10, 1)


def _clock(moment: str) -> str:
    return moment[11:16]


def _date(iso: str) -> str:
    year, month, day = iso[:10].split("-")
    return f"{int(day)} {_MONTHS[int(month) - 1]} {year}"


def _when(periods: Sequence[Mapping[str, Any]]) -> str:
    first, last = _date(periods[0]["day"]), _date(periods[-1]["day"])
    return first if len(periods) == 1 else f"{first} to {last}"


def _equipment(household: Mapping[str, Any]) -> str:
    words = []
    if household["pv_peak_w"]:
        words.append(f"solar {format_scaled(household['pv_peak_w'], 1000, 1)} kWp")
    if household["heat_pump"]:
        words.append("heat pump")
    if household["ev"]:
        words.append("electric car")
    return ", ".join(words) or "none"
