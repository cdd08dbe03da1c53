"""A walk over every command: help, JSON, exit codes, --yes, how it starts, and that no secret shows anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import psycopg
import pytest
from click.testing import CliRunner, Result

from docs.generate import commands
from embedq.cli import COMMANDS, embedq
from embedq.local.servers import Servers
from embedq.settings import by_env
from tests.acceptance.service import hashing_at
from tests.conftest import fresh_database
from tests.support import env, folder_for_servers

WALK = dict(commands())
# They run until they are ended, and are tested by starting them (test_running, test_supervise, test_http).
LASTING = {"embedq up", "embedq quickstart", "embedq poller", "embedq serve", "embedq mcp"}
HEAVY = (
    "celery",
    "kombu",
    "numpy",
    "openai",
    "fastapi",
    "uvicorn",
    "sqlalchemy",
    "alembic",
    "redis",
    "httpx",
    "prometheus_client",
)
# What a command must be given to do something sensible. {tmp}: a folder; {task}: a task's id. Those that need nothing are not named.
GIVEN: dict[str, list[str]] = {
    "embedq articles add": ["Another", "--content", "text"],
    "embedq articles import": ["{tmp}/texts"],
    "embedq articles show": ["tea"],
    "embedq articles edit": ["tea", "--content", "changed"],
    "embedq articles delete": ["cup"],
    "embedq articles restore": ["tea", "--version", "1"],
    "embedq articles reindex": ["--all"],
    "embedq articles mark-review": ["tea"],
    "embedq search": ["porcelain"],
    "embedq explain": ["tea"],
    "embedq wait": ["--timeout", "0.1"],
    "embedq test processing": ["--timeout", "0.1"],
    "embedq test load": ["--timeout", "0.1", "--articles", "2"],
    "embedq test api": ["--url", "http://127.0.0.1:1"],
    "embedq cancel": ["tea"],
    "embedq clear": ["--priority", "low"],
    "embedq retry": ["--all"],
    "embedq dead-letter retry": ["--all"],
    "embedq dead-letter discard": ["--all"],
    "embedq dead-letter show": ["{task}"],
    "embedq broker rejected show": ["1"],
    "embedq broker rejected review": ["--all"],
    "embedq broker rejected retry": ["--all"],
    "embedq export": ["{tmp}/queue.jsonl"],
    "embedq import": ["{tmp}/empty.jsonl"],
    "embedq mode": ["hybrid", "--reason", "walk"],
    "embedq backup": ["{tmp}/walk.backup"],
    "embedq restore": ["{tmp}/ready.backup"],
    "embedq config restore": ["1"],
    "embedq config diff": ["1"],
    "embedq maintenance schedule": ["--at", "+1h", "--reason", "walk"],
    "embedq maintenance start": ["--for", "1m", "--reason", "walk"],
    "embedq uninstall": ["--no-backup"],
    "embedq db downgrade": ["base"],
    "embedq throttle": ["--batch", "50"],
}
# These take the system away, in this order, after all others.
LAST = ("embedq db downgrade", "embedq uninstall")
AWAY = "postgresql://user:hidden-password@127.0.0.1:1/nothing"


@dataclass
class Place:
    environment: dict[str, str]
    folder: Path
    task: int

    def run(self, path: str, *more: str, given: bool = True) -> Result:
        words = [word.format(tmp=self.folder, task=self.task) for word in GIVEN.get(path, [])] if given else []
        return CliRunner().invoke(embedq, [*path.split()[1:], *words, *more], env=self.environment)


@pytest.fixture
def place(
    environment: dict[str, str], psql: Callable[..., list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    monkeypatch.chdir(tmp_path)
    return filled(environment, psql, tmp_path)


@pytest.fixture(scope="module")
def without_database(servers: Servers, template: str) -> Iterator[Place]:
    """The same files, and the address of a database that is not there. Nothing can be done, so one is enough for all commands."""
    with folder_for_servers("embedq-commands-") as folder, fresh_database(servers, template) as url:
        environment = hashing_at(url, servers.redis_url)
        with psycopg.connect(url, autocommit=True) as live:
            place = filled(environment, lambda text: (cursor := live.execute(text)).description and cursor.fetchall(), folder)
        yield replace(place, environment=place.environment | {"DATABASE_URL": AWAY})


def filled(environment: dict[str, str], psql: Callable[..., Any], tmp_path: Path) -> Place:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.md").write_text("# One\n\ntext\n")
    (tmp_path / "empty.jsonl").write_text("")
    psql(
        "INSERT INTO articles (id, slug, title, content) SELECT i, i, i, 'text of ' || i FROM unnest(ARRAY['tea', 'cup', 'pot']) i"
    )
    psql("UPDATE articles SET content = 'newer' WHERE id = 'tea'")
    psql("INSERT INTO embedding_rejected_messages (queue, reason, raw) VALUES ('low', 'not JSON', 'x')")
    psql("UPDATE embedding_tasks SET status = 'failed', error_message = 'boom' WHERE article_id = 'cup'")
    task = psql("SELECT id FROM embedding_tasks WHERE article_id = 'cup'")[0][0]
    ready = Place(environment | {"EMBEDQ_HOME": str(tmp_path / "home"), "COLUMNS": "200"}, tmp_path, task)
    assert CliRunner().invoke(embedq, ["config", "save"], env=ready.environment).exit_code == 0
    assert CliRunner().invoke(embedq, ["backup", str(tmp_path / "ready.backup")], env=ready.environment).exit_code == 0
    return ready


def walked() -> list[str]:
    """All but those that last, those that take the system away at the end."""
    return [path for path in WALK if path not in LASTING and path not in LAST] + [path for path in LAST if path in WALK]


def options(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


@pytest.mark.parametrize("path", WALK)
def test_help_says_what_it_does_with_an_example_that_is_a_command_of_ours(path: str):
    command = WALK[path]

    result = CliRunner().invoke(embedq, [*path.split()[1:], "--help"])

    assert result.exit_code == 0
    example = (command.help or "").partition("Example:")[2].replace("\n", " ").strip()
    # `dead-letter retry` is `retry` itself, in a second place.
    assert path.removeprefix("embedq ").removeprefix("dead-letter retry") in example, example
    assert "embedq" in example


@pytest.mark.parametrize("path", walked())
def test_json_is_valid_and_alone_on_standard_output_and_the_exit_code_is_one_of_ours(path: str, place: Place):
    yes = ["--yes"] if "--yes" in options(WALK[path]) else []

    result = place.run(path, "--json", *yes)

    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert 0 <= result.exit_code <= 3 or path.startswith("embedq rollback"), result.output
    if result.stdout.strip():
        json.loads(result.stdout)
    else:
        assert result.exit_code != 0, "silent, and says it was done"
        assert "next:" in result.stderr or "Usage:" in result.stderr, result.stderr


@pytest.mark.parametrize("path", [path for path in walked() if "--yes" in options(WALK[path])])
def test_who_changes_state_accepts_yes_and_a_reason(path: str):
    assert {"--yes", "--reason"} <= options(WALK[path])


@pytest.mark.parametrize("path", [path for path in walked() if "--dry-run" in options(WALK[path])])
def test_a_dry_run_changes_nothing(path: str, place: Place, psql: Callable[..., list[Any]]):
    def state() -> list[Any]:
        tables = (
            "article_texts",
            "article_versions",
            "embedding_tasks",
            "embedding_worker_status",
            "embedding_models",
            "embeddings",
        )
        return [psql(f"SELECT md5(coalesce(string_agg(x::text, ';' ORDER BY x::text), '')) FROM {table} x") for table in tables]

    before = state()
    place.run(path, "--dry-run")

    assert state() == before


@pytest.mark.parametrize(
    "path",
    [
        "embedq restore",
        "embedq uninstall",
        "embedq db downgrade",
        "embedq articles delete",
        "embedq clear",
        "embedq cleanup",
        "embedq dead-letter discard",
        "embedq articles reindex",
        "embedq emergency-stop",
    ],
)
def test_what_destroys_refuses_without_a_terminal_and_without_yes(path: str, place: Place):
    result = place.run(path)

    assert result.exit_code == 2, result.output
    assert "--yes" in result.stderr


@pytest.mark.parametrize(
    "path", [path for path in walked() if not path.startswith(("embedq config check", "embedq config show"))]
)
def test_without_a_database_it_says_so_with_the_next_step(
    path: str, without_database: Place, redis_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(without_database.folder)

    result = without_database.run(path, *(["--yes"] if "--yes" in options(WALK[path]) else []))

    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert "hidden-password" not in result.output


# Secrets ----------------------------------------------------------------------------------------------------------------------------------


SEED = "s3cr3t"


def seeded(environment: dict[str, str]) -> tuple[dict[str, str], set[str]]:
    """Every setting that may carry a secret carries one; those that must work, work."""
    secrets, found = set(), dict(environment)
    for number, (name, spec) in enumerate(by_env().items()):
        if not spec.metadata["secret"] and "URL" not in name:
            continue
        secret = f"{SEED}{number:02d}value"
        if name in ("DATABASE_URL", "REDIS_URL"):
            secret = urlsplit(environment[name]).password or ""
        elif name in ("OPENAI_BASE_URL", "OLLAMA_BASE_URL"):
            found[name] = f"http://user:{secret}@127.0.0.1:1/v1"
        elif name == "EMBEDDING_BROKER_URL":
            continue
        else:
            found[name] = secret
        secrets.add(secret)
    return found, secrets


def test_known_secrets_appear_in_nothing_that_any_command_prints_logs_or_stores(
    place: Place, psql: Callable[..., list[Any]], database_url: str, redis_url: str, caplog: pytest.LogCaptureFixture
):
    place.environment, secrets = seeded(place.environment)
    said: dict[str, str] = {}
    with caplog.at_level("DEBUG"):
        for path in walked():
            if path in LAST:
                continue
            for form in ([], ["--json"]):
                result = place.run(path, *form, *(["--yes"] if "--yes" in options(WALK[path]) else []))
                said[f"{path} {form}"] = result.output + repr(result.exception)
    stored = "\n".join(_everything_in(database_url))
    written = "\n".join(file.read_bytes().decode(errors="replace") for file in place.folder.rglob("*") if file.is_file())

    def shown(text: str) -> list[str]:
        return [secret for secret in (SEED, *secrets) if secret in text]

    assert {path for path, text in said.items() if shown(text)} == set()
    assert [shown(text) for text in (caplog.text, stored, written)] == [[], [], []]
    assert len(secrets) >= 6
    assert sum("cannot be reached" in text for text in said.values()) < len(said) / 2, "the walk reached the database"


def _everything_in(url: str) -> list[str]:
    """Every row of every table, as text."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT c.oid::regclass::text FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        return [row[0] or "" for (name,) in tables.fetchall() for row in connection.execute(f"SELECT x::text FROM {name} x")]  # type: ignore[arg-type]


# Starting ---------------------------------------------------------------------------------------------------------------------------------


def test_no_module_of_the_command_line_imports_anything_heavy_before_it_works():
    probe = (
        "import sys, importlib\n"
        "from embedq.cli import COMMANDS\n"
        f"heavy = {HEAVY!r}\n"
        "for module in sorted({m for m, _, _ in COMMANDS.values()}):\n"
        "    before = set(sys.modules)\n"
        "    importlib.import_module('embedq.cli.' + module)\n"
        "    new = sorted(set(heavy) & (set(sys.modules) - before))\n"
        "    if new: print(module, *new)\n"
    )

    done = subprocess.run([sys.executable, "-c", probe], env=env({}), capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == ""


def test_every_command_of_the_registry_has_one_line_of_help():
    assert [name for name, (_, _, line) in COMMANDS.items() if not line.endswith((".", "?"))] == []
