"""The file that a bug is written to: traceback, versions, command line. It holds no secret and no value of a variable.

Only its owner may read it; the newest KEPT files of a folder are kept.
"""

from __future__ import annotations

import os
import platform
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

from .._version import __version__
from ..addresses import hide, shown
from ..providers.secrets import mask
from ..settings import by_env

KEPT: Final = 20
LONGEST: Final = 200_000
LONGEST_LINE: Final = 300
PACKAGES: Final = (
    "psycopg",
    "celery",
    "kombu",
    "redis",
    "amqp",
    "SQLAlchemy",
    "alembic",
    "click",
    "rich",
    "fastapi",
    "uvicorn",
    "numpy",
)
# Password variables of other programs that may be in the environment.
_OTHERS_SECRETS: Final = ("FLOWER_BASIC_AUTH", "PGPASSWORD", "OTEL_EXPORTER_OTLP_HEADERS")


def keep(failed: BaseException) -> Path | None:
    """Write the file; returns its path, or None if no folder can be written."""
    text = report(failed)
    for folder in folders():
        with suppress(OSError):
            return _written(folder, text)
    return None


def folders() -> Iterator[Path]:
    """Candidate folders: the user's state folder, then one in the temporary folder. Source: platformdirs."""
    import platformdirs

    # For a user without a home platformdirs raises RuntimeError, and older versions give a path that begins with "~".
    with suppress(RuntimeError):
        state = platformdirs.user_state_path("embedq")
        if state.is_absolute():
            yield state / "crashes"
    with suppress(OSError):
        yield Path(tempfile.gettempdir()) / f"embedq-crashes-{os.geteuid()}"


def _written(folder: Path, text: str) -> Path:
    """Raises OSError, also for a folder that others can write to: they could place a symbolic link at the file's name."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is open to others")
    file = folder / f"crash-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{os.getpid()}.txt"
    number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as out:
            out.write(text)
    except OSError:
        file.unlink(missing_ok=True)  # disk full: remove the incomplete file
        raise
    _remove_old(folder)
    return file


def _remove_old(folder: Path) -> None:
    for old in sorted(folder.glob("crash-*.txt"))[:-KEPT]:
        with suppress(OSError):
            old.unlink()


def report(failed: BaseException) -> str:
    """The text of the file."""
    head = [
        f"embedq {__version__} met something unexpected at {datetime.now(UTC).isoformat(timespec='seconds')}",
        f"command: {' '.join(map(_word, sys.argv))}",
        f"python: {platform.python_version()} on {platform.platform()}",
        f"packages: {', '.join(_versions())}",
        f"locale: {sys.getfilesystemencoding()}; streams: {getattr(sys.stdout, 'encoding', None)}; user id: {os.geteuid()}",
        f"settings that are set: {', '.join(name for name in by_env() if os.environ.get(name)) or 'none'}",
    ]
    return without_secrets("\n".join([*head, "", _traceback(failed)]))


def _traceback(failed: BaseException) -> str:
    import traceback

    text = "".join(traceback.format_exception(failed))
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]}\n… {len(text) - LONGEST} characters left out …\n{text[-half:]}"


def _versions() -> Iterator[str]:
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            yield f"{package} {metadata.version(package)}"


def _word(word: str) -> str:
    return shown(word) if "://" in word else repr(word) if " " in word or not word.isprintable() else word


def without_secrets(text: str) -> str:
    """The text with passwords of addresses and values of secret settings masked."""
    names = [name for name, spec in by_env().items() if spec.metadata["secret"]]
    return mask(hide(text, names=True), map(os.environ.get, (*names, *_OTHERS_SECRETS)))


def in_one_line(failed: BaseException) -> str:
    """Class and message of an error, shortened."""
    with suppress(Exception):
        words = " ".join(without_secrets(str(failed)).split())
        return f"{type(failed).__name__}: {words[:LONGEST_LINE]}" if words else type(failed).__name__
    return type(failed).__name__  # str() of the error failed


def last_line(failed: BaseException) -> str:
    """File and line where the error was raised."""
    import traceback

    frames = traceback.extract_tb(failed.__traceback__)
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}, in {frames[-1].name}" if frames else "no traceback"
