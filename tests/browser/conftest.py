"""Chromium, and a demonstration's site for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.support.web_site import ServedSite, served_demo

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSite]:
    """A demonstration's site; what a test does to its chain stays for the tests after it."""
    with served_demo(tmp_path_factory.mktemp("demo")) as site:
        yield site


@pytest.fixture(params=["phone", "desktop"])
def page(request: pytest.FixtureRequest, chromium: Browser) -> Iterator[Page]:
    """A fresh page, on a phone and on a desktop; it fails where the page does."""
    context = chromium.new_context(viewport=PHONE if request.param == "phone" else DESKTOP)  # type: ignore[arg-type]
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    yield opened
    context.close()
    assert faults == []
