"""What the world refuses is told in embedq's words with the next step; a mistake of embedq's is not taken for it."""

from __future__ import annotations

import errno
from pathlib import Path

import amqp
import kombu.exceptions
import psycopg
import pytest
import redis

from embedq.decide import refusals
from embedq.decide.arguments import as_text, checked, path_in_text
from embedq.errors import BrokerUnavailable, ConfigError, EmbedqError, StoreRefused, StoreUnavailable, SystemRefused


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param(psycopg.errors.InsufficientPrivilege("no"), StoreRefused, id="a role without a right"),
        pytest.param(psycopg.errors.DuplicateTable("no"), StoreRefused, id="another application's table"),
        pytest.param(psycopg.errors.DiskFull("no"), StoreRefused, id="the server's disk is full"),
        pytest.param(psycopg.errors.ReadOnlySqlTransaction("no"), StoreRefused, id="a standby"),
        pytest.param(psycopg.errors.UndefinedObject('type "vector" does not exist'), StoreRefused, id="a missing extension"),
        pytest.param(psycopg.OperationalError("no"), StoreUnavailable, id="a connection that broke"),
        pytest.param(redis.ConnectionError("no"), BrokerUnavailable, id="Redis away"),
        pytest.param(redis.ResponseError("no"), BrokerUnavailable, id="Redis refuses"),
        pytest.param(kombu.exceptions.OperationalError("no"), BrokerUnavailable, id="the broker away"),
        pytest.param(amqp.exceptions.NotAllowed("no"), BrokerUnavailable, id="RabbitMQ refuses"),
        pytest.param(OSError(errno.ENOSPC, "No space left"), SystemRefused, id="disk full"),
        pytest.param(OSError("no number"), SystemRefused, id="an error of the system without a number"),
        pytest.param(ModuleNotFoundError("no", name="torch.nn"), SystemRefused, id="a missing package"),
        pytest.param(MemoryError(), SystemRefused, id="no memory"),
        pytest.param(RuntimeError("can't start new thread"), SystemRefused, id="no thread"),
        pytest.param(ConfigError("no", hint="x"), ConfigError, id="one of ours"),
    ],
)
def test_what_the_world_refuses_has_a_class_and_a_next_step(error: BaseException, kind: type[EmbedqError]) -> None:
    told = refusals.of_error(error)

    assert type(told) is kind
    assert told.hint


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        ValueError("x"),
        RuntimeError("x"),
        psycopg.errors.SyntaxError("x"),
        psycopg.errors.UniqueViolation("x"),
        ModuleNotFoundError("no", name="embedq.nothing"),
    ],
    ids=repr,
)
def test_a_mistake_of_ours_is_not_taken_for_a_refusal(error: BaseException) -> None:
    assert refusals.of_error(error) is None


@pytest.mark.parametrize("number", [*refusals.ERRNOS, 9999, None])
def test_every_error_number_has_words_and_a_next_step(number: int | None) -> None:
    assert all(refusals.of_errno(number))


def test_a_path_is_named_with_what_is_wrong_with_it() -> None:
    told = refusals.of_file(PermissionError(errno.EACCES, "Permission denied"), Path("/x/y"), "written")

    assert str(told) == "/x/y cannot be written: Permission denied"
    assert "right" in told.hint


@pytest.mark.parametrize(
    ("given", "text"),
    [pytest.param("é", "é", id="text"), pytest.param("\udcc3\udca9", "é", id="UTF-8 that an ASCII locale hands on as bytes")],
)
def test_text_is_utf8_whatever_the_locale_is(given: str, text: str) -> None:
    assert as_text(given) == text


@pytest.mark.parametrize("given", ["\udcff", "a\0b", float("nan"), float("inf"), 1e300, 10**30, ("fine", "\udcff")], ids=repr)
def test_what_nothing_can_be_done_with_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match=r"is not|has a NUL|must be"):
        checked(given)


def test_a_path_that_is_no_text_can_be_stored_all_the_same() -> None:
    assert path_in_text("a\udcff") == r"a\xff"
