"""Everybody's way through the portal in Chromium, from a cold start, with a wallet that really signs; on a phone and on a desktop.

Every page on the way is looked at by axe-core (WCAG 2 A and AA), must fit the screen, and must not fail in the console.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.portal.conftest import Portal
from tests.support.injected_wallet import InjectedWallet

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
SIZES = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1280, "height": 800}}
# Only a page that hangs takes so long.
PATIENCE = 120_000
expect.set_options(timeout=PATIENCE)


@contextmanager
def opened(
    chromium: Browser,
    portal: Portal,
    size: str,
    role: str,
    language: str = "en",
    look: str = "light",
    expected: str = "",
) -> Iterator[Page]:
    """A fresh browser with the wallet of a role as an extension; at the end nothing but what is expected may have gone wrong in it."""
    context: BrowserContext = chromium.new_context(
        viewport=SIZES[size],  # type: ignore[arg-type]
        locale=language,
        color_scheme=look,  # type: ignore[arg-type]
        is_mobile=size == "phone",
        has_touch=size == "phone",
        # Tests look into pages that forbid what they were not made with.
        bypass_csp=False,
    )
    context.set_default_timeout(PATIENCE)
    site = portal.world.site
    wallet = InjectedWallet(
        portal.world.wallet(role), site.web3, dict(site.contracts.addresses), site.chain_id
    )
    wallet.install(context)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    yield page
    context.close()
    assert [item for item in faults if not expected or expected not in item] == []


def sign_in(page: Page, portal: Portal) -> None:
    """From a cold start: the front door, the wallet's button."""
    page.goto(portal.url)
    page.locator("pw-sign-in button.wallet").click()
    page.wait_for_url(re.compile(r"/demo/\w+"))


def looked_at(page: Page) -> None:
    """What axe finds, and whether the page is wider than the screen."""
    # By the debugger, which no policy binds.
    found = page.evaluate(
        f"async () => {{ {AXE}; const found = await axe.run(document, {{runOnly: {RULES!r}}});"
        " return found.violations.map((item) => [item.id, item.impact, item.nodes.map((node) => node.html)]); }"
    )
    assert found == [], page.url
    # A phone's window grows with what is in it.
    assert page.viewport_size
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.viewport_size["width"], page.url


def walk(page: Page, portal: Portal, paths: list[str]) -> None:
    """Opens pages one after the other."""
    for path in paths:
        page.goto(f"{portal.url}/demo/{path}")
        expect(page.locator("h1")).to_be_visible()
        looked_at(page)


@pytest.mark.parametrize("size", SIZES)
def test_member(chromium: Browser, portal: Portal, size: str) -> None:
    world = portal.world
    with opened(chromium, portal, size, "member") as page:
        sign_in(page, portal)
        expect(page.locator("h1")).to_contain_text("Hello, house-01")
        expect(page.locator(".chart canvas")).to_have_count(2)
        expect(page.get_by_role("img", name=re.compile("^Energy flow:"))).to_be_visible()
        looked_at(page)
        page.get_by_role("link", name="Trades").click()
        page.goto(f"{portal.url}/demo/trades?day={world.site.day(world.first)}")
        page.locator(".why summary").first.click()
        expect(page.locator(".why[open] .facts").first).to_be_visible()
        looked_at(page)
        walk(page, portal, ["savings", "wishes", "statements", "money", "my-data"])
        page.goto(f"{portal.url}/demo/statements/{world.first}")
        page.get_by_role("button", name="Verify", exact=True).click()
        expect(page.locator("pw-verify[data-result]:not([data-result=''])")).to_be_visible()
        expect(page.locator("pw-verify")).to_have_attribute("data-result", "green")
        looked_at(page)
        with page.expect_download() as paper:
            page.get_by_role("link", name="PDF").click()
        assert Path(paper.value.path()).read_bytes().startswith(b"%PDF")
        with page.expect_download() as table:
            page.get_by_role("link", name="CSV").click()
        assert Path(table.value.path()).read_text(encoding="utf-8").count("\n") > 96
        page.goto(f"{portal.url}/demo/my-data")
        with page.expect_download() as everything:
            page.get_by_role("link", name="Download all").click()
        assert Path(everything.value.path()).read_bytes().startswith(b"PK")


