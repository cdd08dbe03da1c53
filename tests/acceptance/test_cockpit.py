"""The cockpit in a real headless Chromium, and its doors tried from outside."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from embedq.local.servers import Servers
from tests.acceptance.service import ADMIN, FOR_ADMIN, Served, hashing_at, serving
from tests.browser import WIDE, chromium_with, needs_chromium
from tests.conftest import fresh_database
from tests.support import start_poller, until

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def database_url(servers: Servers, template: str) -> Iterator[str]:
    with fresh_database(servers, template) as url:
        yield url


@pytest.fixture(scope="module")
def served(servers: Servers, database_url: str) -> Iterator[Served]:
    with serving(hashing_at(database_url, servers.redis_url)) as running:
        yield running


@pytest.fixture(autouse=True)
def as_new(psql: Rows) -> None:
    psql(
        "TRUNCATE article_texts, article_versions, embedding_tasks, embeddings, embedding_vectors, embedding_audit_logs RESTART IDENTITY"
    )
    psql("DELETE FROM embedding_worker_status")
    psql("INSERT INTO embedding_worker_status (id, reason) VALUES (1, 'first set up')")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium_with(tmp_path_factory.mktemp("chromium"), WIDE) as driver:
        yield driver


@pytest.fixture
def browser(chromium: webdriver.Chrome, served: Served) -> webdriver.Chrome:
    """Signed out, at the cockpit's door, on a wide screen."""
    chromium.set_window_size(1280, 1400)
    chromium.get(served.url)
    chromium.delete_all_cookies()
    chromium.get(served.url)
    until(lambda: chromium.execute_script("return document.activeElement.id") == "token")
    chromium.get_log("browser")
    return chromium


def typed(browser: webdriver.Chrome, *keys: str) -> None:
    """Keys as a hand would type them, to whatever has the focus."""
    browser.switch_to.active_element.send_keys(*keys)


def sign_in(browser: webdriver.Chrome) -> None:
    typed(browser, ADMIN, Keys.ENTER)
    until(lambda: browser.find_elements(By.ID, "levers"))


def tab_to(browser: webdriver.Chrome, wanted: str, most: int = 60) -> None:
    """Tab until the element with this selector has the focus."""
    for _ in range(most):
        if browser.execute_script("return document.activeElement.matches(arguments[0])", wanted):
            return
        typed(browser, Keys.TAB)
    raise AssertionError(f"{wanted} cannot be reached by keyboard")


def text_of(browser: webdriver.Chrome, selector: str) -> str:
    return browser.execute_script("return document.querySelector(arguments[0]).innerText", selector)  # type: ignore[no-any-return]


@needs_chromium
def test_the_token_opens_it_and_the_browser_keeps_a_cookie_that_is_not_the_token(browser: webdriver.Chrome) -> None:
    assert "Levers" not in browser.page_source

    sign_in(browser)

    (cookie,) = browser.get_cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert ADMIN not in cookie["value"]
    assert ADMIN not in browser.page_source


@needs_chromium
def test_a_wrong_token_is_told_and_opens_nothing(browser: webdriver.Chrome) -> None:
    typed(browser, "guess", Keys.ENTER)

    until(lambda: "That is not the admin token" in browser.page_source)
    assert browser.get_cookies() == []


@needs_chromium
def test_the_mode_is_switched_by_keyboard_alone(browser: webdriver.Chrome, psql: Rows) -> None:
    sign_in(browser)

    tab_to(browser, "#levers summary")
    typed(browser, Keys.ENTER)
    tab_to(browser, "#mode")
    typed(browser, "database")
    tab_to(browser, "#why-mode")
    typed(browser, "Redis is ill", Keys.ENTER)
    until(lambda: browser.find_elements(By.CSS_SELECTOR, "[role=status].told"))

    assert "celery → database" in text_of(browser, ".told")
    assert "database" in text_of(browser, "#summary")
    assert psql("SELECT mode, reason FROM embedding_worker_status") == [("database", "Redis is ill")]
    ((who,),) = psql("SELECT metadata->>'who' FROM embedding_audit_logs WHERE category = 'mode'")
    assert who.startswith("admin@127.0.0.1")


