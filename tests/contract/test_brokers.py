"""Brokers as people have them: each works for workers, publishers and looks alike, or is refused with what to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import redis

from embedq import Client
from embedq.broker import broker_at
from embedq.broker.peek import peek
from embedq.model import Priority
from embedq.settings import from_env
from tests.redisprocess import embedded
from tests.support import free_port, run_command, start_celery, until

START = ("--save", "", "--appendonly", "no", "--dir")


@contextmanager
def server(
    folder: Path, *options: str, port: int | None = None, ready: bool = True, program: str | None = None
) -> Iterator[int]:
    """A Redis with these options; its port."""
    port = free_port() if port is None else port
    argv = [program or embedded(), "--port", str(port), "--bind", "127.0.0.1", *START, str(folder), *options]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if ready:
            until(lambda: answers(port))
        yield port
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    try:
        return bool(redis.Redis(port=port).ping())
    except redis.AuthenticationError:
        return True
    except redis.RedisError:
        return False


# Each way to name a Redis -----------------------------------------------------------------------------------------------------------------


@contextmanager
def by_socket(folder: Path, spelling: str) -> Iterator[str]:
    path = folder / "redis.sock"
    with server(folder, "--unixsocket", str(path), "--requirepass", "of-the-tests", port=0, ready=False):
        until(path.exists)
        yield spelling.format(path)


@contextmanager
def by_tls(folder: Path, _: str) -> Iterator[str]:
    make_certificates(folder)
    port = free_port()
    files = (
        "--tls-cert-file",
        f"{folder}/server.crt",
        "--tls-key-file",
        f"{folder}/server.key",
        "--tls-ca-cert-file",
        f"{folder}/ca.crt",
    )
    with server(folder, "--tls-port", str(port), "--tls-auth-clients", "no", *files, port=0, ready=False, program=with_tls()):
        yield f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={folder}/ca.crt"


@contextmanager
def by_acl(folder: Path, _: str) -> Iterator[str]:
    with server(folder) as port:
        rights = ["~*", "&*", "+@all", "-@admin", "-@dangerous", "+info", "+keys"]
        redis.Redis(port=port).execute_command("ACL", "SETUSER", "embedq", "on", ">of-the-tests", *rights)
        redis.Redis(port=port).execute_command("ACL", "SETUSER", "default", "off")
        yield f"redis://embedq:of-the-tests@127.0.0.1:{port}/0"


@contextmanager
def by_sentinel(folder: Path, _: str) -> Iterator[str]:
    with sentinels(folder) as (url, _ports):
        yield url


@contextmanager
def sentinels(folder: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """A master, a replica, and three Sentinels that ask for a password of their own."""
    with ExitStack() as stack:
        homes = {name: folder / name for name in ("master", "replica", "s1", "s2", "s3")}
        for home in homes.values():
            home.mkdir()
        auth = ("--requirepass", "of-the-tests", "--masterauth", "of-the-tests")
        ports = {"master": stack.enter_context(server(homes["master"], *auth))}
        ports["replica"] = stack.enter_context(
            server(homes["replica"], *auth, "--replicaof", "127.0.0.1", str(ports["master"]))
        )
        for name in ("s1", "s2", "s3"):
            ports[name] = stack.enter_context(sentinel(homes[name], ports["master"]))
        looking = redis.Redis(port=ports["s1"], password="of-sentinels", decode_responses=True)
        until(
            lambda: (
                looking.sentinel_master("app")["num-slaves"] == 1 and looking.sentinel_master("app")["num-other-sentinels"] == 2
            )
        )
        hosts = ";".join(
            f"sentinel://:of-the-tests@127.0.0.1:{ports[name]}/0?master_name=app&sentinel_password=of-sentinels"
            for name in ("s1", "s2", "s3")
        )
        yield hosts, ports


@contextmanager
def sentinel(home: Path, master: int) -> Iterator[int]:
    port = free_port()
    (home / "sentinel.conf").write_text(
        f"port {port}\nbind 127.0.0.1\ndir {home}\nrequirepass of-sentinels\nsentinel sentinel-pass of-sentinels\n"
        f"sentinel monitor app 127.0.0.1 {master} 2\nsentinel auth-pass app of-the-tests\n"
        "sentinel down-after-milliseconds app 1000\nsentinel failover-timeout app 5000\n"
    )
    process = subprocess.Popen(
        [embedded(), str(home / "sentinel.conf"), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: answers(port))
        yield port
    finally:
        process.kill()
        process.wait()


def make_certificates(folder: Path) -> None:
    """A certificate authority, and a server's certificate for 127.0.0.1."""
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for argv in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=tests -days 2",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile names",
    ):
        subprocess.run(["openssl", *argv.split()], cwd=folder, check=True, capture_output=True)


