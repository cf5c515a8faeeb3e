"""The system's Chromium: fixture ``chromium``, and the marks of a module whose tests drive it.

``from tests.fakes.machine.chromium import chromium`` in a test module makes the fixture known there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, expect, sync_playwright

__all__ = ["DRIVES_CHROMIUM", "chromium"]

CHROMIUM = Path(os.environ.get("TALLY_CHROMIUM", "/usr/bin/chromium"))
ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
DRIVES_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM} (TALLY_CHROMIUM)"),
]

expect.set_options(timeout=60_000)  # a busy machine is no failure of the page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for the tests of a module."""
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        except Error as wrong:
            pytest.skip(f"Chromium does not start here: {wrong.message[:200]}")
        yield browser
        browser.close()
