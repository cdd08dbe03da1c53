"""`embedq up`: each part gets the secrets that it uses, and none is shown, written where others can read it, or in argv."""

from __future__ import annotations

import json
import re
import stat
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from embedq.cli.environments import of_a_worker, of_flower, of_the_service
from embedq.local import passwords
from embedq.local.servers import running
from tests.support import Process, folder_for_servers, free_port, run_command, until

OURS = {"OPENAI_API_KEY": "sk-canary-provider", "AUTH_TOKEN": "canary-articles-token", "ADMIN_TOKEN": "canary-operators-token"}
STRANGE = {"AWS_SECRET_ACCESS_KEY": "canary-of-another"}
needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc")


class Up:
    def __init__(self, home: Path, process: Process) -> None:
        self.home, self.process = home, process

    @property
    def passwords(self) -> passwords.Passwords:
        return passwords.keep(self.home)

    def parts(self) -> dict[str, list[psutil.Process]]:
        """The processes of each part, with what they have started."""
        found: dict[str, list[psutil.Process]] = {}
        for child in psutil.Process(self.process.pid).children():
            found[part_of(child)] = [child, *child.children(recursive=True)]
        return found


def part_of(process: psutil.Process) -> str:
    words = process.cmdline()
    return next((word for word in ("poller", "serve", "flower", "worker") if word in words), process.name())


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with folder_for_servers("embedq-secrets-") as folder:
        home = folder / "home"
        argv = [sys.executable, "-m", "embedq", "up", "--flower-port", str(free_port()), "--http-port", str(free_port())]
        environment = {
            **OURS,
            **STRANGE,
            "EMBEDQ_HOME": str(home),
            "EMBEDDING_WORKER_INTERVAL": "200",
            "EMBEDDING_PROVIDER": "hashing",
        }
        with Process("up", argv, environment) as process:
            process.says("Flower: http", 90)
            until(lambda: running(home) is not None and both_deliveries(home), 90, process.output)
            yield Up(home, process)
            process.terminate(90)


def both_deliveries(home: Path) -> bool:
    asked = run_command({"EMBEDQ_HOME": str(home)}, "status", "--json")
    workers = json.loads(asked.stdout)["workers"] if asked.returncode == 0 else []
    return {worker["delivery"] for worker in workers if worker["alive"]} == {"celery", "poller"}


USES = {
    "postgres": set(),
    "redis": set(),
    "worker": {"OPENAI_API_KEY"},
    "poller": {"OPENAI_API_KEY"},
    "flower": set(),
    "serve": set(OURS),
}


@needs_proc
def test_each_process_has_the_secrets_that_it_uses_and_no_other(up: Up) -> None:
    parts = up.parts()
    assert len(parts) == len(USES), parts

    for name, processes in parts.items():
        name = "redis" if name.endswith("-server") else name
        for process in processes:
            seen = Path(f"/proc/{process.pid}/environ").read_bytes().decode()
            found = {variable for variable, secret in (OURS | STRANGE).items() if secret in seen}
            assert found - set(STRANGE) == USES[name], name
            assert name not in ("postgres", "redis", "flower") or not found, name
            assert up.passwords.admin not in seen, name
            assert (up.passwords.application in seen) is (name in ("worker", "poller", "serve")), name
            assert (up.passwords.redis in seen) is (name in ("worker", "poller", "serve", "flower")), name


@needs_proc
def test_no_secret_is_in_argv(up: Up) -> None:
    everything = [psutil.Process(up.process.pid), *psutil.Process(up.process.pid).children(recursive=True)]

    for process in everything:
        said = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert [secret for secret in (*up.passwords, *OURS.values()) if secret in said] == [], process.name()


def test_no_secret_is_in_the_log_or_in_what_commands_say(up: Up) -> None:
    environment = {"EMBEDQ_HOME": str(up.home), **OURS}
    said = up.process.output()
    for command in (
        "status",
        "config show",
        "config show --json",
        "db health",
        "broker status --json",
        "rollback plan emergency",
        "up",
    ):
        done = run_command(environment, *command.split())
        said += done.stdout + done.stderr

    assert len(said) > 4000
    assert [secret for secret in (*up.passwords, *OURS.values()) if secret in said] == []


def test_up_and_db_health_say_which_servers_run_and_what_they_are_for(up: Up) -> None:
    told = json.loads(run_command({"EMBEDQ_HOME": str(up.home)}, "db", "health", "--json").stdout)

    assert re.search(
        r"embedded, for this machine alone: PostgreSQL \S+/embedq and (Valkey|Redis) \d+\.\d+", up.process.output()
    )
    assert re.match(r"yes, with (Valkey|Redis) \d+\.\d+(\.\d+)?: for one machine", told["embedded"])
    assert told["server"].startswith("PostgreSQL 1")


def test_every_file_of_the_home_is_its_owners_alone(up: Up) -> None:
    done = run_command({"EMBEDQ_HOME": str(up.home), **OURS}, "rollback", "emergency", "--yes", "--reason", "to have its files")
    assert done.returncode == 0, done.stderr

    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in up.home.rglob("*")}
    assert any("rollback" in path.parts for path in found)
    assert {str(path): oct(mode) for path, mode in found.items() if mode & 0o077} == {}


def test_flower_lets_in_its_own_password_and_no_token(up: Up) -> None:
    (flower,) = re.findall(r"Flower: (http://\S+)", up.process.output())

    assert status(flower, f"embedq:{up.passwords.flower}") == 200
    assert status(flower, f"embedq:{OURS['ADMIN_TOKEN']}") == 401
    assert status(flower, "") == 401


def status(url: str, user_and_password: str) -> int:
    headers = {"Authorization": f"Basic {b64encode(user_and_password.encode()).decode()}"} if user_and_password else {}
    try:
        return int(urllib.request.urlopen(urllib.request.Request(f"{url}/workers", headers=headers), timeout=10).status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_the_environments_of_the_parts_differ_by_secrets_alone() -> None:
    given = {
        **OURS,
        "FLOWER_BASIC_AUTH": "a:b",
        "DATABASE_URL": "postgresql://u:p@h:1/d?password=p",
        "REDIS_URL": "redis://:r@h/0",
        "PATH": "/bin",
        "EMBEDDING_MODE": "hybrid",
        "OTHER": "x",
        "FLOWER_PORT": "1",
    }

    assert given.items() - of_a_worker(given).items() == {
        (name, given[name]) for name in ("AUTH_TOKEN", "ADMIN_TOKEN", "FLOWER_BASIC_AUTH")
    }
    assert given.items() - of_the_service(given).items() == {("FLOWER_BASIC_AUTH", "a:b")}
    assert of_flower(given, "embedq:c") == {
        "FLOWER_BASIC_AUTH": "embedq:c",
        "DATABASE_URL": "postgresql://h:1/d",
        "REDIS_URL": "redis://:r@h/0",
        "PATH": "/bin",
        "EMBEDDING_MODE": "hybrid",
        "FLOWER_PORT": "1",
    }
