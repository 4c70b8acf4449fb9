"""A real browser on a served folder, for the tests of the page."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from m3video.config import Settings
from m3video.serve.app import create_app
from tests.serve.running import running

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in _NAMES if (found := shutil.which(name))), None)

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install Debian's package chromium")


@contextmanager
def served(folder: Path, settings: Settings | None = None, **options: Any) -> Iterator[str]:
    """Serve a folder on loopback; yield the address of the page."""
    with running(create_app(folder, settings or Settings(model="rendered"), **options)) as address:
        yield f"{address}/"


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a headless browser."""
    from playwright.sync_api import sync_playwright

    # Chromium refuses its sandbox to root, which only containers of tests are.
    flags = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:
            yield browser
        finally:
            browser.close()


class Faults:
    """What went wrong in a page without being seen: errors of scripts and of the policy, requests to other hosts."""

    def __init__(self, page: Any, address: str) -> None:
        self.found: list[str] = []
        page.on("pageerror", lambda error: self.found.append(str(error)))
        page.on("console", lambda line: self.found.append(line.text) if line.type in ("error", "warning") else None)
        page.on("request", lambda request: self._check(request.url, address))

    def _check(self, url: str, address: str) -> None:
        if not url.startswith((address, "blob:", "data:")):
            self.found.append(f"request to {url}")


def planned(page: Any) -> None:
    """Wait until a video was looked at and planned."""
    page.wait_for_selector("#spent strong", timeout=60_000)


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true. (Playwright's own waiting evaluates text, which the policy forbids.)"""
    end = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(30)


def shown_time(page: Any) -> float:
    """Return the time of the player, once it shows a frame."""
    until(page, "!m3video.player.element.seeking && m3video.player.element.readyState >= 2")
    found: float = page.evaluate("m3video.player.element.currentTime")
    return found
