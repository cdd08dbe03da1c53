"""/docs in a real headless Chromium: it shows the operations, and asks no other host for anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.acceptance.service import AUTH, Served
from tests.acceptance.test_cockpit import database_url, served
from tests.browser import WIDE, chromium_with, needs_chromium
from tests.support import until

__all__ = ["database_url", "served"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """It keeps a record of everything that it asks the network for, also of what a policy then forbids."""
    profile = tmp_path_factory.mktemp("chromium")
    with chromium_with(profile, WIDE, logs={"performance": "ALL", "browser": "ALL"}) as driver:
        yield driver


def asked_for(browser: webdriver.Chrome) -> list[str]:
    """Addresses on any network that were asked for since the last look (not the browser's own chrome: and data: ones)."""
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    urls = [told["params"]["request"]["url"] for told in messages if told["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if urlsplit(url).scheme in ("http", "https", "ws", "wss")]


def complaints(browser: webdriver.Chrome) -> list[str]:
    """What the console holds against the page; a policy that something broke is among it."""
    return [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]


@needs_chromium
def test_it_shows_every_operation_and_asks_no_other_host(browser: webdriver.Chrome, served: Served) -> None:
    document = served.stranger.get("/openapi.json").json()
    wanted = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}

    browser.get(f"{served.url}/docs")
    until(lambda: len(browser.find_elements(By.CSS_SELECTOR, ".opblock")) == len(wanted))
    shown = {
        tuple(
            block.find_element(By.CSS_SELECTOR, f".opblock-summary-{part}").text.replace("\u200b", "")
            for part in ("method", "path")
        )
        for block in browser.find_elements(By.CSS_SELECTOR, ".opblock")
    }
    asked = asked_for(browser)

    assert shown == wanted
    assert f"{served.url}/openapi.json" in asked
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(served.url).netloc}
    assert complaints(browser) == []


@needs_chromium
def test_an_operation_can_be_tried_out_under_the_pages_strict_policy(browser: webdriver.Chrome, served: Served) -> None:
    browser.get(f"{served.url}/docs")
    until(lambda: browser.find_elements(By.CSS_SELECTOR, ".btn.authorize"))
    policy = served.stranger.get("/docs").headers["content-security-policy"]

    browser.find_element(By.CSS_SELECTOR, ".btn.authorize").click()
    until(lambda: browser.find_elements(By.CSS_SELECTOR, ".auth-container input"))[0].send_keys(AUTH)
    browser.find_element(By.CSS_SELECTOR, ".auth-btn-wrapper .authorize").click()
    browser.find_element(By.CSS_SELECTOR, ".btn-done").click()
    block = "#operations-articles-list_articles_api_articles_get"
    browser.find_element(By.CSS_SELECTOR, f"{block} .opblock-summary-control").click()
    until(lambda: browser.find_elements(By.CSS_SELECTOR, f"{block} .try-out__btn"))[0].click()
    until(lambda: browser.find_elements(By.CSS_SELECTOR, f"{block} .execute"))[0].click()
    answer = until(lambda: browser.find_elements(By.CSS_SELECTOR, f"{block} .live-responses-table tbody .response-col_status"))

    assert answer[0].text.startswith("200")
    assert "unsafe" not in policy
    assert complaints(browser) == []


def test_its_files_come_from_here_and_nothing_else_does(served: Served) -> None:
    page = served.stranger.get("/docs").text

    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "docs.js"):
        assert f"/docs/assets/{name}" in page
        assert served.stranger.get(f"/docs/assets/{name}").status_code == 200
    assert "//" not in page.replace("<!doctype", "")
    assert "validatorUrl: null" in served.stranger.get("/docs/assets/docs.js").text
    assert served.stranger.get("/docs/assets/..%2freference.py").status_code == 404
    assert served.stranger.get("/docs/assets/redoc.standalone.js").status_code == 404
