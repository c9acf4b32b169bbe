"""Chromium, as Playwright drives it, and what a page may never do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the machine's Chromium; a test is skipped where there is none."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("no Chromium here: `apt-get install chromium`, or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


class Watch:
    """What went wrong in a page: errors of scripts, violations of the policy, dialogs, requests.

    Args:
        page: that is watched from now on.
        base: the only address that it may ask.
    """

    def __init__(self, page: Page, base: str) -> None:
        self.faults: list[str] = []
        self._base = base
        page.on("console", self._take_line)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", self._take_dialog)
        page.on("request", self._take_request)

    def _take_line(self, line: Any) -> None:
        # A refusal that a test asks for is a line as well.
        if line.type in {"error", "warning"} and "Failed to load resource" not in line.text:
            self.faults.append(f"console: {line.text}")

    def _take_dialog(self, dialog: Any) -> None:
        if dialog.type == "confirm":
            dialog.accept()
            return
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _take_request(self, request: Any) -> None:
        if not request.url.startswith((self._base, "data:", "blob:")):
            self.faults.append(f"request: {request.url}")
