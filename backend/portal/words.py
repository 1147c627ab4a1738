"""What codes and states are called in plain words. Texts are marked here and translated where they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from backend.api.views.coordinator import ExceptionItem
from backend.api.views.installation import HealthCheck
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
    "operator.not_final": (
        marked("This day is not final yet"),
        marked(
            "It can be finalised as soon as its batch stands on the chain and can no longer be challenged; the list says until when."
        ),
    ),
    "operator.leadership_lost": (
        marked("The coordinator's process does it already"),
        marked("Leave it to that one: it goes on by itself every few seconds."),
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


_CYCLE: Final[Mapping[str, str]] = {
    "collecting": marked("Waiting for the oracle's report"),
    "collected": marked("Readings are in"),
    "prepared": marked("Cleared, batch prepared"),
    "published": marked("Data published"),
    "submitting": marked("On its way to the chain"),
    "submitted": marked("On the chain, can be challenged"),
    "final": marked("Final"),
    "stated": marked("Final, statements written"),
    "refused": marked("Refused by the contract"),
    "voided": marked("Overturned by a challenge"),
}
_ROLES: Final[Mapping[str, str]] = {
    "member": marked("Member"),
    "coordinator": marked("Coordinator"),
    "administrator": marked("Administrator"),
    "registrar": marked("Registrar"),
    "tariff": marked("Tariff role"),
    "oracle": marked("Oracle role"),
    "meter": marked("Meter role"),
    "pauser": marked("Pauser"),
    "auditor": marked("Auditor"),
    "dso": marked("Network operator"),
    "supplier": marked("Supplier"),
}
_HEALTH: Final[Mapping[str, str]] = {
    "the chain's node": marked("The chain's node"),
    "the community": marked("The community"),
    "the bond": marked("The bond"),
    "the coordinator's gas money": marked("The coordinator's gas money"),
    "the cycle": marked("The daily cycle"),
    "the database": marked("The database"),
}
# Title and mend of what wants attention; the error itself stands beside them as it was said.
_EXCEPTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "period.collecting": (
        marked("A day waits for the oracle"),
        marked("See that enough signers run and agree; the day goes on by itself."),
    ),
    "period.refused": (
        marked("The contract refused a batch"),
        marked("Read the reason and mend its cause; the day is prepared again by itself."),
    ),
    "period.voided": (
        marked("A challenge overturned a batch"),
        marked("Find out what was wrong before it is prepared again."),
    ),
    "batch.voided": (
        marked("A challenge overturned a batch"),
        marked("Find out what was wrong before it is prepared again."),
    ),
    "batch.demanded": (
        marked("Somebody disputes a day: data are demanded"),
        marked(
            "See that the coordinator's process runs; it shows them by itself. If nobody does in time, the batch falls and the bond is lost."
        ),
    ),
    "readings.missing": (
        marked("Readings are missing"),
        marked("Look after the meter and its gateway. What comes in late leads to a correction."),
    ),
    "member.differs": (
        marked("A member is registered differently on the chain"),
        marked("Put the member into the configuration as it is registered."),
    ),
    "group.small": (
        marked("A tariff group is too small"),
        marked("Merge places or tariff classes until every group is large enough."),
    ),
}


@dataclass(frozen=True)
class ExceptionWords:
    """Title and mend of an exception, and whether they are in the page's language."""

    title: str
    remedy: str
    translated: bool


def exception_words(item: ExceptionItem, language: Language) -> ExceptionWords:
    """An exception in plain words; one without words of its own says what it says itself."""
    known = _EXCEPTIONS.get(item.code)
    if known is None:
        return ExceptionWords(item.code, item.remedy, language.code == "en")
    return ExceptionWords(language.text(known[0]), language.text(known[1]), True)


def cycle_words(language: Language) -> dict[str, str]:
    """Names of the cycle's states."""
    return {key: language.text(message) for key, message in _CYCLE.items()}


def role_words(language: Language) -> dict[str, str]:
    """Names of roles."""
    return {key: language.text(message) for key, message in _ROLES.items()}


def health_words(check: HealthCheck, language: Language) -> str:
    """What was looked after."""
    known = _HEALTH.get(check.what)
    return language.text(known) if known else check.what
