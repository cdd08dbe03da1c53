"""The process that has imported embedq and forks: `python -m tests.forked.server SOCKET`.

It ends when its standard input is closed, as by the end of the process that started it."""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import io
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TextIO

import embedq.__main__

from . import WHOLE_END
from .asking import SIZE

# These run something, look at the command line, or belong to packages that users may not have.
NOT_THESE = ("migrations", "integrations", "celery_app", "celery_settings")
OTHERS = (
    "celery.bin.celery",
    "celery.bin.worker",
    "celery.apps.worker",
    "celery.worker.worker",
    "celery.worker.consumer",
    "celery.concurrency.thread",
    "celery.concurrency.prefork",
    "celery.app.control",
    "celery.app.log",
    "celery.loaders.app",
    "kombu.transport.redis",
    "kombu.transport.pyamqp",
    "uvicorn.main",
    "uvicorn.loops.auto",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
    "alembic.command",
    "alembic.config",
    "encodings.idna",
    "getpass",
    "importlib.resources",
    "platformdirs",
    "psycopg.types",
    "pwd",
    "redis.asyncio",
    "rich._unicode_data",
    "rich.box",
    "rich.console",
    "rich.table",
    "sqlalchemy.dialects.postgresql",
    "tests.standin.server",
    "traceback",
)
PR_SET_PDEATHSIG = 1


def import_all() -> None:
    for found in pkgutil.walk_packages(embedq.__path__, "embedq."):
        if not any(part in found.name for part in NOT_THESE):
            importlib.import_module(found.name)
    for name in OTHERS:
        importlib.import_module(name)


@dataclass
class Wish:
    """What a fork is to be. `streams`: the open ones of 0 to 2, and their descriptors here."""

    folder: bytes
    umask: int | None
    user: int | None
    session: bool
    argv: list[str]
    environment: dict[bytes, bytes]
    streams: dict[int, int]


def wish_from(connection: socket.socket) -> Wish | None:
    """None when whoever asks is gone."""
    head, descriptors, *_ = socket.recv_fds(connection, SIZE, 3)
    wanted, body = int.from_bytes(head, "big"), b""
    while len(body) < wanted and (more := connection.recv(wanted - len(body))):
        body += more
    if not body or len(body) < wanted:
        return None
    own, folder, umask, user, session, number, *rest = body.split(b"\0")
    argv, variables = rest[: int(number)], rest[int(number) :]
    return Wish(
        folder,
        int(umask) if umask else None,
        int(user) if user else None,
        bool(session),
        [os.fsdecode(word) for word in argv],
        dict(variable.split(b"=", 1) for variable in variables),
        dict(zip(map(int, own.decode()), descriptors, strict=True)),
    )


@dataclass
class Server:
    """Forks for each connection and tells it the process id, then how the fork ended. A connection that is closed ends its fork."""

    listening: socket.socket
    selector: selectors.BaseSelector = field(default_factory=selectors.PollSelector)
    forks: dict[int, tuple[int, socket.socket]] = field(default_factory=dict)

    def until_forked(self) -> Wish:
        """Returns in each fork."""
        self.selector.register(0, selectors.EVENT_READ, lambda: sys.exit(0))
        self.selector.register(self.listening, selectors.EVENT_READ, self._accept)
        while True:
            for key, _ in self.selector.select():
                if (forked := key.data()) is not None:
                    return forked

    def _accept(self) -> Wish | None:
        connection, _ = self.listening.accept()
        wish = wish_from(connection)
        if wish is None:
            connection.close()
            return None
        pid = os.fork()
        if pid == 0:
            connection.close()
            self._let_go()
            return wish
        for descriptor in wish.streams.values():
            os.close(descriptor)
        tell(connection, pid)
        self._watch(pid, connection)
        return None

    def _watch(self, pid: int, connection: socket.socket) -> None:
        ended = os.pidfd_open(pid)
        self.forks[pid] = ended, connection
        self.selector.register(ended, selectors.EVENT_READ, lambda: self._reap(pid))
        self.selector.register(connection, selectors.EVENT_READ, lambda: self._end(pid, connection))

    def _end(self, pid: int, connection: socket.socket) -> None:
        if pid in self.forks:
            self.selector.unregister(connection)
            os.kill(pid, signal.SIGKILL)

    def _reap(self, pid: int) -> None:
        _, status = os.waitpid(pid, 0)
        ended, connection = self.forks.pop(pid)
        self.selector.unregister(ended)
        os.close(ended)
        if connection.fileno() in self.selector.get_map():
            self.selector.unregister(connection)
            tell(connection, os.waitstatus_to_exitcode(status))
        connection.close()

    def _let_go(self) -> None:
        """In a fork: of all that is the server's."""
        self.selector.close()
        self.listening.close()
        for ended, connection in self.forks.values():
            os.close(ended)
            connection.close()


