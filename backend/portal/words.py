"""What codes and states are called in plain words. Texts are marked here and translated where they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from backend.domain.errors import PeerwattError

from .languages import Language, marked


@dataclass(frozen=True)
class ErrorWords:
    """An error as a page shows it.

    Attributes:
        title: what happened, in a few words.
        remedy: what to do.
        translated: whether both are in the page's language; otherwise they are in English.
    """

    title: str
    remedy: str
    translated: bool


_ERRORS: Final[Mapping[str, tuple[str, str]]] = {
    "web.not_signed_in": (
        marked("Please sign in first"),
        marked("This page shows somebody's own data. Sign in with the wallet that it belongs to."),
    ),
    "web.not_permitted": (
        marked("This is not yours to see"),
        marked("Sign in with a wallet that has the right to it. Rights are read from the chain."),
    ),
    "web.not_there": (
        marked("There is no such page"),
        marked("Check the address, or start again from the first page."),
    ),
    "web.cross_site": (
        marked("Another web site sent this"),
        marked("If you meant to do it, do it again from a page of this site."),
    ),
    "web.too_large": (marked("That was too much at once"), marked("Send less.")),
    "web.too_many_requests": (
        marked("Too many requests"),
        marked("Wait a minute, then try again."),
    ),
    "web.method": (
        marked("This address does not take that"),
        marked("Go back and use the buttons of the page."),
    ),
    "input.unknown_reference": (
        marked("There is nothing of that name"),
        marked("Go back and choose from the list."),
    ),
    "bundle.unavailable": (
        marked("The data of this day are missing"),
        marked(
            "Tell the coordinator: members and auditors can put the data back from their copies."
        ),
    ),
    "database.failed": (
        marked("The database does not answer"),
        marked("Wait a minute, then try again. Nothing is lost."),
    ),
}


def error_words(error: PeerwattError, language: Language) -> ErrorWords:
    """An error in plain words; one without words of its own says what the error itself says."""
    known = _ERRORS.get(error.code)
    if known is None:
        return ErrorWords(error.message, error.remedy, language.code == "en")
    return ErrorWords(language.text(known[0]), language.text(known[1]), True)


_CENTS: Final[Mapping[str, str]] = {"EUR": "ct/kWh", "DKK": "øre/kWh", "PLN": "gr/kWh"}
_SERIES: Final[Mapping[str, str]] = {
    "from_neighbours": marked("From neighbours"),
    "from_outside": marked("From outside"),
    "to_neighbours": marked("To neighbours"),
    "to_outside": marked("To outside"),
    "retail": marked("Retail price"),
    "feed_in": marked("Feed-in price"),
    "buy": marked("Price when buying"),
    "sell": marked("Price when selling"),
    "saved": marked("Saved"),
    "traded": marked("Traded inside"),
    "imported": marked("Bought outside"),
    "exported": marked("Sold outside"),
    "fees": marked("Network fees"),
    "forward": marked("There"),
    "backward": marked("Back"),
}


def series_words(language: Language) -> dict[str, str]:
    """Names of charts' series."""
    return {key: language.text(message) for key, message in _SERIES.items()}


def price_unit(currency: str) -> str:
    """The unit that prices are shown in."""
    return _CENTS.get(currency, f"0.01 {currency}/kWh")


# What scripts say, by the name they know it by.
SCRIPT_TEXTS: Final[Mapping[str, str]] = {}
