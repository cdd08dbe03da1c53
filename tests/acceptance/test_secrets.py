"""No password, key, user or option of any address shows, whatever a command or a server says about it (G10)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from embedq.cli import embedq
from tests.support import Process, free_port, until

CANARY = "cAnArY"
WEIRD = f"{CANARY}1%25%40%3A%2F%23%3B%5B%20%C3%A9"
COMMANDS = [
    ("--help",),
    ("config", "check"),
    ("config", "show"),
    ("config", "show", "--json"),
    ("config", "save", "--reason", "a"),
    ("config", "save"),
    ("config", "diff"),
    ("config", "restore", "1", "--dry-run"),
    ("config", "list", "--json"),
    ("status",),
    ("status", "--json"),
    ("health",),
    ("health", "--json"),
    ("stats",),
    ("db", "health"),
    ("db", "health", "--json"),
    ("db", "verify"),
    ("db", "upgrade"),
    ("provider", "check"),
    ("broker", "status"),
    ("broker", "drain", "--yes"),
    ("broker", "rebuild", "--yes"),
    ("verify",),
    ("audit", "--json"),
    ("alerts", "check"),
    ("rollback", "assess"),
    ("rollback", "plan", "emergency"),
    ("explain", "1"),
    ("mode",),
    ("articles", "add", "T", "--content", "text"),
    ("search", "text"),
]


def providers(port: int) -> dict[str, str]:
    return {
        "EMBEDDING_PROVIDER": "openai",
        "EMBEDDING_MODEL": "m",
        "EMBEDDING_DIMENSIONS": "8",
        "OPENAI_API_KEY": f"sk-{CANARY}",
        "OPENAI_BASE_URL": f"http://{CANARY}u:{WEIRD}@127.0.0.1:{port}/{CANARY}/v1?key={CANARY}&password={WEIRD}",
        "OLLAMA_BASE_URL": f"http://:{WEIRD}@127.0.0.1:{port}/?token={CANARY}",
        "EMBEDDING_PROVIDER_TIMEOUT": "500",
        "AUTH_TOKEN": f"{CANARY}-long-enough-to-be-one",
        "ADMIN_TOKEN": f"{CANARY}-long-enough-to-be-another",
    }


def brokers(port: int) -> dict[str, dict[str, str]]:
    userinfo = f"{CANARY}u:{WEIRD}@127.0.0.1"
    return {
        "a dead Redis": {"REDIS_URL": f"redis://{userinfo}:{port}/0?password={WEIRD}"},
        "several dead RabbitMQs": {
            "EMBEDDING_BROKER_URL": f"amqp://{userinfo}:{port}/v;amqp://{userinfo}:{port}/w?heartbeat={CANARY}"
        },
        "a Redis whose port is none": {"REDIS_URL": f"redis://:{CANARY}@h:{CANARY}/0"},
        "a list with one that is none": {"EMBEDDING_BROKER_URL": f"amqp://{userinfo}/v;amqp://bob:{CANARY}@h2:{CANARY}/v"},
    }


def databases(good: str, port: int) -> dict[str, str]:
    real = urlsplit(good)
    place, name = real.netloc.rpartition("@")[2], real.path
    return {
        "the right one": good,
        "a user that is not there": f"postgresql://{CANARY}u:{WEIRD}@{place}{name}?application_name={CANARY}",
        "an option that is none": f"postgresql://u:{WEIRD}@{place}{name}?connect_timeout={CANARY}",
        "a mode of TLS that is none": f"postgresql://u:{WEIRD}@{place}{name}?sslmode={CANARY}&sslpassword={CANARY}",
        "TLS with a key that is not there": f"postgresql://u:{WEIRD}@{place}{name}?sslmode=require&sslkey=/{CANARY}&sslcert=/{CANARY}",
        "a dead one": f"postgresql://{CANARY}u:{WEIRD}@127.0.0.1:{port}{name}",
        "several dead ones": f"postgresql://{CANARY}u:{WEIRD}@127.0.0.1:{port},127.0.0.1:{port}{name}",
        "pairs": f"host=127.0.0.1 port={port} user={CANARY}u password='{CANARY} {CANARY}' dbname=x sslpassword={CANARY}",
        "a percent sign": f"postgresql://u:{CANARY}%{CANARY}@{place}{name}",
        "a slash": f"postgresql://u:{CANARY}/{CANARY}@{place}{name}",
        "an @": f"postgresql://u:{CANARY}@{CANARY}@{place}{name}",
        "an unknown option": f"postgresql://u:p@{place}{name}?{CANARY}=1",
        "a port that is none": f"postgresql://u:p@127.0.0.1:{CANARY}{name}",
    }


def cases() -> list[tuple[str, str]]:
    """Every database with a broker that is dead, and every broker with the right database."""
    every_database, every_broker = databases("postgresql://127.0.0.1:1/x", 1), brokers(1)
    return [(database, "a dead Redis") for database in every_database] + [("the right one", broker) for broker in every_broker]


@pytest.mark.parametrize(("database", "broker"), dict.fromkeys(cases()))
def test_a_canary_in_any_part_of_any_address_shows_in_no_command(
    database: str, broker: str, environment: dict[str, str], psql: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    env = environment | {"REDIS_URL": ""} | providers(port) | brokers(port)[broker]
    env["DATABASE_URL"] = databases(environment["DATABASE_URL"], port)[database]
    caplog.set_level("DEBUG")

    for words in COMMANDS:
        done = CliRunner().invoke(embedq, words, env=env)
        assert CANARY not in done.output, (words, done.output)
        assert isinstance(done.exception, SystemExit | None), (words, done.exc_info)

    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("embedq"))
    assert CANARY not in ours
    kept = psql("SELECT coalesce(message, '') || coalesce(metadata::text, '') FROM embedding_audit_logs")
    assert CANARY not in repr(kept)


@pytest.mark.parametrize(
    ("argv", "database", "broker"),
    [
        pytest.param(
            ("-m", "embedq", "poller"), "a user that is not there", "a dead Redis", id="a poller without its database"
        ),
        pytest.param(("-m", "embedq", "poller"), "a percent sign", "a dead Redis", id="a poller with a percent sign"),
        pytest.param(("-m", "embedq", "poller"), "the right one", "several dead RabbitMQs", id="a poller without its brokers"),
        pytest.param(("-m", "embedq", "serve", "--port", "0"), "a dead one", "a dead Redis", id="HTTP without its database"),
        pytest.param(("-m", "embedq", "serve", "--port", "0"), "a slash", "a dead Redis", id="HTTP with a slash"),
        pytest.param(
            ("-m", "celery", "-A", "embedq", "worker", "--pool", "threads", "-l", "DEBUG"),
            "the right one",
            "several dead RabbitMQs",
            id="a Celery worker without its brokers",
        ),
        pytest.param(
            ("-m", "celery", "-A", "embedq", "worker", "--pool", "threads", "-l", "DEBUG"),
            "a dead one",
            "a dead Redis",
            id="a Celery worker without anything",
        ),
    ],
)
def test_a_canary_shows_in_no_line_of_a_program_that_cannot_start(
    argv: tuple[str, ...], database: str, broker: str, environment: dict[str, str]
) -> None:
    port = free_port()
    env = environment | providers(port) | {"REDIS_URL": ""} | brokers(port)[broker]
    env["DATABASE_URL"] = databases(environment["DATABASE_URL"], port)[database]

    with Process("program", [sys.executable, *argv], env) as program:
        tried(program)
        said = program.output()

    assert CANARY not in said


def tried(program: Process) -> None:
    """Until it ends, or has had the time to try a few times after its first words."""
    until(lambda: program.output() or not program.runs, 60.0)
    with suppress(AssertionError):
        until(lambda: not program.runs, 6.0)
    until(program.output, 5.0)
