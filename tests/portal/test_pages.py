"""The portal's pages over the demonstration: for whom, with which figures, in which language, and safe whatever the names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from babel.support import NullTranslations
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from backend.api.views import settled
from backend.portal import rendering
from backend.portal.languages import Language, language
from backend.portal.pages import PARTS
from backend.settlement.forward import ForwardTrade
from tests.support.demo_site import DemoWorld

CALLERS = ("nobody", "stranger", "member", "coordinator", "administrator", "dso", "auditor")
MEMBERS = {"member"}
INSIDE = {"member", "coordinator", "administrator", "dso", "auditor"}
OFFICERS = {"coordinator", "administrator"}
SESSION = set(CALLERS) - {"nobody"}
EVERYBODY = set(CALLERS)
# Whoever is in the set gets the page; everybody else is told to sign in, or that it is not theirs.
EXPECTED: dict[str, set[str]] = {
    "GET /static/{path:path}": EVERYBODY,
    "GET /": EVERYBODY,
    "GET /{community}": EVERYBODY,
    "GET /{community}/today": MEMBERS,
    "GET /{community}/today/live": MEMBERS,
    "GET /{community}/savings": MEMBERS,
    "GET /{community}/trades": MEMBERS,
    "GET /{community}/wishes": MEMBERS,
    "GET /{community}/statements": MEMBERS,
    "GET /{community}/statements/{period}": MEMBERS,
    "GET /{community}/money": MEMBERS,
    "GET /{community}/my-data": MEMBERS,
    "POST /{community}/my-data/erase": MEMBERS,
    "GET /{community}/join": SESSION,
    "GET /{community}/community": INSIDE,
    "GET /{community}/community/live": INSIDE,
    "GET /{community}/community/network": INSIDE,
    "GET /{community}/community/network/live": INSIDE,
    "GET /{community}/community/participants": INSIDE,
    "GET /{community}/coordinator": OFFICERS,
    "GET /{community}/coordinator/live": OFFICERS,
    "GET /{community}/coordinator/periods": OFFICERS,
    "GET /{community}/coordinator/exceptions": OFFICERS,
    "GET /{community}/coordinator/members": OFFICERS,
    "GET /{community}/coordinator/roles": OFFICERS,
    "POST /{community}/coordinator/run": {"coordinator"},
    "POST /{community}/coordinator/preview": {"coordinator"},
    "POST /{community}/coordinator/finalise/{period}": {"coordinator"},
    "GET /{community}/dso": {"dso"},
    "GET /{community}/audit": SESSION,
    "GET /{community}/audit/{number}": SESSION,
    "GET /{community}/audit/{number}/verdict": SESSION,
}
# What opens nothing and changes something is tried by those only who may not.
CHANGES = {"POST /{community}/my-data/erase", "POST /{community}/coordinator/run", "POST /{community}/coordinator/preview", "POST /{community}/coordinator/finalise/{period}"}  # fmt: skip
SLOW = {"GET /{community}/audit/{number}/verdict"}
HOSTILE = "</script><img src=x onerror=alert(1)>'\"&<!--"
VOID = {"meta", "link", "br", "input", "img", "hr"}


class Page(HTMLParser):
    """What a browser would see: text, elements, headings; and whether elements are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.unclosed: list[str] = []
        self.foreign: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.unclosed.append(tag)
            # What says by itself in which language it is.
            if self.foreign or ("lang" in dict(attrs) and tag != "html"):
                self.foreign.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed.pop() == tag
        if self.foreign:
            self.foreign.pop()

    def handle_data(self, data: str) -> None:
        if self.unclosed and self.unclosed[-1] == "script":
            self.scripts.append(data)
        elif data.strip() and not self.foreign:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", " ".join(self.texts))


def paths(world: DemoWorld) -> dict[str, str]:
    """An address for every page."""
    values = {
        "{community}": world.site.name,
        "{period}": str(world.first),
        "{number}": "1",
        "{path:path}": "portal.css",
    }
    found = {}
    for name in EXPECTED:
        path = name.partition(" ")[2]
        for key, value in values.items():
            path = path.replace(key, value)
        found[name] = path
    return found


def browser(world: DemoWorld, caller: str) -> TestClient:
    return world.anybody() if caller == "nobody" else world.signed_in(caller)


def shown(world: DemoWorld, caller: str) -> Iterator[tuple[str, str]]:
    """All pages that somebody is shown, with their HTML."""
    client = browser(world, caller)
    for name, path in paths(world).items():
        if caller in EXPECTED[name] and name not in CHANGES and "static" not in path:
            yield path, client.get(path).text


def test_no_page_is_left_out() -> None:
    routes: set[str] = set()
    for part in PARTS:
        for route in part.router.routes:
            assert isinstance(route, APIRoute)
            routes |= {f"{method} {route.path}" for method in route.methods}
    assert routes == set(EXPECTED)


