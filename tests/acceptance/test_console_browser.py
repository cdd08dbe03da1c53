"""The console in a real headless Chromium: narrow screens, keyboard, and parts that renew themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from selenium import webdriver

from tests.acceptance.service import Served, empty
from tests.acceptance.test_cockpit import browser, chromium, database_url, served, sign_in, tab_to, text_of
from tests.acceptance.test_console import PAGES, articles, fail
from tests.browser import needs_chromium
from tests.support import until

__all__ = ["browser", "chromium", "database_url", "served"]

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def as_new(database_url: str) -> None:
    empty(database_url)


@needs_chromium
@pytest.mark.parametrize(
    "page", [*PAGES, "/tasks/1", "/articles/a1", "/tasks/act/retry?status=failed", "/procedures?plan=emergency"]
)
def test_a_narrow_screen_needs_no_sideways_scrolling_and_the_console_is_silent(
    browser: webdriver.Chrome, served: Served, psql: Rows, page: str
) -> None:
    articles(psql, 60)
    fail(psql, "id < 9", "A" * 90, "an error without a space: " + "x" * 200)
    sign_in(browser)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )

    browser.get(served.url + page)
    wide, screen = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    assert screen == 400
    assert wide <= screen
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


@needs_chromium
def test_the_list_renews_itself_and_the_filter_that_is_being_typed_stays(
    browser: webdriver.Chrome, served: Served, psql: Rows
) -> None:
    sign_in(browser)
    browser.get(served.url + "/tasks")
    tab_to(browser, "input[name=tenant]")
    browser.switch_to.active_element.send_keys("ac")

    articles(psql, 3)
    until(lambda: "a3" in text_of(browser, "#rows"))
    browser.switch_to.active_element.send_keys("me")

    assert browser.execute_script("return document.querySelector('input[name=tenant]').value") == "acme"
