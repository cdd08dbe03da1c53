"""A real headless Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service as Driver

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
WIDE = "--window-size=1280,1400"
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium and chromedriver on the PATH (Debian: apt-get install chromium chromium-driver)",
)


@contextmanager
def chromium_with(profile: Path | str, *flags: str, logs: Mapping[str, str] | None = None) -> Iterator[webdriver.Chrome]:
    """Chromium with this folder for its profile. `logs`: what it keeps a record of, by kind."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    if logs:
        options.set_capability("goog:loggingPrefs", dict(logs))
    for flag in (*FLAGS, f"--user-data-dir={profile}", *flags):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, Driver(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
