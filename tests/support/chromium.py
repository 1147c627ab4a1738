"""The browser that the portal's tests drive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests import services


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """Chromium without a window; without Chromium the test is skipped, or fails where services are required."""
    program = services.chromium() or services.absent("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
