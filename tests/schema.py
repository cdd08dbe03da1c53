"""The schema as the migrations make it, in one file to read: `python -m tests.schema` writes embedq/store/schema.sql anew."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from embedq.local import programs
from embedq.store import schema
from embedq.store.database import Database

FILE = Path(__file__).resolve().parents[1] / "embedq" / "store" / "schema.sql"
HEAD = """\
-- The schema as it is now, to be read; the migrations make it (embedq/store/migrations). Written by `python -m tests.schema`,
-- and a test compares it with what they make. In a schema of its own, "public" is that schema's name here.
"""
# What pg_dump says to make a session ready, and about itself.
LEFT_OUT = re.compile(r"^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict .*)$", re.MULTILINE)


def as_made(url: str) -> str:
    """What the migrations have made in the database at `url`, as SQL."""
    return HEAD + "\n" + cleaned(dumped(url)) + "\n"


def dumped(url: str) -> str:
    argv = [
        str(programs.postgres().with_name("pg_dump")),
        "--schema-only",
        "--no-owner",
        "--no-privileges",
        "--exclude-table=alembic_version",
        url,
    ]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cleaned(sql: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", LEFT_OUT.sub("", sql)).strip()


def main() -> None:
    from embedq.local.servers import Servers
    from tests.support import folder_for_servers

    with folder_for_servers("embedq-schema-") as home, Servers(home) as servers:
        database = Database(servers.database_url)
        schema.upgrade(database)
        database.close()
        FILE.write_text(as_made(servers.database_url), encoding="utf-8")


if __name__ == "__main__":
    main()
