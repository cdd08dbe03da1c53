"""Signing in and out of the cockpit, tokens, methods and redirects, over real HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from embedq.http.attempts import OF_ALL, OF_ONE, WINDOW_S, Attempts
from embedq.http.origins import peer_of
from embedq.local.servers import Servers
from tests.acceptance.service import ADMIN, AUTH, Served, empty, hashing_at, problem, serving
from tests.conftest import fresh_database
from tests.support import run_command

Rows = Callable[..., list[tuple[Any, ...]]]
COOKIE = "embedq_cockpit"


@pytest.fixture(scope="module")
def database_url(servers: Servers, template: str) -> Iterator[str]:
    with fresh_database(servers, template) as url:
        yield url


@pytest.fixture(scope="module")
def world(servers: Servers, database_url: str) -> dict[str, str]:
    return hashing_at(database_url, servers.redis_url)


@pytest.fixture(scope="module")
def lasting(world: dict[str, str]) -> Iterator[Served]:
    with serving(world) as running:
        yield running


@pytest.fixture
def served(lasting: Served, database_url: str) -> Served:
    empty(database_url)
    return lasting


def signed_in(served: Served, **options: Any) -> tuple[str, str]:
    """The cookie of a new session, and its forms' token."""
    answer = httpx.post(f"{served.url}/cockpit/signin", data={"token": ADMIN}, **options)
    cookie = answer.cookies[COOKIE]
    found = re.search(r'name="form" value="([0-9a-f]+)"', page(served, cookie))
    assert found is not None
    return cookie, found[1]


def page(served: Served, cookie: str) -> str:
    return httpx.get(served.url, headers={"Cookie": f"{COOKIE}={cookie}"}, timeout=30).text


def sent(served: Served, path: str, cookie: str, **fields: str) -> httpx.Response:
    return httpx.post(served.url + path, data=fields, headers={"Cookie": f"{COOKIE}={cookie}"}, timeout=30)


# Signing out ------------------------------------------------------------------------------------------------------------------------


def test_a_copy_of_the_cookie_opens_nothing_after_signing_out_in_any_process_of_the_service(
    served: Served, world: dict[str, str], psql: Rows
) -> None:
    cookie, form = signed_in(served)
    kept, _ = signed_in(served)
    with serving(world) as beside:
        before = "Levers" in page(beside, cookie)

        sent(served, "/cockpit/signout", cookie, form=form)

        opened = ["Levers" in page(one, cookie) for one in (served, beside)]
        acts = [sent(one, "/cockpit/mode", cookie, form=form, mode="off", reason="x") for one in (served, beside)]
        live = [httpx.get(f"{one.url}/cockpit/live", headers={"Cookie": f"{COOKIE}={cookie}"}) for one in (served, beside)]
        others = ["Levers" in page(one, kept) for one in (served, beside)]
    with serving(world) as later:
        afterwards = "Levers" in page(later, cookie)

    assert (before, opened, afterwards, others) == (True, [False, False], False, [True, True])
    assert [(act.status_code, act.headers["location"]) for act in acts] == [(303, "/")] * 2
    assert [answer.status_code for answer in live] == [401, 401]
    assert psql("SELECT mode FROM embedding_worker_status") == [("celery",)]
    assert psql(
        "SELECT count(*) FROM embedding_audit_logs WHERE message LIKE 'signed out%' AND metadata->>'who' LIKE 'admin@%'"
    ) == [(1,)]


def test_signing_out_needs_the_pages_own_form_and_takes_the_cookie_back(served: Served) -> None:
    cookie, form = signed_in(served)

    forged = [sent(served, "/cockpit/signout", cookie, **fields) for fields in ({}, {"form": "0" * 64})]
    still_open = "Levers" in page(served, cookie)
    own = sent(served, "/cockpit/signout", cookie, form=form)

    assert ([answer.status_code for answer in forged], still_open) == ([403, 403], True)
    assert own.status_code == 303
    assert 'embedq_cockpit=""' in own.headers["set-cookie"]


