"""What a folder's .gitignore files leave out, as git reads them; those above it count too, up to the folder that is a repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

NAME: Final = ".gitignore"
LONGEST: Final = 1_000_000


class Rules(NamedTuple):
    """Of one .gitignore file, for what lies below its folder `base`."""

    base: Path
    spec: GitIgnoreSpec


def rules_above(folder: Path) -> list[Rules]:
    """Of the folders above, when one of them, or this, is a repository."""
    chain = [folder, *folder.parents]
    top = next((place for place, each in enumerate(chain) if (each / ".git").exists()), 0)
    found = [rules_of(each, lambda path: path.read_bytes()[:LONGEST]) for each in reversed(chain[1 : top + 1])]
    return [rules for rules in found if rules is not None]


def rules_of(folder: Path, content: Callable[[Path], bytes]) -> Rules | None:
    """Of the folder itself; None: it has none that can be read."""
    from pathspec import GitIgnoreSpec

    path = folder / NAME
    try:
        lines = content(path).decode("utf-8", "replace").splitlines() if path.is_file() else []
        return Rules(folder, GitIgnoreSpec.from_lines(lines)) if lines else None
    except (OSError, ValueError):
        return None


def is_ignored(entry: Path, rules: list[Rules], *, is_folder: bool) -> bool:
    """The file nearest to the entry that says something of it decides."""
    for base, spec in reversed(rules):
        verdict = spec.check_file(entry.relative_to(base).as_posix() + "/" * is_folder).include
        if verdict is not None:
            return bool(verdict)
    return False