@pytest.mark.parametrize("caller", CALLERS)
def test_who_gets_which_page(world: DemoWorld, caller: str) -> None:
    client = browser(world, caller)
    for name, path in paths(world).items():
        allowed = caller in EXPECTED[name]
        if (allowed and name in CHANGES) or (name in SLOW and caller not in ("nobody", "member")):
            continue
        method = name.partition(" ")[0]
        answer = client.request(method, path, follow_redirects=False)
        if allowed:
            assert answer.status_code in (200, 303), (caller, name, answer.text[:300])
        else:
            assert answer.status_code == (401 if caller == "nobody" else 403), (caller, name)
            assert "house-" not in answer.text


@pytest.mark.parametrize("caller", CALLERS)
def test_pages_keep_to_the_policy_and_to_html(world: DemoWorld, caller: str) -> None:
    for path, html in shown(world, caller):
        found = Page(html)
        assert found.unclosed == [], path
        identifiers = [item["id"] for _, item in found.elements if "id" in item]
        assert len(identifiers) == len(set(identifiers)), path
        for tag, attributes in found.elements:
            assert tag not in ("style", "iframe", "object", "base"), path
            assert not [name for name in attributes if name.startswith("on") or name == "style"], (
                path
            )
            if tag == "script" and "src" not in attributes:
                assert attributes["type"] == "application/json", path
            for name in ("src", "href", "action"):
                assert (attributes.get(name) or "/").startswith(("/", "?", "#")), (path, attributes)
        if "<html" in html:
            assert [tag for tag, _ in found.elements].count("h1") == 1, path


