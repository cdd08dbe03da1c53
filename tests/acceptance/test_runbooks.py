"""Every command of the runbooks is run against a real system, and says what the page says it does."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from embedq import Client
from embedq.local.servers import Servers
from embedq.model import ArticleDraft
from embedq.settings import from_env
from embedq.store import Store
from embedq.store.database import Database
from tests.redisprocess import own_redis

from .underload import embedq, fleet

HOWTO = Path(__file__).resolve().parents[2] / "docs" / "howto"
RUNBOOKS = sorted([*HOWTO.glob("r[0-9]*.rst"), HOWTO / "poison-messages.rst", HOWTO / "attach.rst"])
HEADINGS = (
    "When",
    "The command",
    "What you should see",
    "How to know it worked",
    "How to go back",
    "How to know it worked, how to go back",
)


class Shown(NamedTuple):
    """A command of a page, and the lines that it says the command prints."""

    command: str
    lines: list[str]


def shown_in(page: Path) -> list[Shown]:
    found: list[Shown] = []
    for block in re.findall(
        r"^\.\. code-block:: console\n\n((?:    .*\n|\n)+)", page.read_text(encoding="utf-8"), re.MULTILINE
    ):
        for line in block.splitlines():
            text = line.strip()
            if text.startswith("$ "):
                found.append(Shown(text[2:], []))
            elif text:
                found[-1].lines.append(text)
    return found


def sql_in(page: Path) -> list[str]:
    """The blocks of SQL of a page: the first makes what its commands are about, the others are about what these have made."""
    return re.findall(r"^\.\. code-block:: sql\n\n((?:    .*\n|\n)+)", page.read_text(encoding="utf-8"), re.MULTILINE)


def run_sql(url: str, *blocks: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for block in blocks:
            connection.execute(block)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def system(servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], Store]]:
    """A deployment with a Celery worker, a poller and articles, for all pages together."""
    folder = tmp_path_factory.mktemp("runbooks")
    url = servers.database_url.rsplit("/", 1)[0] + "/runbooks"
    with psycopg.connect(servers.database_url, autocommit=True) as connection, own_redis(folder) as redis:
        connection.execute(f"CREATE DATABASE runbooks TEMPLATE {template}")  # type: ignore[arg-type]
        environment = {
            "DATABASE_URL": url,
            "REDIS_URL": redis.url,
            "EMBEDDING_PROVIDER": "hashing",
            "EMBEDDING_DIMENSIONS": "64",
            "EMBEDDING_WORKER_INTERVAL": "200",
            "EMBEDQ_HOME": str(folder / "home"),
            "COLUMNS": "200",
        }
        store = Store(Database(url))
        with fleet(environment, folder, store, celery=1, pollers=1):
            yield environment, store
        store.close()
        connection.execute("DROP DATABASE runbooks WITH (FORCE)")


def test_every_page_has_the_form_that_an_operator_needs_at_night() -> None:
    for page in RUNBOOKS:
        headings = re.findall(r"^(.+)\n-+$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings[:3] == list(HEADINGS[:3]), page.name
        assert set(headings) <= set(HEADINGS), page.name
        assert any("worked" in heading for heading in headings), page.name
        assert any("back" in heading for heading in headings), page.name


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_the_commands_of_a_runbook_do_what_it_says(page: Path, system: tuple[dict[str, str], Store], tmp_path: Path) -> None:
    environment, store = system
    with Client(from_env(environment)) as client:
        client.put([ArticleDraft(f"{page.stem} {n}", f"text {n}", id=f"{page.stem}-{n}") for n in range(20)])
    commands = shown_in(page)
    first, *others = sql_in(page) or [""]
    run_sql(environment["DATABASE_URL"], first)

    for shown in commands:
        program, *arguments = shlex.split(shown.command)
        assert program == "embedq", shown.command
        ran = embedq(environment, *arguments, cwd=tmp_path)  # a page may write a file
        assert ran.exit_code == 0, f"{shown.command}: {ran.exit_code}\n{ran.out}\n{ran.err}"
        for line in shown.lines:
            assert re.search(pattern(line), ran.out + ran.err), f"{shown.command} did not say {line!r}:\n{ran.out}\n{ran.err}"

    run_sql(environment["DATABASE_URL"], *others)
    assert commands
    assert store.status.live().mode == "celery", "the page does not lead back"


def pattern(line: str) -> str:
    """A line of a page as a regular expression: … is anything within a line, blanks may be wider."""
    return r"[^\n]*".join(r"\s+".join(map(re.escape, part.split())) for part in line.split("…"))