def test_wishes_are_signed_by_the_wallet(chromium: Browser, portal: Portal) -> None:
    with opened(chromium, portal, "phone", "member") as page:
        sign_in(page, portal)
        page.goto(f"{portal.url}/demo/wishes")
        page.get_by_label("I decide").check()
        page.get_by_label("Buy at no more than").fill("27.5")
        page.get_by_label("Sell at no less than").fill("9,25")
        page.locator("#partner_premium").fill("1")
        page.locator("[data-partner]").first.select_option("preferred")
        page.locator("[data-partner]").last.select_option("refused")
        looked_at(page)
        page.get_by_role("button", name="Sign and keep").click()
        page.locator("dialog").get_by_role("button", name="Go on").click()
        expect(page.get_by_text("Your own wishes hold")).to_be_visible()
        expect(page.get_by_label("Buy at no more than")).to_have_value("27.50")
        expect(page.get_by_label("Sell at no less than")).to_have_value("9.25")
        expect(page.locator("[data-partner]").first).to_have_value("preferred")
    client = portal.world.signed_in("member")
    kept = client.get("/api/v1/communities/demo/members/3/wishes").json()["wishes"]
    assert kept["buy_limit_nano_per_wh"] == 275_000
    assert kept["sell_limit_nano_per_wh"] == 92_500
    assert [item["premium_nano_per_wh"] for item in kept["preferred"]] == [10_000]
    assert len(kept["refused"]) == 1


@pytest.mark.parametrize("size", SIZES)
def test_community(chromium: Browser, portal: Portal, size: str) -> None:
    world = portal.world
    with opened(chromium, portal, size, "member") as page:
        sign_in(page, portal)
        walk(page, portal, ["community", "community/participants"])
        page.goto(f"{portal.url}/demo/community/network?day={world.site.day(world.first)}")
        expect(page.locator(".feeder .house")).to_have_count(12)
        assert page.locator(".feeder .trade").count() > 0
        assert page.locator(".feeder .dot animateMotion").count() > 0
        clock = page.locator("[data-clock]")
        before = clock.inner_text()
        page.get_by_role("button", name="Play the day").click()
        expect(clock).not_to_have_text(before)
        page.get_by_role("button", name="Play the day").click()
        slider = page.get_by_role("slider", name="Interval")
        slider.focus()
        page.keyboard.press("Home")
        expect(clock).to_have_text("00:00–00:15")
        assert "00:00–00:15" in (slider.get_attribute("aria-valuetext") or "")
        looked_at(page)


@pytest.mark.parametrize("size", SIZES)
def test_coordinator(chromium: Browser, portal: Portal, size: str) -> None:
    with opened(chromium, portal, size, "coordinator") as page:
        sign_in(page, portal)
        walk(
            page,
            portal,
            [
                "coordinator",
                "coordinator/exceptions",
                "coordinator/members",
                "coordinator/roles",
                "coordinator/periods",
            ],
        )
        page.get_by_role("button", name=re.compile("^Preview")).click()
        page.wait_for_url("**/coordinator/periods")
        page.get_by_role("button", name="Run what is due").click()
        page.wait_for_url("**/coordinator/periods")
        expect(page.get_by_text("To buy outside")).to_be_visible()


@pytest.mark.parametrize("size", SIZES)
def test_network_operator(chromium: Browser, portal: Portal, size: str) -> None:
    with opened(chromium, portal, size, "dso") as page:
        sign_in(page, portal)
        walk(page, portal, ["dso"])
        expect(page.get_by_role("heading", name="Flows by edge")).to_be_visible()


@pytest.mark.parametrize("size", SIZES)
def test_auditor(chromium: Browser, portal: Portal, size: str) -> None:
    with opened(chromium, portal, size, "auditor") as page:
        sign_in(page, portal)
        walk(page, portal, ["audit"])
        page.locator(".row-link").first.click()
        # A button does nothing before the page's programs are there.
        page.wait_for_url("**/audit/*")
        page.wait_for_load_state()
        page.get_by_role("button", name="Recompute the verdict").click()
        expect(page.locator("[data-verdict]")).to_have_attribute("data-verdict", "verified")
        page.get_by_text(re.compile(r"^\d+ checks$")).click()
        looked_at(page)
        with page.expect_download() as evidence:
            page.get_by_role("link", name="Evidence").click()
        assert Path(evidence.value.path()).read_bytes().startswith(b"PK")


@pytest.mark.parametrize(("language", "look"), [("da", "dark"), ("pl", "light"), ("pl", "dark")])
def test_other_languages_fit_a_phone(
    chromium: Browser, portal: Portal, language: str, look: str
) -> None:
    with opened(chromium, portal, "phone", "member", language, look) as page:
        page.goto(portal.url)
        looked_at(page)
        sign_in(page, portal)
        assert page.locator("html").get_attribute("lang") == language
        walk(page, portal, ["today", "statements", "community", "wishes"])


def one_more_interval(portal: Portal) -> str:
    """Lets the next interval pass; returns when it began."""
    world = portal.world
    world.until(world.hours + 0.25)
    return f"{world.site.interval_start(world.site.previews()[-1].interval):%H:%M}"


