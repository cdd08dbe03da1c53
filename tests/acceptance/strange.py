"""Commands with strange arguments, files, settings and servers: called in this process, through the door of the real one."""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import click
import psycopg

from docs.generate import commands
from embedq.__main__ import main
from embedq.local.servers import Servers
from embedq.settings import by_env
from embedq.store.schema import RELATIONS
from tests.conftest import fresh_database
from tests.hostile import HostileServer
from tests.support import free_port

WALK = dict(commands())
# They run until they are ended: a setting that is wrong ends them at once.
LASTING = ("embedq up", "embedq quickstart", "embedq poller", "embedq serve")
WRONG_SETTING = {"EMBEDDING_MODE": "nonsense"}
DOCUMENTED = (0, 1, 2, 3)
ALSO = {"embedq rollback assess": (10, 11, 12)}
LONGEST_S = 30.0
TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Ended:
    code: int
    stdout: str
    stderr: str


class TooLong(BaseException):
    """A command that goes on and on."""


def call(arguments: Sequence[str], environment: Mapping[str, str], stdin: bytes = b"") -> Ended:
    """`embedq …` in this process, with its own three streams and environment."""
    out, err = io.BytesIO(), io.BytesIO()
    streams = {
        "stdin": io.TextIOWrapper(io.BytesIO(stdin), "utf-8"),
        "stdout": io.TextIOWrapper(out, "utf-8"),
        "stderr": io.TextIOWrapper(err, "utf-8"),
    }
    hook = threading.excepthook
    try:
        with patch.dict(os.environ, environment), patch.multiple(sys, argv=["embedq", *arguments], **streams), _bounded():
            code = _code(arguments)
    finally:
        threading.excepthook = hook
    for stream in (streams["stdout"], streams["stderr"]):
        stream.flush()
    return Ended(code, out.getvalue().decode(errors="replace"), err.getvalue().decode(errors="replace"))


def _code(arguments: Sequence[str]) -> int:
    try:
        main(arguments)
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


@contextmanager
def _bounded() -> Iterator[None]:
    """A command that takes longer is ended: what it is at raises TooLong."""

    def too_long(_: int, __: FrameType | None) -> None:
        raise TooLong(f"more than {LONGEST_S:g} s")

    before = signal.signal(signal.SIGUSR1, too_long)
    timer = threading.Timer(LONGEST_S, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)


def check(ended: Ended, call_of: object, path: str = "") -> None:
    """It was done, or it was refused as documented: with a next step, and without a traceback."""
    told = f"{call_of}: {ended.code}\n{ended.stdout[-1500:]}\n{ended.stderr[-3000:]}"
    assert ended.code in (*DOCUMENTED, *ALSO.get(path, ())), told
    assert TRACEBACK not in ended.stdout + ended.stderr, told
    if ended.code and not ended.stdout.strip():
        assert any(words in ended.stderr for words in ("next:", "--help", "Usage:")), told


def for_command(path: str, environment: Mapping[str, str]) -> dict[str, str]:
    return {**environment, **(WRONG_SETTING if path in LASTING else {})}


def harmless(path: str, words: list[str]) -> list[str]:
    """What destroys is only planned; what waits does so for a moment."""
    if path in ("embedq wait", "embedq test load", "embedq test processing"):
        return [*words, "--timeout", "1"]
    names = {name for parameter in WALK[path].params for name in parameter.opts}
    return [*words, "--dry-run"] if "--dry-run" in names else words


# Files ------------------------------------------------------------------------------------------------------------------------------


