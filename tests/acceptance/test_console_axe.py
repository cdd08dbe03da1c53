"""axe-core in a real Chromium finds nothing on any page, in either theme."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from selenium import webdriver

from tests.acceptance.service import Served, empty
from tests.acceptance.test_cockpit import browser, chromium, database_url, served, sign_in
from tests.acceptance.test_console import WHOLE, furnished
from tests.axe import MISSING, axe_core
from tests.browser import needs_chromium

__all__ = ["browser", "chromium", "database_url", "furnished", "served"]

RUN = "const done = arguments[arguments.length - 1]; axe.run(document).then(found => done(found.violations), why => done(String(why)))"
WHAT = "-> {id}: {help}: {nodes}"
Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def as_new(database_url: str, psql: Rows) -> None:
    empty(database_url)
    psql("DELETE FROM embedding_workers")


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = axe_core(tmp_path_factory.mktemp("axe"))
    if found is None:
        pytest.skip(MISSING)
    return found


def violations(browser: webdriver.Chrome, axe: str) -> list[str]:
    browser.execute_script(axe)
    found = browser.execute_async_script(RUN)
    assert isinstance(found, list), found
    return [WHAT.format(**each | {"nodes": [node["html"] for node in each["nodes"]][:3]}) for each in found]


@needs_chromium
def test_the_door_has_no_violation(browser: webdriver.Chrome, axe: str) -> None:
    assert violations(browser, axe) == []


@needs_chromium
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_a_violation(theme: str, browser: webdriver.Chrome, furnished: Served, axe: str) -> None:
    sign_in(browser)
    browser.add_cookie({"name": "embedq_theme", "value": theme})
    found = {}
    for page in WHOLE:
        browser.get(furnished.url + page)
        assert browser.execute_script("return document.documentElement.dataset.theme") == theme
        if wrong := violations(browser, axe):
            found[page] = wrong

    assert found == {}
