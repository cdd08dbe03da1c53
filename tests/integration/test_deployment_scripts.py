"""The scripts of docker/, run for real: on a PostgreSQL and a Redis of the test's own, as the containers would."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from embedq.local import programs
from embedq.local.process import Child, Part
from embedq.local.servers import Servers
from embedq.store import schema
from embedq.store.database import Database
from tests.redisprocess import embedded, of_the_machine, redis_6_2
from tests.support import free_port, until

DOCKER = Path(__file__).parents[2] / "docker"
HASTY = {"fsync": "off", "synchronous_commit": "off", "shared_buffers": "16MB", "max_connections": "20"}
REDIS = {"embedded": embedded(), "of the machine": of_the_machine(), "6.2": redis_6_2()}


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[arg-type]


@pytest.mark.parametrize("password", ["plain", "with ' and \\ and \" and :x"])
def test_postgres_gets_a_role_that_can_run_embedq_and_is_no_superuser(tmp_path: Path, password: str) -> None:
    with Servers(tmp_path / "home", overrides=HASTY) as servers:
        execute(servers.admin_url, "DROP DATABASE embedq", "DROP ROLE embedq")
        execute(servers.admin_url.rsplit("/", 1)[0] + "/template1", "DROP EXTENSION vector")
        admin = urlsplit(servers.admin_url)
        environment = {
            "PATH": f"{programs.postgres().parent}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(admin.port),
            "PGPASSWORD": admin.password or "",
            "POSTGRES_USER": "postgres",
            "EMBEDQ_PASSWORD": password,
        }

        done = subprocess.run([DOCKER / "postgres" / "roles.sh"], env=environment, capture_output=True, text=True, timeout=60)

        assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
        with psycopg.connect(
            host="127.0.0.1", port=admin.port, user="embedq", password=password, dbname="embedq"
        ) as connection:
            rights = connection.execute(
                "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
        assert rights == (False,) * 5
        execute(servers.admin_url, "ALTER ROLE embedq PASSWORD 'simple'")
        database = Database(f"postgresql://embedq:simple@127.0.0.1:{admin.port}/embedq")
        assert schema.upgrade(database)[1] == schema.LATEST
        database.close()


@contextmanager
def started(program: str, folder: Path, password: str) -> Iterator[tuple[Child, int]]:
    port = free_port()
    argv = ["sh", str(DOCKER / "redis" / "start.sh"), "--dir", str(folder), "--port", str(port), "--bind", "127.0.0.1"]
    environment = {"PATH": os.environ["PATH"], "REDIS_SERVER": program, "REDIS_PASSWORD": password}
    child = Child(Part("redis", argv, env=environment, cwd=folder))
    child.spawn()
    try:
        yield child, port
    finally:
        child.stop()


def answers(port: int, password: str) -> bool:
    try:
        return bool(redis.Redis(port=port, password=password).ping())
    except redis.ConnectionError:
        return False


@pytest.mark.parametrize("which", REDIS)
def test_redis_asks_for_the_password_and_refuses_to_be_reconfigured(tmp_path: Path, which: str) -> None:
    program = REDIS[which]
    if program is None:
        pytest.skip(f"there is no Redis {which} here")
    with started(program, tmp_path, "s3cret") as (child, port):
        until(lambda: answers(port, "s3cret"), why=lambda: list(child.last_lines))
        client = redis.Redis(port=port, password="s3cret")

        told = client.info()
        with pytest.raises(redis.ResponseError):
            client.execute_command("CONFIG", "SET", "dir", "/tmp")
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        assert (told["aof_enabled"], told["maxmemory_policy"], told["maxmemory"]) == (1, "noeviction", 256 * 2**20)
        assert "s3cret" not in Path(f"/proc/{child.pid}/cmdline").read_text()


def test_redis_refuses_a_password_that_its_configuration_cannot_hold(tmp_path: Path) -> None:
    with started(embedded(), tmp_path, "a b\nbind 0.0.0.0") as (child, _):
        assert child.wait(20)
        assert child.exit_code == 2
        child.clear_away()
        assert "letters, digits" in "\n".join(child.last_lines)


def values(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def test_secrets_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("EMBEDDING_MODE=hybrid\nADMIN_TOKEN=mine\nAUTH_TOKEN=\n")

    subprocess.run([DOCKER / "secrets", file], check=True, capture_output=True)
    first = file.read_text()
    told = subprocess.run([DOCKER / "secrets", file], check=True, capture_output=True)

    made = values(file)
    assert file.read_text() == first
    assert told.stderr == b""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (made["EMBEDDING_MODE"], made["ADMIN_TOKEN"]) == ("hybrid", "mine")
    compose = (DOCKER / "compose.yaml").read_text()
    asked = {
        "POSTGRES_ADMIN_PASSWORD",
        "POSTGRES_PASSWORD",
        "REDIS_PASSWORD",
        "AUTH_TOKEN",
        "FLOWER_BASIC_AUTH",
        "GRAFANA_PASSWORD",
    }
    assert all(f"${{{name}:?" in compose for name in asked)
    assert len({made[name] for name in asked}) == len(asked)
    assert all(len(made[name]) >= 48 for name in asked)


DOCKER_STANDIN = """#!/bin/sh
# There is no registry here: what `docker pull` and `docker image inspect` answer is made up.
case "$1 $2" in
"pull --quiet") echo "$3" >>"$(dirname "$0")/pulled" ;;
"image inspect") name="${5%%:*}"; echo "$name@sha256:$(printf '%s' "$5" | sha256sum | cut -d' ' -f1)" ;;
*) exit 1 ;;
esac
"""


def test_images_are_pinned_by_the_digests_that_were_pulled(tmp_path: Path) -> None:
    (tmp_path / "docker").write_text(DOCKER_STANDIN)
    (tmp_path / "docker").chmod(0o755)
    file = tmp_path / "env"
    file.write_text("ADMIN_TOKEN=kept\nREDIS_IMAGE=redis@sha256:older\n")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    for _ in range(2):
        done = subprocess.run([DOCKER / "pin", file], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    pinned = values(file)
    assert len(file.read_text().splitlines()) == len(pinned) == 6
    assert pinned["ADMIN_TOKEN"] == "kept"
    images = {name: image.partition("@sha256:") for name, image in pinned.items() if name.endswith("_IMAGE")}
    assert {name: image for name, (image, _, _) in images.items()} == {
        "PYTHON_IMAGE": "python",
        "POSTGRES_IMAGE": "pgvector/pgvector",
        "REDIS_IMAGE": "redis",
        "PROMETHEUS_IMAGE": "prom/prometheus",
        "GRAFANA_IMAGE": "grafana/grafana",
    }
    assert all(len(digest) == 64 for _, _, digest in images.values())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
