"""PostgreSQL (with pgvector) and Valkey or Redis, as children of this process, in one folder, on loopback.

    with Servers(default_home()) as servers:
        connect(servers.database_url)

For use on one machine. The servers end when this process ends, for any reason (see `process`). Leftovers of a crash (a stale pid file, an
incomplete data folder, a truncated Redis log) do not prevent the next start. No Unix sockets are used, because their paths are limited in
length. Both servers require passwords that only the home's owner can read (docs/why/embedded-servers.rst).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Self

from ..errors import ConfigError, EmbedqError
from .child_server import LOOPBACK, ChildServer
from .data_directory import end_leftovers, hint_for, make_data_folder, set_admin_password
from .lock import locks, take
from .process import OnLine, Part

if TYPE_CHECKING:
    from pathlib import Path

    from .owner import Owner
    from .passwords import Passwords
    from .programs import RedisServer

POSTGRES_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "fsync": "on",
}
ROOTS_HOME = "/var/lib/embedq"


class Running(NamedTuple):
    """The servers of a home, and the process that runs them. `broker_url`: its Redis, or the broker that replaces it; `redis`: name and
    version of its Redis. The URLs contain passwords and must not be shown."""

    pid: int
    database_url: str
    broker_url: str
    redis: str = ""


def default_home() -> Path:
    """The user's data folder on this system. Source: platformdirs.

    For root, a folder that the servers' user can reach, unless an earlier version made one in root's home. Raises ConfigError for a user
    without a home folder.
    """
    import platformdirs

    try:
        users = platformdirs.user_data_path("embedq")
    except RuntimeError:  # older versions of platformdirs return a path that begins with "~"
        users = None
    if users is None or not users.is_absolute():
        raise ConfigError(
            f"user {os.geteuid()} has no home folder",
            hint="set EMBEDQ_HOME (or HOME) to the whole path of a folder that this user can write",
        )
    if os.geteuid() != 0 or os.environ.get("XDG_DATA_HOME") or users.exists():
        return users
    return type(users)(ROOTS_HOME)


def running_for(home: Path | None) -> Running | None:
    """The running servers of this home, or of the user's default home; None also for a user without one."""
    try:
        return running(home or default_home())
    except ConfigError:
        return None


def running(home: Path) -> Running | None:
    """The servers that run in this home, or None. Cheap: at most two small files are opened."""
    import json

    with suppress(OSError, ValueError, TypeError), open(home / "lock") as lock:
        if not locks(lock.fileno(), exclusively=False):
            with open(home / "running.json") as file:
                found = Running(**json.load(file))
            return found if _is_alive(found.pid) else None
    return None


