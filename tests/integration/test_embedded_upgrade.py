"""A home that the previous version made: it asked nobody for a password, and the superuser owned everything."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from embedq import Client
from embedq.local import programs
from embedq.local.owner import owner_of
from embedq.local.process import Child, Part
from embedq.local.servers import Servers
from embedq.model import Model
from embedq.settings import from_env
from embedq.store import Store, schema
from embedq.store.database import Database
from tests.redisprocess import redis_6_2
from tests.support import folder_for_servers, free_port, until

ROOT = Path(__file__).parents[2]
HASTY = {"fsync": "off", "synchronous_commit": "off", "shared_buffers": "16MB", "max_connections": "20"}
# What an operator's own SQL may have made in that database, of each kind that has an owner.
OWN_THINGS = """
    CREATE SCHEMA "own things";
    CREATE TABLE "own things"."Notes" (id bigserial PRIMARY KEY, at int GENERATED ALWAYS AS IDENTITY, text text);
    INSERT INTO "own things"."Notes" (text) VALUES ('kept');
    CREATE TABLE parted (id int) PARTITION BY RANGE (id);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
    CREATE MATERIALIZED VIEW summed AS SELECT count(*) FROM "own things"."Notes";
    CREATE SEQUENCE alone;
    CREATE TYPE colour AS ENUM ('red'); CREATE TYPE pair AS (a int, b int); CREATE DOMAIN short AS text CHECK (length(VALUE) < 9);
    CREATE TYPE span AS RANGE (subtype = float8);
    CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1';
    CREATE PROCEDURE act() LANGUAGE sql AS 'SELECT 1';
    CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
    CREATE STATISTICS sorted ON id, at FROM "own things"."Notes";
    CREATE TEXT SEARCH CONFIGURATION plainly (COPY = simple);
    CREATE COLLATION accent (provider = builtin, locale = 'C.UTF-8');
    SELECT lo_create(4711);
"""
STILL_THE_SUPERUSERS = """
    SELECT 'relation', relname FROM pg_class WHERE relowner = 10 AND relnamespace >= 16384 OR relnamespace = 2200 AND relowner = 10
    UNION ALL SELECT 'routine', proname FROM pg_proc AS p WHERE proowner = 10 AND (pronamespace >= 16384 OR pronamespace = 2200)
        AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')
    UNION ALL SELECT 'type', typname FROM pg_type AS t WHERE typowner = 10 AND (typnamespace >= 16384 OR typnamespace = 2200)
        AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_type'::regclass AND objid IN (t.oid, t.typelem) AND deptype = 'e')
    UNION ALL SELECT 'schema', nspname FROM pg_namespace WHERE nspowner = 10 AND oid >= 16384
    UNION ALL SELECT 'statistics', stxname FROM pg_statistic_ext WHERE stxowner = 10
    UNION ALL SELECT 'configuration', cfgname FROM pg_ts_config WHERE cfgowner = 10 AND oid >= 16384
    UNION ALL SELECT 'collation', collname FROM pg_collation WHERE collowner = 10 AND oid >= 16384
    UNION ALL SELECT 'large object', oid::text FROM pg_largeobject_metadata WHERE lomowner = 10
