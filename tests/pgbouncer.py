"""The machine's PgBouncer, where there is one: a process of the test's own, on a free port of loopback, before the test's database."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.support import free_port, until

MISSING = "PgBouncer is not installed here (Debian: pgbouncer)"
UNPRIVILEGED = "nobody"


def program() -> str | None:
    return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")


@contextmanager
def pooled(folder: Path, url: str, *, mode: str = "transaction", size: int = 4, more: str = "") -> Iterator[str]:
    """The address of the same database through a pool of `size` sessions. `more`: further lines of [pgbouncer]."""
    its = conninfo_to_dict(url)
    port = free_port()
    (folder / "users.txt").write_text(f'"{its["user"]}" "{its["password"]}"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={its['host']} port={its['port']}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n"
        f"auth_file = {folder}/users.txt\npool_mode = {mode}\ndefault_pool_size = {size}\nmax_client_conn = 200\n{more}\n"
    )
    for file in folder.glob("*.*"):
        file.chmod(0o644)
    # It refuses to run as root.
    user = ["-u", UNPRIVILEGED] if os.geteuid() == 0 else []
    argv = [program() or "pgbouncer", "-q", *user, str(folder / "pgbouncer.ini")]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    through = f"postgresql://{its['user']}:{its['password']}@127.0.0.1:{port}/{its['dbname']}"
    try:
        until(lambda: _answers(through))
        yield through
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    with suppress(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2).close()
        return True
    return False