class Servers:
    """The two servers of a home. `on_line(part, line)` gets their log lines, from other threads.

    `overrides`: settings of PostgreSQL that override embedq's. `other_broker`: a URL; then no Redis is started, and `running` returns it as
    the broker of this home. The URLs contain passwords and stay the same across starts unless another program took a port. `database_url`:
    for a role that owns its database and is not a superuser; `admin_url`: for the superuser, in the database postgres, for tools.
    `postgres`, `redis` and the URLs are set after start().
    """

    postgres: ChildServer
    redis: ChildServer
    redis_server: RedisServer | None = None
    database_url: str
    admin_url: str
    redis_url: str

    def __init__(
        self, home: Path, *, on_line: OnLine | None = None, overrides: Mapping[str, str] | None = None, other_broker: str = ""
    ) -> None:
        self._other_broker = other_broker
        self.home = home.expanduser().resolve()
        self._on_line = on_line
        self._settings = POSTGRES_SETTINGS | dict(overrides or {})
        self._lock: int | None = None
        self._children: list[ChildServer] = []

    @property
    def children(self) -> Sequence[ChildServer]:
        """The started children, PostgreSQL first; stop them in reverse order."""
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
        """Start the servers; returns when both answer and the database exists. No effect if they run.

        Raises EmbedqError if they cannot run on this machine, or another process runs them (see `running`).
        """
        if self._lock is None:
            try:
                self._lock = self._take_lock()
                self._start_locked()
            except OSError as error:
                self.stop()
                raise EmbedqError(f"{self.home} cannot be used: {error}", hint=hint_for([str(error)], self.home)) from error
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop PostgreSQL (fast shutdown) and Redis. No effect if they are not running."""
        while self._children:
            self._children.pop().stop()
        if self._lock is not None:
            (self.home / "running.json").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> int:
        from .owner import make_home

        make_home(self.home)
        taken = take(self.home)
        if taken is None:
            raise _runs_already(self.home)
        return taken

    def _start_locked(self) -> None:
        from . import owner, postgres
        from .ports import ports_of

        (self.home / "running.json").unlink(missing_ok=True)
        runs_as = owner.owner_of(self.home / "postgres")
        owner.require_way(runs_as, self.home / "postgres")
        secrets = postgres.passwords_of(self.home)
        redis_part = None if self._other_broker else self._redis_part(runs_as)
        postgres_part = self._postgres_part(runs_as, secrets)
        redis_port, postgres_port = ports_of(self.home)
        if redis_part is not None:
            self._add_redis(redis_part, redis_port, secrets.redis)
        self._add_postgres(postgres_part, postgres_port, secrets)
        for child in self._children:
            child.start()
        postgres.set_up(postgres_port, secrets)
        self._tell_where()

    def _tell_where(self) -> None:
        from .passwords import write_json

        its = str(self.redis_server or "")
        write_json(self.home / "running.json", Running(os.getpid(), self.database_url, self.broker_url, its)._asdict())

    def _redis_part(self, owner: Owner) -> Part:
        from . import environment, programs
        from .owner import make_private
        from .postgres import PRIVATE

        folder = self.home / "redis"
        make_private(folder, owner)
        self.redis_server = server = programs.redis()
        program = programs.within_reach(server.program, owner, self.home)
        part = Part(
            "redis", [str(program), "-"], cwd=folder, env=environment.of_a_server(os.environ), owner=owner, umask=PRIVATE
        )
        end_leftovers(part)
        return part

    def _add_redis(self, part: Part, port: int, password: str) -> None:
        from . import redis

        assert part.cwd is not None
        self.redis_url = f"redis://:{password}@{LOOPBACK}:{port}/0"
        part = part._replace(stdin=redis.configuration(part.cwd, port, password))
        self.redis = ChildServer(part, self._on_line, port, lambda: redis.answers(port, password))
        self._children.append(self.redis)

    def _postgres_part(self, owner: Owner, secrets: Passwords) -> Part:
        from . import environment, postgres, programs

        folder = self.home / "postgres"
        program = programs.within_reach(programs.postgres(), owner, self.home)
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        part = Part(
            "postgres",
            [str(program), "-D", str(folder), *settings],
            cwd=folder,
            env=environment.of_a_server(os.environ),
            owner=owner,
            umask=postgres.PRIVATE,
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
            stop_timeout_s=30.0,
        )
        make_data_folder(folder, program, owner, secrets.admin, self._on_line, durable=self._settings["fsync"] == "on")
        end_leftovers(part)
        if not postgres.asks_for_passwords(folder):
            set_admin_password(folder, program, owner, secrets.admin)
            postgres.ask_for_passwords(folder, owner)
        return part

    def _add_postgres(self, part: Part, port: int, secrets: Passwords) -> None:
        from . import postgres

        self.database_url = postgres.url(postgres.APPLICATION, secrets.application, port, postgres.DATABASE)
        self.admin_url = postgres.url(postgres.ADMIN, secrets.admin, port, "postgres")
        part = part._replace(argv=[*part.argv, "-p", str(port)])
        self.postgres = ChildServer(part, self._on_line, port, lambda: postgres.answers(self.admin_url))
        self._children.append(self.postgres)


def _runs_already(home: Path) -> EmbedqError:
    found = running(home)
    if found is None:
        return EmbedqError(f"another embedq is just starting or stopping the servers in {home}", hint="try again in a moment")
    own_redis = f" and {found.redis}" if found.redis else ""
    return EmbedqError(
        f"embedq runs PostgreSQL{own_redis} in {home} already: pid {found.pid}",
        hint=f"use them (embedq's commands find them; the URLs, with passwords, are in {home / 'running.json'}), or stop it first",
    )


def _is_alive(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True