def test_a_new_interval_appears_by_itself(chromium: Browser, portal: Portal) -> None:
    with opened(chromium, portal, "phone", "member") as page:
        sign_in(page, portal)
        with page.expect_request("**/api/v1/communities/demo/events"):
            page.reload()
        page.get_by_text("Show as a table").click()
        rows = page.locator("#course-table tbody tr")
        before = rows.count()
        page.evaluate("window.kept = true")
        start = one_more_interval(portal)
        expect(page.locator("#now")).to_contain_text(f"{start}–")
        # The table stays open, and has the interval; the picture was drawn again.
        expect(rows).to_have_count(before + 1)
        expect(page.locator("#course-table")).to_have_attribute("open", "")
        expect(page.locator(".chart canvas")).to_have_count(2)
        assert page.evaluate("window.kept")
        looked_at(page)


def test_the_moving_network_goes_on_with_the_day(chromium: Browser, portal: Portal) -> None:
    with opened(chromium, portal, "desktop", "member") as page:
        sign_in(page, portal)
        page.goto(f"{portal.url}/demo/community/network")
        clock, slider = page.locator("[data-clock]"), page.locator("#moment")
        most = int(slider.get_attribute("max") or 0)
        page.evaluate("window.kept = true")
        start = one_more_interval(portal)
        expect(clock).to_contain_text(f"{start}–")
        expect(slider).to_have_attribute("max", str(most + 1))
        # Whoever has chosen an interval keeps it.
        slider.focus()
        page.keyboard.press("Home")
        one_more_interval(portal)
        expect(slider).to_have_attribute("max", str(most + 2))
        expect(clock).to_have_text("00:00–00:15")
        expect(slider).to_be_focused()
        assert page.evaluate("window.kept")


def test_completeness_grows_while_the_coordinator_looks(chromium: Browser, portal: Portal) -> None:
    with opened(chromium, portal, "desktop", "coordinator") as page:
        sign_in(page, portal)
        page.goto(f"{portal.url}/demo/coordinator")
        newest = page.locator(".matrix tbody tr").first.locator("td").last
        before = int(re.sub(r"\D", "", newest.inner_text()))
        page.evaluate("window.kept = true")
        one_more_interval(portal)
        expect(newest).to_contain_text(str(before + 1))
        assert page.evaluate("window.kept")


def test_where_no_stream_gets_through_pages_ask_now_and_then(
    chromium: Browser, portal: Portal
) -> None:
    with opened(chromium, portal, "phone", "member", expected="ERR_FAILED") as page:
        page.route("**/events", lambda route: route.abort())
        sign_in(page, portal)
        start = one_more_interval(portal)
        expect(page.locator("#now")).to_contain_text(f"{start}–")


def test_a_page_notices_the_end_of_its_session(chromium: Browser, portal: Portal) -> None:
    with opened(chromium, portal, "phone", "member", expected="401") as page:
        sign_in(page, portal)
        expect(page.locator("#now")).to_be_visible()
        # In another tab.
        assert page.context.request.delete(f"{portal.url}/api/v1/session").ok
        expect(page.get_by_text("Please sign in first")).to_be_visible()
        expect(page.locator("#now")).to_have_count(0)


def test_the_coordinator_is_told_until_when_a_day_can_be_challenged(
    chromium: Browser, portal: Portal
) -> None:
    with opened(chromium, portal, "phone", "coordinator", expected="409") as page:
        sign_in(page, portal)
        page.goto(f"{portal.url}/demo/coordinator/periods")
        looked_at(page)
        page.get_by_role("button", name="Finalise").first.click()
        expect(page.get_by_text("This day is not final yet")).to_be_visible()
        expect(page.get_by_text("can be challenged until")).to_be_visible()


def test_without_a_mouse(chromium: Browser, portal: Portal) -> None:
    """Skip link, menu and tables by keyboard alone."""
    with opened(chromium, portal, "desktop", "member") as page:
        sign_in(page, portal)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        page.locator("details.account summary").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="Polski")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("link", name="Polski")).to_be_hidden()
        expect(page.locator("details.account summary")).to_be_focused()
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Sign out").focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/demo")
        expect(page.locator("pw-sign-in")).to_be_visible()


def test_pictures_can_be_stopped_and_stand_still_for_whoever_wants_it(
    chromium: Browser, portal: Portal
) -> None:
    with opened(chromium, portal, "desktop", "member") as page:
        sign_in(page, portal)
        flow = page.locator("svg.moving")
        assert not flow.evaluate("(picture) => picture.animationsPaused()")
        page.get_by_role("button", name="Pause moving pictures").click()
        assert flow.evaluate("(picture) => picture.animationsPaused()")
        page.emulate_media(reduced_motion="reduce")
        page.reload()
        assert flow.evaluate("(picture) => picture.animationsPaused()")
