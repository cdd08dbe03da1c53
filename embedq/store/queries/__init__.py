"""Named SQL statements, one file per noun: `-- name: claim_ids` begins one, the next begins the next.

`QUERIES.claim_ids` is its text, with psycopg's `%(name)s` parameters.
"""

from __future__ import annotations

import re
from importlib.resources import files

NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


class Queries:
    """Every statement of the .sql files beside this one, as attributes. Two statements of one name are refused."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        for file in files(__package__).iterdir():
            if file.name.endswith(".sql"):
                self._take(file.name, file.read_text(encoding="utf-8"))

    def _take(self, file: str, text: str) -> None:
        _, *pieces = NAME.split(text)
        for name, body in zip(pieces[::2], pieces[1::2], strict=True):
            if name in self._texts:
                raise ValueError(f"{file} names the statement {name} a second time")
            self._texts[name] = body.strip().rstrip(";")

    def __getattr__(self, name: str) -> str:
        try:
            return self._texts[name]
        except KeyError:
            raise AttributeError(f"no statement named {name}; they are in embedq/store/queries/*.sql") from None

    def names(self) -> list[str]:
        return sorted(self._texts)


QUERIES = Queries()