@needs_chromium
def test_the_numbers_and_charts_renew_themselves_and_leave_what_is_being_typed(browser: webdriver.Chrome, psql: Rows) -> None:
    sign_in(browser)
    tab_to(browser, "#levers summary")
    typed(browser, Keys.ENTER)
    tab_to(browser, "#why-mode")
    typed(browser, "half a rea")

    psql("INSERT INTO articles (title) SELECT 'Article ' || n FROM generate_series(1, 1234) n")
    until(lambda: "1,234" in text_of(browser, "[data-part=numbers]"))
    until(lambda: "normal, waiting of the last ten minutes: Celery 0 now, poller 1,234 now" in browser.page_source)
    typed(browser, "son")

    assert browser.execute_script("return document.getElementById('why-mode').value") == "half a reason"


@needs_chromium
def test_the_emergency_is_not_started_without_a_reason_and_a_tick(browser: webdriver.Chrome, psql: Rows) -> None:
    sign_in(browser)
    browser.find_element(By.CSS_SELECTOR, "details.danger > summary").click()
    button = browser.find_element(By.CSS_SELECTOR, "button.danger")

    button.click()
    browser.find_element(By.ID, "why-emergency").send_keys("Redis is gone")
    button.click()
    before = psql("SELECT mode FROM embedding_worker_status")
    browser.find_element(By.NAME, "sure").click()
    button.click()
    until(lambda: browser.find_elements(By.CSS_SELECTOR, ".told"))

    assert before == [("celery",)]
    assert text_of(browser, ".told").startswith("Emergency: celery → database")
    assert psql("SELECT mode FROM embedding_worker_status") == [("database",)]


@needs_chromium
def test_failed_tasks_are_grouped_and_tried_again_and_an_errors_words_are_only_words(
    browser: webdriver.Chrome, psql: Rows
) -> None:
    psql("INSERT INTO articles (id, title) SELECT 'a' || n, 'Article' FROM generate_series(1, 3) n")
    psql(
        "UPDATE embedding_tasks SET status = 'failed', error_class = 'InputRefused',"
        " error_message = '<script>document.title=1</script> too long'"
    )
    sign_in(browser)
    shown, title = text_of(browser, ".groups"), browser.title

    browser.find_element(By.CSS_SELECTOR, ".groups summary").click()
    browser.find_element(By.ID, "why-retry-1").send_keys("the limit was raised", Keys.ENTER)
    until(lambda: browser.find_elements(By.CSS_SELECTOR, ".told"))

    assert "3 InputRefused <script>" in shown
    assert title == "embedq cockpit"
    assert "3 failed tasks are tried again" in text_of(browser, ".told")
    assert psql("SELECT DISTINCT status FROM embedding_tasks") == [("pending",)]


@needs_chromium
@pytest.mark.parametrize("width", [360, 768])
def test_a_narrow_screen_needs_no_sideways_scrolling(browser: webdriver.Chrome, served: Served, psql: Rows, width: int) -> None:
    psql(
        "INSERT INTO embedding_workers (delivery, name, host, pid, alive_until)"
        " VALUES ('poller', repeat('long-name-', 9), 'h', 1, now() + interval '1 hour')"
    )
    sign_in(browser)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )

    browser.get(served.url)
    page, screen = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    psql("DELETE FROM embedding_workers")

    assert screen == width
    assert page <= screen


@needs_chromium
def test_every_field_has_a_label_and_every_chart_and_section_a_name(browser: webdriver.Chrome) -> None:
    sign_in(browser)

    nameless = browser.execute_script("""
        const fields = [...document.querySelectorAll("input:not([type=hidden]), select")].filter(field => field.labels.length === 0);
        const charts = [...document.querySelectorAll("svg")].filter(chart => !chart.getAttribute("aria-label"));
        const sections = [...document.querySelectorAll("section")].filter(s => !document.getElementById(s.getAttribute("aria-labelledby")));
        return [...fields, ...charts, ...sections].map(element => element.outerHTML.slice(0, 80));
    """)

    assert nameless == []


