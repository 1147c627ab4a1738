"""Draws the portal's pictures for README and docs: `python -m tests.figures.make_portal [DEMO_FOLDER]`."""

from __future__ import annotations

import socket
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from backend.api.demo import open_demo_site
from backend.api.settings import WebSettings
from backend.api.site import Site
from backend.demo.community import DEFAULT_DAY
from backend.demo.day import DemoOptions, Progress, run_demo
from backend.web_commands import application
from tests.support.injected_wallet import InjectedWallet
from tests.support.web_site import served_app

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1180, "height": 860}
# Name, role, page, screen, light or dark, language, what to press.
SHOTS = (
    ("portal-today-phone", "member", "today", PHONE, "light", "en", ""),
    ("portal-today-dark", "member", "today", DESKTOP, "dark", "en", ""),
    ("portal-trades-danish", "member", "trades", PHONE, "light", "da", ".why summary >> nth=8"),
    ("portal-verify", "member", "statements/{period}", DESKTOP, "light", "en", "pw-verify button"),
    ("portal-network", "member", "community/network?day={day}", DESKTOP, "light", "en", ""),
    ("portal-community-polish", "member", "community?day={day}", PHONE, "dark", "pl", ""),
    ("portal-coordinator", "coordinator", "coordinator/periods", DESKTOP, "light", "en", ""),
    ("portal-audit", "auditor", "audit/1", DESKTOP, "light", "en", "button.main"),
)
LIMIT_BYTES = 300_000
HOUR_SECONDS = 3600


def afternoon(site: Site) -> None:
    """Lets the day after the last settled one go on until sellers and buyers meet."""
    site.demo.clock.starts += 14 * HOUR_SECONDS
    assert site.demo.player.step() == []
    site.changed()


def take(browser: Browser, site: Site, url: str) -> None:
    """Every picture, each from a cold start."""
    newest = site.batches()[-1].header.period
    for name, role, path, screen, look, language, press in SHOTS:
        context = browser.new_context(
            viewport=screen,  # type: ignore[arg-type]
            color_scheme=look,  # type: ignore[arg-type]
            locale=language,
        )
        context.set_default_timeout(120_000)
        key = next(item.key for item in site.demo.wallets if item.role == role)
        InjectedWallet(key, site.web3, dict(site.contracts.addresses), site.chain_id).install(
            context
        )
        page = context.new_page()
        page.goto(url)
        page.locator("pw-sign-in button.wallet").click()
        page.wait_for_url("**/demo/*")
        page.goto(f"{url}/demo/{path.format(period=newest, day=site.day(newest))}")
        if press:
            page.locator(press).first.click()
            page.wait_for_load_state("networkidle")
            page.locator(press).first.scroll_into_view_if_needed()
        # Charts have drawn themselves by then.
        page.wait_for_timeout(4000 if press else 1500)
        picture = page.screenshot(path=PICTURES / f"{name}.png")
        assert len(picture) < LIMIT_BYTES, name
        print(name, len(picture))
        context.close()


def main(folder: Path) -> None:
    """Serves a demonstration and takes the pictures."""
    site = open_demo_site(folder, live=False)
    afternoon(site)
    with socket.socket() as listening, sync_playwright() as playwright:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        with served_app(application({site.name: site}, WebSettings(origin=url)), listening):
            take(browser, site, url)
        browser.close()
    site.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            options = DemoOptions(20, 3, DEFAULT_DAY, 0, None, "auto", Path(made))
            run_demo(options, Progress())
            main(Path(made))