@pytest.mark.parametrize("path", ["/cockpit/signout", "/cockpit/mode", "/cockpit/stop", "/cockpit/emergency", "/cockpit/retry"])
def test_no_form_does_anything_without_its_token(served: Served, psql: Rows, path: str) -> None:
    cookie, _ = signed_in(served)
    other, others_form = signed_in(served)
    act = {"mode": "off", "reason": "mischief", "sure": "yes"}

    answers = [sent(served, path, cookie, **act), sent(served, path, cookie, form=others_form, **act)]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert psql("SELECT mode, is_running FROM embedding_worker_status") == [("celery", True)]
    assert "Levers" in page(served, other)


# Signing in -------------------------------------------------------------------------------------------------------------------------


def test_guessing_at_the_sign_in_is_slowed_down_for_that_address(world: dict[str, str]) -> None:
    with serving(world) as served:
        elsewhere = {"transport": httpx.HTTPTransport(local_address="127.0.0.2")}
        guesses = [httpx.post(f"{served.url}/cockpit/signin", data={"token": f"guess {number}"}) for number in range(OF_ONE)]
        throttled = httpx.post(f"{served.url}/cockpit/signin", data={"token": "guess"})
        right = httpx.post(f"{served.url}/cockpit/signin", data={"token": ADMIN})
        bearer = httpx.get(served.url, headers={"Authorization": "Bearer guess"})
        with httpx.Client(**elsewhere) as other:  # type: ignore[arg-type]
            of_another = other.post(f"{served.url}/cockpit/signin", data={"token": ADMIN})
        api = served.admin.get("/admin/queue/health")

    assert [answer.status_code for answer in guesses] == [401] * OF_ONE
    assert [answer.status_code for answer in (throttled, right, bearer)] == [429] * 3
    assert all(1 <= int(answer.headers["retry-after"]) <= WINDOW_S for answer in (throttled, right, bearer))
    assert "set-cookie" not in right.headers
    assert "Try again in" in throttled.text
    assert of_another.status_code == 303
    assert api.status_code == 200


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_guesses_are_few_for_one_address_and_in_all_and_free_again_after_a_while() -> None:
    clock = Clock()
    attempts = Attempts(clock)

    of_one = [attempts.take("a") for _ in range(OF_ONE + 1)]
    of_many = [attempts.take(str(number)) for number in range(10 * OF_ALL)]
    clock.now += WINDOW_S
    later = attempts.take("a")

    assert of_one == [0.0] * OF_ONE + [WINDOW_S]
    assert of_many.count(0.0) == OF_ALL - OF_ONE
    assert later == 0.0


def test_the_right_token_costs_no_attempt() -> None:
    attempts = Attempts(Clock())

    for _ in range(5 * OF_ALL):
        assert attempts.take("a") == 0.0
        attempts.was_right("a")


@pytest.mark.parametrize(
    ("host", "whose"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
    ],
)
def test_an_ipv6_network_counts_as_one_address(host: str | None, whose: str) -> None:
    assert peer_of(host) == whose


@pytest.mark.parametrize(
    ("origin", "secure"), [("https://{host}", True), ("http://{host}", False)], ids=["behind a proxy with TLS", "plain"]
)
def test_the_cookie_is_for_this_site_only_no_script_and_https_where_there_is_https(
    served: Served, origin: str, secure: bool
) -> None:
    headers = {"Origin": origin.format(host=served.url.removeprefix("http://"))}

    answer = httpx.post(f"{served.url}/cockpit/signin", data={"token": ADMIN}, headers=headers)

    flags = set(answer.headers["set-cookie"].lower().split("; "))
    assert {"httponly", "samesite=strict", "path=/"} <= flags
    assert ("secure" in flags) is secure
    assert not any(flag.startswith("domain") for flag in flags)


