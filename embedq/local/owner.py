"""The user that the servers run as. PostgreSQL refuses to run as root, so root's servers get a system user, Redis too.

Folders that embedq did not make keep their mode: if that user cannot traverse one, the start is refused with its name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import EmbedqError

if TYPE_CHECKING:
    from pathlib import Path

# The uid and gid for the servers, if the process is root; None: the servers run as the current user.
Owner = tuple[int, int] | None

USER = "pgserver"
OWN_SERVERS = "or set DATABASE_URL and REDIS_URL to servers of your own"


def owner_of(folder: Path) -> Owner:
    """The user for the servers of this data folder: the owner of existing data, unless that is root."""
    if os.geteuid() != 0:
        return None
    with suppress(FileNotFoundError):
        found = folder.stat()
        if found.st_uid != 0:
            return found.st_uid, found.st_gid
    return _system_user(USER)


def _system_user(name: str) -> tuple[int, int]:
    import pwd
    from subprocess import PIPE, STDOUT, CalledProcessError, run

    try:
        if name not in {entry.pw_name for entry in pwd.getpwall()}:
            run(["useradd", "--system", "--no-create-home", name], check=True, stdout=PIPE, stderr=STDOUT)
        entry = pwd.getpwnam(name)
    except (OSError, KeyError, CalledProcessError) as error:
        hint = f"start embedq as an ordinary user, {OWN_SERVERS}"
        raise EmbedqError(f"the system user {name}, for the servers, could not be made: {error}", hint=hint) from error
    return entry.pw_uid, entry.pw_gid


def make_home(home: Path) -> None:
    """Make the home folder, closed to other users; root's home is traversable for the group of the servers' user. An existing folder is not
    changed."""
    if home.is_dir():
        return
    home.mkdir(mode=0o700, parents=True)
    owner = owner_of(home / "postgres")
    if owner is not None:
        os.chown(home, -1, owner[1])
        home.chmod(0o710)


def closed_to(owner: Owner, path: Path) -> Path | None:
    """The first folder above `path`, from the root, that the owner may not traverse; None if there is none."""
    if owner is None:
        return None
    return next((above for above in reversed(path.parents) if not may(owner, above.stat(), stat.S_IXOTH)), None)


def may(owner: tuple[int, int], found: os.stat_result, right: int) -> bool:
    """Whether the mode gives the owner these rights, given as rights of others (S_IXOTH, S_IROTH)."""
    shift = 6 if found.st_uid == owner[0] else 3 if found.st_gid == owner[1] else 0
    return found.st_mode >> shift & right == right


def require_way(owner: Owner, folder: Path) -> None:
    """Raise an error if the servers' user cannot reach the home."""
    closed = closed_to(owner, folder)
    if closed is not None:
        import pwd

        assert owner is not None
        with suppress(KeyError):
            name = pwd.getpwuid(owner[0]).pw_name
            raise EmbedqError(
                f"{closed} is closed to {name}, the user that root's servers run as",
                hint=f"name a folder in EMBEDQ_HOME that {name} can reach, such as /var/lib/embedq, start embedq as an ordinary user, {OWN_SERVERS}",
            )
        raise EmbedqError(
            f"{closed} is closed to uid {owner[0]}, which owns {folder}", hint=f"open it to that user, {OWN_SERVERS}"
        )


def make_private(folder: Path, owner: Owner) -> None:
    """Give a server's data folder with its content to its user, closed to all others. One check if it already is."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    uid = owner[0] if owner else os.geteuid()
    if stat.S_IMODE(found.st_mode) == 0o700 and found.st_uid == uid:
        return
    # The folder last, so that an interrupted run is repeated.
    for descriptor, is_folder in [*_inside(folder)]:
        _close_to_others(descriptor, owner, is_folder)
    _close_to_others(os.open(folder, os.O_RDONLY | os.O_NOFOLLOW), owner, is_folder=True)


def _inside(folder: Path) -> Iterator[tuple[int, bool]]:
    """Uses open descriptors, so that a link that replaces a file is not followed."""
    for _, folders, files, at in os.fwalk(folder):
        for name in (*folders, *files):
            with suppress(OSError):
                yield os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at), name in folders


def _close_to_others(descriptor: int, owner: Owner, is_folder: bool) -> None:
    try:
        if owner is not None:
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, 0o700 if is_folder else 0o600)
    finally:
        os.close(descriptor)