def strange_paths(folder: Path) -> list[str]:
    """Everything a path may name but a file of embedq's. As root all of it can be read."""
    (folder / "folder").mkdir()
    (folder / "binary").write_bytes(bytes(range(256)) * 20)
    (folder / "empty").touch()
    (folder / "closed").touch(mode=0o000)
    os.mkfifo(folder / "fifo")
    (folder / "nowhere").symlink_to("is-not-there")
    (folder / "round").symlink_to("round")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
    names = (
        "folder",
        "binary",
        "empty",
        "closed",
        "fifo",
        "nowhere",
        "round",
        "socket",
        "missing",
        "missing/below",
        "binary/below",
        "x" * 300,
        "deep/" * 1000,
        "\udcff\udcfe",
        "é",
    )
    # A device of this process alone: what is done to one of the machine's is done to all its programs.
    _, terminal = os.openpty()
    return [*(str(folder / name) for name in names), os.ttyname(terminal), "-", ""]


# Servers ----------------------------------------------------------------------------------------------------------------------------


@contextmanager
def worlds(servers: Servers, template: str, folder: Path) -> Iterator[dict[str, dict[str, str]]]:
    """Environments by what is wrong with them."""
    password = "password-of-no-rights"
    role = f"embedq_no_rights_{os.getpid()}"
    other = HostileServer(greeting=lambda visit: visit.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    with (
        psycopg.connect(servers.admin_url, autocommit=True) as admin,
        fresh_database(servers, template) as good,
        fresh_database(servers, "template1") as without_tables,
        fresh_database(servers, "template1") as of_another,
        fresh_database(servers, template) as read_only,
    ):
        _others_tables(of_another)
        name = read_only.rpartition("/")[2]
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")  # type: ignore[arg-type]
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")  # type: ignore[arg-type]
        try:
            yield {
                name: _environment(folder, servers, **changes)
                for name, changes in {
                    "good": {"DATABASE_URL": good},
                    "no database": {},
                    "closed port": {"DATABASE_URL": f"postgresql://a:b@127.0.0.1:{free_port()}/x"},
                    "no PostgreSQL": {"DATABASE_URL": f"postgresql://a:b@127.0.0.1:{other.port}/x"},
                    "wrong password": {"DATABASE_URL": _with_user(good, "embedq", "wrong")},
                    "no such database": {"DATABASE_URL": good + "_not"},
                    "no tables": {"DATABASE_URL": without_tables},
                    "another's tables": {"DATABASE_URL": of_another},
                    "read only": {"DATABASE_URL": read_only},
                    "no rights": {"DATABASE_URL": _with_user(good, role, password)},
                    "closed broker": {"DATABASE_URL": good, "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"},
                    "closed RabbitMQ": {"DATABASE_URL": good, "EMBEDDING_BROKER_URL": f"amqp://a:b@127.0.0.1:{free_port()}//"},
                    "no Redis": {"DATABASE_URL": good, "REDIS_URL": f"redis://127.0.0.1:{other.port}/0"},
                }.items()
            }
        finally:
            other.close()
            admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")  # type: ignore[arg-type]


def _environment(folder: Path, servers: Servers, **changes: str) -> dict[str, str]:
    return {
        "REDIS_URL": servers.redis_url,
        "EMBEDDING_PROVIDER": "hashing",
        "EMBEDDING_DIMENSIONS": "64",
        "EMBEDQ_HOME": str(folder / "home"),
        "XDG_STATE_HOME": str(folder / "state"),
        **changes,
    }


def _with_user(url: str, user: str, password: str) -> str:
    return f"postgresql://{user}:{password}@{url.rpartition('@')[2]}"


def _others_tables(url: str) -> None:
    """Of the names of embedq's, by another application."""
    with psycopg.connect(url, autocommit=True) as connection:
        for name in RELATIONS:
            connection.execute(f"CREATE TABLE {name} (what integer)")  # type: ignore[arg-type]


def crash_files(folder: Path) -> list[str]:
    """What was written there, and is taken away."""
    files = list((folder / "state").rglob("crash-*.txt"))
    return [(file.read_text(), file.unlink())[0] for file in files]


def parameters(path: str, kind: type[click.ParamType] | None = None) -> list[click.Parameter]:
    return [each for each in WALK[path].params if kind is None or isinstance(each.type, kind)]


def settings() -> dict[str, Any]:
    return by_env()
