"""A primary and a streaming replica made from it by pg_basebackup, from the embedded server's programs; to be promoted under load."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psycopg

from embedq.local import programs
from embedq.local.owner import owner_of
from tests.support import free_port, until

PASSWORD = "of-the-tests"


class Node:
    """One server. Its folder belongs to the user that servers run as."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.bin = programs.postgres().parent
        self.owner = owner_of(folder.parent)
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self.bin / program), *arguments], check=True, capture_output=True, timeout=60, **self._as_owner(), cwd="/"
        )  # type: ignore[call-overload]

    def _as_owner(self) -> dict[str, object]:
        return {} if self.owner is None else {"user": self.owner[0], "group": self.owner[1], "extra_groups": []}

    def initialise(self) -> None:
        self.run("initdb", "-D", str(self.folder), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync")
        with (self.folder / "pg_hba.conf").open("a") as file:
            file.write("host replication all 127.0.0.1/32 trust\n")

    def copy(self, primary: Node, *, name: str) -> None:
        target = f"host=127.0.0.1 port={primary.port} user=postgres application_name={name}"
        self.run("pg_basebackup", "-D", str(self.folder), "-d", target, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync")

    def start(self, *more: str, within: Sequence[str] = ()) -> None:
        """`more`: settings, as `-c` takes them. `within`: a command of root's that runs it elsewhere (in a mount namespace)."""
        as_owner = self._as_owner()
        if within and self.owner is not None:
            within, as_owner = (
                [*within, "setpriv", f"--reuid={self.owner[0]}", f"--regid={self.owner[1]}", "--clear-groups"],
                {},
            )
        argv = [
            *within,
            str(self.bin / "postgres"),
            "-D",
            str(self.folder),
            "-p",
            str(self.port),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            "fsync=off",
            "-c",
            "max_connections=60",
            "-c",
            "shared_buffers=32MB",
            *(word for each in more for word in ("-c", each)),
        ]
        path = self.folder.parent / f"{self.folder.name}.log"
        log = path.open("ab")
        self.process = subprocess.Popen(argv, stdout=log, stderr=log, cwd="/", **as_owner)  # type: ignore[call-overload]
        until(self.answers, why=path.read_text)

    def answers(self) -> bool:
        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            return True
        return False

    def url(self, database: str = "app", user: str = "postgres") -> str:
        return f"postgresql://{user}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, database: str = "app") -> list[tuple[object, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def promote(self) -> None:
        self.sql("SELECT pg_promote()", "postgres")
        until(lambda: self.sql("SELECT pg_is_in_recovery()", "postgres") == [(False,)])

    def die(self) -> None:
        """At once, as a machine does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def pair(folder: Path, *, synchronous: bool, set_up: Callable[[str], None]) -> tuple[Node, Node]:
    """A primary whose database `app` has been set up, and its replica, streaming."""
    primary, replica = Node(folder / "primary"), Node(folder / "replica")
    if primary.owner is not None:
        import os

        os.chown(folder, *primary.owner)
    primary.initialise()
    primary.start()
    primary.sql("CREATE ROLE app LOGIN", "postgres")
    primary.sql("CREATE DATABASE app OWNER app", "postgres")
    primary.sql("CREATE EXTENSION vector")
    set_up(primary.url(user="app"))
    replica.copy(primary, name="replica")
    replica.start()
    until(lambda: primary.sql("SELECT state FROM pg_stat_replication") == [("streaming",)])
    if synchronous:
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'replica'")
        primary.sql("SELECT pg_reload_conf()")
        until(lambda: primary.sql("SELECT sync_state FROM pg_stat_replication") == [("sync",)])
    return primary, replica