@needs_chromium
def test_nothing_is_loaded_from_elsewhere_and_the_console_is_silent(browser: webdriver.Chrome, served: Served) -> None:
    sign_in(browser)
    until(lambda: browser.execute_script("return document.body.dataset.renewed") == "1")

    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")

    assert [address for address in loaded if not address.startswith((served.url, "data:"))] == []
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


@needs_chromium
def test_the_search_box_finds(browser: webdriver.Chrome, served: Served, environment: dict[str, str], psql: Rows) -> None:
    psql("UPDATE embedding_worker_status SET mode = 'database'")
    psql("INSERT INTO articles (title, content) VALUES ('Tea', 'steep the leaves in hot water'), ('Trains', 'platform nine')")
    with start_poller(environment):
        until(lambda: psql("SELECT count(*) FROM articles WHERE embedding_status = 'ready'") == [(2,)])
    sign_in(browser)

    browser.find_element(By.ID, "q").send_keys("leaves in hot water", Keys.ENTER)
    until(lambda: browser.find_elements(By.CSS_SELECTOR, ".found li"))

    assert text_of(browser, ".found li").startswith("Tea")


# Without a browser ---------------------------------------------------------------------------------------------------------------


def session(served: Served) -> tuple[httpx.Client, str]:
    """A client that has signed in, and its forms' token."""
    client = httpx.Client(base_url=served.url, follow_redirects=True, timeout=30)
    page = client.post("/cockpit/signin", data={"token": ADMIN}).text
    found = re.search(r'name="form" value="([0-9a-f]+)"', page)
    assert found is not None
    return client, found[1]


def test_an_act_needs_the_cookie_and_the_pages_own_form_token(served: Served, psql: Rows) -> None:
    client, form = session(served)
    order = {"mode": "off", "reason": "mischief"}

    strange = httpx.post(f"{served.url}/cockpit/mode", data=order | {"form": form})
    forged = client.post("/cockpit/mode", data=order | {"form": "0" * 64})
    elsewhere = client.post("/cockpit/mode", data=order | {"form": form}, headers={"Origin": "https://evil.example"})
    unexplained = client.post("/cockpit/mode", data={"mode": "off", "reason": " ", "form": form})

    assert (strange.status_code, forged.status_code, elsewhere.status_code) == (303, 403, 403)
    assert "needs its reason" in unexplained.text
    assert psql("SELECT mode FROM embedding_worker_status") == [("celery",)]


def test_a_cookie_of_another_making_and_one_that_ran_out_open_nothing(served: Served) -> None:
    client, _ = session(served)
    until_, nonce, signature = client.cookies["embedq_cockpit"].split(".")
    made_up = [f"{int(until_) + 9999}.{nonce}.{signature}", f"{until_}.{nonce}.{'0' * 64}", "", "..", "1.2.é"]

    pages = [httpx.get(served.url, headers={b"Cookie": b"embedq_cockpit=" + cookie.encode("latin-1")}) for cookie in made_up]

    assert all("Levers" not in page.text and page.status_code == 200 for page in pages)


def test_words_put_into_the_address_by_somebody_else_are_not_shown(served: Served) -> None:
    client, _ = session(served)

    page = client.get("/", params={"said": "Call 0900-EVIL", "seal": "0" * 64})

    assert "0900" not in page.text


def test_the_page_shows_everything_without_javascript(served: Served, psql: Rows) -> None:
    psql("INSERT INTO articles (title) SELECT 'Article' FROM generate_series(1, 7)")

    page = served.stranger.get("/", headers=FOR_ADMIN)

    assert page.text.count("<svg") == 8
    assert "poller 7 now" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "onclick" not in page.text


def test_the_assets_are_the_packages_own(served: Served, repository: Path) -> None:
    for name in ("cockpit.js", "cockpit.css"):
        assert served.stranger.get(f"/cockpit/assets/{name}").text == (repository / "embedq/http/pages" / name).read_text()
    assert served.stranger.get("/cockpit/assets/..%2fcockpit.py").status_code == 404