def tell(connection: socket.socket, number: int) -> None:
    with suppress(OSError):  # whoever asked is gone
        connection.sendall(number.to_bytes(SIZE, "big", signed=True))


def become(wish: Wish) -> None:
    """Take over all that a new process would have had from its parent."""
    if wish.session:
        os.setsid()
    if wish.umask is not None:
        os.umask(wish.umask)
    os.chdir(wish.folder)
    os.environb.clear()
    os.environb.update(wish.environment)
    if wish.user is not None:
        os.setgroups([])
        os.setgid(wish.user)
        os.setuid(wish.user)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    time.tzset()
    tempfile.tempdir = None
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    sys.path[0] = os.fsdecode(wish.folder)
    take_streams(wish.streams)


def take_streams(given: dict[int, int]) -> None:
    for number in range(3):
        if number in given:
            os.dup2(given[number], number)
        else:
            os.close(number)
    for descriptor in given.values():
        os.close(descriptor)
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = sys.__stdin__ = opened(0, before[0]) if 0 in given else None  # type: ignore[assignment, misc]
    sys.stdout = sys.__stdout__ = opened(1, before[1]) if 1 in given else None  # type: ignore[assignment, misc]
    sys.stderr = sys.__stderr__ = opened(2, before[2]) if 2 in given else None  # type: ignore[assignment, misc]


def opened(number: int, like: TextIO) -> TextIO:
    """A standard stream as Python makes it when it starts (create_stdio in Python/pylifecycle.c)."""
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    raw: Any = io.FileIO(number, "wb" if number else "rb", closefd=False)
    raw.name = like.name
    buffer = io.BufferedReader(raw) if number == 0 else raw if unbuffered else io.BufferedWriter(raw)
    by_line = not unbuffered and (number == 2 or raw.isatty())
    made = io.TextIOWrapper(buffer, like.encoding, like.errors, "\n", line_buffering=by_line, write_through=unbuffered)
    made.mode = like.mode
    return made


def run(argv: list[str]) -> object:
    """`python -m NAME WORDS`, as which it is written; returns the code it exits with."""
    flag, name, *words = argv
    assert flag == "-m"
    sys.argv = [name, *words]
    try:
        if name == "embedq":  # which the fork's user may have no right to read
            embedq.__main__.main()
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as left:
        return left.code
    return 0


def end(code: object) -> NoReturn:
    """As Python ends, but that modules are not taken apart: it would copy all the memory that the forks share, which takes longer than most
    commands. Wanted whole, by a variable of the environment: as Python does."""
    if os.environ.get(WHOLE_END) or not isinstance(code, int | None):
        sys.exit(code)  # type: ignore[arg-type]
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except OSError:
        sys.exit(code)  # it tells of it
    os._exit(code or 0)


def main() -> None:
    path = Path(sys.argv[1])
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    path.chmod(0o666)
    listening.listen(64)
    import_all()
    gc.freeze()
    print("ready", flush=True)
    wish = Server(listening).until_forked()
    become(wish)
    end(run(wish.argv))


if __name__ == "__main__":
    main()