def with_tls() -> str | None:
    """A server that was built with TLS, on the PATH."""
    found = [shutil.which("redis-server", path=folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    return next((program for program in found if program and "/.venv/" not in program), None)


WAYS = {
    "unix": (by_socket, "unix://:of-the-tests@{}?db=1"),
    "redis+socket": (by_socket, "redis+socket://:of-the-tests@{}?virtual_host=1"),
    "rediss with a CA file": (by_tls, ""),
    "an ACL user": (by_acl, ""),
    "sentinel": (by_sentinel, ""),
}


@pytest.mark.parametrize("way", WAYS)
def test_workers_publishers_and_looks_reach_it_by_one_address(tmp_path, environment, way, psql):
    make, spelling = WAYS[way]
    if make is by_tls and with_tls() is None:
        pytest.skip("no Redis with TLS is installed here")
    with make(tmp_path, spelling) as url:
        ours = environment | {"EMBEDDING_BROKER_URL": url}
        until(lambda: peek(url).reachable, why=lambda: peek(url))
        assert run_command(ours, "config", "check").stdout.splitlines() == ["the settings are in order"]
        with Client(from_env(ours)) as client:
            client.create("Tea", "green", id="a")
            until(lambda: peek(url).waiting[Priority.NORMAL] == 1, why=lambda: peek(url))
            with start_celery(ours):
                until(lambda: client.get("a").embedding_status == "ready")
            assert psql("SELECT delivery FROM embedding_tasks") == [("celery",)]
        with broker_at(url).redis as seen:
            assert seen.ping()
        assert "of-the-tests" not in run_command(ours, "broker", "status").stdout


def test_a_failover_of_redis_under_load_loses_nothing_and_workers_come_back(tmp_path, environment, psql):
    with sentinels(tmp_path) as (url, ports):
        ours = environment | {"EMBEDDING_BROKER_URL": url}
        with Client(from_env(ours)) as client, start_celery(ours):
            for n in range(20):
                client.create("Tea", f"before {n}")
            with suppress(redis.RedisError):
                redis.Redis(port=ports["master"], password="of-the-tests").shutdown(nosave=True)
            for n in range(20):
                client.create("Tea", f"meanwhile {n}")

            until(
                lambda: psql("SELECT count(*) FROM articles WHERE embedding_status = 'ready'") == [(40,)], 90, lambda: peek(url)
            )
            client.create("Tea", "after", id="late")
            until(lambda: client.get("late").embedding_status == "ready", 60)

        assert psql("SELECT delivery, count(*) FROM embedding_tasks WHERE article_id = 'late' GROUP BY 1") == [("celery", 1)]


# Refused ----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sentinel://127.0.0.1:26379/0", "master_name"),
        ("redis://127.0.0.1:1/0;redis://127.0.0.1:2/0", "Sentinels"),
        ("redis://127.0.0.1:1/0;amqp://127.0.0.1:2//", "different kinds"),
        ("redis://127.0.0.1:notaport/0", "port"),
        ("redis+cluster://127.0.0.1:1", "must be a URL"),
        ("sqs://key:secret@", "must be a URL"),
    ],
)
@pytest.mark.parametrize("start", ["config", "poller", "celery"])
def test_an_address_that_cannot_work_is_refused_by_all_in_the_same_words(environment, url, words, start):
    said, code = ended(environment | {"EMBEDDING_BROKER_URL": url}, start)

    assert (code, words in said, "Traceback" in said) == (2, True, False), said


@pytest.mark.parametrize("name", ["CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"])
@pytest.mark.parametrize("start", ["config", "celery"])
def test_a_variable_of_celery_s_that_names_another_broker_is_refused(environment, redis_url, name, start):
    said, code = ended(environment | {name: redis_url[:-1] + "5"}, start)

    assert (code, name in said, "Traceback" in said) == (2, True, False), said
    assert run_command(environment | {name: redis_url}, "config", "check").returncode == 0


def test_a_client_publishes_where_embedq_says_whatever_celery_s_variables_say(environment, redis_url, monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", redis_url[:-1] + "5")
    with Client(from_env(environment)) as client:
        client.create("Tea", "green")

        until(lambda: peek(redis_url).waiting[Priority.NORMAL] == 1)


@pytest.mark.parametrize("start", ["config", "poller", "celery"])
def test_a_cluster_is_refused_with_the_reason(tmp_path, environment, start):
    bus = str(free_port())  # by default 10,000 above the port, which may be no port at all
    with server(tmp_path, "--cluster-enabled", "yes", "--cluster-port", bus) as port:
        said, code = ended(environment | {"EMBEDDING_BROKER_URL": f"redis://127.0.0.1:{port}/0"}, start)

        assert (code, "Redis Cluster" in said, "Traceback" in said) == (2, True, False), said


@pytest.mark.parametrize("start", ["config", "poller", "celery"])
@pytest.mark.parametrize(
    ("wrong", "words"), [({"EMBEDDING_PROVIDER": "openal"}, "unknown"), ({"EMBEDDING_DIMENSIONS": "65"}, "active model")]
)
def test_what_check_tells_is_what_a_worker_refuses(environment, start, wrong, words):
    said, code = ended(environment | wrong, start)

    assert (code, words in said, "Traceback" in said) == (2, True, False), said


def test_servers_that_are_away_are_told_and_are_no_problem(environment):
    away = {"DATABASE_URL": "postgresql://u@127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1/0"}

    done = run_command(environment | away, "config", "check")

    assert (done.returncode, re.findall(r"not asked: ([^:]+):", done.stdout)) == (
        0,
        ["the broker", "PostgreSQL", "the model"],
    ), done


def ended(environment: dict[str, str], start: str) -> tuple[str, int | None]:
    if start == "celery":
        worker = start_celery(environment, ready=False)
        until(lambda: not worker.runs, why=worker.output)
        return worker.output(), worker.exit_code
    done = run_command(environment, *({"config": ("config", "check")}.get(start, (start,))))
    return done.stdout + done.stderr, done.returncode