"""


@contextmanager
def started(part: Part) -> Iterator[Child]:
    child = Child(part)
    child.spawn()
    try:
        yield child
    finally:
        child.stop()


def connects(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def open_postgres(home: Path, superuser: str = "postgres") -> Iterator[str]:
    """As the previous version made and ran it; the URL of its superuser in the database embedq."""
    folder, port = home / "postgres", free_port()
    owner = owner_of(folder)
    program = programs.within_reach(programs.postgres(), owner, home)
    folder.mkdir(mode=0o700)
    if owner is not None:
        os.chown(folder, *owner)
    user, group = owner or (None, None)
    subprocess.run(
        [
            program.with_name("initdb"),
            "-D",
            folder,
            "-U",
            superuser,
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
        ],
        user=user,
        group=group,
        extra_groups=[] if owner else None,
        check=True,
        capture_output=True,
        cwd=home,
    )
    words = [word for name, value in HASTY.items() for word in ("-c", f"{name}={value}")]
    argv = [str(program), "-D", str(folder), "-p", str(port), "-c", "unix_socket_directories=", *words]
    with started(Part("postgres", argv, cwd=folder, owner=owner, stop_signal=2)):
        url = f"postgresql://{superuser}@127.0.0.1:{port}/"
        until(lambda: connects(f"{url}postgres"))
        with psycopg.connect(f"{url}postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE embedq")
        yield f"{url}embedq"


def fill_redis(home: Path) -> None:
    """Redis 6.2, run by root where the tests are, and with files that all may read."""
    program = redis_6_2()
    if program is None:
        return
    folder, port = home / "redis", free_port()
    folder.mkdir(mode=0o755)
    argv = [program, "--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes", "--save", "", "--dir", str(folder)]
    with started(Part("redis", argv, cwd=folder, umask=0o022)), redis.Redis(port=port) as client:
        until(lambda: answers(client))
        client.lpush("normal", "a message")
    assert stat.S_IMODE((folder / "appendonly.aof").stat().st_mode) == 0o644


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture(scope="module")
def old_home() -> Iterator[Path]:
    with folder_for_servers("embedq-old-") as folder:
        home = folder / "home"
        home.mkdir()
        home.chmod(0o701)
        with open_postgres(home) as url:
            database = Database(url)
            schema.upgrade(database)
            database.close()
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(OWN_THINGS)
                connection.execute("INSERT INTO articles (id, title) VALUES ('tea', 'Tea')")
        fill_redis(home)
        yield home


@pytest.fixture
def home(old_home: Path, tmp_path: Path) -> Path:
    """A copy, for one test."""
    copy = tmp_path / "home"
    subprocess.run(["cp", "-a", old_home, copy], check=True)
    return copy


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[arg-type]


def test_everything_is_kept_and_asks_for_a_password_from_now_on(home: Path) -> None:
    with Servers(home, overrides=HASTY) as servers:
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(f"postgresql://postgres@127.0.0.1:{servers.postgres.port}/embedq")
        assert rows(servers.database_url, 'SELECT a.id, n.text FROM articles AS a, "own things"."Notes" AS n') == [
            ("tea", "kept")
        ]
        with redis.Redis.from_url(servers.redis_url) as client:
            assert client.lrange("normal", 0, -1) == ([b"a message"] if redis_6_2() else [])


def test_the_applications_role_owns_what_the_superuser_owned_and_can_work_with_it(home: Path) -> None:
    with Servers(home, overrides=HASTY) as servers:
        in_its_database = servers.admin_url.rsplit("/", 1)[0] + "/embedq"
        assert rows(in_its_database, STILL_THE_SUPERUSERS) == []
        assert rows(servers.database_url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(False,)]
        settings = from_env(
            {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url, "EMBEDDING_DIMENSIONS": "64"}
        )
        database = Database(servers.database_url)
        Store(database).models.agree(Model("hashing", "hashing-v1", 64))
        with Client(settings) as client:
            client.create("Mate", "How to pour it")
        schema.downgrade(database)
        schema.upgrade(database)
        database.close()


def test_no_file_of_redis_stays_readable_by_others(home: Path) -> None:
    with Servers(home, overrides=HASTY):
        pass

    found = {path: path.lstat() for path in [home / "redis", *(home / "redis").rglob("*")]}
    assert {str(path): oct(seen.st_mode) for path, seen in found.items() if seen.st_mode & 0o077} == {}
    assert {seen.st_uid for seen in found.values()} == {(home / "postgres").stat().st_uid}


def test_a_second_start_has_nothing_more_to_do(home: Path) -> None:
    with Servers(home, overrides=HASTY) as servers:
        first = servers.database_url, servers.redis_url, servers.admin_url
    lines: list[str] = []

    with Servers(home, on_line=lambda _, line: lines.append(line), overrides=HASTY) as servers:
        assert (servers.database_url, servers.redis_url, servers.admin_url) == first
    assert [line for line in lines if "single-user" in line or "ERROR" in line] == []


def test_a_server_that_was_killed_is_recovered_on_the_way(home: Path) -> None:
    """Its folder says that it runs: single-user mode replays the log first."""
    with Servers(home, overrides=HASTY) as servers:
        execute(servers.database_url, "CREATE TABLE late AS SELECT 1 AS one")
        execute(servers.admin_url, "CHECKPOINT")
        servers.postgres.kill()
        servers.redis.stop()
    (home / "passwords.json").unlink()

    with Servers(home, overrides=HASTY) as servers:
        assert rows(servers.database_url, "SELECT one FROM late") == [(1,)]


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[arg-type]


def test_the_runbook_takes_the_superusers_rights_from_the_role_of_an_earlier_compose_file(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "howto" / "deploy.rst").read_text()
    blocks = re.findall(r"code-block:: sql\n\n((?:    .*\n)+)", page.partition("An installation of before")[2])
    with open_postgres(tmp_path, superuser="embedq") as url:
        database = Database(url)
        schema.upgrade(database)
        database.close()

        execute(url, blocks[0])
        execute(url.replace("embedq@", "for_a_moment@"), blocks[1])
        admin = url.replace("embedq@", "postgres@")
        execute(admin, "DROP ROLE for_a_moment")
        execute(admin, (ROOT / "embedq" / "local" / "roles.sql").read_text())

        assert rows(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(False,)]
        assert rows(admin, STILL_THE_SUPERUSERS) == []
        execute(url, "INSERT INTO articles (id, title) VALUES ('tea', 'Tea')")