def test_figures_are_those_of_the_run(world: DemoWorld) -> None:
    """What the run said of itself, made without read models, is what the pages say."""
    household = world.day["households"][0]
    client = world.signed_in("member")
    text = Page(client.get(f"/demo/statements/{world.first}").text).text
    en = language("en")
    assert en.kwh(household["import_wh"], 3) in text
    assert en.kwh(household["export_wh"], 3) in text
    assert en.money(abs(household["amount_nano"]), "EUR") in text
    assert en.money(household["saved_nano"], "EUR") in text
    assert en.kwh(household["bought_inside_wh"], 3) in text
    assert en.kwh(household["sold_outside_wh"], 3) in text
    day = Page(client.get(f"/demo/community?day={world.site.day(world.first)}").text).text
    totals = world.day["totals"]
    assert en.kwh(totals["demand_wh"] - totals["traded_wh"], 1) in day
    assert en.kwh(totals["supply_wh"] - totals["traded_wh"], 1) in day
    assert en.percent(totals["traded_wh"] * 10**6 // totals["demand_wh"], 1) in day
    dso = Page(world.signed_in("dso").get("/demo/dso").text).text
    assert en.money(totals["fees_nano"], "EUR", places=4) in dso


def test_the_price_lies_between_feed_in_and_retail(world: DemoWorld) -> None:
    html = world.signed_in("member").get("/demo/today/live").text
    found = re.search(r'class="sell" cx="(\d+)".*?class="buy" cx="(\d+)"', html)
    assert found is not None
    sell, buy = int(found[1]), int(found[2])
    assert 20 <= sell <= buy <= 420
    # At three in the afternoon neighbours trade, so that both are better off.
    assert sell > 20 and buy < 420


class Loud(NullTranslations):
    """Puts every text between brackets, so that what is not translated stands out."""

    def gettext(self, message: str) -> str:
        return f"⟦{message}⟧"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"⟦{msgid1 if n == 1 else msgid2}⟧"

    # The names that templates ask for first.
    ugettext, ungettext = gettext, ngettext


@pytest.mark.parametrize("caller", CALLERS)
def test_no_text_escapes_translation(
    world: DemoWorld, caller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every translation between brackets no letter stands outside but names, units and codes."""
    loud = Language("en", language("en").locale, Loud())
    made = rendering.make_environment(loud)
    monkeypatch.setattr(rendering, "environment", lambda code: made)
    monkeypatch.setattr(rendering, "language", lambda code: loud)
    site = world.site
    named = {item.name for item in site.participants()} | {
        item.node for item in site.participants()
    }
    named |= {item.tariff_class for item in site.participants()} | set(site.contracts.addresses)
    allowed = {
        *named, site.title, "Peerwatt", "English", "Dansk", "Polski", "PDF", "CSV", "kWh", "kW", "ct", "EUR", "UTC",
        "substation", "JavaScript",
    }  # fmt: skip
    allowed |= {en for month in range(1, 13) for en in _dates(month)}
    for path, html in shown(world, caller):
        text = Page(html).text
        while re.search(r"⟦[^⟦⟧]*⟧", text):
            text = re.sub(r"⟦[^⟦⟧]*⟧", " ", text)
        text = re.sub(r"0x[0-9a-fA-F…]+", " ", text)
        for word in sorted(allowed, key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", " ", text)
        assert re.findall(r"[^\W\d_]{2,}", text) == [], path


def _dates(month: int) -> Iterator[str]:
    for style in ("MMM", "MMMM"):
        yield language("en").day(f"2016-{month:02}-15", style)
    for day in range(1, 8):
        yield language("en").day(f"2016-08-{day:02}", "EEEE")


def test_hostile_names_stay_text(world: DemoWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    people = tuple(replace(item, name=HOSTILE) for item in world.site.participants())
    monkeypatch.setattr(world.site, "participants", lambda: people)
    monkeypatch.setattr(world.site, "_made", {})
    client = world.signed_in("member")
    day = world.site.day(world.first)
    for path in ("/demo/today", f"/demo/trades?day={day}", f"/demo/community/network?day={day}", "/demo/community/participants", "/demo/wishes"):  # fmt: skip
        html = client.get(path).text
        found = Page(html)
        assert found.unclosed == []
        assert "<img" not in html
        assert not any("onerror" in attributes for _, attributes in found.elements)
    world.site._made.clear()


def test_errors_are_told_in_plain_words(world: DemoWorld) -> None:
    member, nobody = world.signed_in("member"), world.anybody()
    for client, path, status, said in (
        (nobody, "/demo/today", 401, "Please sign in first"),
        (member, "/demo/coordinator", 403, "This is not yours to see"),
        (member, "/demo/nothing-here", 404, "There is no such page"),
        (nobody, "/elsewhere", 404, "There is no such page"),
        (member, "/demo/trades?day=never", 422, "day: not a date"),
        (member, "/demo/statements/99999", 404, "There is nothing of that name"),
        (member, "/demo/statements/nonsense", 422, "Check the address"),
    ):
        answer = client.get(path)
        assert answer.status_code == status, path
        assert answer.headers["content-type"].startswith("text/html")
        assert said in Page(answer.text).text or status == 422, (path, Page(answer.text).text)
    polish = nobody.get("/demo/today", headers={"Accept-Language": "pl"})
    assert "Najpierw się zaloguj" in polish.text
    assert '<html lang="pl"' in polish.text


def test_language_and_appearance_are_remembered(world: DemoWorld) -> None:
    client = world.anybody()
    assert '<html lang="en" data-appearance="auto"' in client.get("/demo").text
    assert '<html lang="da"' in client.get("/demo?lang=da").text
    assert '<html lang="da"' in client.get("/demo").text
    assert 'data-appearance="dark"' in client.get("/demo?appearance=dark").text
    assert 'data-appearance="dark"' in client.get("/demo").text
    for hostile in ('"><script>', "xx", "../da"):
        html = client.get("/demo", params={"lang": hostile, "appearance": hostile}).text
        assert "<script>" not in html
    assert not [
        cookie for cookie in client.cookies.jar if not cookie.has_nonstandard_attr("HttpOnly")
    ]


def test_static_files_do_not_lead_out_of_their_folder(world: DemoWorld) -> None:
    client = world.anybody()
    assert client.get("/static/portal.css").headers["cache-control"] == "public, no-cache"
    assert "immutable" in client.get(rendering.asset("portal.css")).headers["cache-control"]
    for path in (
        "..%2Fpages.py",
        "%2e%2e/pages.py",
        "vendor/..%2f..%2fwords.py",
        "%2Fetc%2Fpasswd",
    ):
        assert client.get(f"/static/{path}").status_code == 404


def test_a_day_that_is_not_over_is_called_a_preview(world: DemoWorld) -> None:
    client: Any = world.signed_in("member")
    text = Page(client.get("/demo/statements").text).text
    assert "Preview" in text
    assert "Final statement" in text
    running = world.site.running_period().number
    shown = Page(client.get(f"/demo/statements/{running}").text)
    assert "Not to be verified yet" in shown.text
    assert "pw-verify" not in [tag for tag, _ in shown.elements]
    files = f"/api/v1/communities/demo/members/3/statements/{running}"
    assert client.get(f"{files}/pdf").content.startswith(b"%PDF")
    assert client.get(f"{files}/csv").text.count("\n") > 12


def test_trades_before_delivery_are_told(world: DemoWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """With figures of its own; that they are the settled ones is shown in tests/operator/test_trades.py."""
    site, client = world.site, world.signed_in("member")
    traded = ForwardTrade(
        site.rules.period(world.first).first_interval + 48, 3, 5, 250, 180_000, 20_000
    )
    monkeypatch.setattr(site, "forward_trades", lambda period: (traded,))
    own = settled.Settled._own

    def with_trade(self: settled.Settled, header: Any, slot: int) -> Any:
        part = own(self, header, slot)
        return part and replace(part, forward_nano=250 * 170_000 + 7)

    monkeypatch.setattr(settled.Settled, "_own", with_trade)
    kept = site.extras.pop("settled", None)
    site.forget()
    for path in (f"statements/{world.first}", f"trades?day={site.day(world.first)}"):
        text = Page(client.get(f"/demo/{path}").text).text
        assert "Traded before delivery" in text, path
        assert "Sold: 0.250 kWh" in text.replace("\N{NO-BREAK SPACE}", " ")
        assert language("en").money(250 * 170_000, "EUR", places=4, signed=True) in text
        assert "0.250 kWh to house-03" in text.replace("\N{NO-BREAK SPACE}", " ")
    site.extras["settled"] = kept
    site.forget()
