"""What a token may do: scopes, tenants, sources, rates."""

from __future__ import annotations

import itertools

import pytest

from embedq.decide.access import (
    ANYBODY,
    BY_ADMIN_TOKEN,
    BY_AUTH_TOKEN,
    EVERYWHERE,
    NOBODY,
    Area,
    Need,
    Principal,
    Rate,
    Scope,
    areas_of,
    rate_of,
    source_for,
    tenant_for,
    why_not,
)
from embedq.errors import InputError

NEEDS = [Need(scope, area) for scope, area in itertools.product(Scope, Area)]


def allowed(principal: Principal) -> set[tuple[str, str]]:
    return {(need.scope.value, need.area.value) for need in NEEDS if why_not(principal, need) is None}


def test_a_scope_includes_the_ones_before_it() -> None:
    assert [[one.includes(other) for other in Scope] for one in Scope] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_a_tenants_token_is_kept_out_of_what_shows_all_tenants() -> None:
    of_tenant = Principal("x", Scope.WRITE, areas_of("acme", None), "acme")
    of_all = Principal("x", Scope.READ, areas_of(None, None))

    assert allowed(of_tenant) == {(scope, area) for scope in ("read", "write") for area in ("articles", "search", "mcp")}
    assert allowed(of_all) == {("read", area.value) for area in Area}


def test_a_sources_token_searches_and_opens_nothing_that_is_not_limited_to_a_source() -> None:
    assert {area for _, area in allowed(Principal("x", Scope.WRITE, areas_of("acme", "products"), "acme", "products"))} == {
        "search"
    }


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        pytest.param(None, "products", id="none named"),
        pytest.param("products", "products", id="its own"),
        pytest.param(["products"], "products", id="its own in a list"),
        pytest.param("posts", None, id="another"),
        pytest.param(["products", "posts"], None, id="its own and another"),
        pytest.param("all", None, id="all"),
    ],
)
def test_a_sources_token_searches_that_source_alone(given: str | list[str] | None, wanted: str | None) -> None:
    principal = Principal("x", Scope.READ, areas_of(None, "products"), source="products")

    if wanted is not None:
        assert source_for(principal, given) == wanted
    else:
        with pytest.raises(PermissionError):
            source_for(principal, given)


def test_the_tokens_of_the_settings_open_what_they_opened_before() -> None:
    assert {area for _, area in allowed(BY_AUTH_TOKEN)} == {"articles", "search", "mcp"}
    assert {area for _, area in allowed(BY_ADMIN_TOKEN)} == {"operator", "mcp"}
    assert allowed(ANYBODY) == {(need.scope.value, need.area.value) for need in NEEDS}


def test_who_has_not_come_through_a_gate_may_do_nothing_and_is_of_no_tenant() -> None:
    assert allowed(NOBODY) == set()
    with pytest.raises(PermissionError):
        tenant_for(NOBODY, "default", "default")


@pytest.mark.parametrize(
    ("tenant", "given", "wanted"),
    [
        pytest.param(None, None, "default", id="all tenants, none named"),
        pytest.param(None, "acme", "acme", id="all tenants, one named"),
        pytest.param("acme", None, "acme", id="one tenant, none named"),
        pytest.param("acme", "acme", "acme", id="one tenant, the same named"),
    ],
)
def test_a_request_is_about_the_tokens_tenant(tenant: str | None, given: str | None, wanted: str) -> None:
    assert tenant_for(Principal("x", Scope.READ, EVERYWHERE, tenant), given, "default") == wanted


@pytest.mark.parametrize("other", ["rival", "default", ""])
def test_another_tenant_than_the_tokens_is_refused(other: str) -> None:
    with pytest.raises(PermissionError, match="acme alone"):
        tenant_for(Principal("x", Scope.READ, EVERYWHERE, "acme"), other, "default")


@pytest.mark.parametrize("text", ["10/s", "60/min", "1000/h", "5000/d"])
def test_a_rate_is_read_and_written_alike(text: str) -> None:
    assert str(rate_of(text)) == text


def test_a_rate_is_requests_in_seconds() -> None:
    assert rate_of("60/min") == Rate(60, 60.0)


@pytest.mark.parametrize("text", ["", "60", "0/min", "-1/s", "60/month", "1e9/s", "60 / min", "12345678/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        rate_of(text)
