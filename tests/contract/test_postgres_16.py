"""PostgreSQL 16, which the wheel of the embedded server has beside 18: schema, both deliveries, search, an attached table, the way back."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from embedq.local import programs
from embedq.local.servers import Servers
from tests.conftest import FAST
from tests.support import folder_for_servers, run_command, start_celery, start_poller, until

READY = "SELECT count(*) FROM embedq_articles WHERE embedding_status = 'ready'"


# What the product asks of initdb is 17's; the rest of a server is the same.
INITDB = """#!/bin/bash
given=()
for word in "$@"; do case $word in --locale-provider=*|--builtin-locale=*) ;; *) given+=("$word") ;; esac; done
exec {real} "${{given[@]}}"
"""


@pytest.fixture
def sixteen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    theirs = programs.postgres().parents[2] / "pginstall" / "bin"
    if not (theirs / "postgres").exists():
        pytest.skip("the wheel has no PostgreSQL 16")
    with folder_for_servers("embedq-16-") as home:
        for program in theirs.iterdir():
            (home / program.name).symlink_to(program)
        (home / "initdb").unlink()
        (home / "initdb").write_text(INITDB.format(real=theirs / "initdb"))
        (home / "initdb").chmod(0o755)
        monkeypatch.setattr(programs, "postgres", lambda: home / "postgres")
        with Servers(home / "servers", overrides=FAST) as started:
            yield started


@pytest.fixture
def on_16(sixteen: Servers) -> dict[str, str]:
    with psycopg.connect(sixteen.database_url) as connection:
        assert connection.info.server_version // 10_000 == 16
    return {
        "DATABASE_URL": sixteen.database_url,
        "REDIS_URL": sixteen.redis_url,
        "EMBEDDING_PROVIDER": "hashing",
        "EMBEDDING_DIMENSIONS": "64",
        "EMBEDDING_WORKER_INTERVAL": "200",
    }


def well(environment: dict[str, str], *command: str) -> str:
    done = run_command(environment, *command)
    assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    return done.stdout


def test_it_works_from_the_schema_to_the_way_back(on_16: dict[str, str]):
    well(on_16, "db", "upgrade")
    well(on_16, "mode", "hybrid", "--reason", "test", "--yes")

    with psycopg.connect(on_16["DATABASE_URL"], autocommit=True) as psql, start_celery(on_16), start_poller(on_16):
        psql.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
        well(on_16, "attach", "notes", "--content", "body", "--yes")
        psql.execute(
            "INSERT INTO articles (id, title, content) SELECT 'a' || n, 'Tea', 'green ' || n FROM generate_series(1, 50) n"
        )
        psql.execute(
            "INSERT INTO notes SELECT n, 'milk ' || n FROM generate_series(1, 50) n; UPDATE notes SET body = 'cold' WHERE id < 10"
        )
        until(lambda: psql.execute(READY).fetchone() == (100,), 60, lambda: well(on_16, "status"))

    well(on_16, "index", "build")
    assert "green 7" in well(on_16, "search", "--hybrid", "green 7")
    well(on_16, "verify")
    well(on_16, "db", "downgrade", "0004", "--yes")
    well(on_16, "db", "upgrade")
    well(on_16, "db", "verify")
    well(on_16, "db", "downgrade", "base", "--yes")