# Tokens -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "named"),
    [
        pytest.param({"AUTH_TOKEN": "short", "ADMIN_TOKEN": ADMIN}, "AUTH_TOKEN", id="a short one"),
        pytest.param({"AUTH_TOKEN": AUTH, "ADMIN_TOKEN": "a" * 15}, "ADMIN_TOKEN", id="one character too few"),
        pytest.param({"AUTH_TOKEN": ADMIN, "ADMIN_TOKEN": ADMIN}, "ADMIN_TOKEN must not be AUTH_TOKEN", id="the same"),
        pytest.param(
            {"AUTH_TOKEN": "with spaces in it, long", "ADMIN_TOKEN": ADMIN}, "AUTH_TOKEN", id="no header can carry it"
        ),
    ],
)
def test_tokens_that_can_be_guessed_are_refused_at_the_start(world: dict[str, str], tokens: dict[str, str], named: str) -> None:
    refused = run_command(world | tokens, "serve", "--port", "0")

    assert refused.returncode == 2
    assert named in refused.stderr
    assert 'python -c "import secrets; print(secrets.token_urlsafe(32))"' in refused.stderr
    assert not any(token in refused.stderr for token in tokens.values() if token != ADMIN)
    assert ADMIN not in refused.stderr


# Methods and redirects --------------------------------------------------------------------------------------------------------------

TAKEN = {
    "/health": "GET, HEAD",
    "/api/articles": "GET, HEAD, POST",
    "/api/articles/x": "DELETE, GET, HEAD, PUT",
    "/api/articles/batch": "POST",
    "/api/articles/%62atch": "POST",
    "/api/articles/x/versions": "GET, HEAD",
    "/api/articles/a/b/versions": "GET, HEAD",
    "/api/articles/a/b/similar": "GET, HEAD",
    "/api/search": "POST",
    "/admin/mode": "POST",
    "/admin/queue/stats": "GET, HEAD",
    "/metrics": "GET, HEAD",
    "/": "GET, HEAD",
    "/docs": "GET, HEAD",
    "/openapi.json": "GET, HEAD",
    "/cockpit/signin": "POST",
    "/cockpit/mode": "POST",
    "/cockpit/live": "GET, HEAD",
}


@pytest.mark.parametrize("path", TAKEN)
def test_a_method_that_a_path_does_not_take_is_a_405_that_names_all_that_it_takes(served: Served, path: str) -> None:
    methods = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"} - set(TAKEN[path].split(", "))

    for client in (served.stranger, served.articles, served.admin):
        for method in sorted(methods):
            answer = client.request(method, path)

            assert (method, answer.status_code, answer.headers.get("allow")) == (method, 405, TAKEN[path])
            assert method == "HEAD" or problem(answer)["type"] == "urn:embedq:method"


@pytest.mark.parametrize(
    "path",
    [
        "/health/",
        "/docs/",
        "/api/search/",
        "/cockpit/signin/",
        "/admin/mode/",
        "//evil.example",
        "/\\evil.example",
        "//evil.example/%2e%2e",
        "/?next=//evil.example",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_redirect_leads_to_where_the_host_header_says(served: Served, path: str, method: str) -> None:
    strange = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "Forwarded": "host=evil.example",
    }

    answer = httpx.request(method, served.url + path, headers=strange)

    assert "evil.example" not in answer.headers.get("location", "")
    assert not answer.is_redirect


def test_after_an_act_and_after_signing_in_the_way_leads_to_this_pages_own_path(served: Served) -> None:
    strange = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    cookie, form = signed_in(served)
    fields = {"form": form, "reason": "x", "mode": "celery", "next": "https://evil.example", "token": ADMIN}

    answers = [
        httpx.post(
            f"{served.url}/cockpit/{act}",
            data=fields,
            headers=strange | {"Cookie": f"{COOKIE}={cookie}"},
            params={"next": "//evil.example"},
        )
        for act in ("signin", "mode", "signout")
    ]

    assert [answer.status_code for answer in answers] == [303] * 3
    assert all(re.match(r"/(\?said=|$)", answer.headers["location"]) for answer in answers)


def test_forwarded_addresses_are_not_believed(world: dict[str, str]) -> None:
    with serving(world) as served:
        for number in range(OF_ONE + 1):
            answer = httpx.post(
                f"{served.url}/cockpit/signin", data={"token": "guess"}, headers={"X-Forwarded-For": f"192.0.2.{number}"}
            )

    assert answer.status_code == 429
