"""Numbers, money, prices and times as people of each language write them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.portal.languages import LANGUAGES, language, preferred

WHEN = datetime(2026, 3, 5, 9, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("code", "kwh", "money", "price", "share", "day", "moment"),
    [
        ("en", "1,234.57 kWh", "−\N{WORD JOINER}€1,234.50", "31.25 ct/\N{WORD JOINER}kWh", "45.7%", "5 March 2026", "5 Mar 2026, 09:07"),
        ("da", "1.234,57 kWh", "−1.234,50 €", "31,25 ct/\N{WORD JOINER}kWh", "45,7 %", "5. marts 2026", "5. mar. 2026, 09.07"),
        ("pl", "1 234,57 kWh", "−1 234,50 €", "31,25 ct/\N{WORD JOINER}kWh", "45,7 %", "5 marca 2026", "5 mar 2026, 09:07"),
    ],
)  # fmt: skip
def test_how_people_write(
    code: str, kwh: str, money: str, price: str, share: str, day: str, moment: str
) -> None:
    written = language(code)
    found = (
        written.kwh(1_234_567),
        written.money(-1_234_500_000_000, "EUR"),
        written.price(312_500, "EUR"),
        written.percent(456_999, 1),
        written.day("2026-03-05"),
        written.moment(WHEN),
    )
    assert tuple(text.replace("\N{NO-BREAK SPACE}", " ") for text in found) == (
        kwh,
        money,
        price,
        share,
        day,
        moment,
    )


@pytest.mark.parametrize(
    ("code", "currency", "said"),
    [
        ("en", "DKK", "DKK 0.50"), ("da", "DKK", "0,50 kr."), ("pl", "PLN", "0,50 zł"),
        ("en", "PLN", "PLN 0.50"), ("da", "PLN", "0,50 PLN"),
    ],
)  # fmt: skip
def test_currencies(code: str, currency: str, said: str) -> None:
    found = language(code).money(500_000_000, currency)
    assert found.replace("\N{NO-BREAK SPACE}", " ") == said


@given(
    value=st.integers(-(2**53), 2**53),
    places=st.integers(0, 6),
    code=st.sampled_from(sorted(LANGUAGES)),
    signed=st.booleans(),
)
def test_a_number_read_back_is_the_rounded_one(
    value: int, places: int, code: str, signed: bool
) -> None:
    text = language(code).number(value, 10**9, places, signed=signed)
    point = "." if code == "en" else ","
    plain = text.replace("−", "-").replace("\N{NO-BREAK SPACE}", "")
    plain = plain.replace("," if code == "en" else ".", "").replace(point, ".")
    exact = (Decimal(value) / 10**9).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    assert Decimal(plain) == exact
    assert text.startswith("+") == (signed and exact > 0)
    assert ("−" in text) == (exact < 0)


@pytest.mark.parametrize(
    ("chosen", "accepted", "found"),
    [
        (None, None, "en"), (None, "pl-PL,pl;q=0.9,en;q=0.8", "pl"), ("da", "pl", "da"), ("xx", "da-DK", "da"),
        (None, "fr, da;q=0.2", "da"), (None, "en;q=0.1, pl;q=0.5", "pl"), (None, "pl;q=x, da", "da"), (None, "*", "en"),
    ],
)  # fmt: skip
def test_which_language_is_shown(chosen: str | None, accepted: str | None, found: str) -> None:
    assert preferred(chosen, accepted) == found


@given(st.text(max_size=700), st.text(max_size=20))
def test_whatever_a_browser_sends_some_language_is_shown(accepted: str, chosen: str) -> None:
    assert preferred(chosen, accepted) in LANGUAGES
