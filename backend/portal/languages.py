"""The portal's languages: texts by gettext, numbers, money, dates and times as people of the language write them (CLDR).

Texts are written in English where they are used and translated in `catalogue/*.po`; a test finds what is missing there, left over,
or has other placeholders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Final

from babel import Locale
from babel.core import negotiate_locale
from babel.dates import format_date, format_time
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_currency, format_decimal, get_currency_symbol
from babel.support import NullTranslations, Translations

from backend.domain.units import NANO_PER_UNIT, WH_PER_KWH

LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "da": "Dansk", "pl": "Polski"}
# English as people around here write it: day before month.
_LOCALES: Final[Mapping[str, str]] = {"en": "en_GB", "da": "da", "pl": "pl"}
_MINUS: Final = "\N{MINUS SIGN}"
_NO_BREAK: Final = "\N{NO-BREAK SPACE}"
# Between a sign and a currency, and after a slash, a line could end otherwise (UAX 14).
_JOINER: Final = "\N{WORD JOINER}"
# Hundredths of the currency, each of which is 10 000 nano per Wh when paid for a kWh.
_CENTS: Final[Mapping[str, str]] = {"EUR": "ct", "DKK": "øre", "PLN": "gr"}
_NANO_PER_WH_IN_CENTS_PER_KWH: Final = 10_000
_MILLIONTHS_IN_PERCENT: Final = 10_000


def marked(message: str) -> str:
    """Marks a text for the catalogue that is translated elsewhere."""
    return message


@dataclass(frozen=True)
class Language:
    """One language: its texts, and how it writes numbers and times.

    Attributes:
        code: as in `<html lang>`.
        locale: CLDR's.
        texts: the catalogue.
    """

    code: str
    locale: Locale
    texts: NullTranslations

    def text(self, message: str, **values: object) -> str:
        """A text in this language, its placeholders filled in."""
        found: str = self.texts.gettext(message)
        return found % values if values else found

    def number(self, value: int, scale: int = 1, places: int = 0, *, signed: bool = False) -> str:
        """`value / scale` with `places` decimals, rounded half away from zero."""
        exact = Decimal(value) / scale
        rounded = exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
        pattern = "#,##0" + ("." + "0" * places if places else "")
        return self._sign(format_decimal(abs(rounded), pattern, self.locale), rounded, signed)

    def kwh(self, energy_wh: int, places: int = 2) -> str:
        """Energy in kWh, with its unit."""
        return f"{self.number(energy_wh, WH_PER_KWH, places)}{_NO_BREAK}kWh"

    def kilowatts(self, energy_wh: int, minutes: int, places: int = 2) -> str:
        """Mean power of an interval in kW, with its unit."""
        return f"{self.number(energy_wh * 60, WH_PER_KWH * minutes, places)}{_NO_BREAK}kW"

    def money(self, nano: int, currency: str, *, places: int = 2, signed: bool = False) -> str:
        """Money with its currency."""
        amount = (Decimal(nano) / NANO_PER_UNIT).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
        # Where a code stands for the currency, some locales glue it to the number.
        pattern = self.locale.currency_formats["standard"].pattern.split(";")[0]
        if pattern.startswith("¤#") and get_currency_symbol(currency, self.locale).isalpha():
            pattern = pattern.replace("¤", f"¤{_NO_BREAK}")
        # As many decimals as asked for, also where they are zero.
        pattern = pattern.replace(".00", f".{'0' * places}" if places else "")
        text = format_currency(
            abs(amount),
            currency,
            pattern,
            self.locale,
            currency_digits=False,
            decimal_quantization=False,
        )
        return self._sign(text, amount, signed)

    def price(self, nano_per_wh: int, currency: str, places: int = 2) -> str:
        """A price in hundredths of the currency per kWh."""
        cents = _CENTS.get(currency, f"0.01 {currency}")
        number = self.number(nano_per_wh, _NANO_PER_WH_IN_CENTS_PER_KWH, places)
        return f"{number}{_NO_BREAK}{cents}/{_JOINER}kWh"

    def percent(self, millionths: int, places: int = 0) -> str:
        """A share."""
        space = "" if self.code == "en" else _NO_BREAK
        return f"{self.number(millionths, _MILLIONTHS_IN_PERCENT, places)}{space}%"

    def day(self, when: date | str, style: str = "long") -> str:
        """A date; `style` is `long`, `medium`, `short`, or a pattern of CLDR."""
        found = date.fromisoformat(when[:10]) if isinstance(when, str) else when
        return format_date(found, style, self.locale)

    def clock(self, when: datetime) -> str:
        """A time of day, in its own zone."""
        return format_time(when, "HH:mm" if self.code != "da" else "HH.mm", locale=self.locale)

    def moment(self, when: datetime) -> str:
        """Date and time of day, in its own zone."""
        return f"{self.day(when.date(), 'medium')}, {self.clock(when)}"

    @staticmethod
    def _sign(text: str, value: Decimal, signed: bool) -> str:
        sign = _MINUS if value < 0 else "+" if signed and value > 0 else ""
        return f"{sign}{_JOINER}{text}" if sign and not text[0].isdigit() else sign + text


@cache
def language(code: str) -> Language:
    """A language by its code.

    Raises:
        KeyError: not one of `LANGUAGES`.
    """
    return Language(code, Locale.parse(_LOCALES[code]), catalogue(code))


def catalogue(code: str) -> NullTranslations:
    """The texts of a language; English ones stand in the code."""
    if code == "en":
        return NullTranslations()
    source = files("backend.portal") / "catalogue" / f"{code}.po"
    compiled = BytesIO()
    write_mo(compiled, read_po(BytesIO(source.read_bytes()), locale=code))
    compiled.seek(0)
    return Translations(compiled)


def preferred(chosen: str | None, accepted: str | None) -> str:
    """The language to show: the one chosen, else what the browser asks for, else English.

    Args:
        chosen: a code, from address or cookie; anything may stand there.
        accepted: the header `Accept-Language`.
    """
    if chosen in LANGUAGES:
        return str(chosen)
    wanted = []
    for part in (accepted or "")[:500].split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            wanted.append((-float(weight or 1), tag.partition("-")[0].lower()))
        except ValueError:
            continue
    wanted.sort(key=lambda item: item[0])
    return negotiate_locale([tag for _, tag in wanted], list(LANGUAGES)) or "en"
